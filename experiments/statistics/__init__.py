"""What may be concluded from a few numbers. Pure functions of NumPy arrays.

A value that is not finite stands for a trial without a result (it diverged or crashed). It never
disappears: means leave it out and count it as ``lost``; ranks take it as the worst.
"""

from experiments.statistics.effects import POWER, power_of, seeds_needed, standardised_effect
from experiments.statistics.equivalence import Equivalence, equivalence
from experiments.statistics.intervals import (
    CONFIDENCE,
    LEVEL,
    UNKNOWN,
    Estimate,
    Interval,
    Spread,
    mean_interval,
    paired_difference,
    spread,
)
from experiments.statistics.multiple import holm
from experiments.statistics.paired import (
    EXACT_PAIRS,
    MONTE_CARLO_FLIPS,
    Test,
    paired_p_value,
    pairs_needed,
    sign_flip_p_value,
    smallest_p_value,
    wilcoxon_p_value,
)
from experiments.statistics.ranks import Superiority, superiority

__all__ = [
    "CONFIDENCE",
    "EXACT_PAIRS",
    "LEVEL",
    "MONTE_CARLO_FLIPS",
    "POWER",
    "UNKNOWN",
    "Equivalence",
    "Estimate",
    "Interval",
    "Spread",
    "Superiority",
    "Test",
    "equivalence",
    "holm",
    "mean_interval",
    "paired_difference",
    "paired_p_value",
    "pairs_needed",
    "power_of",
    "seeds_needed",
    "sign_flip_p_value",
    "smallest_p_value",
    "spread",
    "standardised_effect",
    "superiority",
    "wilcoxon_p_value",
]
