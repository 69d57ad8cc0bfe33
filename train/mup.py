"""The maximal update parametrisation: rates that are best for a narrow network are best for a wide one.

Yang et al. 2022, "Tensor Programs V", table 3. With n the width in units of ``mup_base_width``, every
parameter is one of three kinds, told by which of its axes grow with the width:

===========  =====================  ==================  =============  ================
kind         grows                  initial deviation   rate of SGD    rate of Adam
===========  =====================  ==================  =============  ================
input        outputs, or a vector   x 1                 x n            x 1
hidden       inputs and outputs     x 1 / sqrt(n)       x 1            x 1 / n
output       inputs                 x 1 / n             x 1 / n        x 1 / n
===========  =====================  ==================  =============  ================

The deviation is in units of that at the base width; that of a model with variance 1 / fan-in falls with 1 /
sqrt(n) of its own accord. Table 8 of the paper is the same in other words: there a multiplier on the outputs takes
the place of the small output kernel (lemma J.1), and exported weights would need it. Decoupled weight decay,
which the rate multiplies, is divided by the rate's factor, so that a step takes off as much at every width.

What is a base width is shown by a model of that width: sizes that belong to the width (heads, hidden units of the
perceptrons) are divided with it. So the length of a head's keys stays the same, and with it the scale of the
attention's scores, which the paper divides by that length instead (definition 4.1).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

import models
from models import Shapes
from models.base import BadInput
from train.config import Config, fields, replace
from train.groups import Factors
from train.parameters import names

WITH_WIDTH = {"mlp": ("width",), "transformer": ("width", "heads", "feedforward")}
"""For each model that this is defined for: the sizes that grow with the width."""

DESCENT = ("sgd", "momentum")
"""Optimizers whose step grows with the gradient."""

ADAPTIVE = ("adagrad", "rmsprop", "adam", "adam_l2", "adamw", "adamax", "amsgrad", "nadam", "lion")
"""Optimizers whose step does not, element by element."""

DECOUPLED = ("adamw", "lion")
"""Those of them whose decay is multiplied by the rate alone."""

FAN_IN = ("model", "lecun_normal", "lecun_uniform", "he_normal", "he_uniform")
"""Initialisations whose variance is in proportion to 1 / fan-in."""


class Scaling(NamedTuple):
    """The factors of every parameter, as trees of Python numbers.

    Attributes:
        deviations: of the initial values that the model draws.
        factors: of learning rate and weight decay.
    """

    deviations: PyTree
    factors: PyTree


def check(config: Config) -> None:
    """Refuse what the parametrisation is not defined for.

    Raises:
        BadInput: the model, the optimizer or the initialisation is none of those above, or the sizes do not divide.
    """
    base = config.initialisation.mup_base_width
    if not base:
        return
    wrong = None
    if config.model.name not in WITH_WIDTH:
        wrong = f"model.name must be one of {', '.join(WITH_WIDTH)}, not {config.model.name}"
    elif config.optimizer.name not in (*DESCENT, *ADAPTIVE):
        wrong = f"optimizer.name must be one of {', '.join((*DESCENT, *ADAPTIVE))}, not {config.optimizer.name}"
    elif config.initialisation.kernels not in FAN_IN:
        wrong = f"initialisation.kernels must be one of {', '.join(FAN_IN)}, not {config.initialisation.kernels}"
    elif getattr(config.model, "initialisation", "lecun") != "lecun":
        wrong = f"model.initialisation must be lecun, not {getattr(config.model, 'initialisation', '')}"
    elif getattr(config.model, "tie_embeddings", False):
        wrong = "model.tie_embeddings must be false: the output layer has factors of its own"
    elif getattr(config.model, "widths", ()):
        wrong = "model.widths must be empty: layers grow with one width"
    if wrong:
        raise BadInput(f"initialisation.mup_base_width={base}: {wrong}")
    _at_base(config)


def _at_base(config: Config) -> Config:
    """The configuration at the base width."""
    base, width = config.initialisation.mup_base_width, getattr(config.model, "width", 0)
    changes = {}
    for name in WITH_WIDTH[config.model.name]:
        size = getattr(config.model, name)
        if size * base % width:
            raise BadInput(
                f"initialisation.mup_base_width={base}: model.{name}={size} x {base} / {width} (the share of it at the "
                "base width) must be a whole number"
            )
        changes[f"model.{name}"] = size * base // width
    return replace(config, changes)


def scaling(config: Config, shapes: Shapes, inputs: Any, params: PyTree) -> Scaling | None:
    """The factors of each parameter; None where the parametrisation is off.

    Args:
        config: the trial's.
        shapes: of the task.
        inputs: a batch, or its shapes.
        params: of the model, or their shapes.
    """
    if not config.initialisation.mup_base_width:
        return None
    model = models.build(_at_base(config).model, shapes)
    base = jax.eval_shape(lambda: model.init(jax.random.key(0), jax.tree.map(jnp.zeros_like, inputs)))["params"]
    leaves, structure = jax.tree.flatten(params)
    assert names(params) == names(base)
    own = [_of(config, leaf.shape, other.shape) for leaf, other in zip(leaves, jax.tree.leaves(base), strict=True)]
    return Scaling(structure.unflatten([each[0] for each in own]), structure.unflatten([each[1] for each in own]))


def _of(config: Config, shape: tuple[int, ...], base: tuple[int, ...]) -> tuple[float, Factors]:
    """The factor of the deviation that the model draws with, and those of rate and decay, for one parameter."""
    inputs = shape[-2] / base[-2] if len(shape) > 1 else 1.0
    outputs = shape[-1] / base[-1] if shape and base else 1.0
    is_output = inputs != 1 and outputs == 1
    deviation = inputs**-0.5 if is_output else 1.0
    if config.optimizer.name in DESCENT:
        rate = (1 / inputs if is_output else 1.0) if inputs != 1 else outputs
    else:
        rate = 1 / inputs
    decoupled = config.optimizer.name in DECOUPLED and "weight_decay" in fields(type(config.optimizer))
    return deviation, Factors(rate, 1 / rate if decoupled else 1.0)
