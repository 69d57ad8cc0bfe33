"""A constant learning rate."""

import dataclasses
from typing import Any

import optax

from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """Constant."""


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate after the warm-up: 1."""
    del config, steps
    return optax.constant_schedule(1.0)
