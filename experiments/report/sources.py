"""Where a result's spread comes from, for a study whose arms let one source of chance vary each."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments import formatting
from experiments.statistics.variance import Attribution, attribute
from experiments.study import Study


def attribution(study: Study, values: Mapping[str, pd.Series]) -> Attribution | None:
    """The variance that each source makes alone; None for a study of another kind.

    Args:
        study: the declaration; its arms are called after the sources.
        values: the metric of each arm by seed.
    """
    if not study.sources:
        return None
    alone = {source: values[source].to_numpy(np.float64) for source in study.sources if source in study.arms}
    return attribute(alone, values[study.baseline_name].to_numpy(np.float64))


def notes(study: Study, found: Attribution | None) -> tuple[str, ...]:
    """The sources in words, the largest first, and whether one of them dominates."""
    if found is None:
        return ()
    parts = []
    for source in found.sources:
        deviation = formatting.metric_number(math.sqrt(source.variance), study.metric)
        low, high = source.share_interval
        share = f", {source.share:.0%} of the variance of all together [{low:.0%}, {high:.0%}]"
        parts.append(f"{source.name} {deviation}{share if math.isfinite(source.share) else ''}")
    spread = (
        f"Standard deviation of {study.metric.label} when one source of chance alone varies: {'; '.join(parts)}. "
        "Shares need not add up to 100%. Noise is all that is drawn while training: dropout, augmentation. What is "
        "held is one draw, so differences between these rows, and their p, say nothing of the sources."
    )
    if found.dominant is None:
        return (spread, f"No source can be said to dominate: {found.reason}.")
    p_value = formatting.p_value(found.p_value)
    return (spread, f"{found.dominant} dominates (largest p against another source {p_value}, Brown and Forsythe).")


def document(found: Attribution | None) -> dict[str, Any] | None:
    """The same as plain values."""
    if found is None:
        return None
    sources = [
        {
            "name": source.name,
            "n": source.n,
            "lost": source.lost,
            "variance": source.variance,
            "interval": list(source.interval),
            "share": source.share,
            "share_interval": list(source.share_interval),
        }
        for source in found.sources
    ]
    return {"sources": sources, "dominant": found.dominant, "p_value": found.p_value, "reason": found.reason}
