"""Figures over several studies: performance profiles, interquartile means, critical differences."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from experiments.compare import Comparison
from experiments.report.drawing import WIDTH, blank, looks
from experiments.report.gallery import Drawn


def gallery(comparison: Comparison) -> Iterator[Drawn]:
    """The figures that the comparison has."""
    means = "; ".join(f"{each.arm} {each.interquartile_mean.value:.3f}" for each in comparison.overall)
    yield Drawn(
        "performance_profiles",
        performance_profiles(comparison),
        "Performance profiles: for each score the share of runs, over all tasks, that is above it. A higher line is "
        "better; bands are pointwise 95% intervals.",
        f"Line chart, a line for each arm. Interquartile means of the scores: {means}.",
    )
    yield Drawn(
        "interquartile_means",
        interquartile_means(comparison),
        "Interquartile mean of the scores of all runs of all tasks, with its 95% interval.",
        f"Interval chart, a line for each arm: {means}.",
    )
    if comparison.ranks is not None:
        ranks = "; ".join(
            f"{arm} {rank:.2f}" for arm, rank in zip(comparison.arms, comparison.ranks.average_ranks, strict=True)
        )
        yield Drawn(
            "critical_difference",
            critical_difference(comparison),
            "Critical-difference diagram: average ranks over tasks, best at the left. No two arms that a thick "
            "line joins are shown to differ.",
            f"Average ranks: {ranks}.",
        )


def performance_profiles(comparison: Comparison) -> Figure:
    """The share of runs above each score, a line for each arm."""
    figure, axes = blank()
    for each, look in zip(comparison.overall, looks(comparison.arms).values(), strict=True):
        profile = each.profile
        axes.step(
            profile.thresholds, profile.share, where="post", color=look.color, linestyle=look.line, label=each.arm
        )
        axes.fill_between(
            profile.thresholds, profile.low, profile.high, step="post", color=look.color, alpha=0.15, linewidth=0
        )
    axes.set_xlabel("score")
    axes.set_ylabel("share of runs above it")
    axes.set_ylim(-0.02, 1.02)
    axes.legend(frameon=False)
    return figure


def interquartile_means(comparison: Comparison) -> Figure:
    """A point and an interval for each arm, best on top."""
    figure, axes = blank()
    figure.set_figheight(0.7 + 0.26 * len(comparison.arms))
    styles = looks(comparison.arms)
    order = sorted(comparison.overall, key=lambda each: each.interquartile_mean.value)
    for place, each in enumerate(order):
        low, high = each.interquartile_mean.interval
        axes.plot([low, high], [place, place], color=styles[each.arm].color, linewidth=2.2, alpha=0.55)
        axes.plot(each.interquartile_mean.value, place, styles[each.arm].marker, color=styles[each.arm].color)
    axes.set_yticks(range(len(order)), [each.arm for each in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("interquartile mean of scores")
    return figure


def critical_difference(comparison: Comparison) -> Figure:
    """Demšar's diagram: the scale of ranks on top, arms hanging from it left and right, groups joined."""
    figure, axes = blank()
    ranks = comparison.ranks
    if ranks is None:
        raise ValueError("ranks need at least three tasks")
    average, count = ranks.average_ranks, len(comparison.arms)
    order = [int(index) for index in np.argsort(average, kind="stable")]
    half = (count + 1) // 2
    base = 0.35 + 0.22 * len(ranks.groups)
    figure.set_size_inches(1.5 * WIDTH, 0.9 + 0.24 * (half + len(ranks.groups)))
    axes.set_axis_off()
    axes.hlines(0, 1, count, color="black", linewidth=1)
    for rank in range(1, count + 1):
        axes.vlines(rank, -0.12, 0, color="black", linewidth=1)
        axes.text(rank, -0.18, str(rank), ha="center", va="bottom", fontsize=7)
    styles = looks(comparison.arms)
    margin = 0.12 * (count - 1)
    for position, index in enumerate(order):
        left = position < half
        depth = base + 0.34 * (position if left else count - 1 - position)
        end = 1 - margin if left else count + margin
        axes.plot([average[index], average[index], end], [0, depth, depth], color="#555555", linewidth=0.8)
        axes.plot(average[index], 0, "o", color=styles[comparison.arms[index]].color, markersize=4, clip_on=False)
        axes.text(
            end,
            depth,
            f" {comparison.arms[index]} ({average[index]:.2f}) ",
            ha="right" if left else "left",
            va="center",
        )
    for number, group in enumerate(ranks.groups):
        ends = [average[index] for index in group]
        depth = 0.18 + 0.22 * number
        axes.hlines(depth, min(ends) - 0.04, max(ends) + 0.04, color="black", linewidth=3)
    top = -0.75
    axes.hlines(top, 1, 1 + ranks.critical_difference, color="black", linewidth=1)
    for end in (1, 1 + ranks.critical_difference):
        axes.vlines(end, top - 0.08, top + 0.08, color="black", linewidth=1)
    axes.text(1 + ranks.critical_difference / 2, top - 0.1, f"CD = {ranks.critical_difference:.2f}", ha="center")
    axes.set_ylim(base + 0.34 * half, top - 0.4)
    axes.set_xlim(1 - 4.2 * margin, max(count, 1 + ranks.critical_difference) + 4.2 * margin)
    return figure
