"""``table.md`` for people and ``table.csv`` for programs."""

import io
import math

import pandas as pd

from experiments.comparisons import Comparison
from experiments.report.cells import Cell, cells, headings, untrained_cells
from experiments.report.legend import legend
from experiments.report.rows import Row, UntrainedRow
from experiments.report.summary import Summary
from experiments.statistics import Equivalence, Spread


def markdown(summary: Summary) -> str:
    """``table.md``: the table, how to read it, and the cautions."""
    head = [one_line(cell) for cell in headings(summary)]
    lines = [markdown_line(head), "|" + "---|" + "---:|" * (len(head) - 1)]
    for row in summary.rows:
        texts = [one_line(cell) for cell in cells(row, summary.study)]
        if row.bold:
            texts[0], texts[2] = f"**{texts[0]}**", f"**{texts[2]}**"
        lines.append(markdown_line(texts))
    lines += [
        markdown_line([one_line(cell) for cell in untrained_cells(row, summary.study)]) for row in summary.untrained
    ]
    advice = [] if summary.recommendation is None else [" ".join(summary.recommendation.sentences)]
    notes = [*advice, *legend(summary), *summary.cautions]
    return "\n".join([*lines, "", *(f"{note}\n" for note in notes)])


def markdown_line(texts: list[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def one_line(cell: Cell) -> str:
    """Text and detail side by side; a detail without brackets of its own gets some."""
    if not cell.detail:
        return cell.text
    return f"{cell.text} {cell.detail}" if cell.detail[0] in "[±" else f"{cell.text} ({cell.detail})"


_WHOLE = ("n", "diverged", "crashed", "missing", "pairs", "pairs_lost", "comparisons", "parameters")


def csv(summary: Summary) -> str:
    """``table.csv``: a row an arm, plain numbers in the metric's own units, empty where there is none.

    ``kind`` is ``arm``, or ``untrained`` for a prediction without training, whose name stands under ``arm``.
    """
    metric = {"metric": summary.study.metric.column}
    rows: list[dict[str, object]] = [
        {**_measured(row), **_comparison_columns(row.comparison), **_cost(row)} for row in summary.rows
    ]
    rows += [_untrained(row) for row in summary.untrained]
    # The baseline's row has no comparison; the longest row has every column in its place.
    frame = pd.DataFrame([{"arm": row["arm"], **metric, **row} for row in rows])
    frame = frame[["arm", "kind", "metric", *(name for name in max(rows, key=len) if name not in ("arm", "kind"))]]
    # Whole numbers stay whole where some rows have none: 8, not 8.0.
    frame = frame.astype({name: "Int64" for name in _WHOLE if name in frame})
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def spread_columns(prefix: str, spread: Spread) -> dict[str, float]:
    """A spread as columns: ``PREFIX_mean``, ``_sd``, ``_low``, ``_high``, ``_min``, ``_max``."""
    return {
        f"{prefix}_mean": spread.mean,
        f"{prefix}_sd": spread.sd,
        f"{prefix}_low": spread.interval.low,
        f"{prefix}_high": spread.interval.high,
        f"{prefix}_min": spread.minimum,
        f"{prefix}_max": spread.maximum,
    }


def _measured(row: Row) -> dict[str, object]:
    return {
        "arm": row.arm,
        "kind": "arm",
        "n": row.metric.n,
        "diverged": row.diverged,
        "crashed": row.crashed,
        "missing": row.missing,
        "exploratory": row.exploratory,
        "tuned_at_edge": " ".join(row.edges),
        **spread_columns("metric", row.metric),
    }


def _untrained(row: UntrainedRow) -> dict[str, object]:
    name = f"{row.name} ({', '.join(row.arms)})" if row.arms else row.name
    return {"arm": name, "kind": "untrained", "metric_mean": row.value}


def _comparison_columns(comparison: Comparison | None) -> dict[str, object]:
    if comparison is None:
        return {}
    return {
        "pairs": comparison.difference.n,
        "pairs_lost": comparison.difference.lost,
        **spread_columns("difference", comparison.difference),
        "effect": comparison.effect.value,
        "effect_low": comparison.effect.interval.low,
        "effect_high": comparison.effect.interval.high,
        "test": comparison.test,
        "p_value": comparison.raw_p_value,
        "p_value_holm": comparison.p_value,
        "p_value_holm_smallest": comparison.smallest_p_value,
        "comparisons": comparison.family,
        "p_better": comparison.superiority.probability,
        "p_better_low": comparison.superiority.interval.low,
        "p_better_high": comparison.superiority.interval.high,
        "seeds_needed": comparison.seeds_needed,
        **_equivalence_columns(comparison.equivalence),
        "better": comparison.better,
    }


def _equivalence_columns(equivalence: Equivalence | None) -> dict[str, object]:
    if equivalence is None:
        return {}
    return {
        "equivalence_margin": equivalence.margin,
        "equivalence_p_value": equivalence.p_value,
        "equivalence_low": equivalence.interval.low,
        "equivalence_high": equivalence.interval.high,
        "equivalent": equivalence.equivalent,
    }


def _cost(row: Row) -> dict[str, object]:
    return {
        "parameters": int(row.parameters) if math.isfinite(row.parameters) else None,
        "flops_per_step": row.flops_per_step,
        **spread_columns("train_seconds", row.train_seconds),
        **(spread_columns("curve_area", row.curve_area) if row.curve_area is not None else {}),
        **(spread_columns("latency_ms", row.latency) if row.latency is not None else {}),
    }
