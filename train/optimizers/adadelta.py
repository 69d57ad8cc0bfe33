"""Adadelta: w <- w - eta g sqrt(d + epsilon) / sqrt(v + epsilon), d the average of squared updates."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Zeiler 2012, "ADADELTA", algorithm 1, whose eta is 1. Epsilon stands inside both roots, as there.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        rho: decay of both averages.
        eps: epsilon.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 1.0
    rho: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    eps: Annotated[float, Traced(gt=0)] = 1e-06


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax transformation; it decays nothing, so ``mask`` is not used."""
    del mask
    return optax.adadelta(learning_rate, rho=config.rho, eps=config.eps)
