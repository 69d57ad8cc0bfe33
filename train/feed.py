"""What feeds a population with a streamed split: chunks on the device, the next one read while it computes.

A chunk is the rows of as many batches as fit into :data:`CHUNK_BYTES`, of every stream. Its number of batches is
fixed, so that one compiled program takes every chunk; which of them are gone through is an argument.
"""

import concurrent.futures
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from train.data import streaming
from train.data.streaming import EvaluationChunks, Rows, TrainingChunks
from train.data.task import Arrays, StreamedSampler
from train.meshes import Layout, put

CHUNK_BYTES = 32 * 2**20
"""Memory of a chunk, unless a single batch takes more. About five are alive: in use, next, ready, being read."""

MOST_BATCHES = 256
"""Batches in a chunk at the most: more would save no time, and the first one would come later."""


class Chunk(NamedTuple):
    """Rows on the device, in place of a split's arrays.

    Attributes:
        rows: what the sampler fetched, each array [streams, batches, batch, ...].
        buckets: int32 [streams, batches].
        first: number of its first batch.
    """

    rows: Any
    buckets: Any
    first: Any


class Feed:
    """The chunks of a split, in order; double-buffered.

    While one chunk is in use the next one is read and brought to the device by a thread.

    Args:
        chunks: that reads them.
        batches: how many there are in all.
        layout: of the population: each device has the rows of its own part of a batch.
        workers: processes that read; 0 for threads.
    """

    def __init__(
        self, chunks: TrainingChunks | EvaluationChunks, batches: int, layout: Layout, workers: int = 0
    ) -> None:
        self.chunks = chunks
        self.batches = batches
        self._layout, self._workers = layout, workers
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "feed")
        self._close: Callable[[], None] | None = None
        self._iterator: Iterator[Rows] | None = None
        self._chunk: tuple[int, Chunk] | None = None
        self._next: tuple[int, concurrent.futures.Future[Chunk]] | None = None

    @property
    def size(self) -> int:
        """Batches in a chunk."""
        return self.chunks.size

    def shape(self) -> Chunk:
        """What a chunk looks like, without its content."""
        lead = (self.chunks.streams, self.size)

        def struct(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype)

        rows = jax.tree.map(lambda leaf: struct((*lead, *leaf.shape), leaf.dtype), self.chunks.example())
        chunk = Chunk(rows, struct(lead, np.int32), struct((), np.int32))
        return jax.tree.map(lambda leaf, place: leaf.update(sharding=place), chunk, self._places(chunk))

    def begin(self, batch: int) -> None:
        """Start to read the chunk with this batch, unless it is there or on its way."""
        number = batch // self.size
        if number in (self._chunk and self._chunk[0], self._next and self._next[0]):
            return
        self._stop()
        self._next = number, self._executor.submit(self._opened, number)

    def is_ready(self, batch: int) -> bool:
        """Whether :meth:`chunk` would return at once."""
        number = batch // self.size
        if self._chunk is not None and self._chunk[0] == number:
            return True
        return self._next is not None and self._next[0] == number and self._next[1].done()

    def chunk(self, batch: int) -> Chunk:
        """The chunk with this batch; waits for it where it is not ready.

        Raises:
            BadInput: the data are not what they were said to be.
        """
        number = batch // self.size
        self.begin(batch)
        if self._chunk is None or self._chunk[0] != number:
            assert self._next is not None
            self._chunk = number, self._next[1].result()
            self._next = None
            if (number + 1) * self.size < self.batches:
                self._next = number + 1, self._executor.submit(self._read, number + 1)
        return self._chunk[1]

    def close(self) -> None:
        """End the threads and processes that read."""
        self._stop()
        self._executor.shutdown()

    def example(self) -> Chunk:
        """A chunk that holds one batch of nothing but the first item, from which a model takes its shapes."""
        rows = jax.tree.map(lambda leaf: leaf[None, None], self.chunks.example())
        chunk = Chunk(rows, np.zeros((1, 1), np.int32), np.int32(0))
        return put(chunk, self._places(chunk))

    def _opened(self, number: int) -> Chunk:
        """The first chunk of a stream that begins with it."""
        last = -(-self.batches // self.size)
        self._iterator, self._close = streaming.read(self.chunks, number, max(last, number + 1), workers=self._workers)
        return self._read(number)

    def _read(self, number: int) -> Chunk:
        """The next chunk of the stream, on the device."""
        assert self._iterator is not None
        found = next(self._iterator)
        chunk = Chunk(found.rows, found.buckets, np.int32(number * self.size))
        return jax.block_until_ready(put(chunk, self._places(chunk)))

    def _places(self, chunk: Chunk) -> Chunk:
        """Where each of its arrays lies."""
        rows = jax.tree.map(lambda leaf: self._layout.rows(leaf.shape[2]), chunk.rows)
        return Chunk(rows, self._layout.whole, self._layout.whole)

    def _stop(self) -> None:
        if self._next is not None and not self._next[1].cancel():
            concurrent.futures.wait([self._next[1]])
        if self._close is not None:
            self._close()
        self._chunk = self._next = self._iterator = self._close = None


def training_feed(
    sampler: StreamedSampler, arrays: Arrays, seeds: tuple[int, ...], *, batch_size: int, steps: int, **options: Any
) -> Feed:
    """The feed of a training split: ``steps`` batches of every seed."""
    row = sampler.fetch(arrays, np.zeros(1, np.int32))
    most = min(steps, sampler.epoch_steps(arrays, batch_size=batch_size))
    size = _batches(len(seeds) * batch_size * streaming.nbytes(row), most)
    return Feed(TrainingChunks(sampler, arrays, seeds, batch_size, size), steps, **options)


def evaluation_feed(sampler: StreamedSampler, arrays: Arrays, *, batch_size: int, **options: Any) -> Feed:
    """The feed of a split that is evaluated, item by item in order, in batches of ``batch_size``."""
    batches = -(-sampler.evaluation_size(arrays) // batch_size)
    row = sampler.fetch_evaluation(arrays, np.zeros(1, np.int32))
    size = _batches(batch_size * streaming.nbytes(row), batches)
    return Feed(EvaluationChunks(sampler, arrays, batch_size, size), batches, **options)


def _batches(bytes_each: int, most: int) -> int:
    """How many batches a chunk holds."""
    return max(1, min(most, MOST_BATCHES, CHUNK_BYTES // max(bytes_each, 1)))
