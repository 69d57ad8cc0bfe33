"""The noncentral t distribution, by integration: scipy's gives NaN in its tails and takes milliseconds."""

import functools
import math

import numpy as np
from scipy import special

_NODES = 256
_NEGLIGIBLE = 1e-15
_EDGE = 9.0


def noncentral_t_cdf(t: float, freedom: float, noncentrality: float) -> float:
    """``P((Z + δ) / S <= t)`` with ``Z`` standard normal and ``S² = χ²(f) / f``, to about ten digits.

    Either ``E[Φ(t S - δ)]`` over ``S`` or, for positive ``t``, ``E[P(S >= (Z + δ) / t)]`` over ``Z``: whichever has
    the smoother integrand. Gauss-Legendre quadrature over all but a negligible part of the range.

    Args:
        t: where.
        freedom: degrees of freedom ``f``, at least 1.
        noncentrality: ``δ``.
    """
    if t < 0:
        return 1.0 - noncentral_t_cdf(-t, freedom, -noncentrality)
    nodes, weights = _legendre()
    if t <= math.sqrt(2 * freedom):
        ends = np.sqrt(special.chdtri(freedom, [1 - _NEGLIGIBLE, _NEGLIGIBLE]) / freedom)
        s = ends.mean() + nodes * np.ptp(ends) / 2
        # The density of S, which is that of χ² at f s² times 2 f s.
        log_density = (
            math.log(2)
            + freedom / 2 * math.log(freedom / 2)
            - math.lgamma(freedom / 2)
            + (freedom - 1) * np.log(s)
            - freedom * s**2 / 2
        )
        total = np.ptp(ends) / 2 * weights @ (np.exp(log_density) * special.ndtr(t * s - noncentrality))
    else:
        # Where Z + δ is negative, S is greater for certain; apart, because the integrand has its kink there.
        low, high = max(-_EDGE, -noncentrality), max(_EDGE, -noncentrality)
        z = (low + high) / 2 + nodes * (high - low) / 2
        greater = special.chdtrc(freedom, freedom * ((z + noncentrality) / t) ** 2)
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        total = special.ndtr(-noncentrality) + (high - low) / 2 * weights @ (density * greater)
    return float(np.clip(total, 0.0, 1.0))


def noncentrality_of(probability: float, t: float, freedom: float) -> float:
    """The noncentrality with which ``P(T <= t)`` is ``probability``."""
    from scipy import optimize  # as late as this: it loads slowly

    def excess(noncentrality: float) -> float:
        return noncentral_t_cdf(t, freedom, noncentrality) - probability

    low, high = t - 1.0, t + 1.0
    width = 1.0
    while excess(low) < 0:
        low, width = low - width, 2 * width
    width = 1.0
    while excess(high) > 0:
        high, width = high + width, 2 * width
    return float(optimize.root_scalar(excess, bracket=(low, high), method="brentq", xtol=1e-10).root)


@functools.cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(_NODES)
