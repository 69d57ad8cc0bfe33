"""A study's comparisons: which pairs of arms are tested, and the one family they are corrected in.

The table and the verdict draw on the same family, so the same comparison never carries two
different p-values.
"""

import dataclasses
import math

import numpy as np
import pandas as pd

from experiments import statistics
from experiments.formatting import count
from experiments.metric import Metric
from experiments.statements import Better
from experiments.statistics import LEVEL, Equivalence, Estimate, Interval, Spread, Superiority, Test
from experiments.study import Study
from models.base import unknown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm against another, paired by seed.

    Attributes:
        arm: the first arm.
        than: the one it is compared with.
        margin: the tested difference, in the metric's units, in the better direction; 0 in tables.
        higher_is_better: direction of the metric.
        difference: spread of ``arm - than`` over the seeds that both finished, in the metric's
            units; ``lost`` counts the pairs in which a trial diverged or crashed.
        superiority: chance that a run of ``arm`` is better than an independent run of ``than``;
            a trial that diverged or crashed ranks worst.
        test: the paired test behind the p-values.
        raw_p_value: two-sided p-value of ``difference`` against ``margin``. The sign-flip test leaves out the pairs
            that are lost; Wilcoxon's ranks a trial that failed as worst.
        p_value: the same after Holm's correction over the study's family.
        smallest_p_value: the least that ``p_value`` could have been with so many pairs.
        family: number of comparisons corrected for.
        only_arm_failed: pairs in which only ``arm`` diverged or crashed.
        only_than_failed: pairs in which only ``than`` did.
        equivalence: whether the two are as good as equal; None where the study states no margin.
    """

    arm: str
    than: str
    margin: float
    higher_is_better: bool
    difference: Spread
    superiority: Superiority
    test: Test
    raw_p_value: float
    p_value: float
    smallest_p_value: float
    family: int
    only_arm_failed: int
    only_than_failed: int
    equivalence: Equivalence | None

    @property
    def advantage(self) -> Interval:
        """The interval of the difference turned so that positive is better for ``arm``."""
        low, high = self.difference.interval
        return Interval(low, high) if self.higher_is_better else Interval(-high, -low)

    @property
    def testable(self) -> bool:
        """Whether so many pairs could reach the level at all."""
        return self.smallest_p_value < LEVEL

    @property
    def better(self) -> bool:
        """Whether ``arm`` is better beyond the margin: interval and corrected test agree.

        A pair in which only ``arm`` failed is missing from the difference to its own advantage, so
        it rules this out.
        """
        return self.advantage.low > self.margin and self.p_value < LEVEL and self.only_arm_failed == 0

    @property
    def worse(self) -> bool:
        """Whether ``arm`` falls short of the margin, by the same rule."""
        return self.advantage.high < self.margin and self.p_value < LEVEL and self.only_than_failed == 0

    @property
    def effect(self) -> Estimate:
        """``difference`` in units of its own standard deviation (Hedges' correction), with its interval."""
        return statistics.standardised_effect(self.difference)

    @property
    def seeds_needed(self) -> float:
        """Paired seeds with which such a difference would pass the corrected test against the margin with 80% power.

        Taken at Holm's first step and as if the observed effect were the true one, which few seeds leave open.
        Infinity where no realistic number would do, NaN where the effect is unknown.
        """
        margin = self.margin if self.higher_is_better else -self.margin
        beyond = dataclasses.replace(self.difference, mean=self.difference.mean - margin)
        needed = statistics.seeds_needed(statistics.standardised_effect(beyond).value, level=LEVEL / self.family)
        return max(needed, self.pairs_needed) if math.isfinite(needed) else needed

    @property
    def too_few(self) -> str:
        """Why there is no test, in one sentence; empty where there is one."""
        if self.testable:
            return ""
        family = f"corrected for {count(self.family, 'comparison')}"
        pairs = count(self.difference.n, "paired seed")
        reason = (
            f"{pairs} can never give p below {self.smallest_p_value:.2g}" if self.difference.n else "no pair finished"
        )
        return f"too few seeds for a test: {reason}, {family}; at least {self.pairs_needed} are needed"

    @property
    def pairs_needed(self) -> int:
        """The least number of pairs with which the whole family could reach the level."""
        return statistics.pairs_needed(self.family)


@dataclasses.dataclass(frozen=True)
class Family:
    """All comparisons of a study, corrected together."""

    comparisons: tuple[Comparison, ...]

    def between(self, arm: str, than: str, margin: float = 0.0) -> Comparison:
        """The comparison of ``arm`` with ``than`` at ``margin``."""
        return next(item for item in self.comparisons if (item.arm, item.than, item.margin) == (arm, than, margin))


def results(trials: pd.DataFrame, metric: Metric) -> dict[str, pd.Series]:
    """For each arm the metric by seed; NaN where the trial diverged, crashed or has no finite value.

    Where a trial was run again after a crash, its last row counts.

    Raises:
        BadInput: the trials have no such column.
    """
    if metric.column not in trials.columns:
        raise unknown("metric column", metric.column, [str(column) for column in trials.columns])
    wanted = list(dict.fromkeys(["arm", "seed", "status", metric.column]))
    last = trials[wanted].drop_duplicates(["arm", "seed"], keep="last").sort_values("seed")
    values = last[metric.column].astype(np.float64)
    last = last.assign(value=values.where((last["status"] == "ok") & np.isfinite(values)))
    return {str(arm): rows.set_index("seed")["value"] for arm, rows in last.groupby("arm", sort=False)}


def compare(study: Study, trials: pd.DataFrame, *, claims_alone: bool = False) -> Family:
    """Compare every arm with the baseline, and the arms of every claim with each other.

    The family of the correction holds each tested hypothesis once: one per arm against the
    baseline, and one for each claim that is not among those (other arms, or a margin).

    Args:
        study: the declaration.
        trials: the records, a row a trial.
        claims_alone: whether only what is claimed is tested, not every arm against the baseline.
    """
    return compare_results(study, results(trials, study.metric), claims_alone=claims_alone)


def compare_results(study: Study, values: dict[str, pd.Series], *, claims_alone: bool = False) -> Family:
    """The same from each arm's metric by seed, as :func:`results` gives it."""
    keys = [] if claims_alone else [(arm, study.baseline_name, 0.0) for arm in study.arms]
    keys += [(claim.arm, claim.than, claim.margin) for claim in _tested(study)]
    keys = list(dict.fromkeys(keys))
    hypotheses = list(dict.fromkeys(_hypothesis(key) for key in keys))
    raw, smallest = [], []
    sign = _sign(study.metric)
    for arm, than, margin in hypotheses:
        first, second = _paired(values, arm, than)
        raw.append(statistics.paired_p_value(sign * first, sign * second + margin, test=study.test))
        smallest.append(statistics.smallest_p_value(_pairs(first, second, study.test), test=study.test))
    corrected, least = statistics.holm(np.array(raw, float)), statistics.holm(np.array(smallest, float))
    tests = {
        hypothesis: (float(raw[i]), float(corrected[i]), float(least[i])) for i, hypothesis in enumerate(hypotheses)
    }
    return Family(tuple(_comparison(key, study, values, tests[_hypothesis(key)], len(hypotheses)) for key in keys))


def _tested(study: Study) -> list[Better]:
    """The claims that are comparisons of two arms on the study's metric."""
    return [claim for claim in study.claims if isinstance(claim, Better) and claim.metric in (None, study.metric)]


def _hypothesis(key: tuple[str, str, float]) -> tuple[str, str, float]:
    """The two-sided test does not ask which arm comes first, unless there is a margin."""
    arm, than, margin = key
    return (min(arm, than), max(arm, than), 0.0) if margin == 0 else key


def _sign(metric: Metric) -> float:
    """Turns the metric so that higher is better."""
    return 1.0 if metric.higher_is_better else -1.0


def _pairs(first: np.ndarray, second: np.ndarray, test: Test) -> int:
    """Pairs that the test can use: for ranks it is enough that one of the two finished."""
    finished = np.isfinite(first), np.isfinite(second)
    return int(np.sum(finished[0] | finished[1] if test == "wilcoxon" else finished[0] & finished[1]))


def _paired(values: dict[str, pd.Series], arm: str, than: str) -> tuple[np.ndarray, np.ndarray]:
    """The two arms' values over the seeds that both ran."""
    if arm not in values or than not in values:
        return np.zeros(0), np.zeros(0)
    first, second = values[arm], values[than]
    if not first.index.equals(second.index):
        first, second = first.align(second, join="inner")
    return first.to_numpy(np.float64), second.to_numpy(np.float64)


def _comparison(
    key: tuple[str, str, float],
    study: Study,
    values: dict[str, pd.Series],
    test: tuple[float, float, float],
    family: int,
) -> Comparison:
    arm, than, margin = key
    first, second = _paired(values, arm, than)
    sign = _sign(study.metric)
    runs, others = (sign * values[name].to_numpy() if name in values else np.zeros(0) for name in (arm, than))
    raw, corrected, least = test
    return Comparison(
        arm=arm,
        than=than,
        margin=margin,
        higher_is_better=study.metric.higher_is_better,
        difference=statistics.paired_difference(first, second),
        superiority=statistics.superiority(runs, others),
        test=study.test,
        raw_p_value=raw,
        p_value=corrected,
        smallest_p_value=1.0 if math.isnan(least) else least,
        family=family,
        only_arm_failed=int(np.sum(np.isnan(first) & ~np.isnan(second))),
        only_than_failed=int(np.sum(~np.isnan(first) & np.isnan(second))),
        equivalence=(
            None
            if study.equivalence_margin is None
            else statistics.equivalence(first, second, study.equivalence_margin)
        ),
    )
