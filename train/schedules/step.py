"""The rate is multiplied by a factor at certain points of training."""

import dataclasses
from typing import Annotated, Any

import jax.numpy as jnp
import optax

from models.base import BadInput, Static, Traced
from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """Step decay, with the points of He et al. 2016, "Deep Residual Learning", section 4.2.

    Attributes:
        boundaries: where the rate falls, in rising order, as fractions of the training after the
            warm-up; the paper's are 32,000 and 48,000 of 64,000 steps.
        gamma: what the rate is multiplied by at each of them.
    """

    boundaries: Annotated[tuple[float, ...], Static(gt=0, lt=1)] = (0.5, 0.75)
    gamma: Annotated[float, Traced(gt=0, le=1)] = 0.1

    def validate(self) -> None:
        """Boundaries rise.

        Raises:
            BadInput: there is none, or they do not.
        """
        if not self.boundaries or list(self.boundaries) != sorted(set(self.boundaries)):
            raise BadInput(f"boundaries={self.boundaries} must be at least one fraction of training, in rising order")


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate over the ``steps`` after the warm-up, from 1 down."""
    places = [round(boundary * steps) for boundary in config.boundaries]

    def factor(count: Any) -> Any:
        value = jnp.ones(())
        for place in places:
            value = jnp.where(count >= place, value * config.gamma, value)
        return value

    return factor
