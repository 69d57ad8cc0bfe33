"""Adagrad: s <- s + g^2; w <- w - eta g / sqrt(s + epsilon)."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Duchi et al. 2011, "Adaptive Subgradient Methods", section 1.1 (the diagonal form).

    Epsilon stands inside the root, as in Optax; PyTorch has it outside. Where s is 0 nothing moves.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        initial_accumulator: s in the beginning. Optax's own default is 0.1; here it is the paper's and PyTorch's 0.
        eps: epsilon.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.01
    initial_accumulator: Annotated[float, Traced(ge=0)] = 0.0
    eps: Annotated[float, Traced(gt=0)] = 1e-10


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax transformation; it decays nothing, so ``mask`` is not used."""
    del mask
    return optax.adagrad(learning_rate, initial_accumulator_value=config.initial_accumulator, eps=config.eps)
