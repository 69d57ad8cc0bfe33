"""Steps against batch size: the trade of time for examples (McCandlish et al. 2018, section 2.3).

Steps S and examples E = B S to a target obey ``(S / S_min - 1) (E / E_min - 1) = 1``, which is
``S = S_min (1 + B_crit / B)`` with the critical batch ``B_crit = E_min / S_min``.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.statistics.bootstrap import RESAMPLES, expanded_confidence, percentile_interval
from experiments.statistics.intervals import UNKNOWN, Estimate

_CANDIDATES = np.geomspace(1e-2, 1e7, 1801)
"""Critical batches that are tried: steps of half a per cent of a decade."""


class Tradeoff(NamedTuple):
    """The fit.

    Attributes:
        critical_batch: B_crit.
        least_steps: S_min.
        r_squared: share of the variance of log S over the batch sizes that the fit explains.
    """

    critical_batch: Estimate
    least_steps: Estimate
    r_squared: Estimate


def fit_tradeoff(
    batches: Float[np.ndarray, " sizes"],
    steps: Float[np.ndarray, "seeds sizes"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Tradeoff:
    """Least squares of the logarithm of the steps, geometric means over seeds; intervals by resampling the seeds.

    Args:
        batches: B of each size, at least three different ones.
        steps: S of each seed and size, above 0.
        resamples: of the seeds.
        seed: of the resampling.

    Raises:
        ValueError: too few sizes or no seed, or steps that are not above 0.
    """
    if np.unique(batches).size < 3 or not len(steps):
        raise ValueError("at least three batch sizes and one complete seed are needed")
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError("steps must be above 0")
    found = _fit(batches, np.log(steps).mean(axis=0)[None])[:, 0]
    if len(steps) < 2:
        return Tradeoff(*(Estimate(float(value), UNKNOWN) for value in found))
    chosen = np.random.default_rng(seed).integers(0, len(steps), (resamples, len(steps)))
    draws = _fit(batches, np.log(steps)[chosen].mean(axis=1))
    confidence = expanded_confidence(len(steps) - 1)
    return Tradeoff(
        *(
            Estimate(float(value), percentile_interval(each, confidence=confidence))
            for value, each in zip(found, draws, strict=True)
        )
    )


def _fit(batches: Float[np.ndarray, " sizes"], logs: Float[np.ndarray, "fits sizes"]) -> Float[np.ndarray, "3 fits"]:
    """Critical batch, least steps and R^2 of each row of log S."""
    shapes = np.log1p(_CANDIDATES[:, None] / batches)
    # For each candidate log S_min is the mean of what is left; the residual variance decides.
    covariance = (logs - logs.mean(axis=1, keepdims=True)) @ (shapes - shapes.mean(axis=1, keepdims=True)).T
    total = logs.var(axis=1) * len(batches)
    residual = total[:, None] - 2 * covariance + (shapes.var(axis=1) * len(batches))[None]
    best = residual.argmin(axis=1)
    least = np.exp(logs.mean(axis=1) - shapes[best].mean(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        r_squared = 1 - residual[np.arange(len(logs)), best] / total
    return np.stack([_CANDIDATES[best], least, r_squared])
