"""Adam with coupled L2: lambda w joins the gradient before both averages."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Kingma and Ba 2015, algorithm 1, with L2 as it was used before Loshchilov and Hutter 2019.

    The pink line of algorithm 2 there; ``adamw`` is the green one. Their difference is an ablation.
    The decay is divided by sqrt(v_hat), so weights with large gradients decay less. Equal to
    PyTorch's ``Adam(weight_decay=...)``.

    Attributes:
        learning_rate: eta, at the schedule's peak.
        b1: decay of the average of gradients.
        b2: decay of the average of their squares.
        eps: epsilon.
        weight_decay: lambda; biases and normalisation scales are left out (``regularisation.undecayed``).
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.001
    b1: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    b2: Annotated[float, Traced(ge=0, lt=1)] = 0.999
    eps: Annotated[float, Traced(gt=0)] = 1e-08
    weight_decay: Annotated[float, Traced(ge=0, off=0.0)] = 0.01


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax chain; ``mask`` is a tree of booleans, true where weights decay."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask=mask),
        optax.adam(learning_rate, b1=config.b1, b2=config.b2, eps=config.eps),
    )
