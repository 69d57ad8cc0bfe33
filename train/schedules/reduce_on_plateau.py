"""The rate falls when the training loss has not fallen for a while."""

import dataclasses
from typing import Annotated, Any

import optax
from optax import contrib

from models.base import Static
from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """Reduction on a plateau, as Optax and PyTorch have it; it watches the mean training loss.

    PyTorch's users mostly watch a validation loss; here that would have to wait for evaluations.

    Attributes:
        factor: what the rate is multiplied by.
        patience: averages without improvement before that.
        average_steps: steps whose losses make one average.
        cooldown: averages that are passed over after a reduction.
        relative_improvement: an average counts as better when it is lower by this share.
        final_fraction: the rate falls no lower than this fraction of the peak.
    """

    factor: Annotated[float, Static(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Static(ge=1)] = 10
    average_steps: Annotated[int, Static(ge=1)] = 20
    cooldown: Annotated[int, Static(ge=0)] = 0
    relative_improvement: Annotated[float, Static(ge=0, lt=1)] = 1e-4
    final_fraction: Annotated[float, Static(ge=0, le=1)] = 0.0


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate after the warm-up, without what :func:`transform` does."""
    del config, steps
    return optax.constant_schedule(1.0)


def transform(config: Any) -> optax.GradientTransformationExtraArgs:
    """What follows the optimizer: it scales the updates by a number that depends on the loss (``value``)."""
    return contrib.reduce_on_plateau(
        factor=config.factor,
        patience=config.patience,
        rtol=config.relative_improvement,
        cooldown=config.cooldown,
        accumulation_size=config.average_steps,
        min_scale=config.final_fraction,
    )
