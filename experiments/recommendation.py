"""Which arm to take: what is gained for what cost, in words.

Among the arms that cannot be told from the best one the cheapest is recommended. They are told apart by paired
differences whose intervals are Bonferroni's over the arms; cheapest is the least product of all costs, so that no unit
counts more than another. With too few seeds to tell anything apart it is the best mean.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from experiments import formatting
from experiments.metric import Metric
from experiments.statistics import CONFIDENCE, Interval, mean_interval
from experiments.statistics.pareto import front

FEWEST = 4
"""Paired seeds below which nothing is told apart, and the best mean is recommended."""

COSTS = {
    "parameters": "parameters",
    "flops_per_step": "operations of a training step",
    "train_seconds": "training time",
    "latency": "inference latency",
}
"""What an arm costs, by name, and in words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What a reader is advised.

    Attributes:
        arm: the recommended one.
        sentences: why, and what the others would give and cost.
    """

    arm: str
    sentences: tuple[str, ...]


def recommend(values: pd.DataFrame, costs: Mapping[str, Mapping[str, float]], metric: Metric) -> Recommendation | None:
    """What to take; None where no arm has a result.

    Args:
        values: the metric by seed (rows) and arm (columns); NaN where a trial failed.
        costs: of each arm, by the names of :data:`COSTS`; NaN where not known.
        metric: by what the arms are compared.
    """
    means = {str(arm): float(column.mean()) for arm, column in values.items() if np.isfinite(column).any()}
    if not means:
        return None
    best = (max if metric.higher_is_better else min)(means, key=lambda arm: means[arm])
    apart = {arm: _difference(values, arm, best, len(means) - 1) for arm in means if arm != best}
    seeds = len(values.dropna())
    equals = [best, *(arm for arm, interval in apart.items() if seeds >= FEWEST and not _is_apart(interval))]
    names = [name for name in COSTS if all(_is_known(costs[arm], name) for arm in means)]
    chosen = min(equals, key=lambda arm: sum(math.log(costs[arm][name]) for name in names))
    sentences = [_chosen(chosen, best, equals, means, apart, seeds, metric)]
    if chosen != best and names:
        sentences.append(f"{_capital(best)} would cost {_ratios(costs[best], costs[chosen], names)}.")
    sentences += [_walk(name, means, costs, values, metric) for name in names]
    return Recommendation(arm=chosen, sentences=tuple(sentences))


def _difference(values: pd.DataFrame, arm: str, than: str, comparisons: int) -> Interval:
    """The interval of ``arm - than``, so wide that all of ``comparisons`` hold together in 95% of studies."""
    pairs = (values[arm] - values[than]).dropna().to_numpy(np.float64)
    return mean_interval(pairs, confidence=1 - (1 - CONFIDENCE) / max(1, comparisons))


def _is_apart(interval: Interval) -> bool:
    """Whether zero lies outside."""
    return interval.low > 0 or interval.high < 0


def _is_known(costs: Mapping[str, float], name: str) -> bool:
    return math.isfinite(costs.get(name, math.nan)) and costs[name] > 0


def _chosen(
    chosen: str,
    best: str,
    equals: Sequence[str],
    means: Mapping[str, float],
    apart: Mapping[str, Interval],
    seeds: int,
    metric: Metric,
) -> str:
    """The advice itself."""
    value = f"{metric.label} {formatting.metric_number(means[chosen], metric)}{' %' if metric.percent else ''}"
    if seeds < FEWEST:
        return (
            f"Take {chosen}: {value}, the best mean. {formatting.count(seeds, 'seed')} cannot tell it from the others."
        )
    if len(equals) == 1:
        return f"Take {chosen}: {value}, better than every other arm beyond chance."
    if chosen == best:
        others = formatting.listed([arm for arm in equals if arm != best])
        cost = "costs" if len(equals) == 2 else "cost"
        return f"Take {chosen}: {value}, the best mean; {others} cannot be told from it and {cost} more."
    interval = formatting.metric_interval(apart[chosen], metric, signed=True)
    return (
        f"Take {chosen}: {value}. {_capital(best)} has the better mean, "
        f"{formatting.metric_number(means[best], metric)}, but the difference may be chance ({interval}, so wide since "
        f"{formatting.count(len(apart), 'arm')} {'is' if len(apart) == 1 else 'are'} compared with the best), and "
        f"{chosen} is the cheapest of those that cannot be told from it."
    )


def _walk(
    name: str,
    means: Mapping[str, float],
    costs: Mapping[str, Mapping[str, float]],
    values: pd.DataFrame,
    metric: Metric,
) -> str:
    """The front of one cost from the cheapest arm on: what each step gains, and at what price."""
    arms = list(means)
    places = front(
        np.array([costs[arm][name] for arm in arms]),
        np.array([means[arm] for arm in arms]),
        higher_is_better=metric.higher_is_better,
    )
    steps = [arms[place] for place in places]
    text = f"By {COSTS[name]}: the cheapest is {steps[0]} ({formatting.metric_number(means[steps[0]], metric)})"
    for before, after in itertools.pairwise(steps):
        gain = formatting.metric_number(means[after] - means[before], metric, signed=True)
        interval = formatting.metric_interval(_difference(values, after, before, 1), metric, signed=True)
        ratio = costs[after][name] / costs[before][name]
        text += f"; {after} changes that by {gain} {interval} for {ratio:.3g} times as much"
    return f"{text}."


def _ratios(costs: Mapping[str, float], base: Mapping[str, float], names: Sequence[str]) -> str:
    return formatting.listed([f"{costs[name] / base[name]:.3g} times the {COSTS[name]}" for name in names])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
