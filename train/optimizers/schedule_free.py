"""Schedule-free learning: gradients at y = b1 x + (1 - b1) z, z by AdamW or SGD, x the average of all z."""

import dataclasses
from typing import Annotated, Any, Literal

import optax
from optax import contrib

from models.base import Configuration, Static, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Defazio et al. 2024, "The Road Less Scheduled", equations 6 to 8 and algorithm 1.

    The trained parameters are y; an evaluation takes x. Use it with the schedule ``constant`` and a
    warm-up.

    Attributes:
        learning_rate: eta.
        base: optimizer of z: ``adamw`` without momentum of its own, or ``sgd``.
        b1: weight of the average in y.
        b2: AdamW's decay of the average of squares.
        eps: epsilon of AdamW.
        weight_decay: lambda, decoupled; biases and normalisation scales are left out
            (``regularisation.undecayed``).
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 2.5e-3
    base: Annotated[Literal["adamw", "sgd"], Static()] = "adamw"
    b1: Annotated[float, Traced(gt=0, lt=1)] = 0.9
    b2: Annotated[float, Traced(ge=0, lt=1)] = 0.999
    eps: Annotated[float, Traced(gt=0)] = 1e-8
    weight_decay: Annotated[float, Traced(ge=0, off=0.0)] = 0.0


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """The Optax transformation; ``mask`` is a tree of booleans, true where weights decay."""
    if config.base == "adamw":
        inner = optax.adamw(
            learning_rate, b1=0.0, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay, mask=mask
        )
    else:
        inner = optax.chain(optax.add_decayed_weights(config.weight_decay, mask=mask), optax.sgd(learning_rate))
    return contrib.schedule_free(inner, learning_rate, b1=config.b1)


def evaluation_params(state: Any, params: Any) -> Any:
    """The average x, from the optimizer's state and the trained y."""
    return contrib.schedule_free_eval_params(state, params)
