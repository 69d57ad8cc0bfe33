"""Whether two arms are as good as equal."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from scipy import special

from experiments.statistics.intervals import LEVEL, Interval, mean_interval, paired_difference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Equivalence:
    """The result of an equivalence test.

    Attributes:
        margin: differences smaller than this, either way, count as none.
        p_value: the larger of the two one-sided p-values; NaN for fewer than two pairs.
        interval: 90% interval of the difference, which matches two tests at 5%.
        one_failed: pairs of which exactly one trial finished.
    """

    margin: float
    p_value: float
    interval: Interval
    one_failed: int

    @property
    def equivalent(self) -> bool:
        """Whether the test and the interval both say so. Where only one of a pair failed, the two are not equal."""
        inside = -self.margin < self.interval.low and self.interval.high < self.margin
        return inside and self.p_value < LEVEL and self.one_failed == 0


def equivalence(arm: Float[np.ndarray, " seeds"], baseline: Float[np.ndarray, " seeds"], margin: float) -> Equivalence:
    """Two one-sided paired t tests of ``|mean difference| >= margin``.

    ``p = max(P(T > (mean + margin) / se), P(T > (margin - mean) / se))`` with ``n - 1`` degrees of freedom.

    Args:
        arm: its values by seed.
        baseline: the other's.
        margin: in the values' units, above zero.

    Source:
        Schuirmann (1987), A comparison of the two one-sided tests procedure and the power approach.
    """
    complete = np.isfinite(arm) & np.isfinite(baseline)
    difference = paired_difference(arm, baseline)
    n, sd = difference.n, difference.sd
    if n < 2:
        p_value = math.nan
    elif sd == 0:
        p_value = 0.0 if abs(difference.mean) < margin else 1.0
    else:
        least = (margin - abs(difference.mean)) * math.sqrt(n) / sd
        p_value = float(special.stdtr(n - 1, -least))
    values = arm[complete].astype(np.float64) - baseline[complete].astype(np.float64)
    return Equivalence(
        margin=margin,
        p_value=p_value,
        interval=mean_interval(values, confidence=1 - 2 * LEVEL),
        one_failed=int(np.sum(np.isfinite(arm) != np.isfinite(baseline))),
    )
