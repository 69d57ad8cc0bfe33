"""The splits of a population's data: they lie on its devices, or are streamed to them."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from train.config import Config
from train.data.streaming import streams
from train.data.task import Arrays, Task
from train.feed import Chunk, Feed, evaluation_feed, training_feed
from train.meshes import Layout, put

CACHED_ITEMS = 64
"""Most items in a batch of an evaluation on a CPU: with more, activations fall out of its caches (a Transformer's
evaluation takes 1.4 times as long with 250, an MLP's a sixth longer with 64)."""


class Splits:
    """What trains and evaluates a population.

    Args:
        task: the data.
        config: of the population.
        layout: of the population.
        seeds: the different seeds of the trials, each once: those of equal seed share their batches.
        batch_size: items in a step.

    Attributes:
        resident: arrays that lie on the devices, by split.
        feed: what streams the training split; None where it lies on the devices.
        idle_seconds: for which the devices had to wait for the data of an evaluation.
    """

    def __init__(self, task: Task, config: Config, layout: Layout, *, seeds: tuple[int, ...], batch_size: int) -> None:
        self.task, self.config, self._layout, self._batch_size = task, config, layout, batch_size
        self.resident: dict[str, Any] = {}
        self.idle_seconds = 0.0
        self._requested: dict[str, Feed] = {}
        self.feed: Feed | None = None
        sampler: Any = task.sampler
        if self._is_streamed(task.train.arrays):
            options: dict[str, Any] = {"layout": layout, "workers": config.execution.input_workers}
            steps = config.training.steps
            self.feed = training_feed(sampler, task.train.arrays, seeds, batch_size=batch_size, steps=steps, **options)
        else:
            self.resident["train"] = put(dict(task.train.arrays), self._layout.whole)

    def _is_streamed(self, arrays: Arrays) -> bool:
        return streams(arrays, self.task.sampler, self.config.execution.stream_above_gib)

    def example(self) -> Arrays | Chunk:
        """What a model takes its shapes from."""
        return self.feed.example() if self.feed else self.resident["train"]

    def training_shape(self) -> Arrays | Chunk:
        """What :meth:`training` gives, or what it looks like."""
        return self.feed.shape() if self.feed else self.resident["train"]

    def training(self, step: int) -> Arrays | Chunk:
        """The data of this step, and of those up to :meth:`reach`."""
        return self.feed.chunk(step) if self.feed else self.resident["train"]

    def reach(self, step: int) -> int:
        """The step up to which training goes on from ``step`` without more data."""
        return (step // self.feed.size + 1) * self.feed.size if self.feed else self.config.training.steps

    def has_input(self, step: int) -> bool:
        """Whether the data of this step are on the devices. Where they are not, they are asked for."""
        if self.feed is None or step >= self.config.training.steps:
            return True
        self.feed.begin(step)
        return self.feed.is_ready(step)

    def request(self, split: str, arrays: Arrays) -> bool:
        """Bring a split to the devices, or begin to read it where it is streamed. Whether an evaluation can begin."""
        if split in self.resident:
            return True
        if split not in self._requested:
            if not self._is_streamed(arrays):
                self.resident[split] = put(dict(arrays), self._layout.whole)
                return True
            sampler: Any = self.task.sampler
            size = self.evaluation_batch(arrays)
            self._requested[split] = evaluation_feed(sampler, arrays, batch_size=size, layout=self._layout)
            self._requested[split].begin(0)
        return self._requested[split].is_ready(0)

    def evaluation_batch(self, arrays: Arrays) -> int:
        """Items in a batch of an evaluation: at most as many as configured, so that the last one is about full.

        As many as a training batch has where that is hardly more: machine code is then made once for both.
        """
        size, items = self.config.training.evaluation_batch_size, self.task.sampler.evaluation_size(arrays)
        if jax.default_backend() == "cpu" and not self._layout.is_partitioned:
            size = min(size, CACHED_ITEMS)
        batches = math.ceil(items / size)
        least = -(-math.ceil(items / batches) // self._layout.parts) * self._layout.parts
        is_near = least <= self._batch_size <= min(size, least + least // 16)
        return self._batch_size if is_near and self._batch_size % self._layout.parts == 0 else least

    def unopened_shape(self, shapes: Mapping[str, Any]) -> Arrays | None:
        """What :meth:`evaluation` will give of a split of such arrays; None where it will be streamed."""
        if self._is_streamed(shapes):
            return None
        return jax.tree.map(lambda leaf: leaf.update(sharding=self._layout.whole), dict(shapes))

    def evaluation_shape(self, split: str, arrays: Arrays) -> Arrays | Chunk:
        """What :meth:`evaluation` gives, or what it looks like."""
        self.request(split, arrays)
        return self.resident[split] if split in self.resident else self._requested[split].shape()

    def evaluation(self, split: str, arrays: Arrays, busy: Any) -> Iterator[tuple[Arrays | Chunk, int, int]]:
        """The data of an evaluation and which batches to take of them, part after part.

        ``idle_seconds`` grows by the time for which the devices wait.

        Args:
            split: its name.
            arrays: of the split.
            busy: called for what the devices still have to do; they do not wait for data before it is done.
        """
        self.request(split, arrays)
        batches = math.ceil(self.task.sampler.evaluation_size(arrays) / self.evaluation_batch(arrays))
        if split in self.resident:
            yield self.resident[split], 0, batches
            return
        feed = self._requested.pop(split)
        try:
            for start in range(0, batches, feed.size):
                if not feed.is_ready(start):
                    jax.block_until_ready(busy())
                    waiting = time.perf_counter()
                    feed.chunk(start)
                    self.idle_seconds += time.perf_counter() - waiting
                yield feed.chunk(start), start, min(start + feed.size, batches)
        finally:
            feed.close()

    def close(self) -> None:
        """End what reads streamed splits; a population that has any cannot go on."""
        for feed in (self.feed, *self._requested.values()):
            if feed is not None:
                feed.close()
