"""The report's folder, replaced as a whole: an interrupted report leaves the old one."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from experiments.explanations import views
from experiments.registration import Registration
from experiments.report import latex, table, tuned
from experiments.report.page import Picture, page
from experiments.report.summary import Summary, summarise
from experiments.report.verdict import verdict_json
from experiments.study import Study

if TYPE_CHECKING:
    from experiments.report.gallery import Drawn

NAME = "report"

LARGEST_SVG = 250_000
"""Bytes above which the page takes a PNG file, so that it stays small."""


def write(
    directory: Path,
    study: Study,
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    command: str,
    untrained: pd.DataFrame | None = None,
    registration: Registration | None = None,
    latencies: pd.DataFrame | None = None,
) -> Summary:
    """Write ``directory/report`` and return what it says.

    Everything is written into a folder beside it first; two renames then put it in place. The
    caller makes sure that one process at a time writes here.

    Args:
        directory: the study's folder.
        study: its declaration.
        trials: ``trials.csv``, a row a trial.
        curves: ``curves.csv``, a row a trial and evaluation.
        command: the command line that makes the report again.
        untrained: a row for each arm and each prediction without training that its data have; None for none.
        registration: what was registered before the first step; None where that is not known.
        latencies: ``latency.csv``, a row an arm and round; None where it was not measured.

    Raises:
        BadInput: the metric is no column of ``trials``, or the records of tuning are damaged.
    """
    summary = summarise(
        study,
        trials,
        command=command,
        untrained=untrained,
        tuned=tuned.read(directory),
        registration=registration,
        curves=curves,
        latencies=latencies,
        explanations=views.read(directory, set(trials["trial"].astype(str))),
    )
    replace(directory / NAME, lambda folder: _fill(folder, summary, curves))
    return summary


def replace(report: Path, fill: Callable[[Path], None]) -> None:
    """Put a folder in the place of an old one, which stays whole until the new one is."""
    new, old = (report.with_name(f".{report.name}.{which}") for which in ("new", "old"))
    if old.exists() and not report.exists():
        old.rename(report)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        fill(new)
        if report.exists():
            report.rename(old)
        new.rename(report)
    finally:
        if old.exists() and not report.exists():
            old.rename(report)
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)


def save(folder: Path, drawn: "Iterable[Drawn]") -> list[Picture]:
    """Write each figure as PNG, PDF and SVG; return the pictures for the page."""
    from experiments.report import drawing

    folder.mkdir()
    pictures = []
    with drawing.style():
        for each in drawn:
            for kind in ("png", "pdf", "svg"):
                (folder / f"{each.name}.{kind}").write_bytes(drawing.render(each.figure, kind))
            # Hundreds of markers make an SVG file larger than the picture of them.
            content = (folder / f"{each.name}.svg").read_bytes()
            kind = "svg+xml" if len(content) <= LARGEST_SVG else "png"
            content = content if kind == "svg+xml" else (folder / f"{each.name}.png").read_bytes()
            pictures.append(Picture(each.name, kind, content, each.caption, each.description, wide=each.wide))
    return pictures


def _fill(folder: Path, summary: Summary, curves: pd.DataFrame) -> None:
    """Write every file of the report."""
    # Matplotlib takes most of a second to import; reading a report's numbers should not.
    from experiments.report import gallery

    pictures = save(folder / "figures", gallery.gallery(summary, curves))
    texts = {
        "index.html": page(summary, pictures, curves),
        "table.md": table.markdown(summary),
        "table.tex": latex.latex(summary),
        "table.csv": table.csv(summary),
        "verdict.json": verdict_json(summary),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
