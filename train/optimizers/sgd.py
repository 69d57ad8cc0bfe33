"""Stochastic gradient descent: w <- w - eta (g + lambda w)."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Robbins and Monro 1951.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        weight_decay: lambda. For plain descent it equals L2 on the loss.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.1
    weight_decay: Annotated[float, Traced(ge=0, off=0.0)] = 0.0


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax chain; ``mask`` is a tree of booleans, true where weights decay."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=mask),
        optax.scale_by_learning_rate(learning_rate),
    )
