"""Where training begins: kernels drawn anew from a named distribution, with a gain that is traced.

Fans are those of :mod:`jax.nn.initializers` and PyTorch: with the axes of a kernel [..., inputs, features], fan-in
is the product of all axes but the last, fan-out that of all but the axis of inputs. Three kinds of
kernels are several matrices in one array, and each is drawn by itself: the gates of a recurrent
layer's ``recurrent_kernel`` [hidden, gates * hidden], those of its ``input_kernel`` beside it, and the blocks of a
scanned Transformer (a first axis of blocks). Queries, keys and values of one attention are drawn as one
matrix, as PyTorch's ``MultiheadAttention`` draws them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from train import randomness
from train.parameters import check_found, names
from train.sections import Initialisation

_SCALING: dict[str, tuple[float, Any]] = {"lecun": (1.0, "fan_in"), "glorot": (1.0, "fan_avg"), "he": (2.0, "fan_in")}
_SCANNED = re.compile(r"(^|/)blocks/")

Draw = Callable[[Key[Array, ""], tuple[int, ...]], Array]


def distribution(scheme: str) -> Draw:
    """The initialiser ``(key, shape) -> kernel`` of that name, with gain 1.

    Args:
        scheme: a name of :data:`train.sections.Scheme` other than ``model``.
    """
    initializers = jax.nn.initializers
    if scheme == "orthogonal":
        return initializers.orthogonal()
    if scheme == "normal":
        return initializers.normal(1.0)
    if scheme == "uniform":
        return lambda key, shape: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
    kind, _, shape_of = scheme.partition("_")
    return initializers.variance_scaling(*_SCALING[kind], "truncated_normal" if shape_of == "normal" else "uniform")


def initialised(params: PyTree, section: Initialisation, gain: Any, key: Key[Array, ""]) -> PyTree:
    """The parameters as the section wants them to begin.

    Args:
        params: as the model draws them.
        section: what is drawn anew.
        gain: of the kernels; None where it is 1 in every trial.
        key: of the stream; each kernel has a stream of its own in it, by its path.

    Raises:
        BadInput: a pattern finds no parameter.
    """
    paths = names(params)
    leaves, structure = jax.tree.flatten(params)
    shapes = {path: leaf.shape for path, leaf in zip(paths, leaves, strict=True)}
    if section.kernels != "model" or gain is not None:
        check_found("initialisation.pattern", section.pattern, [path for path in paths if len(shapes[path]) > 1])
    if section.zeros:
        check_found("initialisation.zeros", section.zeros, paths)
    for number, path in enumerate(paths):
        leaf = leaves[number]
        if leaf.ndim > 1 and re.search(section.pattern, path):
            if section.kernels != "model":
                own = randomness.stream(key, path)
                leaf = _draw(distribution(section.kernels), path, shapes, own).astype(leaf.dtype)
            leaf = leaf if gain is None else leaf * gain
        if section.zeros and re.search(section.zeros, path):
            leaf = jnp.zeros_like(leaf)
        leaves[number] = leaf
    return structure.unflatten(leaves)


def _draw(draw: Draw, path: str, shapes: Mapping[str, tuple[int, ...]], key: Key[Array, ""]) -> Array:
    """One kernel, each matrix in it by itself."""
    shape = shapes[path]
    if _SCANNED.search(path):
        return jnp.stack([draw(each, shape[1:]) for each in jax.random.split(key, shape[0])])
    blocks = _blocks(path, shapes)
    if blocks == 1:
        return draw(key, shape)
    part = (*shape[:-1], shape[-1] // blocks)
    return jnp.concatenate([draw(each, part) for each in jax.random.split(key, blocks)], axis=-1)


def _blocks(path: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many matrices stand side by side in a kernel: the gates of a recurrent layer, or one."""
    layer, _, name = path.rpartition("/")
    recurrent = shapes.get(f"{layer}/recurrent_kernel")
    if name not in ("input_kernel", "recurrent_kernel") or recurrent is None:
        return 1
    return recurrent[1] // recurrent[0]
