"""Wrong labels on purpose, on training examples alone: for double descent, and for learning random labels by heart."""

import hashlib
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Integer

Replacement = Literal["other", "any"]
"""What takes the place of a label: one of the other classes, or any class at all, each equally probable."""


def noisy(
    labels: Integer[np.ndarray, " count"], *, classes: int, probability: float, replacement: Replacement, seed: int
) -> tuple[Integer[np.ndarray, " count"], Bool[np.ndarray, " count"]]:
    """The labels after each was replaced with this probability, and which of them were.

    ``other``: by one of the other classes (Nakkiran et al. 2020, "Deep double descent", section 3). ``any``: by any
    class, which may be its own; with probability 1 the labels are random (Zhang et al. 2017, "Understanding deep
    learning requires rethinking generalization", section 2.2). What happens to an example is a function of the seed
    and its place alone: what is replaced at a probability is replaced at every greater one, and by the same.

    Args:
        labels: of all training examples, whatever subset of them is used.
        classes: how many there are.
        probability: of a label to be replaced.
        replacement: by what.
        seed: of the noise.
    """
    chance, choice = _uniform(seed, len(labels)).T
    replaced = chance < probability
    if replacement == "any":
        others = np.floor(choice * classes)
    else:
        others = (labels + 1 + np.floor(choice * (classes - 1))) % classes
    return np.where(replaced, others, labels).astype(labels.dtype), replaced


def _uniform(seed: int, count: int) -> Float64[np.ndarray, "count 2"]:
    """Two numbers uniform on [0, 1) for each example: the raw words of PCG64, which no release of NumPy changes."""
    digest = hashlib.sha256(f"{seed} label noise".encode()).digest()
    words = np.random.PCG64(int.from_bytes(digest[:16], "big")).random_raw(2 * count)
    return (words.reshape(count, 2) >> np.uint64(11)) * 2.0**-53
