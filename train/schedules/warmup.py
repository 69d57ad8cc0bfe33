"""What all schedules share: a linear warm-up before them."""

import dataclasses
import importlib
from typing import Annotated, Any

import optax

from models.base import BadInput, Configuration, Static


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithWarmup(Configuration):
    """A schedule that begins after a warm-up (Goyal et al. 2017, section 2.2).

    Attributes:
        warmup_steps: steps over which the rate rises linearly from 0 to its peak.
    """

    warmup_steps: Annotated[int, Static(ge=0)] = 0

    def check(self, steps: int) -> None:
        """The warm-up must end before training does.

        Raises:
            BadInput: it does not.
        """
        if self.warmup_steps >= steps:
            raise BadInput(f"schedule.warmup_steps={self.warmup_steps} must be less than training.steps={steps}")


def factor(name: str, config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate at each step of training: the warm-up, then the schedule.

    Args:
        name: the schedule's file.
        config: its configuration; traced fields may be tracers.
        steps: of the whole training.
    """
    after = importlib.import_module(f"train.schedules.{name}").build(config, steps - config.warmup_steps)
    if not config.warmup_steps:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, config.warmup_steps), after], [config.warmup_steps])
