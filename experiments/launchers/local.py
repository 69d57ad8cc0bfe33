"""Runs a study's trials in this process."""

from pathlib import Path

import filelock

from experiments.launchers import packs
from experiments.launchers.request import Request
from experiments.populations import run_populations
from models.base import BadInput
from train.folder import Files


class Local:
    """Runs trials here, after taking over what packs have left of them.

    Args:
        folder: of the study.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, asked: Request) -> int:
        """See :func:`experiments.populations.run_populations`.

        Raises:
            BadInput: as there, or another machine runs a pack of this study.
            Interrupted: a stop was asked for.
        """
        for pack in packs.all_of(self.folder):
            if (pack.judging is None) == (asked.judging is None):
                _take_over(pack, asked.files)
        trials, tasks, expected, files, progress, watch, judging, chosen = asked
        choosing = None if judging is None else judging.choosing(files.curves.rows)
        return run_populations(trials, tasks, expected, files, progress, watch, choosing, chosen)

    def close(self) -> None:
        """Nothing is left open."""


def _take_over(pack: packs.Pack, files: Files) -> None:
    """Collect a pack, done or not, that no process works on."""
    lock = filelock.FileLock(pack.folder / packs.LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise BadInput(
            f"a pack of this study is running elsewhere ({pack.folder}); attach with the --launcher that began it, or "
            "end it first"
        ) from None
    try:
        packs.collect(pack, files)
    finally:
        lock.release()
