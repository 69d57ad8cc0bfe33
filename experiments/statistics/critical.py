"""Which of several arms differ in their average rank over tasks (or seeds)."""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy import special

from experiments.statistics.intervals import LEVEL


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticalDifference:
    """The values of a critical-difference diagram.

    Attributes:
        average_ranks: of each arm, in the given order; 1 is best.
        statistic: Friedman's χ², corrected for ties; NaN where all arms tie everywhere.
        p_value: of Friedman's test that all arms are alike; NaN where there is no statistic.
        critical_difference: average ranks that differ by less are not different (Nemenyi).
        groups: the largest sets of arms, as indices from the best, of which no two are different; sets of one
            are left out. Where Friedman's test finds nothing, one group holds all.
    """

    average_ranks: Float[np.ndarray, " arms"]
    statistic: float
    p_value: float
    critical_difference: float
    groups: tuple[tuple[int, ...], ...]


def critical_difference(scores: Float[np.ndarray, "tasks arms"], *, level: float = LEVEL) -> CriticalDifference:
    """Friedman's test over tasks and Nemenyi's critical difference.

    ``CD = q sqrt(k (k + 1) / (6 N))`` for ``k`` arms on ``N`` tasks, ``q`` the studentised range quantile over
    ``sqrt(2)``. ``χ² = (k - 1) Σ_j (R_j - N (k + 1) / 2)² / Σ_ij (r_ij - (k + 1) / 2)²`` with rank sums ``R_j``, which
    is Friedman's statistic and corrects for ties.

    Args:
        scores: one number for each task (row) and arm, e.g. the mean over runs; higher is better; one that is not
            finite ranks worst.
        level: of both tests.

    Raises:
        ValueError: fewer than two arms or tasks.

    Source:
        Demšar (2006), Statistical comparisons of classifiers over multiple data sets, sections 3.2.1 and 3.2.2.
    """
    from scipy import stats  # as late as this: it loads slowly

    tasks, arms = scores.shape
    if tasks < 2 or arms < 2:
        raise ValueError(f"critical differences need at least 2 tasks and 2 arms, not {tasks} and {arms}")
    ranks = stats.rankdata(np.where(np.isfinite(scores), -scores, np.inf), axis=1)
    average = ranks.mean(axis=0)
    middle = (arms + 1) / 2
    spread_of_ranks = np.sum((ranks - middle) ** 2)
    statistic, p_value = np.nan, np.nan
    if spread_of_ranks > 0:
        statistic = (arms - 1) * tasks**2 * np.sum((average - middle) ** 2) / spread_of_ranks
        p_value = float(special.chdtrc(arms - 1, statistic))
    quantile = stats.studentized_range.ppf(1 - level, arms, np.inf) / np.sqrt(2)
    critical = float(quantile * np.sqrt(arms * (arms + 1) / (6 * tasks)))
    return CriticalDifference(
        average_ranks=average,
        statistic=float(statistic),
        p_value=p_value,
        critical_difference=critical,
        groups=_groups(average, critical if p_value < level else np.inf),
    )


def _groups(average: Float[np.ndarray, " arms"], critical: float) -> tuple[tuple[int, ...], ...]:
    """Runs of neighbours in rank that lie closer together than ``critical``, without those inside a longer one."""
    order = np.argsort(average, kind="stable")
    groups: list[tuple[int, ...]] = []
    reached = 0
    for start in range(len(order)):
        end = start + int(np.sum(average[order[start:]] - average[order[start]] < critical))
        if end - start > 1 and end > reached:
            groups.append(tuple(int(index) for index in order[start:end]))
        reached = max(reached, end)
    return tuple(groups)
