"""Models: pure functions of parameters and inputs. This room knows no data, no optimizer, no flag.

Each file of this folder that defines a ``Config`` is a family: ``models/cnn.py`` is ``cnn``. The
file also defines ``build(config, shapes) -> flax.linen.Module``. The module's
``__call__(inputs, *, train, hyperparameters)`` gives the outputs; one that reads sequences step by
step has a method ``start(source, *, length) -> carry`` too, and takes ``carry=`` in its call, which
then gives ``(outputs, carry)``.
"""

from collections.abc import Mapping
from typing import Any, Literal

from models.base import BadInput, Configuration, Model, Shapes, plugin, plugin_names
from models.layers.derivatives import twice_differentiable

__all__ = ["BadInput", "Configuration", "Model", "Shapes", "build", "names", "twice_differentiable"]


def names() -> tuple[str, ...]:
    """The families that there are, by name."""
    return plugin_names("models")


def build(
    config: Configuration,
    shapes: Shapes,
    *,
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> Model:
    """The pure functions of the model that ``config`` describes, for a task of these shapes.

    Args:
        config: the ``Config`` of a family.
        shapes: what the task declares of its inputs and outputs.
        compute_dtype: number format of the computation. Parameters, their gradients, running
            statistics and outputs keep their own; parameters and inputs are rounded to this one on
            the way in (mixed precision; Micikevicius et al. 2018, section 3.1). ``float32`` rounds
            nothing, so that arrays of 64 bits stay so.

    Raises:
        BadInput: the family cannot treat such inputs, or sizes do not fit each other.
    """
    module = plugin("models", config.name, kind="model").build(config, shapes)

    def rounded(variables: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**variables, "params": _round(variables["params"], compute_dtype)}

    def init(key: Any, inputs: Any) -> Mapping[str, Any]:
        return module.init({"params": key}, inputs, train=False, hyperparameters={})

    def apply(
        variables: Mapping[str, Any],
        inputs: Any,
        *,
        train: bool,
        rngs: Mapping[str, Any],
        hyperparameters: Mapping[str, Any],
    ) -> tuple[Any, Mapping[str, Any]]:
        outputs, changed = module.apply(
            rounded(variables),
            _round(inputs, compute_dtype),
            train=train,
            hyperparameters=hyperparameters,
            rngs=rngs,
            mutable=["batch_stats"],
        )
        return _unround(outputs, compute_dtype), changed.get("batch_stats", {})

    def inspect(
        variables: Mapping[str, Any], inputs: Any, *, hyperparameters: Mapping[str, Any]
    ) -> tuple[Any, Mapping[str, Any]]:
        outputs, changed = module.apply(
            rounded(variables),
            _round(inputs, compute_dtype),
            train=False,
            hyperparameters=hyperparameters,
            mutable=["intermediates"],
        )
        return _unround(outputs, compute_dtype), _by_name(changed.get("intermediates", {}))

    def start(variables: Mapping[str, Any], source: Any, *, length: int) -> Any:
        if not hasattr(module, "start"):
            raise BadInput(f"model {config.name!r} does not read sequences step by step")
        return module.apply(rounded(variables), _round(source, compute_dtype), length=length, method="start")

    def advance(
        variables: Mapping[str, Any],
        inputs: Any,
        carry: Any,
        *,
        train: bool,
        rngs: Mapping[str, Any],
        hyperparameters: Mapping[str, Any],
    ) -> tuple[Any, Any]:
        outputs, carry = module.apply(
            rounded(variables),
            _round(inputs, compute_dtype),
            train=train,
            hyperparameters=hyperparameters,
            rngs=rngs,
            carry=carry,
        )
        return _unround(outputs, compute_dtype), carry

    return Model(init, apply, inspect, start, advance)


def _round(tree: Any, dtype: str) -> Any:
    """Floating-point arrays of a tree in the number format of the computation."""
    import jax
    import jax.numpy as jnp

    if dtype == "float32":
        return tree

    def one(leaf: Any) -> Any:
        is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if is_float else leaf

    return jax.tree.map(one, tree)


def _unround(outputs: Any, dtype: str) -> Any:
    return outputs if dtype == "float32" else outputs.astype("float32")


def _by_name(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one of paths: ``{"block_0/attention_weights": array}``."""
    result: dict[str, Any] = {}
    for name, value in tree.items():
        nested = isinstance(value, Mapping)
        result |= _by_name(value, f"{prefix}{name}/") if nested else {prefix + name: value}
    return result
