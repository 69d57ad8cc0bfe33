"""Meshes: how a population lies over devices.

By default its lanes are dealt out to the devices of this process. A mesh, ``data:4,fsdp:2``, lets the devices compute
each trial together, by axis:

* ``lanes``: each part of the mesh runs trials of its own;
* ``data``: each computes its part of every batch, and gradients are summed (synchronous data parallelism);
* ``fsdp``: the same, and it keeps its part alone of the parameters and of the optimizer's state, which are gathered
  where they are used (Rajbhandari et al. 2020, "ZeRO", stage 3);
* ``tensor``: each keeps and computes its part of the layers of a Transformer (Shoeybi et al. 2019, "Megatron-LM").

The program is that of one device; XLA's partitioner cuts it. Which examples a step takes, and what is drawn at
random, depend on nothing of the mesh, so results differ by the rounding of sums alone.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models.base import BadInput, unknown
from models.layers import partitioning
from models.partitioning import storage_axes, tensor_axis
from train.parameters import path_name
from train.step import State

LANES = "lanes"
AXES = (LANES, "data", "fsdp", "tensor")
BATCH = ("data", "fsdp")
"""The axes over which the examples of a batch lie."""

SMALL = 2048
"""A parameter of fewer elements is kept whole on every device: to gather it would cost more than it saves."""

_SHAPES_ONLY: contextvars.ContextVar[bool] = contextvars.ContextVar("shapes_only", default=False)


def parse(text: str) -> dict[str, int]:
    """The size of each axis of a mesh; of one that is not named, 1. Nothing at all of an empty text.

    Raises:
        BadInput: an axis is unknown or named twice, or a size is no positive number.
    """
    found: dict[str, int] = {}
    for part in text.split(",") if text else ():
        name, _, size = part.strip().partition(":")
        if name not in AXES:
            raise unknown("axis of a mesh", name, AXES)
        if name in found:
            raise BadInput(f"mesh={text!r} names {name} twice")
        if not size.isdigit() or int(size) < 1:
            raise BadInput(f"mesh={text!r} must give the size of each axis, as in data:4,fsdp:2")
        found[name] = int(size)
    return {axis: found.get(axis, 1) for axis in AXES} if text else {}


def size(text: str) -> int:
    """How many devices a mesh takes."""
    return math.prod(parse(text).values())


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Within it :func:`put` brings nothing to a device: it gives what the arrays would look like there.

    So a population can be made, and its programs compiled, that no memory here could hold. Holds for the thread that
    enters it.
    """
    token = _SHAPES_ONLY.set(True)
    try:
        yield
    finally:
        _SHAPES_ONLY.reset(token)


def put(tree: Any, shardings: Any) -> Any:
    """Arrays of the host on the devices; where these are those of several processes, all have the same arrays.

    Args:
        tree: of arrays.
        shardings: one for all, or a tree of them.
    """
    if _SHAPES_ONLY.get():
        if isinstance(shardings, jax.sharding.Sharding):
            shardings = jax.tree.map(lambda _: shardings, tree)
        return jax.tree.map(_shape, tree, shardings)
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    if not isinstance(shardings, jax.sharding.Sharding):
        return jax.tree.map(put, tree, shardings)

    def place(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, shardings, lambda index: leaf[index])

    return jax.tree.map(place, tree)


def fetch(tree: Any) -> Any:
    """Arrays on the host, whole, in every process."""
    if jax.process_count() == 1 or all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def bytes_per_device(tree: Any) -> int:
    """Memory of arrays, or of what they look like, on each of the devices where they lie, or are to lie."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def _shape(leaf: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype if hasattr(leaf, "dtype") else np.result_type(leaf))
    return jax.ShapeDtypeStruct(np.shape(leaf), dtype, sharding=sharding)


class Layout:
    """Where the arrays of a population lie.

    Args:
        text: the mesh, as the command line has it; empty to deal out lanes.
        lanes: trials of the population.
        spread: whether lanes are dealt out to all devices of this process; of a mesh it says nothing.

    Attributes:
        mesh: of the devices.
        lanes: parts into which the lanes are cut.
        parts: parts into which a batch is cut.
        by_lane: the sharding of arrays whose first axis is that of the lanes.
        whole: the sharding of arrays that every device has whole.

    Raises:
        BadInput: the mesh takes another number of devices than there are.
    """

    def __init__(self, text: str, lanes: int, *, spread: bool) -> None:
        self.text, self.sizes = text, parse(text)
        if self.sizes:
            present = jax.devices()
            count = math.prod(self.sizes.values())
            if count > len(present) or (jax.process_count() > 1 and count != len(present)):
                raise BadInput(f"mesh={text!r} takes {count} devices; there are {len(present)}")
            chosen = np.array(present[:count]).reshape(tuple(self.sizes.values()))
            self.mesh = Mesh(chosen, AXES)
        else:
            present = jax.local_devices()
            self.mesh = Mesh(np.array(present[: min(len(present), lanes) if spread else 1]), (LANES,))
        self.lanes: int = self.mesh.shape[LANES]
        self.parts = math.prod(self.sizes.get(axis, 1) for axis in BATCH)
        self.by_lane = NamedSharding(self.mesh, PartitionSpec(LANES))
        self.whole = NamedSharding(self.mesh, PartitionSpec())

    def __str__(self) -> str:
        """In words: ``2 devices``, or the mesh."""
        if self.sizes:
            return f"mesh {self.text}"
        return f"{self.mesh.size} device{'s' if self.mesh.size > 1 else ''}"

    def rows(self, batch_size: int) -> NamedSharding:
        """The sharding of rows [streams, batches, batch, ...] of examples that are brought to the devices."""
        axes = tuple(axis for axis in BATCH if self.sizes.get(axis, 1) > 1)
        if not axes or batch_size % self.parts:
            return self.whole
        return NamedSharding(self.mesh, PartitionSpec(None, None, axes))

    @property
    def is_partitioned(self) -> bool:
        """Whether devices compute a trial together."""
        return bool(self.sizes)

    def check(self, states: State, batch_size: int) -> None:
        """Refuse what the mesh does not divide.

        Args:
            states: of all lanes, or their shapes.
            batch_size: items of a step.

        Raises:
            BadInput: there is something.
        """
        if batch_size % self.parts:
            raise BadInput(
                f"mesh={self.text!r} cuts a batch into {self.parts} parts, which do not divide batch_size={batch_size}"
            )
        cut = {axis for each in jax.tree.leaves(self.states(states)) for axis in each.spec}
        for axis, what in (("fsdp", "parameters of some size"), ("tensor", "a Transformer")):
            if self.sizes.get(axis, 1) > 1 and axis not in cut:
                raise BadInput(
                    f"mesh={self.text!r}: {axis}:{self.sizes[axis]} divides no axis of a parameter; it is for {what}"
                )

    def states(self, states: State) -> Any:
        """The sharding of each array of the states of all lanes.

        What an optimizer keeps for a parameter, in its shape, lies as the parameter does.
        """
        if not self.sizes:
            return jax.tree.map(lambda _: self.by_lane, states)
        parameters = {
            path_name(path): leaf.shape[1:] for path, leaf in jax.tree_util.tree_leaves_with_path(states.params)
        }

        def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            name = _suffix(path_name(path), parameters)
            if name is None or parameters[name] != leaf.shape[1:]:
                return self.by_lane
            return NamedSharding(self.mesh, PartitionSpec(LANES, *self._cuts(name, parameters[name])))

        return jax.tree_util.tree_map_with_path(place, states)

    def placed(self, states: State, rows: np.ndarray) -> State:
        """States on the devices.

        Args:
            states: of trials, in memory of the host or on these devices.
            rows: which of them each lane takes.
        """

        def take(states: State) -> State:
            return jax.tree.map(lambda leaf: leaf[rows], states)

        if isinstance(states.diverged_step, jax.Array):
            return jax.jit(lambda states: self.pinned(take(states)))(states)
        taken = take(states)
        return put(taken, self.states(taken))

    def _cuts(self, path: str, shape: tuple[int, ...]) -> list[str | None]:
        """The axis of the mesh that cuts each axis of a parameter."""
        cuts: list[str | None] = [None] * len(shape)
        axis = tensor_axis(path, shape)
        if axis is not None and self.sizes["tensor"] > 1 and shape[axis] % self.sizes["tensor"] == 0:
            cuts[axis] = "tensor"
        if self.sizes["fsdp"] > 1 and math.prod(shape) >= SMALL:
            free = (
                each
                for each in storage_axes(path, shape)
                if cuts[each] is None and not shape[each] % self.sizes["fsdp"]
            )
            if (axis := next(free, None)) is not None:
                cuts[axis] = "fsdp"
        return cuts

    def over_lanes(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function ``(lanes, lanes, shared)`` of each device's own lanes, as one of all of them."""
        specs = (PartitionSpec(LANES), PartitionSpec(LANES), PartitionSpec())

        @functools.wraps(function)
        def own(*arguments: Any) -> Any:
            with self._traced():
                return function(*arguments)

        return jax.shard_map(
            own, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(LANES), axis_names={LANES}, check_vma=False
        )

    def _traced(self) -> contextlib.AbstractContextManager[None]:
        """What the layers are told while a trial's program is traced."""
        if not self.sizes:
            return contextlib.nullcontext()
        batch = tuple(axis for axis in BATCH if self.sizes[axis] > 1)
        tensor = "tensor" if self.sizes["tensor"] > 1 else None
        return partitioning.partitioned(partitioning.Axes(batch, self.parts, tensor, self.sizes["tensor"]))

    def pinning(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the place of its results said: see :meth:`pinned`."""

        @functools.wraps(function)
        def run(*arguments: Any) -> Any:
            return self.pinned(function(*arguments))

        return run if self.sizes else function

    def pinned(self, result: Any) -> Any:
        """What a program returns, with its place said: that of :meth:`states`; all but states is whole everywhere."""
        if not self.sizes:
            return result
        if isinstance(result, State):
            return jax.tree.map(jax.lax.with_sharding_constraint, result, self.states(result))
        if type(result) is tuple:
            return tuple(self.pinned(each) for each in result)
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, self.whole), result)


def _suffix(name: str, known: Mapping[str, Any]) -> str | None:
    """The longest end of a path that is known."""
    while name not in known:
        _, slash, name = name.partition("/")
        if not slash:
            return None
    return name
