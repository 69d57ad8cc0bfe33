"""Checkpoints: the one adapter to Orbax.

A checkpoint is the states of a population's lanes as named arrays, and a small JSON document with
a digest of them. One that is torn or does not match its digest is passed over for the one before.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from train.parameters import path_name

logger = logging.getLogger("paribus")


class Restored(NamedTuple):
    """A checkpoint that was read back."""

    step: int
    states: Any
    facts: dict[str, Any]


def _named(states: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree by path, on the host."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(states))
    return {path_name(path): np.asarray(leaf) for path, leaf in leaves}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and contents of named arrays."""
    result = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        result.update(f"{name} {array.dtype} {array.shape}\n".encode())
        result.update(array.data if array.size else b"")
    return result.hexdigest()


def _is_of_the_machine(error: Exception) -> bool:
    """Whether reading failed for want of memory or permission, which says nothing about the checkpoint.

    TensorStore reports such errors of the system as ValueError with the name of the status in its text.
    """
    names = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED")
    return isinstance(error, MemoryError | PermissionError) or any(name in str(error) for name in names)


class Checkpoints:
    """The checkpoints of one population, in a folder of their own; the newest two are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False, create=True)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, step: int, states: Any, facts: Mapping[str, Any]) -> None:
        """Write a checkpoint; it is durable when this returns. An existing one of this step stays."""
        if step in self._manager.all_steps():
            return
        arrays = _named(states)
        document = {**facts, "sha256": digest(arrays)}
        self._manager.save(
            step, args=ocp.args.Composite(states=ocp.args.StandardSave(arrays), facts=ocp.args.JsonSave(document))
        )

    def latest(self) -> int:
        """The step of the newest checkpoint, whole or not; 0 where there is none."""
        return max(self._manager.all_steps(), default=0)

    def restore(self, like: Any) -> Restored | None:
        """The newest checkpoint that is whole, or None where there is none.

        Args:
            like: a tree of arrays or shapes that says what the states look like.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._read(step, like)
            except Exception as error:  # whatever a damaged file makes Orbax raise
                if _is_of_the_machine(error):
                    raise
                reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                aside = self._set_aside(step)
                logger.warning(
                    "checkpoint %s/%d is damaged (%s); it is kept as %s; going back to the one before",
                    self.folder,
                    step,
                    reason,
                    aside.name,
                )
        return None

    def _set_aside(self, step: int) -> Path:
        """Move a checkpoint out of Orbax's sight, beside the folder, over one that lies there already."""
        aside = self.folder.with_name(f"{self.folder.name}.damaged-{step}")
        shutil.rmtree(aside, ignore_errors=True)
        (self.folder / str(step)).rename(aside)
        self._manager.reload()
        return aside

    def _read(self, step: int, like: Any) -> Restored:
        leaves, structure = jax.tree_util.tree_flatten_with_path(like)
        wanted = {path_name(path): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in leaves}
        content = self._manager.restore(
            step, args=ocp.args.Composite(states=ocp.args.StandardRestore(), facts=ocp.args.JsonRestore())
        )
        arrays = {name: np.asarray(array) for name, array in content["states"].items()}
        found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        if found != {name: (leaf.shape, leaf.dtype) for name, leaf in wanted.items()}:
            raise ValueError("its arrays are not those of this model and optimizer")
        facts = dict(content["facts"])
        if facts.pop("sha256", None) != digest(arrays):
            raise ValueError("its contents do not match their digest")
        return Restored(step, structure.unflatten([arrays[name] for name in wanted]), facts)

    def close(self) -> None:
        """Release what Orbax holds."""
        self._manager.close()
