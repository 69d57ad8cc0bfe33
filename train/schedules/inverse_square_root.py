"""The rate falls with the inverse square root of the step."""

import dataclasses
from typing import Annotated, Any

import jax
import optax

from models.base import Static
from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """Vaswani et al. 2017, section 5.3, equation 3: after w steps of warm-up, ``sqrt(w / t)`` of the peak.

    Their peak is ``1 / sqrt(width w)``; here it is ``optimizer.learning_rate``.

    Attributes:
        warmup_steps: w, over which the rate rises linearly from 0 to its peak; theirs is 4000.
    """

    warmup_steps: Annotated[int, Static(ge=1)] = 100


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate after the warm-up, from 1 down."""
    del steps
    return lambda count: jax.lax.rsqrt(1 + count / config.warmup_steps)
