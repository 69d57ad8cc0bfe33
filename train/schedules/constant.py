"""A constant learning rate, after an optional linear warm-up."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import BadInput, Configuration, Static


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Constant.

    Attributes:
        warmup_steps: steps over which the rate rises linearly from 0.
    """

    warmup_steps: Annotated[int, Static(ge=0)] = 0

    def check(self, steps: int) -> None:
        """The warm-up must end before training does."""
        if self.warmup_steps >= steps:
            raise BadInput(f"schedule.warmup_steps={self.warmup_steps} must be less than training.steps={steps}")


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate at a step, from 0 to 1."""
    del steps
    return optax.linear_schedule(0.0, 1.0, config.warmup_steps) if config.warmup_steps else optax.constant_schedule(1.0)
