"""Progress of a study: what, how far, how fast, how long still; on a terminal or in a log file."""

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

logger = logging.getLogger("paribus")

LOG_EVERY_SECONDS = 10.0
WINDOW_SECONDS = 2.0


def clock(seconds: float) -> str:
    """A duration as ``1:23`` or ``1:02:03``."""
    hours, rest = divmod(int(seconds + 0.5), 3600)
    minutes, seconds_left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"


@runtime_checkable
class Meter(Protocol):
    """What counts the work of trials, in floating-point operations."""

    def begin(self, what: str, flops_per_step: float) -> None:
        """The work that follows is ``what``, with so many operations a step."""

    def skip(self, flops: float) -> None:
        """Work that an earlier run has done."""

    def advance(self, steps: int) -> None:
        """So many trial-steps have been done."""


class StudyProgress:
    """Counts work in floating-point operations, since a step of one arm may cost ten of another's.

    Args:
        total: operations of all trials of the study.
        console: where to draw; a log line every ten seconds where it is no terminal.
    """

    def __init__(self, total: float, console: Console) -> None:
        self._total, self._done = total, 0.0
        self._weight = 1.0
        self._what = ""
        self._begin = self._logged = time.perf_counter()
        self._worked, self._work_seconds = 0.0, 0.0
        self._last = self._begin
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._parts: dict[str, TaskID] = {}
        self._task = self._bar.add_task("", total=total or 1.0, left="")

    def __enter__(self) -> "StudyProgress":
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def begin(self, what: str, flops_per_step: float) -> None:
        """The work that follows is ``what``, with so many operations a step."""
        self._what, self._weight = what, flops_per_step
        self._last = time.perf_counter()
        self._bar.update(self._task, description=what)

    def skip(self, flops: float) -> None:
        """Work that an earlier run has done."""
        self._done += flops
        self._bar.update(self._task, completed=self._done)

    def advance(self, steps: int) -> None:
        """So many trial-steps have been done."""
        now = time.perf_counter()
        flops = steps * self._weight
        self._done += flops
        self._worked += flops
        self._work_seconds += now - self._last
        self._last = now
        left = self.seconds_left()
        text = f"{clock(left)} left" if left is not None else ""
        self._bar.update(self._task, completed=self._done, left=text)
        if self._bar.disable and now - self._logged >= LOG_EVERY_SECONDS:
            self._logged = now
            share = 100 * self._done / self._total if self._total else 100.0
            logger.info("%s: %.0f%% of the study, %s elapsed, %s", self._what, share, clock(now - self._begin), text)

    def parts(self, shown: Mapping[str, tuple[str, float]]) -> None:
        """Show a line for each part of the work that others do: by its name, what to say of it and its share done."""
        for name in self._parts.keys() - shown.keys():
            self._bar.remove_task(self._parts.pop(name))
        for name, (text, share) in shown.items():
            if name not in self._parts:
                self._parts[name] = self._bar.add_task("", total=1.0, left="")
            self._bar.update(self._parts[name], description=text, completed=share)

    def seconds_left(self) -> float | None:
        """Estimate from the speed so far; None while there is none."""
        if self._work_seconds < WINDOW_SECONDS or not self._worked:
            return None
        return max(self._total - self._done, 0.0) * self._work_seconds / self._worked
