"""Preparation: populations are made and compiled, each while the one before it runs."""

import concurrent.futures
import time
from collections.abc import Callable, Sequence

from train.config import Trial
from train.population import Population


class Preparation:
    """Makes populations in a thread of its own; XLA compiles without Python's lock.

    Args:
        make: a population of trials that belong together.

    Attributes:
        seconds: for which :meth:`take` had to wait.
    """

    def __init__(self, make: Callable[[Sequence[Trial]], Population]) -> None:
        self.seconds = 0.0
        self._make = make
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "preparation")
        self._ahead: tuple[Sequence[Trial], concurrent.futures.Future[Population]] | None = None

    def take(self, trials: Sequence[Trial], following: Sequence[Trial] | None) -> Population:
        """A compiled population of these trials.

        Args:
            trials: of one population.
            following: the trials that will be taken next, if there are any; their population is begun.

        Raises:
            Exception: whatever went wrong in making it.
        """
        begin = time.perf_counter()
        ahead, self._ahead = self._ahead, None
        try:
            found = ahead[1] if ahead and ahead[0] == trials else self._thread.submit(self._prepared, trials)
            return found.result()
        finally:
            self.seconds += time.perf_counter() - begin
            if following is not None:
                self._ahead = following, self._thread.submit(self._prepared, following)

    def _prepared(self, trials: Sequence[Trial]) -> Population:
        population = self._make(trials)
        population.compile()
        return population

    def close(self) -> None:
        """Prepare nothing more. What is being compiled cannot be broken off; nobody waits for it."""
        self._thread.shutdown(wait=False, cancel_futures=True)
