"""``index.html``: the whole report on one page that needs no network."""

import base64
import hashlib
import math
from collections.abc import Sequence
from importlib import resources
from typing import Literal, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup

from experiments import formatting
from experiments.report.cells import Cell, cells, headings, untrained_cells
from experiments.report.legend import legend, origins
from experiments.report.page_data import page_data
from experiments.report.summary import Summary


class Picture(NamedTuple):
    """A figure as the page shows it: its file, what it is, what it says to who does not see it, its width."""

    name: str
    kind: Literal["svg+xml", "png"]
    content: bytes
    caption: str
    description: str
    wide: bool = False

    @property
    def source(self) -> str:
        """The file as an address that needs no network."""
        return f"data:image/{self.kind};base64," + base64.b64encode(self.content).decode()


def page(summary: Summary, pictures: Sequence[Picture], curves: pd.DataFrame) -> str:
    """The page's HTML.

    Args:
        summary: the study's result.
        pictures: the figures; they are inlined.
        curves: ``curves.csv``, a row a trial and evaluation.
    """
    study = summary.study
    return render(
        "page.html",
        scripts=("table.js", "page.js", "curves.js"),
        summary=summary,
        study=study,
        headings=tuple(zip(headings(summary), origins(summary), strict=True)),
        lines=[("better" if row.bold else "", row.arm, cells(row, study)) for row in summary.rows]
        + [("untrained", "", untrained_cells(row, study)) for row in summary.untrained],
        sort_value=sort_value,
        legend=legend(summary),
        seeds=_seeds(summary),
        figures=pictures,
        shown=[
            picture
            for picture in pictures
            if picture.name != "learning_curves" and not picture.name.startswith(("tuning", "explanation-"))
        ],
        explained=[picture for picture in pictures if picture.name.startswith("explanation-")],
        of_tuning=[picture for picture in pictures if picture.name.startswith("tuning")],
        data=Markup(page_data(summary, curves)),  # its own text lets no tag begin
        changes={arm: [f"{path} = {value!r}" for path, value in delta.items()] for arm, delta in study.arms.items()},
    )


def render(template: str, *, scripts: Sequence[str], **values: object) -> str:
    """A page of this folder with its style and scripts inside; nothing else may run or be fetched."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = resources.files("experiments.report")
    style = "\n" + (folder / "page.css").read_text(encoding="utf-8")
    programs = ["\n" + (folder / name).read_text(encoding="utf-8") for name in scripts]
    policy = (
        f"default-src 'none'; img-src data:; style-src {_allowed(style)}; "
        f"script-src {' '.join(map(_allowed, programs))}; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        **values, style=Markup(style), programs=[Markup(program) for program in programs], policy=policy
    )


def _allowed(text: str) -> str:
    """The hash by which a browser knows the one script or style that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def sort_value(cell: Cell) -> str:
    """By what a cell is sorted; empty where it has nothing to sort by."""
    if cell.value is None or (isinstance(cell.value, float) and not math.isfinite(cell.value)):
        return ""
    return str(cell.value)


def _seeds(summary: Summary) -> list[tuple[int, list[str]]]:
    """Each seed with the metric of every arm, or with what became of the trial."""
    statuses = {(failure.arm, failure.seed): failure.status for failure in summary.failures}
    return [
        (
            int(str(seed)),
            [
                statuses.get((str(arm), int(str(seed))), formatting.metric_number(float(value), summary.study.metric))
                for arm, value in values.items()
            ],
        )
        for seed, values in summary.values.iterrows()
    ]
