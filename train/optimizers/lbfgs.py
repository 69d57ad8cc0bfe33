"""L-BFGS: steps along an approximation of the inverse Hessian times the gradient, with a line search."""

import dataclasses
from typing import Annotated, Any

import optax

from models.base import Configuration, Static


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Liu and Nocedal 1989, algorithm 2.1; the line search of Nocedal and Wright 2006, algorithms 3.5 and 3.6.

    For small problems with the full batch: it takes the loss for a function that does not change
    from step to step. The line search sets the step, so the schedule has no effect.

    Attributes:
        memory_size: pairs of steps and changes of the gradient that are kept.
        line_search_steps: evaluations of the loss and its gradient in one step at the most.
    """

    memory_size: Annotated[int, Static(ge=1)] = 10
    line_search_steps: Annotated[int, Static(ge=1)] = 20


def build(config: Any, learning_rate: optax.Schedule, mask: Any) -> optax.GradientTransformationExtraArgs:
    """The Optax transformation; it needs ``value``, ``grad`` and ``value_fn`` at each update."""
    del learning_rate, mask
    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=config.line_search_steps, initial_guess_strategy="one")
    return optax.lbfgs(memory_size=config.memory_size, linesearch=search)
