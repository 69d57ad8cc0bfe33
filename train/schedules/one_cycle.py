"""One cycle: the rate rises along half a cosine, and falls along another far below where it began."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import BadInput, Static
from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """Smith and Topin 2018, "Super-Convergence", section 3, with cosines for lines as in Optax and PyTorch.

    The momentum stays as it is.

    Attributes:
        rise_fraction: share of training until the peak.
        initial_divisor: the rate begins at the peak divided by this.
        final_divisor: it ends at the beginning divided by this.
    """

    rise_fraction: Annotated[float, Static(gt=0, lt=1)] = 0.3
    initial_divisor: Annotated[float, Static(ge=1)] = 25.0
    final_divisor: Annotated[float, Static(ge=1)] = 1e4

    def check(self, steps: int) -> None:
        """The rise takes at least one step.

        Raises:
            BadInput: it takes less, or the warm-up before it is as long as training.
        """
        super().check(steps)
        left = steps - self.warmup_steps
        if int(self.rise_fraction * left) < 1:
            raise BadInput(f"schedule.rise_fraction={self.rise_fraction} of {left} steps is less than one step")


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate over the ``steps`` after the warm-up; its peak is 1."""
    return optax.cosine_onecycle_schedule(
        steps, 1.0, config.rise_fraction, config.initial_divisor, config.final_divisor
    )
