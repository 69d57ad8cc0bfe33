"""LAMB: Adam's step u + lambda w, scaled for each array by |w| / |u + lambda w|."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """You et al. 2020, "Large Batch Optimization for Deep Learning", algorithm 2, with phi the identity.

    An array whose norm, or whose step, is 0 is not scaled.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: epsilon.
        weight_decay: lambda; biases and normalisation scales are left out (``regularisation.undecayed``).
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.01
    b1: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    b2: Annotated[float, Traced(ge=0, lt=1)] = 0.999
    eps: Annotated[float, Traced(gt=0)] = 1e-06
    weight_decay: Annotated[float, Traced(ge=0, off=0.0)] = 0.01


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax chain; ``mask`` is a tree of booleans, true where weights decay."""
    return optax.lamb(
        learning_rate, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay, mask=mask
    )
