"""Run trials as populations, one after another: what has no record yet, in a study or in its tuning."""

import collections
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

from experiments import mesh_table
from experiments.progress import Meter
from experiments.sittings import Sitting
from models.base import BadInput
from train import processes, resumption, strategies
from train.choosing import Choosing
from train.config import Config, Trial, digest
from train.cost import Cost
from train.data.task import Task
from train.folder import Files
from train.loop import Watch, run_population
from train.packing import halves, is_out_of_memory, study_traced_paths
from train.population import Population
from train.preparation import Preparation
from train.resumption import Group
from train.rows import crashed_rows
from train.signals import Interrupted

logger = logging.getLogger("paribus")


def work(trials: Sequence[Trial], expected: Mapping[Config, Cost]) -> float:
    """Floating-point operations of all steps of these trials.

    Args:
        trials: some.
        expected: what one of each configuration costs.
    """
    return sum(expected[trial.config].flops_per_step * trial.config.training.steps for trial in trials)


def run_populations(
    trials: Sequence[Trial],
    tasks: Mapping[Config, Task],
    expected: Mapping[Config, Cost],
    files: Files,
    progress: Meter,
    watch: Watch,
    choosing: Callable[[Sequence[Trial]], Choosing] | None = None,
    chosen: Sequence[Trial] | None = None,
    traced: Mapping[str, tuple[str, ...]] | None = None,
) -> int:
    """Run what has no record yet. Returns the number of trials that crashed.

    Args:
        trials: all that shall be there in the end.
        tasks: of each configuration.
        expected: what a trial of each configuration costs.
        files: where records and checkpoints go.
        progress: told how far it is.
        watch: what is told and asked while a population runs.
        choosing: how the trials of a population are judged, where they are run to choose a configuration.
        chosen: those of the trials that are run now; None for all. Programs are those of all of them.
        traced: by program key, the fields that programs take as arguments; None for those that differ among the trials.

    Raises:
        BadInput: checkpoints hold one of the trials with another configuration.
        Interrupted: a stop was asked for.
    """
    finished = files.finished()
    traced = study_traced_paths(trials) if traced is None else traced
    # Only what is left: more seeds or arms leave the finished trials alone. Since a population's rows
    # are written all at once, one that was broken off has the same trials, and so its name, again.
    wanted = trials if chosen is None else chosen
    left = [trial for trial in wanted if (trial.id, digest(trial.config)) not in finished]
    saved = resumption.find(files.checkpoint_folder)
    resumption.check(trials, saved)
    processes.barrier("planned")

    def make(members: Group) -> Population:
        config = members.trials[0].config
        args = (members.trials, members.traced, tasks[config])
        return strategies.population(lambda way: Population(*args, way), config, len(members.trials))

    def run_one(members: Group, following: Group | None) -> dict[str, float]:
        population = preparation.take(members, following)
        mesh_table.announce(population)
        told = watch._replace(progress=progress.advance)
        judged = choosing(members.trials) if choosing is not None else None
        return run_population(population, files, told, origin=members.origin, choosing=judged)

    crashed = 0
    queue = collections.deque(resumption.groups(left, saved, traced))
    preparation = Preparation(make)
    progress.skip(work(wanted, expected) - work(left, expected))
    with Sitting(files.sittings, tuning=choosing is not None) as sitting, contextlib.closing(preparation):
        while queue:
            members = queue.popleft()
            some = members.trials
            if watch.interrupted():
                raise Interrupted
            progress.begin(_title(some), expected[some[0].config].flops_per_step)
            try:
                sitting.add(len(some), run_one(members, queue[0] if queue else None))
            except (Interrupted, BadInput, OSError):
                raise
            except Exception as error:
                if processes.count() > 1:  # the others are at another place now
                    raise
                if is_out_of_memory(error) and len(some) > 1:
                    logger.warning("%s: %s; half of them at a time", _title(some), _one_line(error))
                    queue.extendleft(members._replace(trials=half) for half in reversed(halves(some)))
                    continue
                logger.exception("%s crashed; the others go on", _title(some))
                files.trials.put(crashed_rows(some, error), key="trial")
                crashed += len(some)
        sitting.add(0, {"compile": preparation.seconds})
    processes.barrier("recorded")
    return crashed


def _one_line(error: BaseException) -> str:
    """What an error says, cut to a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _title(trials: Sequence[Trial]) -> str:
    arms = ", ".join(dict.fromkeys(trial.arm for trial in trials))
    kind = "trial" if trials[0].number is None else "tuning trial"
    return f"{arms} ({len(trials)} {kind}{'s' if len(trials) > 1 else ''})"
