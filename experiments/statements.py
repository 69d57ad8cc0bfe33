"""What a study can claim: published statements over its arms and metrics, in a form that a program checks.

Each has a source. Whether it is supported, refuted or inconclusive follows from intervals, never from point estimates
(see ``experiments.claims``).
"""

import abc
import dataclasses
import math
from typing import Any, Literal

from experiments.metric import Metric
from models.base import BadInput


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim(abc.ABC):
    """What all claims have.

    Attributes:
        statement: the claim in words that a reader understands.
        source: where it was published.
        metric: what it speaks of; None for the study's metric.
    """

    statement: str
    source: str
    metric: Metric | None = None

    @property
    @abc.abstractmethod
    def arms(self) -> tuple[str, ...]:
        """The arms that it speaks of."""

    def to_dict(self) -> dict[str, Any]:
        """The kind and the fields, as plain values for JSON; infinity, which JSON has not, is the text ``inf``."""
        plain = dataclasses.asdict(self)
        infinite = {name: str(each) for name, each in plain.items() if isinstance(each, float) and math.isinf(each)}
        return {"kind": type(self).__name__, **plain, **infinite}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pair(Claim):
    """A claim on two arms, paired by seed.

    Attributes:
        arm: the first arm.
        than: the arm it is compared with.
    """

    arm: str
    than: str

    def __post_init__(self) -> None:
        """Two arms are needed."""
        if self.arm == self.than:
            raise BadInput(f"a claim compares the arm {self.arm!r} with itself")

    @property
    def arms(self) -> tuple[str, ...]:
        """The two arms."""
        return self.arm, self.than


@dataclasses.dataclass(frozen=True, kw_only=True)
class Better(_Pair):
    """One arm is better than another.

    It is supported when the whole confidence interval of the paired difference lies beyond
    ``margin`` in the better direction and the corrected test agrees; refuted when the whole
    interval lies on the other side of ``margin`` (or a stated condition does not hold); otherwise
    inconclusive.

    Attributes:
        margin: by at least how much, in the metric's own units, in the better direction.
        parameters_at_most: the claim also says that ``arm`` has at most this fraction of the
            parameters of ``than``; None where it says nothing of them.
    """

    margin: float = 0.0
    parameters_at_most: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Equivalent(_Pair):
    """Two arms differ by less than a margin.

    Supported when the whole 95% interval of the paired difference lies within ``margin`` of zero (stricter than
    two one-sided tests at 5%, whose interval is the 90% one); refuted when it lies wholly outside.

    Attributes:
        margin: in the metric's own units.
    """

    margin: float

    def __post_init__(self) -> None:
        """A margin must leave room."""
        super().__post_init__()
        _check_positive("Equivalent", "margin", self.margin)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio(_Pair):
    """The metric of one arm is at most so many times that of another; the metric is positive.

    The geometric mean of the paired ratios is judged, by the interval of their logarithms. Supported when the whole 95%
    interval lies at or below ``at_most``, refuted when it lies wholly above.

    Attributes:
        at_most: the ratio of ``arm`` to ``than``.
    """

    at_most: float

    def __post_init__(self) -> None:
        """A ratio is positive."""
        super().__post_init__()
        _check_positive("Ratio", "at_most", self.at_most)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Within(Claim):
    """The mean of an arm's metric lies in a band around a published value.

    Supported when the whole 95% interval of the mean lies in the band; refuted when it lies wholly outside.

    Attributes:
        arm: its name.
        low: lower end of the band; minus infinity for none.
        high: upper end; infinity for none.
    """

    arm: str
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        """A band must have room and an end."""
        if not self.low < self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise BadInput(f"Within: the band from {self.low} to {self.high} must have an end, and low before high")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arm."""
        return (self.arm,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Monotone(Claim):
    """The metric rises (or falls) along arms in a stated order.

    Supported when the paired trend (the slope over the arms' ranks, seed by seed) has its whole 95% interval on the
    claimed side and no step from one arm to the next lies wholly on the other; refuted when the trend's interval, or
    that of a step, lies wholly on the other side. The intervals of the steps are Bonferroni's, so that their number
    does not refute by chance.

    Attributes:
        order: the arms from the first to the last.
        direction: rising or falling metric.
    """

    order: tuple[str, ...]
    direction: Literal["rising", "falling"]

    def __post_init__(self) -> None:
        """A trend needs three different arms."""
        if len(set(self.order)) < 3 or len(set(self.order)) < len(self.order):
            raise BadInput(f"Monotone: order={self.order} must name at least three arms, each once")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms in their order."""
        return self.order


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponent(Claim):
    """The metric falls as a power of a size, ``y = a x^-b``, with b in a band.

    Supported when the whole 95% bootstrap interval of b lies in the band; refuted when it lies wholly outside.

    Attributes:
        sizes: each arm's size: its number of parameters, examples or operations.
        low: least exponent of the band.
        high: largest.
    """

    sizes: tuple[tuple[str, float], ...]
    low: float
    high: float

    def __post_init__(self) -> None:
        """A fit needs three sizes, and a band needs room."""
        if len({size for _, size in self.sizes}) < 3 or any(size <= 0 for _, size in self.sizes):
            raise BadInput("Exponent: sizes must give at least three arms of different sizes above zero")
        if not self.low < self.high:
            raise BadInput(f"Exponent: low={self.low} must be less than high={self.high}")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that are fitted."""
        return tuple(arm for arm, _ in self.sizes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepsToTarget(_Pair):
    """One arm reaches a value of the curve in at most a stated share of the steps that another takes.

    The other may be waited for at another value, or on another curve: then an arm can stand beside itself, as one
    that fits its training examples long before it generalises. Supported when the whole 95% interval of the ratio of
    steps lies at or below ``ratio_at_most``; refuted when it lies wholly above. Runs that never arrive count as
    censored at their last step.

    Attributes:
        target: the value of the metric's curve, in its own units.
        ratio_at_most: steps of ``arm`` over those of ``than``.
        than_target: the value that ``than`` is to reach; None for ``target``.
        than_metric: the metric whose curve ``than`` is seen by; None for the claim's.
    """

    target: float
    ratio_at_most: float
    than_target: float | None = None
    than_metric: Metric | None = None

    def __post_init__(self) -> None:
        """Two things are compared, and a ratio is positive."""
        if self.than_target is None and self.than_metric is None:
            super().__post_init__()
        _check_positive("StepsToTarget", "ratio_at_most", self.ratio_at_most)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interaction(Claim):
    """Two changes together give more (or less) than the sum of what each gives alone.

    The contrast ``(both - second) - (first - neither)`` is taken seed by seed. Supported when its whole 95% interval
    lies on the claimed side of zero, refuted when it lies wholly on the other.

    Attributes:
        neither: the arm without the changes.
        first: the arm with the one.
        second: the arm with the other.
        both: the arm with both.
        sign: whether together they give ``more`` of what is better than the sum, or ``less``.
    """

    neither: str
    first: str
    second: str
    both: str
    sign: Literal["more", "less"]

    @property
    def arms(self) -> tuple[str, ...]:
        """The four arms."""
        return self.neither, self.first, self.second, self.both


@dataclasses.dataclass(frozen=True, kw_only=True)
class LessSensitive(Claim):
    """Over a range of some field one group of arms loses less to a badly chosen value than another group.

    The sensitivity of a group is the mean over its arms of what each loses against the best of them, no value
    counting as worse than ``worst`` (Wortsman et al. 2023, section 2.2, over learning rates); a trial that diverged
    counts as ``worst``. The contrast ``sensitivity(group) - ratio_at_most x sensitivity(than)`` is taken seed by seed.
    Supported when its whole 95% interval lies at or below zero, refuted when it lies wholly above.

    Attributes:
        group: the arms that are claimed to be the steadier, one for each value.
        than: the arms they are compared with, for the same values.
        worst: the metric before training, or of guessing.
        ratio_at_most: the one sensitivity over the other.
    """

    group: tuple[str, ...]
    than: tuple[str, ...]
    worst: float
    ratio_at_most: float = 1.0

    def __post_init__(self) -> None:
        """Two groups of as many arms, and none in both."""
        if len(self.group) != len(self.than) or len({*self.group, *self.than}) < 2 * max(2, len(self.group)):
            raise BadInput(f"LessSensitive: group={self.group} and than={self.than} must be as many different arms")
        _check_positive("LessSensitive", "ratio_at_most", self.ratio_at_most)

    @property
    def groups(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The two groups."""
        return self.group, self.than

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of both groups."""
        return *self.group, *self.than


Levels = tuple[tuple[str, float], ...]
"""Arms and the level of a factor that each has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SteadierOptimum(Claim):
    """The best level of a factor moves less from one condition to another in one family of arms than in another.

    The best level lies between the ones that were run (see ``experiments.statistics.optima``).
    Supported when the whole 95% bootstrap interval of the difference of the two moves, in decades, lies above zero,
    refuted when it lies below or at zero. A best level at an end of what was run may be farther away, so where that
    could change the verdict there is none.

    Attributes:
        steady: for each of the two conditions, the arms of the family that is claimed to be steadier, and their levels.
        moving: the same of the other family.
    """

    steady: tuple[Levels, Levels]
    moving: tuple[Levels, Levels]

    def __post_init__(self) -> None:
        """A best level needs three to choose from, and a decade levels above zero."""
        for levels in (*self.steady, *self.moving):
            if len({level for _, level in levels}) < 3 or any(level <= 0 for _, level in levels):
                raise BadInput("SteadierOptimum: each condition must give at least three different levels above zero")

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms of both families."""
        return tuple(arm for levels in (*self.steady, *self.moving) for arm, _ in levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchTradeoff(Claim):
    """Steps to a target trade against examples as ``(S / S_min - 1) (E / E_min - 1) = 1`` over batch sizes.

    The metric is the number of steps. Without ``noise_of`` the claim is on R^2 of that law; with it, on the ratio of
    the critical batch E_min / S_min to the gradient noise scale. Supported when the whole 95% bootstrap interval lies
    in the band, refuted when wholly outside.

    Attributes:
        batches: each arm's batch size.
        noise_of: the arm in whose trials ``diagnostics.noise_scale`` was measured; None for a claim on the fit.
        low: lower end of the band.
        high: upper end.
    """

    batches: Levels
    noise_of: str | None = None
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        """A fit needs three sizes, and a band an end."""
        if len({size for _, size in self.batches}) < 3 or any(size <= 0 for _, size in self.batches):
            raise BadInput("BatchTradeoff: batches must give at least three arms of different sizes above zero")
        if not self.low < self.high:
            raise BadInput(f"BatchTradeoff: low={self.low} must be less than high={self.high}")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that are fitted, and the one whose noise is measured."""
        fitted = tuple(arm for arm, _ in self.batches)
        return fitted if self.noise_of is None or self.noise_of in fitted else (*fitted, self.noise_of)


def _check_positive(claim: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise BadInput(f"{claim}: {name}={value} must be a number above zero")
