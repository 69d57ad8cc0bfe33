"""A straight line down to a fraction of the peak."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Traced
from train.schedules.warmup import WithWarmup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WithWarmup):
    """Linear decay, as BERT's (Devlin et al. 2019, appendix A.2).

    Attributes:
        final_fraction: the rate at the last step, as a fraction of the peak.
    """

    final_fraction: Annotated[float, Traced(ge=0, le=1)] = 0.0


def build(config: Any, steps: int) -> optax.Schedule:
    """The factor of the learning rate over the ``steps`` after the warm-up, from 1 down."""
    return optax.linear_schedule(1.0, config.final_fraction, steps)
