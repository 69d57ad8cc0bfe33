"""Lion: w <- w - eta (sign(b1 m + (1 - b1) g) + lambda w); then m <- b2 m + (1 - b2) g."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2.

    Its rate wants to be 3 to 10 times smaller than AdamW's, and lambda as much larger (section 5).

    Attributes:
        learning_rate: eta, at the schedule's peak.
        b1: weight of m in the step.
        b2: decay of m.
        weight_decay: lambda; biases and normalisation scales are left out (``regularisation.undecayed``).
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.0001
    b1: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    b2: Annotated[float, Traced(ge=0, lt=1)] = 0.99
    weight_decay: Annotated[float, Traced(ge=0, off=0.0)] = 0.1


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax chain; ``mask`` is a tree of booleans, true where weights decay."""
    return optax.lion(learning_rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=mask)
