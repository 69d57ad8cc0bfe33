"""One model on several devices: a mode of tracing in which XLA's partitioner cuts arrays along the axes of a mesh.

The program stays that of one device; what is said here is along which axes of the mesh the activations lie, so that
the partitioner gathers weights where they are used, and sums what the parts contribute. It cannot cut machine code
written for whole arrays, nor a GPU's fused kernels: in this mode all layers have their plain forms.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Shaped


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
    free = [PartitionSpec.UNCONSTRAINED] * x.ndim
    free[axis] = axes.batch
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*free))


def by_head(x: Shaped[Array, "batch time heads size"]) -> Shaped[Array, "batch time heads size"]:
    """The same array; of a partitioned program, cut along the examples and, where there is a tensor axis, the heads."""
    axes = _AXES.get()
    if axes is None:
        return x
    batch = axes.batch if axes.batch and x.shape[0] % axes.parts == 0 else PartitionSpec.UNCONSTRAINED
    heads = axes.tensor if axes.tensor and x.shape[2] % axes.tensor_parts == 0 else PartitionSpec.UNCONSTRAINED
    return jax.lax.with_sharding_constraint(x, PartitionSpec(batch, None, heads, None))
