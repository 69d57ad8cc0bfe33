"""Numbers as a reader wants them: few digits, SI prefixes, a true minus sign."""

import math
from typing import Any

from experiments.statistics import Interval
from experiments.study import Metric

ABSENT = "\N{EN DASH}"


def metric_number(value: float, metric: Metric, *, signed: bool = False) -> str:
    """A value of the metric without its unit: two decimals for per cent, otherwise four."""
    if not math.isfinite(value):
        return ABSENT
    value = value * 100 if metric.percent else value
    decimals = 2 if metric.percent else max(0, 4 - max(0, math.floor(math.log10(max(abs(value), 1)))))
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def metric_interval(interval: Interval, metric: Metric, *, signed: bool = False) -> str:
    """``[low, high]`` in the metric's digits; a dash where there is no interval."""
    if not math.isfinite(interval.low):
        return ABSENT
    low, high = (metric_number(end, metric, signed=signed) for end in interval)
    return f"[{low}, {high}]"


def metric_mean(mean: float, sd: float, metric: Metric) -> str:
    """``mean ± sd``; the mean alone where there is no standard deviation."""
    text = metric_number(mean, metric)
    return f"{text} ± {metric_number(sd, metric)}" if math.isfinite(sd) else text


def metric_difference(value: float, metric: Metric) -> str:
    """The size of a difference with its unit, for a sentence: ``1.25 percentage points``."""
    return metric_number(abs(value), metric) + (" percentage points" if metric.percent else "")


def p_value(value: float) -> str:
    """A p-value to three decimals, or ``< 0.001``."""
    if math.isnan(value):
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def probability(value: float) -> str:
    """A probability or a ratio to two decimals."""
    return ABSENT if math.isnan(value) else f"{value:.2f}"


def effect(value: float) -> str:
    """A standardised effect: a sign, two decimals, fewer where it is large."""
    if math.isnan(value):
        return ABSENT
    text = f"{value:+.2f}" if abs(value) < 10 else f"{value:+.0f}"
    return text.replace("inf", "\N{INFINITY}").replace("-", "\N{MINUS SIGN}")


def si(value: float) -> str:
    """Three significant digits and an SI prefix: ``101,770`` is ``102 k``."""
    if not math.isfinite(value):
        return ABSENT
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # From the value that rounds up to the next prefix: 999,950 is 1.00 M, not 1000 k.
        if abs(value) >= factor * 0.9995:
            scaled = value / factor
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f} {prefix}"
    return f"{value:.3g}"


def seconds(mean: float, sd: float) -> tuple[str, str]:
    """A duration to three significant digits, and ``± sd`` with as many decimals (or nothing)."""
    if not math.isfinite(mean):
        return ABSENT, ""
    decimals = max(0, 2 - math.floor(math.log10(max(mean, 0.1))))
    return f"{mean:.{decimals}f}", f"± {sd:.{decimals}f}" if math.isfinite(sd) else ""


def count(number: int, singular: str, plural: str = "") -> str:
    """``1 seed``, ``8 seeds``."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def listed(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def short(value: Any) -> str:
    """A setting to four significant digits; what is no number as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
