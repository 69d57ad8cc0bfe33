"""The head of a study that runs elsewhere: it plans packs, hands them over, watches and collects them."""

import collections
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.launchers import packs
from experiments.launchers.engine import Engine, State
from experiments.launchers.packs import Pack
from experiments.launchers.request import Request
from experiments.populations import work
from experiments.progress import StudyProgress
from experiments.tuning.run import Judging
from models.base import BadInput
from train import resumption
from train.config import Config, Trial, digest
from train.cost import Cost
from train.data.task import Task
from train.folder import Files
from train.loop import Watch
from train.packing import study_traced_paths
from train.records import write_atomically
from train.rows import crashed_rows
from train.signals import Interrupted

logger = logging.getLogger("paribus")

POLL_SECONDS = 2.0
"""Between two looks at the packs."""

ATTEMPTS = 3
"""Times in a row that a pack is handed over and lost, no further than before, until its trials count as crashed."""

_ATTEMPTS = "attempts.json"


class Head:
    """Runs trials by packs on an engine, in the place of :func:`experiments.populations.run_populations`.

    Args:
        engine: runs them.
        folder: of the study.
        pack_trials: trials of a pack at the most; 0 for whole populations.
        data_dir: where data sets lie, on every machine.
        deterministic: whether a GPU is to compute the same bits in every run.
    """

    def __init__(
        self, engine: Engine, folder: Path, *, pack_trials: int, data_dir: str | None, deterministic: bool
    ) -> None:
        self.engine, self.folder, self.pack_trials = engine, folder, pack_trials
        self.data_dir, self.deterministic = data_dir, deterministic

    def run(self, asked: Request) -> int:
        """Run what has no record yet. Returns the number of trials that crashed.

        Raises:
            BadInput: the engine refuses a pack or was told to end it, or a pack cannot run on its machine.
            Interrupted: a stop was asked for; packs may go on.
        """
        trials, tasks, expected, files, progress, watch, judging, chosen = asked
        wanted = trials if chosen is None else chosen
        finished = files.finished()
        left = [trial for trial in wanted if (trial.id, digest(trial.config)) not in finished]
        progress.skip(work(wanted, expected) - work(left, expected))
        open_packs = {pack.name: pack for pack in self._packs(left, trials, tasks, files, judging)}
        progress.begin("packs", 1.0)
        self._submit(list(open_packs.values()))
        try:
            return self._watch(open_packs, expected, files, progress, watch)
        except (BadInput, Interrupted):
            if farewell := self.engine.leave(list(open_packs.values())):
                logger.warning("%s", farewell)
            raise

    def _watch(
        self,
        open_packs: dict[str, Pack],
        expected: Mapping[Config, Cost],
        files: Files,
        progress: StudyProgress,
        watch: Watch,
    ) -> int:
        """Collect packs as they end, and hand those that are lost over again, until none is left open."""
        told = dict.fromkeys(open_packs, 0.0)
        crashed = 0
        while open_packs:
            if watch.interrupted():
                raise Interrupted
            states = self.engine.states(list(open_packs.values()))
            for name, pack in list(open_packs.items()):
                gone = states[name][0] == "gone"
                if pack.is_done() and (gone or pack.outcome() is not None):
                    progress.advance(round(work(pack.trials, expected) - told[name]))
                    crashed += packs.collect(pack, files)
                    del open_packs[name]
                    continue
                done = self.engine.progress(pack).done
                progress.advance(max(round(done - told[name]), 0))
                told[name] = max(done, told[name])
                if gone:
                    crashed += self._again(pack, files, open_packs)
            self._show(progress, open_packs, states, expected, told)
            time.sleep(POLL_SECONDS if open_packs else 0)
        return crashed

    def close(self) -> None:
        """Leave the engine."""
        self.engine.close()

    def _show(
        self,
        progress: StudyProgress,
        open_packs: Mapping[str, Pack],
        states: Mapping[str, tuple[State, str]],
        expected: Mapping[Config, Cost],
        told: Mapping[str, float],
    ) -> None:
        """A line for each pack, and their numbers for a log."""
        counts = collections.Counter(states[name][0] for name in open_packs)
        progress.begin(f"packs: {counts['running']} running, {counts['queued']} queued", 1.0)
        progress.parts(
            {
                name: (f"{pack.title} {states[name][1]}", told[name] / max(work(pack.trials, expected), 1.0))
                for name, pack in open_packs.items()
            }
        )

    def _packs(
        self,
        left: Sequence[Trial],
        trials: Sequence[Trial],
        tasks: Mapping[Config, Task],
        files: Files,
        judging: Judging | None,
    ) -> list[Pack]:
        """The packs of what is left: those that are there, and new ones for the rest."""
        mine = {(trial.id, digest(trial.config)) for trial in left}
        there = []
        for pack in packs.all_of(self.folder):
            names = {(trial.id, digest(trial.config)) for trial in pack.trials}
            if (pack.judging is None) == (judging is None) and names & mine:
                there.append(pack)
                mine -= names
        rest = [trial for trial in left if (trial.id, digest(trial.config)) in mine]
        saved = resumption.find(files.checkpoint_folder)
        resumption.check(trials, saved)
        traced = study_traced_paths(trials)
        found = []
        for group in packs.sliced(resumption.groups(rest, saved, traced), self.pack_trials):
            name = packs.name_of(group.trials, tuning=judging is not None)
            pack = Pack(
                folder=self.folder / packs.FOLDER / name,
                trials=group.trials,
                traced=traced,
                data_dir=self.data_dir,
                fingerprints={
                    digest(trial.config): str(tasks[trial.config].facts.get("fingerprint", ""))
                    for trial in group.trials
                },
                deterministic=self.deterministic,
                judging=judging,
            )
            packs.seed(pack, group.origin, files.curves)
            packs.write(pack)
            found.append(pack)
        return there + found

    def _submit(self, wanted: Sequence[Pack]) -> None:
        """Hand over those that nobody runs and that are not done."""
        states = self.engine.states(wanted)
        idle = [pack for pack in wanted if states[pack.name][0] == "gone" and not pack.is_done()]
        for pack in idle:
            (pack.folder / packs.OUTCOME).unlink(missing_ok=True)
            past, done = _attempts(pack), pack.progress().done
            new = _Attempts(1, done) if done > past.done else _Attempts(past.count + 1, past.done)
            write_atomically(pack.folder / _ATTEMPTS, json.dumps(new._asdict()))
        if idle:
            self.engine.submit(idle)

    def _again(self, pack: Pack, files: Files, open_packs: dict[str, Pack]) -> int:
        """What to do with a pack that ended before it was done. Returns the number of trials given up."""
        del open_packs[pack.name]
        outcome = pack.outcome()
        if outcome is not None and outcome.error:
            raise BadInput(f"pack {pack.title}: {outcome.error}")
        fate = self.engine.fate(pack)
        why = f" ({fate})" if fate else ""
        past = _attempts(pack)
        if past.count < ATTEMPTS or pack.progress().done > past.done:
            logger.warning("pack %s was lost%s; it is handed over again and goes on", pack.title, why)
            self._submit([pack])
            open_packs[pack.name] = pack
            return 0
        logger.error("pack %s was lost %d times%s: its trials count as crashed", pack.title, ATTEMPTS, why)
        done = files.finished()
        lost = [trial for trial in pack.trials if (trial.id, digest(trial.config)) not in done]
        files.trials.put(crashed_rows(lost, RuntimeError(f"lost {ATTEMPTS} times{why}")), key="trial")
        (pack.folder / _ATTEMPTS).unlink(missing_ok=True)  # the same command tries again
        return len(lost)


class _Attempts(NamedTuple):
    """How often a pack was handed over since it last got further, and how far it was then."""

    count: int = 0
    done: float = 0.0


def _attempts(pack: Pack) -> _Attempts:
    try:
        return _Attempts(**json.loads((pack.folder / _ATTEMPTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return _Attempts()
