"""What a process sets up before jax runs anything: devices, memory allocator, compilation cache."""

import ctypes
import logging
import os
import stat
import sys
from pathlib import Path

import jax

from models.base import BadInput
from train import processes

logger = logging.getLogger("paribus")

_MALLOPT = ((-4, 0), (-1, 2**31 - 1), (-2, 256 * 2**20), (-8, 1))
"""M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX: keep freed memory instead of returning it.
XLA on a CPU allocates its temporaries in every call; without this a small Transformer's step spends
a third of its time in page faults."""


DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
"""XLA's flag that "guarantees run-to-run determinism on GPU": it leaves out operations that have only a
nondeterministic form, and the choice among kernels by measurement."""


def prepare(*, deterministic: bool = False, mesh: int = 1) -> None:
    """Set up this process; call it before the first array is made. Does no harm when called again.

    Args:
        deterministic: a GPU is to compute the same bits in every run.
        mesh: devices that are wanted at least; a CPU's are then virtual where it has fewer cores.

    Raises:
        BadInput: jax runs already without being deterministic, or the user's ``XLA_FLAGS`` forbid it.
    """
    _keep_freed_memory()
    runs = False
    try:
        gang = processes.count()
        jax.config.update("jax_num_cpu_devices", -(-mesh // gang) if gang > 1 else max(cores(), mesh))
    except RuntimeError:
        logger.debug("jax is running already; its devices stay as they are")
        runs = True
    if deterministic:
        _be_deterministic(runs)
    _cache_compilations()
    if deterministic and jax.default_backend() == "cpu":
        logger.info("--deterministic: nothing is needed on a CPU, which computes the same bits in every run anyway")


def cores() -> int:
    """How many of the processor's cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _be_deterministic(runs: bool) -> None:
    """Add the flag to ``XLA_FLAGS``, which the records show; jaxlib reads it once, when it starts.

    Args:
        runs: whether jax runs already.

    Raises:
        BadInput: it is too late, or the user's own flags do not allow it.
    """
    name = DETERMINISTIC.partition("=")[0]
    given = os.environ.get("XLA_FLAGS", "").split()
    if given and not given[0].startswith("-"):
        raise BadInput(f"XLA_FLAGS={given[0]!r} is a file; write {DETERMINISTIC} into it in place of --deterministic")
    own = [flag for flag in given if flag.partition("=")[0] == name]
    if own and own[-1].partition("=")[2].lower() not in ("", "true", "1"):
        raise BadInput(f"--deterministic contradicts XLA_FLAGS={own[-1]}; leave one of the two out")
    if not own:
        if runs:
            raise BadInput("--deterministic comes too late: jax runs already; start a new process")
        os.environ["XLA_FLAGS"] = " ".join([*given, DETERMINISTIC])


def _keep_freed_memory() -> None:
    """Tune glibc's allocator; other C libraries are left alone."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for parameter, value in _MALLOPT:
            library.mallopt(parameter, value)


def cache_folder() -> Path:
    """The user's cache folder for this package: ``$XDG_CACHE_HOME/paribus``, else ``~/.cache/paribus``."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "paribus"


def _cache_compilations() -> None:
    """Keep compiled programs for the next run, in a folder that nobody else can write to."""
    if getattr(jax.config, "jax_compilation_cache_dir", None):
        return
    folder = cache_folder() / "programs"
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for private in (folder.parent, folder):
            private.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        logger.warning("no compilation cache: %s", error)
        return
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BadInput(f"{folder} can be written by others, so it cannot hold programs; run chmod go-w on it")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
