"""Half a cosine down to a fraction of the peak."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Traced
from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts.

    Attributes:
        final_fraction: the rate at the last step, as a fraction of the peak.
    """

    final_fraction: Annotated[float, Traced(ge=0, le=1)] = 0.1


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate over the ``steps`` after the warm-up, from 1 down."""
    return optax.cosine_decay_schedule(1.0, steps, alpha=config.final_fraction)
