"""Several tests at once."""

import numpy as np
from jaxtyping import Float


def holm(p_values: Float[np.ndarray, " comparisons"]) -> Float[np.ndarray, " comparisons"]:
    """Holm's step-down adjusted p-values, which bound the family-wise error rate.

    For the i-th smallest of m (from 1): ``max_{j <= i} min(1, (m - j + 1) p_(j))``. A comparison
    that could not be tested (NaN) stays NaN and still counts in m. The correction never decreases
    when any p-value rises, so applied to the smallest attainable p-values it gives the smallest
    attainable corrected ones.

    Source:
        Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    filled = np.where(np.isnan(p_values), 1.0, p_values)
    order = np.argsort(filled, kind="stable")
    factors = filled.size - np.arange(filled.size)
    adjusted = np.empty(filled.shape)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * filled[order]))
    return np.where(np.isnan(p_values), np.nan, adjusted)
