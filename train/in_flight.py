"""Work that the devices were given and have not been waited for, oldest first."""

import collections
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class _Work(NamedTuple):
    kind: str
    dispatched: float
    steps: int
    marker: Any
    then: Callable[[Any], None] | None


class InFlight:
    """Keeps what was dispatched in order, and tells how long each piece took.

    What the host does with a result, it does while the devices have more to do, wherever that can be.

    Args:
        finished: called for each piece with its kind, the seconds that the devices spent on it, and its steps.

    Attributes:
        ready: the time at which the devices had finished what was waited for last.
    """

    def __init__(self, finished: Callable[[str, float, int], None]) -> None:
        self.ready = time.perf_counter()
        self._finished = finished
        self._work: collections.deque[_Work] = collections.deque()
        self._results: collections.deque[tuple[Callable[[Any], None], Any]] = collections.deque()

    def submit(
        self, kind: str, dispatched: float, steps: int, marker: Any, then: Callable[[Any], None] | None = None
    ) -> None:
        """Note work that the devices were given at time ``dispatched``, and what to do with its result."""
        self._work.append(_Work(kind, dispatched, steps, marker, then))
        # A CPU may have done it before the dispatch returned; its time must not count as the next one's.
        while self._work and all(leaf.is_ready() for leaf in jax.tree.leaves(self._work[0].marker)):
            self._finish()

    def settle(self) -> None:
        """Wait for all work; nothing is done with the results yet."""
        while self._work:
            self._finish()

    def wait(self, *, leave: int) -> None:
        """Wait for dispatched work, oldest first, until only ``leave`` pieces are in flight; treat the results.

        Where nothing is in flight though something may be, the newest result is left for the next time.
        """
        while len(self._work) > leave:
            self._finish()
        left = 1 if leave and not self._work else 0
        while len(self._results) > left:
            then, result = self._results.popleft()
            then(result)

    def _finish(self) -> None:
        kind, dispatched, steps, marker, then = self._work.popleft()
        jax.block_until_ready(marker)
        now = time.perf_counter()
        spent = now - max(self.ready, dispatched)
        self.ready = now
        self._finished(kind, spent, steps)
        if then is not None:
            self._results.append((then, marker))
