"""What may be concluded from a few numbers. Pure functions of NumPy arrays.

A value that is not finite stands for a trial without a result (it diverged or crashed). It never
disappears: means leave it out and count it as ``lost``; ranks take it as the worst.
"""

from experiments.statistics.critical import CriticalDifference, critical_difference
from experiments.statistics.curves import Band, area_under_curve, pointwise_band, simultaneous_band
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
from experiments.statistics.reaching import Arrivals, Survival, kaplan_meier, median_steps, steps_ratio, steps_to_target
from experiments.statistics.scaling import HeldOut, PowerLaw, check_held_out, fit_power_law
from experiments.statistics.tasks import Profile, TaskSummary, improvement_probability, performance_profile, summarise
from experiments.statistics.trends import Interaction, Trend, interaction, trend
from experiments.statistics.tuning import ExpectedBest, expected_best
from experiments.statistics.variance import Attribution, Source, attribute

__all__ = [
    "CONFIDENCE",
    "EXACT_PAIRS",
    "LEVEL",
    "MONTE_CARLO_FLIPS",
    "POWER",
    "UNKNOWN",
    "Arrivals",
    "Attribution",
    "Band",
    "CriticalDifference",
    "Equivalence",
    "Estimate",
    "ExpectedBest",
    "HeldOut",
    "Interaction",
    "Interval",
    "PowerLaw",
    "Profile",
    "Source",
    "Spread",
    "Superiority",
    "Survival",
    "TaskSummary",
    "Test",
    "Trend",
    "area_under_curve",
    "attribute",
    "check_held_out",
    "critical_difference",
    "equivalence",
    "expected_best",
    "fit_power_law",
    "holm",
    "improvement_probability",
    "interaction",
    "kaplan_meier",
    "mean_interval",
    "median_steps",
    "paired_difference",
    "paired_p_value",
    "pairs_needed",
    "performance_profile",
    "pointwise_band",
    "power_of",
    "seeds_needed",
    "sign_flip_p_value",
    "simultaneous_band",
    "smallest_p_value",
    "spread",
    "standardised_effect",
    "steps_ratio",
    "steps_to_target",
    "summarise",
    "superiority",
    "trend",
    "wilcoxon_p_value",
]
