"""The report over several studies: what ``--compare`` writes."""

import dataclasses
import hashlib
import io
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments import formatting, statistics
from experiments.compare import Comparison, Overall, Task, together
from experiments.report import across_figures
from experiments.report.cells import Cell
from experiments.report.folder import replace, save
from experiments.report.latex import latex_line, latex_text
from experiments.report.page import render, sort_value
from experiments.report.table import markdown_line, one_line
from experiments.report.terminal import parts, stacked
from experiments.report.verdict import finite_json
from experiments.statistics import Estimate
from models.base import BadInput


def compare(folders: Sequence[str], workdir: str | Path, console: Console, *, accept_mixed: bool) -> Path:
    """Compare, write ``workdir/compare-...`` and print the table. Returns the folder.

    Raises:
        BadInput: as :func:`experiments.compare.together`, or the folder cannot be written to.
    """
    words = ["python", "-m", "experiments", "--compare", *folders]
    words += ["--accept_mixed"] * accept_mixed + ([f"--workdir={workdir}"] if str(workdir) != "runs" else [])
    comparison = together(folders, accept_mixed=accept_mixed, command=shlex.join(words))
    place = Path(workdir) / _folder_name(comparison.tasks)
    try:
        write(place, comparison)
    except OSError as error:
        raise BadInput(f"cannot write to {place}: {error.strerror or error}; choose another --workdir") from None
    show(console, comparison)
    console.print(f"Report: {place / 'index.html'}", highlight=False, markup=False, soft_wrap=True)
    return place


def _folder_name(tasks: Sequence[Task]) -> str:
    """``compare-A-B``; a hash stands for names that together are too long, or that are paths."""
    names = "-".join(task.name for task in tasks)
    if len(names) > 80 or not re.fullmatch(r"[\w.+-]+", names):
        names = f"{len(tasks)}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
    return f"compare-{names}"


def write(folder: Path, comparison: Comparison) -> None:
    """Write ``index.html``, ``table.{md,tex,csv}``, ``comparison.json`` and the figures; an old folder is replaced."""

    def fill(new: Path) -> None:
        pictures = save(new / "figures", across_figures.gallery(comparison))
        texts = {
            "index.html": render(
                "across.html",
                scripts=("table.js",),
                comparison=comparison,
                title=title(comparison),
                headings=headings(comparison),
                lines=[cells(comparison, arm) for arm in comparison.arms],
                legend=legend(comparison),
                findings=findings(comparison),
                figures=pictures,
                sort_value=sort_value,
            ),
            "table.md": markdown(comparison),
            "table.tex": latex(comparison),
            "table.csv": csv(comparison),
            "comparison.json": document(comparison),
        }
        for name, text in texts.items():
            (new / name).write_text(text, encoding="utf-8", newline="\n")

    folder.parent.mkdir(parents=True, exist_ok=True)
    replace(folder, fill)


def title(comparison: Comparison) -> str:
    """What is compared."""
    return f"{formatting.count(len(comparison.arms), 'arm')} over {formatting.count(len(comparison.tasks), 'task')}"


def headings(comparison: Comparison) -> tuple[Cell, ...]:
    """The column headings: a column a task, then what is said over all of them."""
    tasks = [
        Cell(task.name, f"{task.study.metric.label}{' (%)' if task.study.metric.percent else ''}")
        for task in comparison.tasks
    ]
    overall = [Cell("IQM", "of scores"), Cell("P(better)", f"than {comparison.baseline}")]
    return (Cell("arm"), *tasks, *overall, *([Cell("rank", "average")] if comparison.ranks else []))


def cells(comparison: Comparison, arm: str) -> tuple[Cell, ...]:
    """One arm's cells, in the order of :func:`headings`."""
    place = comparison.arms.index(arm)
    overall = comparison.overall[place]
    ranks = [] if comparison.ranks is None else [float(comparison.ranks.average_ranks[place])]
    return (
        Cell(arm, formatting.count(overall.failed, "failure") if overall.failed else "", arm),
        *(_task_cell(task, arm) for task in comparison.tasks),
        _estimate(overall.interquartile_mean, decimals=3),
        Cell(formatting.ABSENT) if overall.improvement is None else _estimate(overall.improvement, decimals=2),
        *(Cell(f"{rank:.2f}", value=rank) for rank in ranks),
    )


def _task_cell(task: Task, arm: str) -> Cell:
    """Mean and deviation; a mark where the arm is better or worse than the baseline of that task."""
    spread, metric = statistics.spread(task.values[arm].to_numpy(float)), task.study.metric
    text = formatting.metric_mean(spread.mean, spread.sd, metric)
    detail = ""
    if arm != task.study.baseline_name:
        found = task.family.between(arm, task.study.baseline_name)
        detail = "better" if found.better else "worse" if found.worse else ""
        if detail:
            detail += f", p {formatting.p_value(found.p_value)}"
    return Cell(text, detail, spread.mean)


def _estimate(estimate: Estimate, *, decimals: int) -> Cell:
    low, high = estimate.interval
    interval = f"[{low:.{decimals}f}, {high:.{decimals}f}]" if low == low else ""
    return Cell(f"{estimate.value:.{decimals}f}", interval, estimate.value)


def findings(comparison: Comparison) -> tuple[str, ...]:
    """What may be concluded over all tasks, a sentence for each arm, from the intervals of P(better) alone."""
    tasks = formatting.count(len(comparison.tasks), "task")
    found = []
    for each in comparison.overall:
        if each.improvement is None:
            continue
        chance, (low, high) = each.improvement
        wins = f"a run of it beats one of {comparison.baseline} in {chance:.0%} of cases"
        interval = f"95% interval {low:.0%} to {high:.0%}"
        if low > 0.5:
            found.append(f"Over these {tasks}, {each.arm} is better than {comparison.baseline}: {wins} ({interval}).")
        elif high < 0.5:
            found.append(f"Over these {tasks}, {each.arm} is worse than {comparison.baseline}: {wins} ({interval}).")
        else:
            found.append(
                f"Over these {tasks}, {each.arm} is neither better nor worse than {comparison.baseline} for all that "
                f"these runs show: {wins} ({interval}, which includes one half)."
            )
    return tuple(found)


def legend(comparison: Comparison) -> tuple[str, ...]:
    """How to read the table, a sentence or two each."""
    lines = [
        "Each task: mean ± standard deviation over seeds; better or worse than "
        f"{comparison.baseline} where the paired test says so, corrected within the task (Holm).",
        f"{comparison.scale} IQM: interquartile mean of the scores of all runs, with 95% stratified bootstrap "
        f"intervals; P(better): chance that a run beats one of {comparison.baseline} on a task drawn at random "
        "(Agarwal et al. 2021).",
    ]
    if comparison.ranks is not None:
        lines.append(
            "Rank: average over tasks of the rank of the arm's mean; 1 is best. Ranks that differ by less than "
            f"{comparison.ranks.critical_difference:.2f} are not different (Nemenyi; Friedman's test "
            f"p {formatting.p_value(comparison.ranks.p_value)}; Demšar 2006)."
        )
    return tuple(lines)


def markdown(comparison: Comparison) -> str:
    """``table.md``."""
    head = [one_line(cell) for cell in headings(comparison)]
    lines = [markdown_line(head), "|" + "---|" + "---:|" * (len(head) - 1)]
    lines += [markdown_line([one_line(cell) for cell in cells(comparison, arm)]) for arm in comparison.arms]
    return "\n".join(
        [*lines, "", *(f"{note}\n" for note in (*findings(comparison), *legend(comparison), *comparison.cautions))]
    )


def latex(comparison: Comparison) -> str:
    r"""``table.tex`` for ``\usepackage{booktabs}``."""
    head = headings(comparison)
    lines = [
        r"% Needs \usepackage{booktabs}. Made by Paribus: " + comparison.command.replace("\n", " "),
        r"\begin{table*}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        r"\makebox[\textwidth][c]{%",
        r"\begin{tabular}{@{}l" + "r" * (len(head) - 1) + r"@{}}",
        r"\toprule",
        latex_line([cell.text for cell in head]),
        latex_line([f"({cell.detail})" if cell.detail else "" for cell in head], small=True),
        r"\midrule",
    ]
    for arm in comparison.arms:
        row = cells(comparison, arm)
        lines += [latex_line([cell.text for cell in row]), latex_line([cell.detail for cell in row], small=True)]
    caption = latex_text(" ".join([*legend(comparison), *comparison.cautions]))
    lines += [r"\bottomrule", r"\end{tabular}}", rf"\caption{{{caption}}}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def csv(comparison: Comparison) -> str:
    """``table.csv``: a row for each arm and task, and one for each arm over all tasks (``task`` is empty)."""
    rows: list[dict[str, object]] = []
    for place, arm in enumerate(comparison.arms):
        for task in comparison.tasks:
            spread = statistics.spread(task.values[arm].to_numpy(float))
            row = {"arm": arm, "task": task.name, "metric": task.study.metric.column, "n": spread.n}
            rows.append({**row, "failed": spread.lost, "mean": spread.mean, "sd": spread.sd})
        overall = _overall(comparison, comparison.overall[place], place)
        rows.append({"arm": arm, "task": "", "failed": overall.pop("failed"), **overall})
    buffer = io.StringIO()
    frame = pd.DataFrame(rows).astype({"n": "Int64"})
    frame.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def _overall(comparison: Comparison, overall: Overall, place: int) -> dict[str, Any]:
    """The numbers of one arm over all tasks."""
    better = overall.improvement
    return {
        "failed": overall.failed,
        "interquartile_mean": overall.interquartile_mean.value,
        "interquartile_mean_low": overall.interquartile_mean.interval.low,
        "interquartile_mean_high": overall.interquartile_mean.interval.high,
        "p_better": None if better is None else better.value,
        "p_better_low": None if better is None else better.interval.low,
        "p_better_high": None if better is None else better.interval.high,
        "average_rank": None if comparison.ranks is None else float(comparison.ranks.average_ranks[place]),
    }


def document(comparison: Comparison) -> str:
    """``comparison.json``, for programs. Absent numbers are null."""
    ranks = comparison.ranks
    content = {
        "command": comparison.command,
        "tasks": [
            {"task": task.name, "folder": str(task.folder), "preset": task.study.preset, "seeds": task.study.seeds}
            | {"metric": dataclasses.asdict(task.study.metric)}
            for task in comparison.tasks
        ],
        "baseline": comparison.baseline,
        "scale": comparison.scale,
        "runs": comparison.runs,
        "arms": [
            {"arm": each.arm, **_overall(comparison, each, place)} for place, each in enumerate(comparison.overall)
        ],
        "critical_difference": None
        if ranks is None
        else {
            "critical_difference": ranks.critical_difference,
            "friedman_p_value": ranks.p_value,
            "groups": [[comparison.arms[index] for index in group] for group in ranks.groups],
        },
        "findings": list(findings(comparison)),
        "cautions": list(comparison.cautions),
    }
    return json.dumps(finite_json(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def show(console: Console, comparison: Comparison) -> None:
    """Print the table, how to read it, the cautions and, last, what it says."""

    def table(columns: list[int]) -> Table:
        result = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
        head = headings(comparison)
        for column in columns:
            result.add_column(stacked(head[column]), justify="right" if column else "left", overflow="fold")
        for arm in comparison.arms:
            row = cells(comparison, arm)
            result.add_row(*(stacked(row[column]) for column in columns))
        return result

    console.print(Text(title(comparison), style="bold"))
    for part in parts(console, len(headings(comparison)), table):
        console.print(part)
    for line in legend(comparison):
        console.print(Text(line, style="dim"))
    for line in comparison.cautions:
        console.print(Text.assemble(("! ", "yellow"), line))
    console.print()
    for line in findings(comparison):
        console.print(Text(line))
