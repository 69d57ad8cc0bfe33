"""The report's folder, replaced as a whole: an interrupted report leaves the old one."""

import shutil
from pathlib import Path

import pandas as pd

from experiments.registration import Registration
from experiments.report import latex, table, tuned
from experiments.report.page import Picture, page
from experiments.report.summary import Summary, summarise
from experiments.report.verdict import verdict_json
from experiments.study import Study

NAME = "report"
# Beside the report and of fixed names, so that the next run finds what a kill left behind.
_NEW, _OLD = ".report.new", ".report.old"


def write(
    directory: Path,
    study: Study,
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    command: str,
    untrained: pd.DataFrame | None = None,
    registration: Registration | None = None,
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
    )
    report, new, old = directory / NAME, directory / _NEW, directory / _OLD
    if old.exists() and not report.exists():
        old.rename(report)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        _fill(new, summary, curves)
        if report.exists():
            report.rename(old)
        new.rename(report)
    finally:
        if old.exists() and not report.exists():
            old.rename(report)
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
    return summary


def _fill(folder: Path, summary: Summary, curves: pd.DataFrame) -> None:
    """Write every file of the report."""
    # Matplotlib takes most of a second to import; reading a report's numbers should not.
    from experiments.report import drawing, gallery

    (folder / "figures").mkdir(parents=True)
    pictures = []
    with drawing.style():
        for each in gallery.gallery(summary, curves):
            for kind in ("png", "pdf", "svg"):
                (folder / "figures" / f"{each.name}.{kind}").write_bytes(drawing.render(each.figure, kind))
            svg = (folder / "figures" / f"{each.name}.svg").read_bytes()
            pictures.append(Picture(each.name, svg, each.caption, each.description))
    texts = {
        "index.html": page(summary, pictures, curves),
        "table.md": table.markdown(summary),
        "table.tex": latex.latex(summary),
        "table.csv": table.csv(summary),
        "verdict.json": verdict_json(summary),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
