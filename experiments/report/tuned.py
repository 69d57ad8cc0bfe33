"""What tuning left behind, read from ``tuning.csv`` and ``tuning.json``."""

import dataclasses
import functools
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from models.base import BadInput
from train.records import whole_lines

RECORDS, OUTCOME = "tuning.csv", "tuning.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Winner:
    """The setting that an arm runs with.

    Attributes:
        values: of each tuned path.
        value: its number on the validation split.
        edges: tuned paths whose winning value is at the edge of its space.
        trials: tuning trials that the arm got.
    """

    values: Mapping[str, Any]
    value: float
    edges: tuple[str, ...]
    trials: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned:
    """All of a study's tuning.

    Attributes:
        column: the number that was compared, of the validation split.
        higher_is_better: its direction.
        steps: training steps of a tuning trial.
        seeds: seeds of each.
        search: how points were chosen.
        pruning: the rule by which trials ended early.
        winners: by arm.
        trials: a row a tuning trial.
    """

    column: str
    higher_is_better: bool
    steps: int
    seeds: int
    search: str
    pruning: str
    winners: Mapping[str, Winner]
    trials: pd.DataFrame

    @functools.cached_property
    def paths(self) -> tuple[str, ...]:
        """The tuned paths: those of the winners, and those whose values differ among the trials of one arm."""
        won = {path for winner in self.winners.values() for path in winner.values}
        fields = [str(name) for name in self.trials.columns if "." in str(name)]
        varied = self.trials.groupby("arm", sort=False)[fields].nunique().max() > 1
        return tuple(name for name in fields if name in won or varied[name])

    def tried(self, arm: str) -> str:
        """How many settings an arm tried, and what became of those that did not finish, in words."""
        own = self.trials[(self.trials["arm"] == arm) & (self.trials["status"] != "ok")]
        others = own.drop_duplicates("number")["status"].value_counts()
        parts = ", ".join(f"{number} {status}" for status, number in sorted(others.items()))
        return f"{self.winners[arm].trials}{f' ({parts})' if parts else ''}"

    def scores(self, arm: str) -> pd.DataFrame:
        """A row for each point that the arm tried, in order: ``number``, ``value`` and the tuned paths.

        A point of several seeds counts with their mean, and has none where one of them did not finish; a trial
        that was pruned has none, since it was stopped for being worse.
        """
        rows = self.trials[self.trials["arm"] == arm]
        values = rows["value"].astype(float).where(rows["status"] == "ok")
        means = values.groupby(rows["number"]).agg(lambda values: values.mean(skipna=False))
        points = rows.drop_duplicates("number").set_index("number")[[*self.paths]]
        return points.assign(value=means).sort_index().reset_index()


def read(folder: Path) -> Tuned | None:
    """The tuning of the study in ``folder``; None where nothing was tuned, or tuning has not ended.

    Raises:
        BadInput: a file is damaged.
    """
    path = folder / OUTCOME
    if not path.exists() or not (folder / RECORDS).exists():
        return None
    try:
        outcome = json.loads(path.read_text(encoding="utf-8"))
        winners = {
            str(arm): Winner(
                values=dict(each["winner"]),
                value=float("nan") if each["value"] is None else float(each["value"]),
                edges=tuple(each["edges"]),
                trials=int(each["trials"]),
            )
            for arm, each in outcome["arms"].items()
        }
        about = {
            "column": str(outcome["column"]),
            "higher_is_better": bool(outcome["higher_is_better"]),
            "steps": int(outcome["steps"]),
            "seeds": int(outcome["seeds"]),
            "search": str(outcome["search"]),
            "pruning": str(outcome["pruning"]),
        }
        path = folder / RECORDS
        names = {"trial": str, "arm": str}
        trials = pd.read_csv(io.BytesIO(whole_lines(path)), dtype=names, keep_default_na=False, na_values=["", "nan"])
        trials = trials.drop_duplicates("trial", keep="last")
        trials = trials.assign(value=pd.to_numeric(trials["value"], errors="coerce"))
        if not {"arm", "number", "status"} <= set(trials.columns):
            raise ValueError("it has no column for arm, number or status")
        return Tuned(winners=winners, trials=trials, **about)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is damaged ({reason}); move its folder away and run again") from None
