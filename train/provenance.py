"""What made a number: code, packages, device, flags."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import jax

PACKAGES = {
    "jax": "jax",
    "jaxlib": "jaxlib",
    "flax": "flax",
    "optax": "optax",
    "orbax": "orbax-checkpoint",
    "numpy": "numpy",
    "llvmlite": "llvmlite",
}

COLUMNS = ("code_version", "code_dirty", "python", *PACKAGES, "device", "xla_flags")
"""The columns that :func:`collect` fills, the same in every record."""


def _git(*arguments: str) -> str | None:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def code_version() -> tuple[str, str]:
    """The commit of the code and whether the tree has changes: ``("3f2a...", "false")``.

    Outside a git checkout, the version of the installed package and ``unknown``.
    """
    commit = _git("rev-parse", "HEAD")
    if not commit:
        try:
            return importlib.metadata.version("paribus"), "unknown"
        except importlib.metadata.PackageNotFoundError:
            return "unknown", "unknown"
    return commit, "true" if _git("status", "--porcelain") else "false"


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # models/layers/native.py does without llvmlite
        return "absent"


@functools.cache
def collect() -> dict[str, str]:
    """The provenance of whatever this process computes, by column."""
    version, dirty = code_version()
    device = jax.devices()[0]
    return {
        "code_version": version,
        "code_dirty": dirty,
        "python": platform.python_version(),
        **{column: _installed(package) for column, package in PACKAGES.items()},
        "device": f"{device.platform}: {device.device_kind} ({platform.machine()}, {os.cpu_count()} cores)",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
