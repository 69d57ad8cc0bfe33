"""What an explanation shows, as plain values, and how it is kept."""

import dataclasses
import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.base import BadInput
from train.records import write_atomically

Kind = Literal["picture", "heat", "lines", "bars", "words"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """One part of a figure.

    Attributes:
        kind: ``picture``: an image without axes. ``heat``: a matrix with names of rows and columns. ``lines``: a line
            for each column. ``bars``: a value for each name of ``columns``. ``words``: names of ``columns`` beside each
            name of ``rows``, ``values`` saying how near they are.
        title: what it is.
        values: what is drawn; [height, width], [height, width, 3] or [length].
        rows: names of the rows, or none.
        columns: names of the columns, or none.
        signed: whether zero is in the middle of the colours.
        limits: values of the first and the last colour; none for those of the values.
    """

    kind: Kind
    title: str
    values: np.ndarray
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    signed: bool = False
    limits: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """A figure: the panels of one kind of explanation of one trial.

    Attributes:
        name: of the kind: ``attention``, ``saliency``, ``filters``, ``gates``, ``neighbours``.
        trial: whose it is.
        caption: what is seen, and how it comes about.
        panels: its parts.
        across: panels beside each other.
    """

    name: str
    trial: str
    caption: str
    panels: tuple[Panel, ...]
    across: int = 4


def write(folder: Path, trial: str, explanations: Sequence[Explanation]) -> None:
    """Keep the explanations of a trial as ``folder/explanations/TRIAL.json``."""
    place = folder / "explanations"
    place.mkdir(parents=True, exist_ok=True)
    document = [
        {**dataclasses.asdict(each), "panels": [_plain(panel) for panel in each.panels]} for each in explanations
    ]
    write_atomically(place / f"{trial}.json", json.dumps(document, allow_nan=False) + "\n")


def _plain(panel: Panel) -> dict[str, Any]:
    # Five digits are more than a picture shows.
    values = np.vectorize(lambda value: float(f"{value:.5g}") if math.isfinite(value) else 0.0, otypes=[float])
    return {**dataclasses.asdict(panel), "values": values(panel.values).tolist()}


def read(folder: Path, trials: Collection[str]) -> tuple[Explanation, ...]:
    """The explanations that are kept of these trials, in the order of their names.

    Raises:
        BadInput: a file is damaged.
    """
    found: list[Explanation] = []
    for path in sorted((folder / "explanations").glob("*.json")):
        if path.stem not in trials:
            continue
        try:
            for entry in json.loads(path.read_text(encoding="utf-8")):
                panels = tuple(_panel(panel) for panel in entry.pop("panels"))
                found.append(Explanation(panels=panels, **entry))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(f"{path} is damaged; remove it and explain the trial again") from None
    return tuple(found)


def _panel(entry: dict[str, Any]) -> Panel:
    lists = {name: tuple(entry.pop(name)) for name in ("rows", "columns", "limits")}
    return Panel(values=np.array(entry.pop("values"), np.float64), **lists, **entry)
