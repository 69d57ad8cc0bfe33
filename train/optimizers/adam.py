"""Adam: m and v are exponential averages of g and g^2; w <- w - eta m_hat / (sqrt(v_hat) + epsilon)."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Kingma and Ba 2015, algorithm 1. Epsilon stands outside the root, as there and in PyTorch.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: epsilon.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 1e-3
    b1: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    b2: Annotated[float, Traced(ge=0, lt=1)] = 0.999
    eps: Annotated[float, Traced(gt=0)] = 1e-8


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax transformation; Adam decays nothing, so ``mask`` is not used."""
    del mask
    return optax.adam(learning_rate, b1=config.b1, b2=config.b2, eps=config.eps)
