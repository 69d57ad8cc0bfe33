"""One model on several devices: a mode of tracing in which XLA's partitioner cuts arrays along the axes of a mesh.

The program stays that of one device; what is said here is along which axes of the mesh the activations lie, so that
the partitioner gathers weights where they are used, and sums what the parts contribute. It cannot cut machine code
written for whole arrays, nor a GPU's fused kernels: in this mode all layers have their plain forms.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, Shaped


class Axes(NamedTuple):
    """Axes of the mesh, by what they cut.

    Attributes:
        batch: those over which the examples of a batch lie.
        parts: into how many parts these cut a batch.
        tensor: that over which the features of a layer lie; None where there is none.
        tensor_parts: into how many parts it cuts them.
    """

    batch: tuple[str, ...]
    parts: int
    tensor: str | None = None
    tensor_parts: int = 1


_AXES: contextvars.ContextVar[Axes | None] = contextvars.ContextVar("axes", default=None)


@contextlib.contextmanager
def partitioned(axes: Axes) -> Iterator[None]:
    """What is traced within is cut along these axes. Holds for the thread that enters it."""
    token = _AXES.set(axes)
    try:
        yield
    finally:
        _AXES.reset(token)


def is_partitioned() -> bool:
    """Whether what is being traced runs on several devices together."""
    return _AXES.get() is not None


def by_batch(x: Shaped[Array, "..."], axis: int = 0) -> Shaped[Array, "..."]:
    """The same array; of a partitioned program, cut along the axis of the examples, and along others as XLA likes."""
    axes = _AXES.get()
    if axes is None or not axes.batch or x.ndim <= axis or x.shape[axis] % axes.parts:
        return x
    free: list[Any] = [PartitionSpec.UNCONSTRAINED] * x.ndim
    free[axis] = axes.batch
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*free))


def by_head(x: Shaped[Array, "batch time heads size"]) -> Shaped[Array, "batch time heads size"]:
    """The same array; of a partitioned program, cut along the examples and, where there is a tensor axis, the heads."""
    axes = _AXES.get()
    if axes is None:
        return x
    batch = axes.batch if axes.batch and x.shape[0] % axes.parts == 0 else PartitionSpec.UNCONSTRAINED
    heads = axes.tensor if axes.tensor and x.shape[2] % axes.tensor_parts == 0 else None
    return jax.lax.with_sharding_constraint(x, PartitionSpec(batch, None, heads, None))


def tensor_parts(*units: int) -> int:
    """Into how many parts the tensor axis cuts so many things; 1 where there is none, or it does not divide all."""
    axes = _AXES.get()
    if axes is None or any(count % axes.tensor_parts for count in units):
        return 1
    return axes.tensor_parts


def gathered(
    weights: Shaped[Array, "..."], tensor_axis: int | None = None, units: int | None = None
) -> Shaped[Array, "..."]:
    """The same weights; of a partitioned program, brought together here, once, from the devices that store parts.

    Without it the partitioner gathers them for each of their uses: for a product, and again, transposed, for its
    gradients.

    Args:
        weights: as they are stored.
        tensor_axis: the axis that stays cut where there is a tensor axis.
        units: how many things along it must each stay whole, such as heads; None: every element is one. Where the
            parts do not divide them, each device has, and computes, the whole.
    """
    axes = _AXES.get()
    if axes is None:
        return weights
    cut: list[str | None] = [None] * weights.ndim
    if tensor_axis is not None and (units or weights.shape[tensor_axis]) % axes.tensor_parts == 0:
        cut[tensor_axis] = axes.tensor
    return jax.lax.with_sharding_constraint(weights, PartitionSpec(*cut))


def rows(table: Float[Array, "rows features"], indices: Int[Array, "*batch"]) -> Float[Array, "*batch features"]:
    """``table[indices]``; of a partitioned program, each device looks up the rows of its own examples.

    Left to the partitioner, the gradient would be made of the examples of all devices on every device. Where the rows
    lie on a tensor axis, each device looks up those it has, and the others add theirs.

    Args:
        table: of vectors.
        indices: the first axis is that of the examples.
    """
    axes = _AXES.get()
    cut = axes.tensor if axes is not None and axes.tensor and table.shape[0] % axes.tensor_parts == 0 else None
    if axes is None or not (axes.batch or cut) or indices.ndim == 0 or indices.shape[0] % axes.parts:
        return jnp.take(table, indices, axis=0)

    def own(table: Array, indices: Array) -> Array:
        if cut is None:
            return jnp.take(table, indices, axis=0)
        places = indices - jax.lax.axis_index(cut) * table.shape[0]
        is_here = (places >= 0) & (places < table.shape[0])
        found = jnp.take(table, jnp.where(is_here, places, 0), axis=0)
        return jax.lax.psum(jnp.where(is_here[..., None], found, jnp.zeros((), found.dtype)), cut)

    batch = PartitionSpec(axes.batch or None)
    names = {*axes.batch, *([cut] if cut else [])}
    in_specs = (PartitionSpec(cut), batch)
    return jax.shard_map(own, in_specs=in_specs, out_specs=batch, axis_names=names, check_vma=False)(table, indices)
