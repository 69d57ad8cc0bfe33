"""A file system of a few MiB, and a user without rights: what a full or forbidden disk is tested with."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def mount(*arguments: str) -> None:
    """Run mount.

    Raises:
        subprocess.CalledProcessError: it is not allowed.
    """
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A folder with a file system of this size (``4m``) in memory; without the right, the test is skipped."""
    folder = Path(tempfile.mkdtemp(prefix="paribus-small-"))
    try:
        try:
            mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"NOT TESTED: a small file system cannot be mounted here ({error}); needs root on Linux")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def forbidden_folder() -> Iterator[Path]:
    """A folder that this process may read and not write to: as the user nobody, where it is root."""
    folder = Path(tempfile.mkdtemp(prefix="paribus-forbidden-"))
    user = os.geteuid()
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        os.seteuid(user)
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)


def lose_rights(folder: Path) -> None:
    """Everything in the folder can be read from now on, and not written."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(65534)
