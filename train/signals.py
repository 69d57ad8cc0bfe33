"""Stopping in good order: SIGINT and SIGTERM ask for a checkpoint, then the run ends."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger("paribus")


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """While it is entered, SIGTERM raises KeyboardInterrupt, as SIGINT does: for what has nothing to save."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """While it is entered, SIGINT and SIGTERM wait; KeyboardInterrupt is raised at its end if one came.

    For the loading of compiled modules: an exception in the middle of jaxlib's kills the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    old = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt


class Interrupted(Exception):
    """A stop was asked for; everything is saved, and the same command goes on."""


class Stop:
    """While it is entered, ``asked`` turns true once one of some signals arrives.

    A second SIGINT raises KeyboardInterrupt at once instead of waiting for the checkpoint. Outside
    the main thread, where Python lets nobody handle signals, it does nothing.

    Args:
        numbers: the signals; SIGINT and SIGTERM if none is given.
    """

    def __init__(self, *numbers: int) -> None:
        self.asked = False
        self._numbers = numbers or (signal.SIGINT, signal.SIGTERM)
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        logger.warning("stopping: saving a checkpoint first")
