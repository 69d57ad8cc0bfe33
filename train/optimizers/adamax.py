"""Adamax: Adam with the maximum norm, u <- max(b2 u, |g| + epsilon); w <- w - eta m_hat / u."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Kingma and Ba 2015, section 7.1, algorithm 2; epsilon is Optax's and PyTorch's addition.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        b1: decay of the average of gradients.
        b2: decay of the maximum.
        eps: epsilon.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.002
    b1: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    b2: Annotated[float, Traced(ge=0, lt=1)] = 0.999
    eps: Annotated[float, Traced(gt=0)] = 1e-08


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax transformation; it decays nothing, so ``mask`` is not used."""
    del mask
    return optax.adamax(learning_rate, b1=config.b1, b2=config.b2, eps=config.eps)
