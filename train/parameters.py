"""Parameters by path: their names, which of them decay, and the values that a task gives them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from models.base import BadInput


def path_name(path: tuple[Any, ...]) -> str:
    """A tree path as text: ``Dense_0/kernel``."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def names(params: PyTree) -> list[str]:
    """The path of every leaf, in the order of the leaves."""
    return [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def decay_mask(params: PyTree, undecayed: str) -> PyTree:
    """A tree of booleans: true for parameters that L1, L2 and weight decay act on.

    Args:
        params: arrays, or shapes, of the parameters.
        undecayed: regular expression searched for in each path (``layers_0/bias``).
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: not re.search(undecayed, path_name(path)), params)


def check_found(field: str, pattern: str, paths: Sequence[str]) -> None:
    """Refuse a pattern that finds none of these parameters.

    Raises:
        BadInput: it finds none.
    """
    if not any(re.search(pattern, path) for path in paths):
        raise BadInput(f"{field}={pattern!r} finds no parameter; there are {', '.join(paths)}")


def with_initial(params: PyTree, initial: Mapping[str, Any]) -> PyTree:
    """Parameters with the values that a task gives them to begin from (see :class:`train.data.task.Task`).

    Raises:
        BadInput: a name finds no parameter or several, or one of another shape.
    """
    paths = names(params)
    values, structure = jax.tree.flatten(params)
    for pattern, given in initial.items():
        found = [number for number, path in enumerate(paths) if re.search(pattern, path)]
        if len(found) != 1:
            raise BadInput(
                f"initial values are for one parameter, {pattern!r}, and the model has {len(found)} of that name; "
                f"its parameters are {', '.join(paths)}"
            )
        (number,) = found
        own = values[number]
        if own.shape != given.shape:
            raise BadInput(
                f"initial values of shape {given.shape} do not fit the model's parameter {paths[number]} of shape "
                f"{own.shape}; make the model's size {given.shape[-1]} (model.embedding, or model.width)"
            )
        values[number] = jnp.where(jnp.isnan(given), own, given.astype(own.dtype))
    return structure.unflatten(values)
