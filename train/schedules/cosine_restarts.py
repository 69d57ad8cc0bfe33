"""Half cosines one after another, each beginning at the peak again."""

import dataclasses
import itertools
from typing import Annotated, Any

import optax

from models.base import BadInput, Static, Traced
from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5.

    Attributes:
        cycles: number of half cosines that fill the training after the warm-up.
        multiplier: how many times as long as the one before each of them is (T_mult).
        final_fraction: the rate at the end of each, as a fraction of the peak.
    """

    cycles: Annotated[int, Static(ge=1, le=1000)] = 3
    multiplier: Annotated[float, Static(ge=1, le=1000)] = 2.0
    final_fraction: Annotated[float, Traced(ge=0, le=1)] = 0.0

    def check(self, steps: int) -> None:
        """The first cycle takes at least one step.

        Raises:
            BadInput: it takes less, or the warm-up is as long as training.
        """
        super().check(steps)
        if min(lengths(self, steps - self.warmup_steps)) < 1:
            raise BadInput(
                f"schedule.cycles={self.cycles} with multiplier={self.multiplier} leave no step for the shortest cycle "
                f"of {steps - self.warmup_steps} steps"
            )


def lengths(config: Any, steps: int) -> list[int]:
    """Steps of each cycle; they add up to ``steps``."""
    shares = [config.multiplier**cycle for cycle in range(config.cycles)]
    ends = [round(steps * end / sum(shares)) for end in itertools.accumulate(shares)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate over the ``steps`` after the warm-up."""
    cycles = lengths(config, steps)
    curves = [optax.cosine_decay_schedule(1.0, length, alpha=config.final_fraction) for length in cycles]
    return optax.join_schedules(curves, list(itertools.accumulate(cycles))[:-1])
