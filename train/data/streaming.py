"""Splits that stay on the host: which rows each batch takes, and reading them by Grain.

A streamed split is never loaded. Its arrays are memory-mapped, or lie in the host's memory; the rows of a few
batches at a time, a *chunk*, are copied out of them and handed on. Which rows they are is a pure function of
(seed, step), computed by the sampler itself, so that a streamed run is the run in memory. Chunk c holds the steps
from ``c size`` to ``(c + 1) size - 1``: the number of a chunk is the whole state of the stream, whatever
the number of threads, worker processes and hosts.
"""

import concurrent.futures
import dataclasses
import importlib.util
import logging
import mmap
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from models.base import BadInput
from train import randomness
from train.data.task import Arrays, BucketedSampler, StreamedSampler

LOGGER = logging.getLogger("paribus")

MOST_ITEMS = 2**31 - 1
"""Items of a split at the most: indices are 32 bits wide, as on the device."""

_THREADS, _AHEAD = 2, 2
"""Threads that read, and chunks that are ready or being read ahead of the one that was asked for."""


class Rows(NamedTuple):
    """The rows of a chunk, on the host or on the device.

    Attributes:
        rows: what the sampler fetched, each array [streams, batches, batch, ...].
        buckets: int32 [streams, batches], the bucket of each batch; 0 where there are none.
    """

    rows: Any
    buckets: Any


class Share(NamedTuple):
    """The part of every batch that one of several hosts reads: rows ``[index B / count, (index + 1) B / count)``."""

    index: int = 0
    count: int = 1

    def of(self, indices: Int[np.ndarray, "*batches batch"]) -> Int[np.ndarray, "*batches share"]:
        """This host's part of the indices of batches.

        Raises:
            BadInput: the hosts cannot divide a batch among them.
        """
        size = indices.shape[-1]
        if not 0 <= self.index < self.count or size % self.count:
            raise BadInput(f"{self.count} hosts cannot share a batch of {size}: their number must divide it")
        part = size // self.count
        return indices[..., self.index * part : (self.index + 1) * part]


ALL = Share()
"""The whole of every batch: there is one host."""


def nbytes(arrays: Arrays) -> int:
    """Bytes of all arrays of a split."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(dict(arrays)))


def streams(arrays: Arrays, sampler: Any, above_gib: float) -> bool:
    """Whether a split is so large that it is streamed, and its sampler can do so.

    Raises:
        BadInput: it is to be streamed, and Grain is not installed.
    """
    if not isinstance(sampler, StreamedSampler) or nbytes(arrays) <= above_gib * 2**30:
        return False
    if importlib.util.find_spec("grain") is None:
        raise BadInput(
            f"a data set of more than execution.stream_above_gib={above_gib:g} GiB is read by Grain, which is not "
            "installed: pip install grain, or let the set be loaded with --config.execution.stream_above_gib=GIB"
        )
    return True


class Draws:
    """The indices of every batch of several seeds, computed on the CPU as the device would compute them.

    The order of an epoch is drawn once, and that of the next one in the background before it is needed.

    Args:
        sampler: that draws.
        arrays: of the training split; of large ones nothing but the shapes is looked at.
        seeds: roots of the random streams.
        batch_size: items in a batch.
    """

    def __init__(self, sampler: StreamedSampler, arrays: Arrays, seeds: tuple[int, ...], batch_size: int) -> None:
        def batch(order: Any, key: Any, step: Any) -> tuple[Any, Any]:
            indices = sampler.draw(order, arrays, key, step, batch_size=batch_size)
            if not isinstance(sampler, BucketedSampler):
                return indices, 0
            return indices, sampler.bucket(order, arrays, step, batch_size=batch_size)

        self.seeds = seeds
        self.period = sampler.epoch_steps(arrays, batch_size=batch_size)
        # The arrays are closed over, not passed: passing would load them.
        self._epoch = jax.jit(lambda seed, step: sampler.order(arrays, _key(seed), step, batch_size=batch_size))
        self._batches = jax.jit(lambda order, seed, steps: jax.vmap(lambda step: batch(order, _key(seed), step))(steps))
        self._lock = threading.Lock()
        self._orders: dict[tuple[int, int], concurrent.futures.Future[Any]] = {}
        # Threads of their own, for JAX runs what one thread gives to one CPU device in that order.
        self._executor = concurrent.futures.ThreadPoolExecutor(min(len(seeds), os.cpu_count() or 1), "order")

    def batches(
        self, first: int, count: int
    ) -> tuple[Int[np.ndarray, "seeds steps batch"], Int[np.ndarray, "seeds steps"]]:
        """Indices and buckets of the batches of steps ``first`` to ``first + count - 1`` of each seed."""
        for seed in self.seeds:  # side by side
            self._drawing(seed, first // self.period)
        drawn = [self._of_seed(seed, np.arange(first, first + count, dtype=np.int32)) for seed in self.seeds]
        return np.stack([indices for indices, _ in drawn]), np.stack([buckets for _, buckets in drawn])

    def _of_seed(self, seed: int, steps: Int[np.ndarray, " steps"]) -> tuple[np.ndarray, np.ndarray]:
        epochs = steps // self.period
        parts = []
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            with jax.default_device(jax.local_devices(backend="cpu")[0]):
                # The indices of all steps at once, so that one program serves; those of other epochs are dropped.
                found = jax.device_get(self._batches(self._order(seed, epoch), np.uint32(seed), steps))
            parts.append(jax.tree.map(lambda leaf, epoch=epoch: leaf[epochs == epoch], found))
        if 2 * (int(steps[-1]) % self.period) >= self.period:
            self._drawing(seed, int(epochs[-1]) + 1)
        indices, buckets = (np.concatenate(each) for each in zip(*parts, strict=True))
        return indices, buckets.astype(np.int32)

    def _order(self, seed: int, epoch: int) -> Any:
        order = self._drawing(seed, epoch).result()
        with self._lock:
            for past in [key for key in self._orders if key[0] == seed and key[1] < epoch - 1]:
                del self._orders[past]
        return order

    def _drawing(self, seed: int, epoch: int) -> "concurrent.futures.Future[Any]":
        """The order of an epoch, drawn or being drawn."""

        def draw() -> Any:
            with jax.default_device(jax.local_devices(backend="cpu")[0]):
                return jax.block_until_ready(self._epoch(np.uint32(seed), np.int32(epoch * self.period)))

        with self._lock:
            if (seed, epoch) not in self._orders:
                self._orders[seed, epoch] = self._executor.submit(draw)
            return self._orders[seed, epoch]


def _key(seed: Any) -> Any:
    return randomness.stream(randomness.root(seed), "order")


def _repeated(rows: Arrays, count: int) -> Arrays:
    """One row as many, which take no memory."""
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count, *leaf.shape[1:])), rows)


@dataclasses.dataclass
class TrainingChunks:
    """From the number of a chunk to its rows, for training. Travels to a worker process without its data.

    Attributes:
        sampler: that draws and fetches.
        arrays: of the training split.
        seeds: of the streams; trials of equal seed share one.
        batch_size: items in a batch, those of all hosts together.
        size: batches in a chunk.
        share: the part of each batch that is read here.
    """

    sampler: StreamedSampler
    arrays: Arrays
    seeds: tuple[int, ...]
    batch_size: int
    size: int
    share: Share = ALL

    def __post_init__(self) -> None:
        self._draws: Draws | None = None
        self._lock = threading.Lock()

    @property
    def streams(self) -> int:
        """How many batches a step has: one of each seed."""
        return len(self.seeds)

    def example(self) -> Arrays:
        """The rows of one batch of nothing but the first item."""
        return _repeated(self.sampler.fetch(self.arrays, np.zeros(1, np.int32)), self.batch_size // self.share.count)

    def __call__(self, chunk: int) -> Rows:
        """The rows of the steps from ``chunk * size`` on."""
        with self._lock:
            if self._draws is None:
                self._draws = Draws(self.sampler, self.arrays, self.seeds, self.batch_size)
        indices, buckets = self._draws.batches(int(chunk) * self.size, self.size)
        mine = self.share.of(indices)
        rows = self.sampler.fetch(self.arrays, mine.reshape(-1))
        return Rows(jax.tree.map(lambda leaf: leaf.reshape(*mine.shape, *leaf.shape[1:]), rows), buckets)

    def __getstate__(self) -> dict[str, Any]:
        state = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return state | {"arrays": jax.tree.map(_by_file, dict(self.arrays))}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        is_file = {"is_leaf": lambda leaf: isinstance(leaf, _Mapped)}
        arrays = jax.tree.map(
            lambda leaf: leaf.open() if isinstance(leaf, _Mapped) else leaf, state["arrays"], **is_file
        )
        self.__dict__.update({**state, "arrays": arrays})
        self.__post_init__()


@dataclasses.dataclass
class EvaluationChunks:
    """From the number of a chunk to its rows, for an evaluation, which goes through a split in its order.

    Attributes:
        sampler: that fetches.
        arrays: of the split.
        batch_size: items in a batch.
        size: batches in a chunk.
    """

    sampler: StreamedSampler
    arrays: Arrays
    batch_size: int
    size: int

    def __post_init__(self) -> None:
        sampler, arrays = self.sampler, self.arrays
        self._buckets = None
        if isinstance(sampler, BucketedSampler):
            self._buckets = jax.jit(jax.vmap(lambda positions: sampler.evaluation_bucket(arrays, positions)))

    streams = 1

    def example(self) -> Arrays:
        """The rows of one batch of nothing but the first item."""
        return _repeated(self.sampler.fetch_evaluation(self.arrays, np.zeros(1, np.int32)), self.batch_size)

    def __call__(self, chunk: int) -> Rows:
        """The rows of the batches from ``chunk * size`` on; past the end of the split they weigh 0."""
        shape = (self.size, self.batch_size)
        positions = int(chunk) * self.size * self.batch_size + np.arange(self.size * self.batch_size)
        rows = self.sampler.fetch_evaluation(self.arrays, positions)
        buckets = np.zeros((1, self.size), np.int32)
        if self._buckets is not None:
            with jax.default_device(jax.local_devices(backend="cpu")[0]):
                buckets[0] = self._buckets(jnp.asarray(positions.reshape(shape), jnp.int32))
        return Rows(jax.tree.map(lambda leaf: leaf.reshape(1, *shape, *leaf.shape[1:]), rows), buckets)


@dataclasses.dataclass(frozen=True)
class _Mapped:
    """A memory-mapped array by its place in its file, for another process to map it, too."""

    path: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]

    def open(self) -> np.memmap:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def is_mapped(array: Any) -> bool:
    """Whether an array is a memory-mapped file, or a part of one without gaps."""
    is_file = isinstance(array, np.memmap) and getattr(array, "_mmap", None) is not None
    return is_file and array.flags.c_contiguous


def _by_file(array: Any) -> Any:
    """What to send to another process for an array: where it lies, or itself."""
    if not is_mapped(array):
        return array
    # A slice keeps the offset of the whole array: the place is told by the addresses. A map begins at a whole page.
    begin = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    inside = array.ctypes.data - np.frombuffer(array._mmap, np.uint8).ctypes.data
    return _Mapped(str(array.filename), array.dtype, begin + inside, array.shape)


def _only_cpu(*_: int) -> None:
    """Keep a worker process off the accelerator, which the training process holds."""
    jax.config.update("jax_platforms", "cpu")


def read(
    chunks: TrainingChunks | EvaluationChunks, first: int, last: int, *, workers: int = 0
) -> tuple[Iterator[Rows], Any]:
    """The chunks from ``first`` to ``last - 1``, read ahead by Grain; and what ends the reading, called once.

    Args:
        chunks: what to read.
        first: the chunk to begin with.
        last: the chunk to end before.
        workers: processes that read; 0 for threads of this one.
    """
    import grain  # an optional dependency, and slow to import

    batches = grain.MapDataset.range(first, last).map(chunks)
    if workers:
        # Grain looks at flags of its own, which are unparsed where Paribus is called from Python.
        flags = sys.modules["absl.flags"].FLAGS
        for name in flags:
            if name.startswith("grain_"):
                flags[name].present = 1
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        data = batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        data = data.mp_prefetch(options, worker_init_fn=_only_cpu)
    else:
        data = batches.to_iter_dataset(grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD))
    iterator = iter(data)
    return iterator, iterator.close
