"""NAdam: Adam with Nesterov's look-ahead, w <- w - eta (b1 m_hat' + (1 - b1) g_hat) / (sqrt(v_hat) + epsilon)."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Dozat 2016, "Incorporating Nesterov Momentum into Adam", algorithm 2, with a constant b1.

    PyTorch's form lets b1 grow by Dozat's schedule mu_t; Optax and this one do not.

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
    return optax.nadam(learning_rate, b1=config.b1, b2=config.b2, eps=config.eps)
