"""Contrasts of more than two arms, seed by seed: a trend along a factor, an interaction of two."""

import dataclasses

import numpy as np
from jaxtyping import Float

from experiments.statistics.intervals import CONFIDENCE, Spread, mean_interval, paired_difference
from experiments.statistics.paired import sign_flip_p_value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend:
    """Whether a metric rises along ordered arms.

    Attributes:
        slope: spread of the seeds' own least-squares slopes, in the metric's units per unit of position.
        p_value: one-sided sign-flip p-value that the slope is above zero.
        rises: indices ``j`` of the steps from arm ``j`` to ``j + 1`` that rise beyond doubt: the interval of their
            paired difference lies above zero. Together the intervals of all steps cover in 95% (Bonferroni).
        falls: the same of the steps that fall. A rising trend with one of them is not monotone.
    """

    slope: Spread
    p_value: float
    rises: tuple[int, ...]
    falls: tuple[int, ...]


def trend(values: Float[np.ndarray, "seeds arms"], positions: Float[np.ndarray, " arms"] | None = None) -> Trend:
    """Test whether the metric rises with the arms' order, by the mean over seeds of each seed's slope.

    The slope is the least-squares line's through one seed's values. It uses the pairing, it is in the metric's units
    with an interval, and it needs no more than one contrast, ``Σ_j (p_j - mean p) x_j / Σ_j (p_j - mean p)²``. Page's
    L, which ranks, is the same contrast of ranks; it has neither units nor an interval. A seed in which an arm failed
    has no slope and is counted in ``slope.lost``. For a falling trend pass negated values.

    Args:
        values: a row a seed, a column an arm, in the claimed order.
        positions: of the arms along the factor; None for 0, 1, 2, ...

    Raises:
        ValueError: fewer than two arms, or all at one position.

    Source:
        Abelson and Tukey (1963), Efficient utilization of non-numerical information in quantitative analysis; Page
        (1964), Ordered hypotheses for multiple treatments.
    """
    places = np.arange(values.shape[1], dtype=np.float64) if positions is None else positions.astype(np.float64)
    centred = places - places.mean() if places.size else places
    if places.size < 2 or not (centred**2).sum() > 0:
        raise ValueError("a trend needs at least two arms at different positions")
    weights = centred / (centred**2).sum()
    finite = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    # Both halves of the contrast apart, because the test judges rounding by their size.
    rising, falling = finite @ np.maximum(weights, 0), finite @ np.maximum(-weights, 0)
    confidence = 1 - (1 - CONFIDENCE) / (places.size - 1)
    steps = [mean_interval(step[np.isfinite(step)], confidence=confidence) for step in np.diff(finite, axis=1).T]
    return Trend(
        slope=paired_difference(rising, falling),
        p_value=sign_flip_p_value(rising, falling, alternative="greater"),
        rises=tuple(j for j, step in enumerate(steps) if step.low > 0),
        falls=tuple(j for j, step in enumerate(steps) if step.high < 0),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interaction:
    """What two changes do together beyond what each does alone.

    Attributes:
        contrast: spread of ``(both - second) - (first - base)``, seed by seed.
        p_value: two-sided sign-flip p-value.
    """

    contrast: Spread
    p_value: float


def interaction(
    base: Float[np.ndarray, " seeds"],
    first: Float[np.ndarray, " seeds"],
    second: Float[np.ndarray, " seeds"],
    both: Float[np.ndarray, " seeds"],
) -> Interaction:
    """The interaction of a paired 2x2 design: zero where the two changes add up.

    A seed in which any of the four failed is left out and counted in ``contrast.lost``.

    Source:
        Montgomery (2017), Design and Analysis of Experiments, section 6.2.
    """
    effects = [np.where(np.isfinite(side), side, np.nan).astype(np.float64) for side in (base, first, second, both)]
    with_second, alone = effects[3] - effects[2], effects[1] - effects[0]
    return Interaction(contrast=paired_difference(with_second, alone), p_value=sign_flip_p_value(with_second, alone))
