"""Packs: populations, or slices of them, each in a folder of its own, for any machine to run.

A pack is idempotent: what it needs stands in ``pack.json``; what it finds, in the tables of its folder, and its
checkpoints beside them. Run again, or twice, or after a kill, it goes on where it was, and one that is done does
nothing. So whoever runs packs may lose them, retry them or run them elsewhere. The folders are to lie where all
machines see them.

``packs/NAME/``: ``pack.json`` (what to run), ``trials.csv``, ``curves.csv`` and so on as a study has them,
``progress.json`` (how far it is, for who watches), ``outcome.json`` (how its last run ended).
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from experiments.feasibility import costs_of
from experiments.populations import run_populations, work
from experiments.tuning.run import Judging
from models.base import BadInput
from train import data, devices, meshes, resumption
from train.config import Config, Trial, digest, from_dict, to_dict
from train.data.task import Task
from train.folder import Files
from train.loop import Watch
from train.records import Table, rows_of, whole_lines, write_atomically
from train.signals import Interrupted

FOLDER, SPECIFICATION, PROGRESS, OUTCOME, LOCK = "packs", "pack.json", "progress.json", "outcome.json", ".lock"

EARLIER = "earlier_curves.csv"
"""What tuning had found when the pack was made: what its trials are compared with where hopeless ones end early."""

LOCK_SECONDS = 1.0
"""Between two attempts to begin, while another copy of the pack is at work."""

TELL_SECONDS = 1.0
"""Between two writings of ``progress.json``."""


class Progress(NamedTuple):
    """How far a pack is.

    Attributes:
        what: it does now.
        done: floating-point operations, earlier runs included.
        total: of all its trials.
    """

    what: str = ""
    done: float = 0.0
    total: float = 0.0


class Outcome(NamedTuple):
    """How the last run of a pack ended.

    Attributes:
        crashed: number of its trials that crashed.
        error: one line, where it could not run at all; empty otherwise.
    """

    crashed: int = 0
    error: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pack:
    """Trials that run together on one machine.

    Attributes:
        folder: of the pack.
        trials: of one population, or some of them.
        traced: by program key, the fields that the programs of the whole study take as arguments.
        data_dir: where data sets lie; None for the default.
        fingerprints: of the data of each configuration, by its digest: the same on every machine.
        deterministic: whether a GPU is to compute the same bits in every run.
        judging: how tuning trials are judged; None for trials that are reported.
    """

    folder: Path
    trials: tuple[Trial, ...]
    traced: Mapping[str, tuple[str, ...]]
    data_dir: str | None
    fingerprints: Mapping[str, str]
    deterministic: bool
    judging: Judging | None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def title(self) -> str:
        """Its arms, and how many trials it has."""
        return f"{', '.join(dict.fromkeys(trial.arm for trial in self.trials))} ({len(self.trials)})"

    def files(self, tasks: Sequence[Task]) -> Files:
        """Where its records and checkpoints lie."""
        return Files(self.folder, self.trials, tasks, tuning=self.judging is not None)

    def is_done(self) -> bool:
        """Whether every trial has its row, crashed ones included."""
        path = self.folder / ("trials.csv" if self.judging is None else "tuning.csv")
        rows = {(row["trial"], row["config_hash"]) for row in rows_of(path)}
        return {(trial.id, digest(trial.config)) for trial in self.trials} <= rows

    def progress(self) -> Progress:
        """What it last said of itself."""
        return Progress(**_json(self.folder / PROGRESS))

    def outcome(self) -> Outcome | None:
        """How its last run ended; None where it has not, or was broken off."""
        found = _json(self.folder / OUTCOME)
        return Outcome(**found) if found else None


def name_of(trials: Sequence[Trial], *, tuning: bool) -> str:
    """The name of the pack with these trials: equal for equal ones alone."""
    content = [tuning, *sorted((trial.id, digest(trial.config)) for trial in trials)]
    arms = "-".join(dict.fromkeys(trial.arm for trial in trials))
    readable = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in arms)[:40]
    return f"{readable}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]}"


def sliced(groups: Iterable[resumption.Group], size: int) -> list[resumption.Group]:
    """Populations of at most ``size`` trials; 0 leaves them whole."""
    return [
        group._replace(trials=group.trials[start : start + (size or len(group.trials))])
        for group in groups
        for start in range(0, len(group.trials), size or len(group.trials))
    ]


def write(pack: Pack) -> None:
    """Write what the pack needs to run: from then on it is there."""
    content = {
        "trials": [
            {"arm": each.arm, "seed": each.seed, "number": each.number, "config": to_dict(each.config)}
            for each in pack.trials
        ],
        "traced": {key: list(paths) for key, paths in pack.traced.items()},
        "data_dir": pack.data_dir,
        "fingerprints": dict(pack.fingerprints),
        "deterministic": pack.deterministic,
        "judging": None if pack.judging is None else pack.judging._asdict(),
    }
    write_atomically(pack.folder / SPECIFICATION, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read(folder: Path) -> Pack:
    """The pack of a folder.

    Raises:
        BadInput: ``pack.json`` is missing or damaged.
    """
    try:
        content = json.loads((folder / SPECIFICATION).read_text(encoding="utf-8"))
        trials = [{**each, "config": from_dict(each["config"])} for each in content["trials"]]
        return Pack(
            folder=folder,
            trials=tuple(Trial(**each) for each in trials),
            traced={key: tuple(paths) for key, paths in content["traced"].items()},
            data_dir=content["data_dir"],
            fingerprints=content["fingerprints"],
            deterministic=content["deterministic"],
            judging=None if content["judging"] is None else Judging(**content["judging"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{folder / SPECIFICATION} cannot be read ({reason}); move {folder} away") from None


def all_of(study: Path) -> list[Pack]:
    """The packs of a study that have been written and not yet collected.

    Raises:
        BadInput: one is damaged.
    """
    parent = study / FOLDER
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    return [read(folder) for folder in folders if (folder / SPECIFICATION).exists()]


def run(folder: Path, interrupted: Callable[[], bool], tell: Callable[[Progress], None] | None = None) -> Outcome:
    """Run what is left of the pack in this folder, once no other copy of it is at work.

    Args:
        folder: of the pack.
        interrupted: true once a stop has been asked for.
        tell: told how far it is, beside the file.

    Raises:
        Interrupted: a stop was asked for; a checkpoint has been written.
    """
    if not (folder / SPECIFICATION).exists():
        return Outcome()  # collected, or called off, before this copy of it began
    with _only_copy(folder, interrupted):
        if not (folder / SPECIFICATION).exists():
            return Outcome()
        try:
            outcome = Outcome(crashed=_run(read(folder), interrupted, tell))
        except (BadInput, OSError) as error:
            outcome = Outcome(error=" ".join(str(error).split()))
    write_atomically(folder / OUTCOME, json.dumps(outcome._asdict()) + "\n")  # last: now the folder may go
    return outcome


@contextlib.contextmanager
def _only_copy(folder: Path, interrupted: Callable[[], bool]) -> Iterator[None]:
    """Hold the pack. Another copy may be ending, or at work: one that a head handed over and died before noting it."""
    lock = filelock.FileLock(folder / LOCK, timeout=LOCK_SECONDS)
    while True:
        try:
            lock.acquire()
            break
        except filelock.Timeout:
            if interrupted():
                raise Interrupted from None
    try:
        yield
    finally:
        lock.release()


def _run(pack: Pack, interrupted: Callable[[], bool], tell: Callable[[Progress], None] | None) -> int:
    wanted = max(meshes.size(trial.config.execution.mesh) for trial in pack.trials)
    devices.prepare(deterministic=pack.deterministic, mesh=wanted)
    tasks = _tasks(pack)
    files = pack.files(list(tasks.values()))
    expected = costs_of(pack.trials, tasks)
    meter = PackMeter(pack.folder / PROGRESS, work(pack.trials, expected), tell)
    earlier = functools.partial(rows_of, pack.folder / EARLIER)
    choosing = None if pack.judging is None else pack.judging.choosing(earlier, files.curves.rows)
    crashed = run_populations(
        pack.trials,
        tasks,
        expected,
        files,
        meter,
        Watch(lambda _: None, interrupted),
        choosing,
        traced=pack.traced,
    )
    meter.write()
    return crashed


def _tasks(pack: Pack) -> dict[Config, Task]:
    """The task of each configuration, the same as on the machine that planned the study.

    Raises:
        BadInput: the data cannot be had here, or are others.
    """
    directory = None if pack.data_dir is None else Path(pack.data_dir)
    loaded: dict[Any, Task] = {}
    tasks = {}
    for config in dict.fromkeys(trial.config for trial in pack.trials):
        if config.data not in loaded:
            loaded[config.data] = data.load(config.data, directory)
        tasks[config] = loaded[config.data]
        planned = pack.fingerprints[digest(config)]
        if str(tasks[config].facts.get("fingerprint", "")) != planned:
            raise BadInput(
                f"the data {config.data.name!r} of this machine are not those that the study was planned with"
            )
    return tasks


class PackMeter:
    """Counts a pack's work, and writes it down for who watches.

    Args:
        path: of ``progress.json``.
        total: operations of all trials.
        tell: told the same.
    """

    def __init__(self, path: Path, total: float, tell: Callable[[Progress], None] | None) -> None:
        self._path, self._tell = path, tell
        self._state = Progress(total=total)
        self._weight, self._written = 1.0, 0.0

    def begin(self, what: str, flops_per_step: float) -> None:
        """The work that follows is ``what``, with so many operations a step."""
        self._weight = flops_per_step
        self._state = self._state._replace(what=what)
        self.write()

    def skip(self, flops: float) -> None:
        """Work that an earlier run has done."""
        self._state = self._state._replace(done=self._state.done + flops)

    def advance(self, steps: int) -> None:
        """So many trial-steps have been done."""
        self.skip(steps * self._weight)
        if time.monotonic() - self._written >= TELL_SECONDS:
            self.write()

    def write(self) -> None:
        """Write it down."""
        self._written = time.monotonic()
        write_atomically(self._path, json.dumps(self._state._asdict()) + "\n")
        if self._tell is not None:
            self._tell(self._state)


def seed(pack: Pack, origin: Path | None, curves: Table) -> None:
    """Give a new pack what there is of its trials: the checkpoints to go on from, and the rows up to them.

    Where hopeless trials end early, it gets the curves of all trials so far, too: frozen, so that every run of the
    pack decides the same.
    """
    pack.folder.mkdir(parents=True, exist_ok=True)
    if pack.judging is not None and pack.judging.pruning != "none":
        write_atomically(pack.folder / EARLIER, whole_lines(curves.path) if curves.path.exists() else b"")
    if origin is None:
        return
    kind = "checkpoints" if pack.judging is None else "tuning_checkpoints"
    target = pack.folder / kind / origin.name
    if not target.exists():
        shutil.copytree(origin, target)
    names = {trial.id for trial in pack.trials}
    rows = [row for row in curves.rows() if row["trial"] in names]
    mine = Table(pack.folder / curves.path.name, curves.columns)
    if rows and not mine.path.exists():
        mine.put(rows, key="trial")


def collect(pack: Pack, files: Files) -> int:
    """Take the rows and checkpoints of a pack over into the study, and remove its folder.

    Twice does no harm: a row replaces one with the same key, and the trials' own come last.

    Returns:
        the number of its trials that crashed.
    """
    names = {trial.id for trial in pack.trials}
    tables = ((files.curves, "trial"), (files.confusion, "trial"), (files.untrained, "id"), (files.trials, "trial"))
    crashed = 0
    for table, key in tables:
        rows = rows_of(pack.folder / table.path.name)
        if rows:
            table.admit(rows[0])
            table.put(rows, key=key)
        if table is files.trials:
            crashed = sum(row["status"] == "crashed" and row["trial"] in names for row in rows)
    own = pack.folder / files.checkpoint_folder.name
    for folder in sorted(own.iterdir()) if own.is_dir() else []:
        target = files.checkpoint_folder / folder.name
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    files.sittings.append(rows_of(pack.folder / files.sittings.path.name))
    shutil.rmtree(pack.folder, ignore_errors=True)
    return crashed


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
