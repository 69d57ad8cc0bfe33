"""Preparation: populations are made and compiled, each while the one before it runs."""

import concurrent.futures
import time
from collections.abc import Callable

from train.population import Population
from train.resumption import Group


class Preparation:
    """Makes populations in a thread of its own; XLA compiles without Python's lock.

    Args:
        make: the population of a group, compiled.

    Attributes:
        seconds: for which :meth:`take` had to wait.
    """

    def __init__(self, make: Callable[[Group], Population]) -> None:
        self.seconds = 0.0
        self._make = make
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "preparation")
        self._ahead: tuple[Group, concurrent.futures.Future[Population]] | None = None

    def take(self, members: Group, following: Group | None) -> Population:
        """The compiled population of this group.

        Args:
            members: whose it is.
            following: the group that will be taken next, if there is one; its population is begun.

        Raises:
            Exception: whatever went wrong in making it.
        """
        begin = time.perf_counter()
        ahead, self._ahead = self._ahead, None
        try:
            found = ahead[1] if ahead and ahead[0] == members else self._thread.submit(self._make, members)
            return found.result()
        finally:
            self.seconds += time.perf_counter() - begin
            if following is not None:
                self._ahead = following, self._thread.submit(self._make, following)

    def close(self) -> None:
        """Prepare nothing more. What is being compiled cannot be broken off; nobody waits for it."""
        self._thread.shutdown(wait=False, cancel_futures=True)
