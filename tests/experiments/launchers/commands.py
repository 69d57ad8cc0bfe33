"""The studies that the tests of real clusters run, by commands as a person would, and what these leave behind."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[3]

STUDY = (
    "--experiment=random_labels",
    "--preset=smoke",
    "--config.execution.checkpoint_seconds=1",
    "--config.execution.strategy=sequential",
    "--config.execution.spread=false",
)
LONG = (
    *STUDY,
    "--arms=",
    "--config.model.width=64",
    "--config.training.steps=60000",
    "--config.training.evaluate_every=1000",
)
"""One pack, which trains for a quarter of a minute or so."""


def command(workdir: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "experiments", f"--workdir={workdir}", *flags]


def run(workdir: Path, *flags: str, environment: Mapping[str, str] | None = None, status: int = 0) -> str:
    """Run a command; what it says on standard error, in one line."""
    with started(workdir, *flags, environment=environment) as head:
        return said(head, status)


@contextlib.contextmanager
def started(workdir: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A head in the background, which does not outlive the test."""
    head = subprocess.Popen(
        command(workdir, *flags),
        cwd=ROOT,
        env=environment or os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield head
    finally:
        if head.poll() is None:
            head.kill()
        head.communicate()


@contextlib.contextmanager
def begun(workdir: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A head in the background with the long study, whose pack has saved a checkpoint."""
    with started(workdir, *LONG, *flags, environment=environment) as head:
        wait_for(lambda: has_checkpoint(workdir) or head.poll() is not None)
        assert has_checkpoint(workdir), head.communicate()[1][-3000:]
        yield head


def said(head: subprocess.Popen, status: int) -> str:
    """What a head says on standard error, in one line, until it ends with this status."""
    _, errors = head.communicate(timeout=240)
    assert head.returncode == status, errors[-3000:]
    return " ".join(errors.split())


def wait_for(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    """What the condition gives, once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.25)
    raise AssertionError("it did not happen")


def results(workdir: Path) -> pd.DataFrame:
    table = pd.read_csv(workdir / "random_labels" / "trials.csv").set_index("trial").sort_index()
    assert set(table["status"]) == {"ok"}
    return table[["steps", "train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy"]]


def assert_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Bit for bit."""
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def has_checkpoint(workdir: Path) -> bool:
    return any(path.is_dir() and path.name.isdigit() for path in workdir.glob("random_labels/packs/*/checkpoints/*/*"))


def worker_of(workdir: Path) -> int | None:
    """The process that works on the only pack: it holds the lock; None while none does."""
    (lock,) = workdir.glob("random_labels/packs/*/.lock")
    inode = str(lock.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] != "->" and fields[5].rpartition(":")[2] == inode:
            return int(fields[4])
    return None
