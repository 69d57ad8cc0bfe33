"""Checkpoints: the one adapter to Orbax.

A checkpoint is the states of a population's trials as named arrays, a small JSON document that says what made them,
and each trial's score, by which the best are kept. The document has a digest of arrays and document: a checkpoint
that is torn or does not match it is passed over for the one before.
"""

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN, PreservationPolicy

from train import processes
from train.checksums import checksums
from train.parameters import path_name

logger = logging.getLogger("paribus")

MARGIN = 2**20
"""Bytes that a checkpoint takes beside its arrays, at the most: names, configurations, directories."""


class Restored(NamedTuple):
    """A checkpoint that was read back."""

    step: int
    states: Any
    facts: dict[str, Any]


def _named(states: Any, lanes: int) -> dict[str, Any]:
    """The arrays of a tree by path, of the first lanes alone: those behind them fill up the devices.

    They are on the host, but for those that lie on devices of several processes, each of which has a part.
    """
    if processes.count() == 1:
        leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(states))
        return {path_name(path): np.asarray(leaf)[:lanes] for path, leaf in leaves}
    named = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(states)}
    return _rows(named, slice(lanes))


def _rows(arrays: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """Some rows of arrays on devices of several processes; each device has its part of all of these."""
    places = {name: _all_lanes(array.sharding) for name, array in arrays.items()}
    return jax.jit(lambda arrays: {name: array[rows] for name, array in arrays.items()}, out_shardings=places)(
        dict(arrays)
    )


def _all_lanes(sharding: Any) -> NamedSharding:
    """The same sharding, but with all lanes on each device."""
    return NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec[1:]))


def digest(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and checksums of named arrays, and over what is said of them.

    The checksums are found where the arrays lie, and do not depend on how they are cut over devices.
    """
    result = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    found = checksums(arrays)
    for name in sorted(arrays):
        result.update(f"{name} {arrays[name].dtype} {arrays[name].shape} {found[name]}\n".encode())
    return result.hexdigest()


def _of_the_system(error: BaseException, path: Path) -> OSError | None:
    """The error of the operating system that is behind this one, with the path; None where there is none.

    TensorStore reports such errors as ValueError with their number, or the name of a status, in the text.
    """
    while True:
        if isinstance(error, OSError) and error.errno:
            return OSError(error.errno, os.strerror(error.errno), str(path))
        found = re.search(r"(?:OS error |os_error_code=')(\d+)", str(error))
        if found:
            return OSError(int(found[1]), os.strerror(int(found[1])), str(path))
        if error.__cause__ is None and error.__context__ is None:
            return None
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


def _is_of_the_machine(error: Exception) -> bool:
    """Whether reading failed for want of memory or permission, which says nothing about the checkpoint."""
    names = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED")
    return isinstance(error, MemoryError | PermissionError) or any(name in str(error) for name in names)


@contextlib.contextmanager
def _without_late_reports() -> Iterator[None]:
    """Where reading or writing fails, keep TensorStore's threads from reporting each that their event loop is closed.

    The error itself is raised. They report through ``sys.unraisablehook``, some of them after this has ended.
    """
    before = sys.unraisablehook

    def report(found: Any) -> None:
        if "Event loop is closed" not in str(found.exc_value):
            before(found)

    sys.unraisablehook = report
    yield
    sys.unraisablehook = before


def _check_room(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse to begin what would end with a full disk.

    Raises:
        OSError: there is less room than the arrays take.
    """
    if shutil.disk_usage(folder).free < sum(array.nbytes for array in arrays.values()) + MARGIN:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _described(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Type and shape of one lane of each array, in words."""
    return {name: f"{array.dtype} {list(array.shape[1:])}" for name, array in arrays.items()}


def _wanted(like: Any, lanes: int) -> Any:
    """What an array of so many lanes is restored as: one of NumPy, or each process's part of one."""
    shape = (lanes, *like.shape[1:])
    if processes.count() == 1:
        return np.broadcast_to(np.zeros((), like.dtype), shape)
    return jax.ShapeDtypeStruct(shape, like.dtype, sharding=_all_lanes(like.sharding))


class _Best(PreservationPolicy):
    """Tells Orbax to preserve each trial's best; Orbax's own ``BestN`` knows one score for a checkpoint."""

    def __init__(self, checkpoints: "Checkpoints") -> None:
        self.checkpoints = checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """For each checkpoint, oldest first, whether it is one of some trial's best."""
        del context
        best = self.checkpoints.best_steps([each.step for each in checkpoints])
        return [each.step in best for each in checkpoints]


class Checkpoints:
    """The checkpoints of one population, in a folder of their own. To open one that is there changes nothing in it.

    Args:
        folder: made where it is not there.
        lanes: the trials, in the order of the states' first axis; those alone are saved.
        newest: this many of the newest are kept.
        best: for each trial, this many with its least scores are kept too.
    """

    def __init__(self, folder: Path, lanes: Sequence[str] = (), *, newest: int = 2, best: int = 0) -> None:
        self.folder, self.lanes, self.best = folder, tuple(lanes), best
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(newest), _Best(self)]),
            enable_async_checkpointing=False,
            create=True,
        )
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)
        self._scores: dict[int, dict[str, float]] = {}
        self._is_swept = False

    def save(self, step: int, states: Any, facts: Mapping[str, Any], scores: Mapping[str, float] | None = None) -> None:
        """Write a checkpoint; it is durable when this returns. An existing one of this step stays.

        Args:
            step: of the training.
            states: arrays whose first axis is that of the lanes.
            facts: what made them, for JSON.
            scores: by lane, what an evaluation of them found; less is better. One that is not finite counts for none.

        Raises:
            OSError: the disk is full, the folder cannot be written to, or the like. Earlier checkpoints are whole.
        """
        if step in self.steps():
            return
        if not self._is_swept:
            self._sweep()  # an older process may have died while it wrote
        arrays = _named(states, len(self.lanes))
        self._scores[step] = {lane: float(score) for lane, score in (scores or {}).items() if math.isfinite(score)}
        document = {**facts, "lanes": list(self.lanes), "scores": self._scores[step], "arrays": _described(arrays)}
        document = json.loads(json.dumps(document)) | {"sha256": digest(arrays, document)}
        args = ocp.args.Composite(states=ocp.args.StandardSave(arrays), facts=ocp.args.JsonSave(document))
        try:
            _check_room(self.folder, arrays)
            with _without_late_reports():
                self._manager.save(step, args=args)
        except Exception as error:  # whatever a full disk makes Orbax raise
            self._sweep()
            system = _of_the_system(error, self.folder)
            if system is None:
                raise
            raise system from error

    def _sweep(self) -> None:
        """Remove what a save that was broken off has left."""
        self._manager.reload()
        whole = {str(step) for step in self.steps()}
        for path in self.folder.iterdir() if processes.is_first() else ():
            if path.name not in whole and path.name.split(".")[0].isdigit():
                shutil.rmtree(path, ignore_errors=True)
        processes.barrier("swept")
        self._is_swept = True

    def steps(self) -> list[int]:
        """The steps of all checkpoints, whole or not, newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def latest(self) -> int:
        """The step of the newest checkpoint, whole or not; 0 where there is none."""
        return max(self.steps(), default=0)

    def scores(self, step: int) -> dict[str, float]:
        """The finite scores of a checkpoint, by lane; none where they cannot be read."""
        if step not in self._scores:
            self._scores[step] = (self.facts(step) or {}).get("scores", {})
        return self._scores[step]

    def best_steps(self, steps: Sequence[int]) -> set[int]:
        """Those of the steps that are among some lane's best."""
        result: set[int] = set()
        for lane in self.lanes if self.best else ():
            scored = [step for step in steps if lane in self.scores(step)]
            result |= set(sorted(scored, key=lambda step, lane=lane: (self.scores(step)[lane], step))[: self.best])
        return result

    def would_keep(self, step: int, scores: Mapping[str, float]) -> bool:
        """Whether a checkpoint of this step with these scores would be among some lane's best."""
        self._scores[step] = {lane: score for lane, score in scores.items() if math.isfinite(score)}
        return step in self.best_steps([*self.steps(), step])

    def facts(self, step: int) -> dict[str, Any] | None:
        """What made the checkpoint of this step; None where that cannot be read."""
        try:
            content = self._manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore()))
            return dict(content["facts"])
        except Exception as error:  # whatever a damaged file makes Orbax raise
            if _is_of_the_machine(error):
                raise
            return None

    def restore(self, like: Any, lanes: Sequence[str] | None = None) -> Restored | None:
        """The newest checkpoint that is whole, or None where there is none. Damaged ones are set aside.

        Args:
            like: a tree of arrays or shapes that says what the states look like, but for the number of lanes.
            lanes: those that are wanted; None for those of this object, or all that the checkpoint has.
        """
        for step in self.steps():
            try:
                return self.read(step, like, lanes)
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
        if processes.is_first():
            shutil.rmtree(aside, ignore_errors=True)
            (self.folder / str(step)).rename(aside)
        processes.barrier("set aside")
        self._manager.reload()
        self._scores.pop(step, None)
        return aside

    def read(self, step: int, like: Any, lanes: Sequence[str] | None = None) -> Restored:
        """One checkpoint, with arguments as :meth:`restore` has them.

        Raises:
            Exception: it is damaged, or of another model; whatever Orbax raises.
        """
        leaves, structure = jax.tree_util.tree_flatten_with_path(like)
        own = {path_name(path): leaf for path, leaf in leaves}
        with _without_late_reports():
            facts = dict(self._restored(step, facts=ocp.args.JsonRestore())["facts"])
            if facts.get("arrays") != _described(own):
                raise ValueError("its arrays are not those of this model and optimizer")
            wanted = {name: _wanted(leaf, len(facts["lanes"])) for name, leaf in own.items()}
            arrays = self._restored(step, states=ocp.args.StandardRestore(wanted))["states"]
        if facts.pop("sha256", None) != digest(arrays, facts):
            raise ValueError("its contents do not match their digest")
        del facts["arrays"]
        rows = np.asarray([facts["lanes"].index(lane) for lane in lanes or self.lanes or facts["lanes"]], np.int32)
        taken = {name: array[rows] for name, array in arrays.items()} if processes.count() == 1 else _rows(arrays, rows)
        return Restored(step, structure.unflatten([taken[name] for name in own]), facts)

    def _restored(self, step: int, **args: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**args))

    def close(self) -> None:
        """Release what Orbax holds."""
        self._manager.close()
