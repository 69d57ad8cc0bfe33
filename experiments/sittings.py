"""Sittings: how long a study ran each time, and what the time went into; a row each in ``sittings.csv``."""

import logging
import os
import time
from collections.abc import Mapping
from types import TracebackType

from experiments.progress import clock
from train.folder import SPENT
from train.records import Table

logger = logging.getLogger("paribus")


class Sitting:
    """One stretch of work, recorded when it ends, also when it is broken off; not when the disk cannot be written to.

    Args:
        table: ``sittings.csv``.
        tuning: whether tuning trials run.
    """

    def __init__(self, table: Table, *, tuning: bool) -> None:
        self.table, self.tuning = table, tuning
        self.finished = 0
        self.spent: dict[str, float] = dict.fromkeys(SPENT, 0.0)
        self.ideal = 0.0

    def __enter__(self) -> "Sitting":
        self._began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._begin, self._worked = time.perf_counter(), time.process_time()
        return self

    def add(self, trials: int, spent: Mapping[str, float]) -> None:
        """So many trials have come to their end; ``spent`` are seconds by what they went into, and the ideal ones."""
        self.ideal += spent.get("ideal", 0.0)
        self.finished += trials
        self.spent = {kind: seconds + spent.get(kind, 0.0) for kind, seconds in self.spent.items()}

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        total, worked = time.perf_counter() - self._begin, time.process_time() - self._worked
        parts = {**self.spent, "idle": total - sum(self.spent.values())}
        if self.finished and error is None:
            shown = {name: seconds for name, seconds in parts.items() if seconds or name != "diagnose"}
            shares = ", ".join(f"{name} {seconds:.1f} s ({seconds / total:.0%})" for name, seconds in shown.items())
            logger.info("ran for %s: %s", clock(total), shares)
            if self.ideal:
                said = "%.2f times the %.1f s of its steps at their fastest; %.2f of %d cores busy"
                logger.info(said, total / self.ideal, self.ideal, worked / total, os.cpu_count())
        if not isinstance(error, OSError) and (self.finished or error is not None):
            numbers = {name: round(seconds, 3) for name, seconds in {"seconds": total, **parts}.items()}
            numbers |= {"ideal": round(self.ideal, 3), "cpu_seconds": round(worked, 3)}
            head = {"began": self._began, "tuning": self.tuning, "trials": self.finished, "cores": os.cpu_count()}
            self.table.append([{**head, **numbers}])
