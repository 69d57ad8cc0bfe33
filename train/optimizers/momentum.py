"""Gradient descent with momentum: m <- mu m + g + lambda w; w <- w - eta m."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Static, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Polyak 1964, in the form of Sutskever et al. 2013 and PyTorch (no dampening).

    Attributes:
        learning_rate: eta, at the schedule's peak.
        momentum: mu.
        nesterov: look ahead, w <- w - eta (g + mu m).
        weight_decay: lambda, added to the gradient before the momentum, as in He et al. 2016.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.05
    momentum: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    nesterov: Annotated[bool, Static()] = False
    weight_decay: Annotated[float, Traced(ge=0, off=0.0)] = 0.0


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax chain; ``mask`` is a tree of booleans, true where weights decay."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=mask),
        optax.trace(decay=config.momentum, nesterov=config.nesterov),
        optax.scale_by_learning_rate(learning_rate),
    )
