"""Scaling laws: ``y = a x^-b``, or ``y = a x^-b + c``, over several sizes with a few seeds each."""

import dataclasses

import numpy as np
from jaxtyping import Float, Real

from experiments.statistics.bootstrap import expanded_confidence, percentile_interval
from experiments.statistics.intervals import UNKNOWN, Estimate, Interval

RESAMPLES = 1000
_STEPS = 60


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
) -> tuple[PowerLaw, np.ndarray | None, float, float]:
    """The law, its resampled parameters (a row each), their degrees of freedom, the deviation of a seed's log."""
    finite = np.isfinite(values)
    if (values[finite] <= 0).any() or not (sizes > 0).all():
        raise ValueError("a power law is fitted to logarithms: sizes and values must be above zero")
    used = np.flatnonzero(finite.any(axis=0))
    parameters = 3 if offset else 2
    if np.unique(sizes[used]).size < parameters:
        raise ValueError(f"a power law with {parameters} parameters needs as many sizes, not {used.size}")
    groups = [np.log(values[finite[:, j], j].astype(np.float64)) for j in used]
    counts = np.array([group.size for group in groups])
    x = np.repeat(np.log(sizes[used].astype(np.float64)), counts)
    whole = _least_squares(x, np.concatenate(groups)[None], offset)[0]
    draws, freedom, deviation, intervals = None, np.nan, np.nan, [UNKNOWN] * 3
    if (counts > 1).any():
        squares = np.array([((group - group.mean()) ** 2).sum() for group in groups])
        deviation = float(np.sqrt(squares.sum() / (counts - 1).sum()))
        freedom = _freedom(x, counts, squares)
        draws = _least_squares(x, _resampled(groups, resamples, seed), offset, whole)
        confidence = expanded_confidence(freedom)
        intervals = [percentile_interval(column, confidence=confidence) for column in draws.T]
    law = PowerLaw(
        scale=float(whole[0]),
        exponent=Estimate(float(whole[1]), intervals[1]),
        offset=Estimate(float(whole[2]), intervals[2]) if offset else None,
        lost=int(np.sum(~finite)),
    )
    return law, draws, freedom, deviation


def _freedom(x: np.ndarray, counts: np.ndarray, squares: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom of the line's slope: mostly the outermost sizes determine its variance."""
    several = counts > 1
    places = x[np.cumsum(counts) - 1] - x.mean()
    parts = (places**2 * counts * squares / np.maximum(counts - 1, 1))[several]
    if not parts.sum() > 0:
        return float((counts - 1).sum())
    return max(1.0, float(parts.sum() ** 2 / (parts**2 / (counts - 1)[several]).sum()))


def _resampled(groups: list[np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """Every size's log values drawn anew around their mean, a row a resample."""
    generator = np.random.default_rng(seed)
    return np.concatenate(
        [
            group.mean()
            + np.sqrt(group.size / max(1, group.size - 1))
            * generator.choice(group - group.mean(), (resamples, group.size))
            for group in groups
        ],
        axis=1,
    )


def _least_squares(x: np.ndarray, y: np.ndarray, offset: bool, start: np.ndarray | None = None) -> np.ndarray:
    """For each row of ``y`` the ``(a, b, c)`` that minimise ``Σ (y - log(a exp(-b x) + c))²``.

    Args:
        x: logarithms of the sizes.
        y: logarithms of the values, a row a fit.
        offset: whether ``c`` is fitted, not below zero.
        start: parameters that are near; None where nothing is known.
    """
    middle = x.mean()  # around which level and slope hardly depend on each other
    line = _line(x - middle, y)
    best = np.column_stack([line, np.zeros(len(y))])
    if offset:
        cost = (_residuals(best, x - middle, y) ** 2).sum(axis=1)
        starts = []
        if start is not None:
            known = [np.log(start[0]) - start[1] * middle, start[1], np.sqrt(start[2])]
            starts.append(np.tile(known, (len(y), 1)))
        for share in (0.1, 0.5, 0.9) if start is None else (0.5,):
            c = share * np.exp(y.min(axis=1, keepdims=True))
            starts.append(np.column_stack([_line(x - middle, np.log(np.exp(y) - c)), np.sqrt(c)]))
        for guess in starts:
            found = _descend(guess, x - middle, y)
            reached = (_residuals(found, x - middle, y) ** 2).sum(axis=1)
            best = np.where((reached < cost)[:, None], found, best)
            cost = np.minimum(reached, cost)
    level, slope, root = best.T
    return np.column_stack([np.exp(level + slope * middle), slope, root**2])


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``(level, b)`` of the least-squares line ``level - b x`` for each row; ``x`` has mean zero."""
    return np.column_stack([y.mean(axis=1), -(y @ x) / (x @ x)])


def _residuals(p: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return y - np.log(np.exp(p[:, :1] - p[:, 1:2] * x) + p[:, 2:] ** 2)


def _descend(p: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Levenberg and Marquardt's steps for all rows at once, with ``c`` as a square, which keeps it from below zero."""
    damping = np.full(len(p), 1e-2)
    residuals = _residuals(p, x, y)
    for _ in range(_STEPS):
        power = np.exp(p[:, :1] - p[:, 1:2] * x)
        slopes = np.stack([power, -power * x, np.broadcast_to(2 * p[:, 2:], power.shape)], axis=2)
        slopes /= (power + p[:, 2:] ** 2)[:, :, None]
        normal = np.einsum("rni,rnj->rij", slopes, slopes)
        scale = np.einsum("rii->ri", normal) * damping[:, None] + 1e-12
        step = np.linalg.solve(
            normal + np.eye(3) * scale[:, None], np.einsum("rni,rn->ri", slopes, residuals)[..., None]
        )
        moved = p + np.clip(step[..., 0], -1, 1)
        there = _residuals(moved, x, y)
        lower = (there**2).sum(axis=1) < (residuals**2).sum(axis=1)
        p = np.where(lower[:, None], moved, p)
        residuals = np.where(lower[:, None], there, residuals)
        damping = np.clip(np.where(lower, damping / 4, damping * 4), 1e-12, 1e12)
    return p
