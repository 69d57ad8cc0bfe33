"""Pareto fronts: what is worth its cost."""

import math

import numpy as np
from jaxtyping import Float, Int


def front(
    costs: Float[np.ndarray, " arms"], values: Float[np.ndarray, " arms"], *, higher_is_better: bool
) -> Int[np.ndarray, " places"]:
    """The places of a Pareto front, cheapest first: no other is as cheap and as good and better in one of the two.

    Args:
        costs: of each arm; NaN where not known, which is on no front.
        values: the metric of each.
        higher_is_better: direction of the metric.
    """
    scores = values if higher_is_better else -values
    known = np.flatnonzero(np.isfinite(costs) & np.isfinite(scores))
    found: list[int] = []
    best = -math.inf
    for place in sorted(known, key=lambda each: (costs[each], -scores[each])):
        equal = bool(found) and costs[place] == costs[found[-1]] and scores[place] == best
        if scores[place] > best or equal:
            found.append(int(place))
            best = float(scores[place])
    return np.array(found, dtype=int)
