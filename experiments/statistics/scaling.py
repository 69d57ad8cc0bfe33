"""Scaling laws: ``y = a x^-b``, or ``y = a x^-b + c``, over several sizes with a few seeds each."""

import dataclasses

import numpy as np
from jaxtyping import Float, Real

from experiments.statistics.bootstrap import expanded_confidence, percentile_interval
from experiments.statistics.intervals import UNKNOWN, Estimate, Interval

RESAMPLES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """A fitted power law.

    Attributes:
        scale: ``a``.
        exponent: ``b`` with its 95% interval; positive where the metric falls with size.
        offset: ``c`` with its 95% interval, what no size gets below; None where the law has none.
        lost: trials without a result, which the fit leaves out.
    """

    scale: float
    exponent: Estimate
    offset: Estimate | None
    lost: int

    def predict(self, sizes: Real[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        """The law's values."""
        return self.scale * sizes.astype(np.float64) ** -self.exponent.value + (self.offset.value if self.offset else 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A law fitted on smaller sizes, put to the test on the largest.

    Attributes:
        law: fitted without the largest size.
        size: the largest size.
        predicted: what the law says of it.
        interval: 95% prediction interval of the geometric mean of as many seeds as were run there.
        observed: that geometric mean.
        error: ``observed / predicted - 1``.
    """

    law: PowerLaw
    size: float
    predicted: float
    interval: Interval
    observed: float
    error: float

    @property
    def within(self) -> bool:
        """Whether what was observed lies in the prediction interval."""
        return self.interval.low <= self.observed <= self.interval.high


def fit_power_law(
    sizes: Real[np.ndarray, " sizes"],
    values: Float[np.ndarray, "seeds sizes"],
    *,
    offset: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PowerLaw:
    """Least squares of ``log y`` over all trials, with intervals by resampling the seeds within each size.

    The resampled deviations from their size's mean are made larger by ``sqrt(n / (n - 1))``, and the percentiles are
    those of Student's t: otherwise intervals from three seeds would be far too short. With one seed a size there
    are none. They tell the noise of seeds; whether the law itself holds, :func:`check_held_out` tells.

    Args:
        sizes: of models, data or compute, above zero.
        values: the metric, above zero and lower is better, a row a seed; not finite where a trial failed.
        offset: whether the law has ``c``.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Raises:
        ValueError: values or sizes that are not above zero; fewer sizes with a result than the law has parameters.

    Source:
        Hestness et al. (2017), Deep learning scaling is predictable, empirically, section 3; Hesterberg (2015), What
        teachers should know about the bootstrap, section 3, for both corrections.
    """
    return _fitted(sizes, values, offset, resamples, seed)[0]


def check_held_out(
    sizes: Real[np.ndarray, " sizes"],
    values: Float[np.ndarray, "seeds sizes"],
    *,
    offset: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> HeldOut:
    """Fit on all sizes but the largest and predict that one.

    The prediction interval holds the noise of the fit and that of the held-out seeds' mean, of which the fitted sizes
    give the standard deviation.

    Raises:
        ValueError: as :func:`fit_power_law`, of the smaller sizes; or the largest has no result.
    """
    last = int(np.argmax(sizes))
    held = values[:, last][np.isfinite(values[:, last])].astype(np.float64)
    if not held.size or (held <= 0).any():
        raise ValueError(f"the largest size {sizes[last]:g} has no result above zero")
    law, draws, freedom, deviation = _fitted(
        np.delete(sizes, last), np.delete(values, last, axis=1), offset, resamples, seed
    )
    size, predicted = float(sizes[last]), float(law.predict(sizes[last : last + 1])[0])
    observed = float(np.exp(np.log(held).mean()))
    interval = UNKNOWN
    if draws is not None:
        noise = np.random.default_rng([seed, 1]).normal(0, deviation / np.sqrt(held.size), len(draws))
        a, b, c = draws.T
        interval = percentile_interval((a * size**-b + c) * np.exp(noise), confidence=expanded_confidence(freedom))
    return HeldOut(
        law=law, size=size, predicted=predicted, interval=interval, observed=observed, error=observed / predicted - 1
    )


def _fitted(
    sizes: np.ndarray, values: np.ndarray, offset: bool, resamples: int, seed: int
) -> tuple[PowerLaw, np.ndarray | None, int, float]:
    """The law, its resampled parameters (a row each), their degrees of freedom, the deviation of a seed's log."""
    finite = np.isfinite(values)
    if (values[finite] <= 0).any() or not (sizes > 0).all():
        raise ValueError("a power law is fitted to logarithms: sizes and values must be above zero")
    groups = [np.log(values[kept, j].astype(np.float64)) for j, kept in enumerate(finite.T)]
    used = [j for j, group in enumerate(groups) if group.size]
    parameters = 3 if offset else 2
    if np.unique(sizes[used]).size < parameters:
        raise ValueError(f"a power law with {parameters} parameters needs as many sizes, not {len(used)}")
    groups = [groups[j] for j in used]
    x = np.repeat(np.log(sizes[used].astype(np.float64)), [group.size for group in groups])
    whole = _least_squares(x, np.concatenate(groups), offset, None)
    freedom = sum(group.size - 1 for group in groups)
    draws, deviation, intervals = None, np.nan, [UNKNOWN] * 3
    if freedom > 0:
        centred = [group - group.mean() for group in groups]
        deviation = float(np.sqrt(sum((group**2).sum() for group in centred) / freedom))
        generator = np.random.default_rng(seed)
        draws = np.array(
            [_least_squares(x, _resampled(groups, centred, generator), offset, whole) for _ in range(resamples)]
        )
        confidence = expanded_confidence(freedom)
        intervals = [percentile_interval(column, confidence=confidence) for column in draws.T]
    law = PowerLaw(
        scale=float(whole[0]),
        exponent=Estimate(float(whole[1]), intervals[1]),
        offset=Estimate(float(whole[2]), intervals[2]) if offset else None,
        lost=int(np.sum(~finite)),
    )
    return law, draws, freedom, deviation


def _resampled(groups: list[np.ndarray], centred: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Every size's log values drawn anew around their mean."""
    return np.concatenate(
        [
            group.mean() + np.sqrt(group.size / max(1, group.size - 1)) * generator.choice(deviations, group.size)
            for group, deviations in zip(groups, centred, strict=True)
        ]
    )


def _least_squares(x: np.ndarray, y: np.ndarray, offset: bool, start: np.ndarray | None) -> np.ndarray:
    """``(a, b, c)`` that minimise ``Σ (y - log(a exp(-b x) + c))²``; ``x`` and ``y`` are logarithms."""
    line = _line(x, y)
    if not offset:
        return np.array([np.exp(line[0]), line[1], 0.0])
    from scipy import optimize  # as late as this: it loads slowly

    # Around the middle size, and with c = d², which keeps c from below zero.
    middle = x.mean()

    def residuals(p: np.ndarray) -> np.ndarray:
        return y - np.log(np.exp(p[0] - p[1] * (x - middle)) + p[2] ** 2 + 1e-300)

    def slopes(p: np.ndarray) -> np.ndarray:
        power = np.exp(p[0] - p[1] * (x - middle))
        return (
            np.stack([-power, power * (x - middle), np.full(x.size, -2 * p[2])], axis=1)
            / (power + p[2] ** 2 + 1e-300)[:, None]
        )

    starts = []
    if start is not None:
        starts.append([np.log(start[0]) - start[1] * middle, start[1], np.sqrt(start[2])])
    for share in (0.1, 0.5, 0.9) if start is None else ():
        c = share * np.exp(y.min())
        level, slope = _line(x, np.log(np.exp(y) - c))
        starts.append([level - slope * middle, slope, np.sqrt(c)])
    fits = [optimize.least_squares(residuals, p, slopes, method="lm") for p in starts]  # type: ignore[arg-type]
    best = min(fits, key=lambda fit: fit.cost)
    plain = y - line[0] + line[1] * x
    if (plain**2).sum() / 2 <= best.cost:
        return np.array([np.exp(line[0]), line[1], 0.0])
    level, slope, root = best.x
    return np.array([np.exp(level + slope * middle), slope, root**2])


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``(level, b)`` of the least-squares line ``level - b x``."""
    centred = x - x.mean()
    slope = -(centred @ y) / (centred @ centred)
    return np.array([y.mean() + slope * x.mean(), slope])
