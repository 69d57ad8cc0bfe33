"""AMSGrad: Adam whose second average never falls, v_max <- max(v_max, v_hat)."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Reddi et al. 2018, "On the Convergence of Adam and Beyond", algorithm 2.

    The paper corrects no bias. Optax corrects both averages and takes the maximum of the corrected
    v; PyTorch takes the maximum of the uncorrected one.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: epsilon.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.001
    b1: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    b2: Annotated[float, Traced(ge=0, lt=1)] = 0.999
    eps: Annotated[float, Traced(gt=0)] = 1e-08


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax transformation; it decays nothing, so ``mask`` is not used."""
    del mask
    return optax.amsgrad(learning_rate, b1=config.b1, b2=config.b2, eps=config.eps)
