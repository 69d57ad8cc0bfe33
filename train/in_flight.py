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
    then: Callable[[Any], None]


class InFlight:
    """Keeps what was dispatched in order, and tells how long each piece took.

    Args:
        finished: called for each piece with its kind, the seconds that the devices spent on it, and its steps.

    Attributes:
        ready: the time at which the devices had finished what was waited for last.
    """

    def __init__(self, finished: Callable[[str, float, int], None]) -> None:
        self.ready = time.perf_counter()
        self._finished = finished
        self._work: collections.deque[_Work] = collections.deque()

    def submit(self, kind: str, dispatched: float, steps: int, marker: Any, then: Callable[[Any], None]) -> None:
        """Note work that the devices were given at time ``dispatched``, and what to do once it is done."""
        self._work.append(_Work(kind, dispatched, steps, marker, then))
        # A CPU may have done it before the dispatch returned; its time must not count as the next one's.
        while self._work and all(leaf.is_ready() for leaf in jax.tree.leaves(self._work[0].marker)):
            self.wait(leave=len(self._work) - 1)

    def wait(self, *, leave: int) -> None:
        """Wait for dispatched work, oldest first, until only ``leave`` pieces are in flight."""
        while len(self._work) > leave:
            kind, dispatched, steps, marker, then = self._work.popleft()
            jax.block_until_ready(marker)
            now = time.perf_counter()
            spent = now - max(self.ready, dispatched)
            self.ready = now
            self._finished(kind, spent, steps)
            then(marker)
