"""RMSProp: v is the exponential average of g^2; w <- w - eta g / (sqrt(v) + epsilon)."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Static, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Tieleman and Hinton 2012, "Neural Networks for Machine Learning", lecture 6.5.

    Epsilon stands outside the root and the average begins at 0, as in PyTorch; Optax's own default
    has epsilon inside.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        decay: of the average of squares. The lecture takes 0.9.
        eps: epsilon.
        momentum: mu of m <- mu m + g / (sqrt(v) + epsilon); then w <- w - eta m.
        centered: subtract the squared average of g from v (Graves 2013, equation 38).
        nesterov: look ahead; where there is momentum.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.001
    decay: Annotated[float, Traced(ge=0, lt=1)] = 0.99
    eps: Annotated[float, Traced(gt=0)] = 1e-08
    momentum: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0
    centered: Annotated[bool, Static()] = False
    nesterov: Annotated[bool, Static()] = False


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax transformation; it decays nothing, so ``mask`` is not used."""
    del mask
    off = isinstance(config.momentum, float) and config.momentum == 0
    return optax.rmsprop(
        learning_rate,
        decay=config.decay,
        eps=config.eps,
        eps_in_sqrt=False,
        centered=config.centered,
        momentum=None if off else config.momentum,
        nesterov=config.nesterov,
    )
