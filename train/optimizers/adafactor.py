"""Adafactor: the average of g^2 of a matrix is kept as its row sums and column sums."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Static, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Shazeer and Stern 2018, "Adafactor", algorithm 4, with the rate scaled by the norm of the weights.

    No momentum. ``eps`` is the paper's epsilon_1; the least scale of weights (epsilon_2) is 1e-3.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        decay_rate: exponent c: the average decays with 1 - t^-c (section 7.2).
        clipping_threshold: d: a step's root mean square is at most this (section 6).
        eps: added to g^2.
        weight_decay: lambda, taken off at each step: w <- w - lambda w, as Optax has it, not multiplied by the rate.
        min_dim_size_to_factor: smaller matrices keep the whole average.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.01
    decay_rate: Annotated[float, Traced(gt=0, le=1)] = 0.8
    clipping_threshold: Annotated[float, Traced(gt=0)] = 1.0
    eps: Annotated[float, Traced(gt=0)] = 1e-30
    weight_decay: Annotated[float, Traced(ge=0, off=0.0)] = 0.0
    min_dim_size_to_factor: Annotated[int, Static(ge=1)] = 128


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax chain; ``mask`` is a tree of booleans, true where weights decay."""
    return optax.adafactor(
        learning_rate,
        min_dim_size_to_factor=config.min_dim_size_to_factor,
        decay_rate=config.decay_rate,
        clipping_threshold=config.clipping_threshold,
        weight_decay_rate=None if _is_off(config.weight_decay) else config.weight_decay,
        eps=config.eps,
        weight_decay_mask=mask,
    )


def _is_off(weight_decay: Any) -> bool:
    """Whether no trial of the population decays; a number that the program takes is never off."""
    return isinstance(weight_decay, float) and weight_decay == 0
