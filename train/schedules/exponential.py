"""Exponential decay down to a fraction of the peak."""

import dataclasses
from typing import Annotated, Any

import jax.numpy as jnp
import optax

from models.base import Traced
from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """The factor ``final_fraction ** (t / T)``: each step multiplies the rate by the same number.

    Attributes:
        final_fraction: the rate at the last step T, as a fraction of the peak.
    """

    final_fraction: Annotated[float, Traced(gt=0, le=1)] = 0.01


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate over the ``steps`` after the warm-up, from 1 down."""
    # optax.exponential_decay looks at the value of its rate, which is not known while tracing.
    return lambda count: jnp.power(config.final_fraction, count / steps)
