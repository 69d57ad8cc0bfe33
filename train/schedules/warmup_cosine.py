"""Linear warm-up, then half a cosine down to a fraction of the peak."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import BadInput, Configuration, Static, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Loshchilov and Hutter 2017 (SGDR, equation 5, without restarts), with warm-up (Goyal et al. 2017).

    Attributes:
        warmup_steps: steps over which the rate rises linearly from 0.
        final_fraction: the rate at the last step, as a fraction of the peak.
    """

    warmup_steps: Annotated[int, Static(ge=0)] = 100
    final_fraction: Annotated[float, Traced(ge=0, le=1)] = 0.1

    def check(self, steps: int) -> None:
        """The warm-up must end before training does."""
        if self.warmup_steps >= steps:
            raise BadInput(f"schedule.warmup_steps={self.warmup_steps} must be less than training.steps={steps}")


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate at a step, from 0 to 1."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=1.0,
        warmup_steps=config.warmup_steps,
        decay_steps=steps,
        end_value=config.final_fraction,
    )
