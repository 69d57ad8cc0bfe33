"""LARS: momentum whose gradient is scaled for each array by eta' |w| / |g + lambda w|."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """You et al. 2017, "Large Batch Training of Convolutional Networks", algorithm 1.

    Arrays that do not decay (biases, normalisation) are not scaled either, as in common practice.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        momentum: mu.
        trust_coefficient: eta', how far a layer may move in units of its norm.
        weight_decay: lambda; biases and normalisation scales are left out (``regularisation.undecayed``).
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 1.0
    momentum: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    trust_coefficient: Annotated[float, Traced(gt=0)] = 0.001
    weight_decay: Annotated[float, Traced(ge=0, off=0.0)] = 0.0001


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax chain; ``mask`` is a tree of booleans, true where weights decay."""
    return optax.lars(
        learning_rate,
        weight_decay=config.weight_decay,
        weight_decay_mask=mask,
        trust_coefficient=config.trust_coefficient,
        trust_ratio_mask=mask,
        momentum=config.momentum,
    )
