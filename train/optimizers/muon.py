"""Muon: momentum whose matrices are made orthogonal before the step; Adam for all other parameters."""

import dataclasses
import re
from typing import Annotated, Any

import jax
import optax
from optax import contrib

from models.base import Configuration, Static, Traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".

    For a matrix: m <- beta m + g, then five steps of a Newton-Schulz iteration towards U V^T of the
    singular value decomposition of m, times sqrt(max(1, outputs / inputs)). Kernels of convolutions
    are matrices [inputs of one output, features]. Embeddings, the output layer, biases and
    normalisation are trained by AdamW.

    Attributes:
        learning_rate: eta of the matrices, at the schedule's peak.
        adam_learning_rate: eta of all other parameters, at the schedule's peak.
        beta: of the momentum.
        b1: Adam's decay of the average of gradients.
        b2: Adam's decay of the average of their squares.
        weight_decay: lambda of both, decoupled; biases and normalisation scales are left out
            (``regularisation.undecayed``).
        nesterov: look ahead, g + beta m in place of m.
        not_hidden: regular expression searched for in the path of a parameter, which is then
            trained by AdamW though it is a matrix.
    """

    learning_rate: Annotated[float, Traced(gt=0)] = 0.02
    adam_learning_rate: Annotated[float, Traced(gt=0)] = 3e-4
    beta: Annotated[float, Traced(ge=0, lt=1)] = 0.95
    b1: Annotated[float, Traced(ge=0, lt=1)] = 0.9
    b2: Annotated[float, Traced(ge=0, lt=1)] = 0.999
    weight_decay: Annotated[float, Traced(ge=0, off=0.0)] = 0.0
    nesterov: Annotated[bool, Static()] = True
    not_hidden: Annotated[str, Static()] = r"embedding|positions|logits"


def build(config: Any, learning_rate: Any, mask: Any) -> optax.GradientTransformation:
    """The Optax transformation; ``mask`` is a tree of booleans, true where weights decay.

    ``learning_rate(count, peak)`` is the schedule with another peak.
    """

    def dimensions(params: Any) -> Any:
        def of(path: tuple[Any, ...], leaf: Any) -> contrib.MuonDimensionNumbers | None:
            name = "/".join(str(getattr(key, "key", key)) for key in path)
            if leaf.ndim < 2 or re.search(config.not_hidden, name):
                return None
            return contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), (leaf.ndim - 1,))

        return jax.tree_util.tree_map_with_path(of, params)

    return contrib.muon(
        learning_rate,
        beta=config.beta,
        weight_decay=config.weight_decay,
        weight_decay_mask=mask,
        nesterov=config.nesterov,
        adam_b1=config.b1,
        adam_b2=config.b2,
        adam_weight_decay=config.weight_decay,
        adam_learning_rate=lambda count: learning_rate(count, config.adam_learning_rate),
        muon_weight_dimension_numbers=dimensions,
    )
