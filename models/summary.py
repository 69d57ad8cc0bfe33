"""What a model consists of and costs: parameters by module, operations. Nothing is allocated or run."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.tree_util import DictKey, tree_leaves_with_path

from models import flops as jaxpr
from models.base import BadInput, Model


def parameters(model: Model, inputs: Any, *, depth: int | None = None) -> dict[str, int]:
    """Number of trained values in each module, in the order of their paths.

    Args:
        model: the model.
        inputs: a batch, or its shapes (``jax.ShapeDtypeStruct``); of any size, such as one example.
        depth: how many parts of a path tell modules apart: 1 sums up ``block_0/norm_1`` and
            ``block_0/attention_out`` as ``block_0``. None: every module by its whole path. What
            belongs to the whole model, no module, stands under the parameter's own name.

    Raises:
        BadInput: a depth below 1.
    """
    return by_module(_variables(model, inputs)["params"], depth=depth)


def by_module(params: Any, *, depth: int | None = None) -> dict[str, int]:
    """Number of values in each module of a tree of parameters, or of their shapes; see :func:`parameters`.

    Raises:
        BadInput: a depth below 1.
    """
    if depth is not None and depth < 1:
        raise BadInput(f"depth={depth} must be at least 1")
    result: dict[str, int] = {}
    for path, leaf in tree_leaves_with_path(params):
        names = [str(part.key) for part in path if isinstance(part, DictKey)]
        module = "/".join((names[:-1] or names)[:depth])
        result[module] = result.get(module, 0) + leaf.size
    return result


def flops(model: Model, inputs: Any) -> float:
    """Operations of the matrix products and convolutions of the forward pass in evaluation.

    A multiply-add is two. Every step of a loop counts; element-wise work does not. See
    :mod:`models.flops`, and :func:`xla_flops` for what XLA says.

    Args:
        model: the model.
        inputs: a batch, or its shapes. Divide by its size for the operations of an example.
    """
    return jaxpr.count(_forward(model), _variables(model, inputs), inputs)


def xla_flops(model: Model, inputs: Any) -> float:
    """Operations of the forward pass by XLA's own cost analysis of the program before it is optimised.

    It counts element-wise work too (but for transcendental functions, which it keeps apart), no product with the
    zeros around an image, and a loop's body once, whatever the number of its rounds: of a recurrent network
    one step. Where there is no loop it is a check of :func:`flops`. The program is that for a TPU, whose
    convolutions are XLA's own: it cannot see into the forms that are used on CPU.

    Args:
        model: the model.
        inputs: a batch, or its shapes.

    Raises:
        RuntimeError: this jaxlib analyses no program for a TPU.
    """
    traced = jax.jit(_forward(model)).trace(_variables(model, inputs), inputs)
    analysis = traced.lower(lowering_platforms=("tpu",)).cost_analysis()
    if not isinstance(analysis, Mapping):
        raise RuntimeError(f"XLA has no cost analysis for this program here, on {jax.default_backend()}")
    return float(analysis["flops"])


def _variables(model: Model, inputs: Any) -> Any:
    """The shapes of a model's variables."""
    return jax.eval_shape(lambda inputs: model.init(jax.random.key(0), inputs), inputs)


def _forward(model: Model) -> Callable[..., Any]:
    return lambda variables, inputs: model.apply(variables, inputs, train=False, rngs={}, hyperparameters={})[0]
