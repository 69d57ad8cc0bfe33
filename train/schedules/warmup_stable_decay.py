"""Warm-up, a constant rate for most of training, and a decay at the end."""

import dataclasses
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import optax

from models.base import Static, Traced
from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """Hu et al. 2024, "MiniCPM", section 4.2; the shapes of Haegele et al. 2024, section 3.

    Attributes:
        decay_fraction: share of the training after the warm-up over which the rate falls.
        final_fraction: the rate at the last step, as a fraction of the peak.
        shape: ``linear``, or ``sqrt``: 1 - sqrt(share of the decay that is over).
    """

    decay_fraction: Annotated[float, Traced(gt=0, le=1)] = 0.2
    final_fraction: Annotated[float, Traced(ge=0, le=1)] = 0.0
    shape: Annotated[Literal["linear", "sqrt"], Static()] = "linear"


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate over the ``steps`` after the warm-up, from 1 down."""

    def factor(count: Any) -> Any:
        over = jnp.clip(1 - (1 - count / steps) / config.decay_fraction, 0, 1)
        over = jnp.sqrt(over) if config.shape == "sqrt" else over
        return 1 - (1 - config.final_fraction) * over

    return factor
