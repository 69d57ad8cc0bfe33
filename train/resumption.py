"""Going on: what a checkpoint says of itself, whether it fits, and which trials go on from which.

Trials go on from a checkpoint wherever it has them, whatever their number was when it was written: with more
seeds or arms the old trials go on and the new ones begin; with fewer, or in smaller populations, each takes its own.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from models.base import BadInput
from train import provenance
from train.checkpoints import Checkpoints, Restored
from train.config import Trial, differences, listing, program_key, to_dict
from train.packing import group
from train.population import Population

logger = logging.getLogger("paribus")


class Saved(NamedTuple):
    """A checkpoint, by what it says of itself.

    Attributes:
        folder: of the population that wrote it.
        step: of the training.
        trials: the configuration of each trial, by its name.
        traced: paths of the fields that the program took as arguments.
    """

    folder: Path
    step: int
    trials: Mapping[str, Mapping[str, Any]]
    traced: tuple[str, ...]


class Group(NamedTuple):
    """Trials that run as one population.

    Attributes:
        trials: of equal static configuration.
        traced: paths of the fields that the program takes as arguments.
        origin: folder of the checkpoints to go on from; None where there are none.
    """

    trials: tuple[Trial, ...]
    traced: tuple[str, ...]
    origin: Path | None


def facts(population: Population) -> dict[str, Any]:
    """What made a checkpoint of this population, for JSON: enough to make its models again without its data."""
    hyperparameters = population.lanes.hyperparameters
    return {
        "trials": {
            trial.id: {"arm": trial.arm, "seed": trial.seed, "config": to_dict(trial.config)}
            for trial in population.trials
        },
        "traced": [f"{section}.{name}" for section, names in hyperparameters.items() for name in names],
        "shapes": dataclasses.asdict(population.task.shapes),
        "metric": f"validation_{population.task.objective.metrics[0]}",
        "made_by": provenance.collect(),
    }


def opened(folder: Path, population: Population) -> Checkpoints:
    """The checkpoints of a population, to be kept as its configuration wants it."""
    names = [trial.id for trial in population.trials]
    execution = population.config.execution
    return Checkpoints(folder, names, newest=execution.keep_newest, best=execution.keep_best)


def restored(own: Checkpoints, origin: Path | None, like: Any) -> Restored | None:
    """The newest checkpoint that is whole: the population's own, else one of ``origin``.

    A warning tells what is another version now: the run then need not be the uninterrupted one, bit for bit.
    """
    found = own.restore(like)
    if found is None and origin not in (None, own.folder):
        other = Checkpoints(origin)
        found = other.restore(like, own.lanes)
        other.close()
    if found is not None:
        past, now = found.facts["made_by"], provenance.collect()
        changed = [f"{key} {past.get(key)} -> {now[key]}" for key in now if past.get(key) != now[key]]
        if changed:
            logger.warning(
                "going on from step %d of %s, which was written with %s",
                found.step,
                own.folder.name,
                "; ".join(changed),
            )
    return found


def find(folder: Path) -> list[Saved]:
    """The newest readable checkpoint of each population whose folder lies in this one."""
    result = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not path.is_dir() or ".damaged-" in path.name:
            continue
        checkpoints = Checkpoints(path)
        for step in checkpoints.steps():
            content = checkpoints.facts(step)
            if content is not None and "trials" in content:
                trials = {name: each["config"] for name, each in content["trials"].items()}
                result.append(Saved(path, step, trials, tuple(content["traced"])))
                break
        checkpoints.close()
    return result


def check(trials: Iterable[Trial], saved: Sequence[Saved]) -> None:
    """Refuse checkpoints that hold one of these trials with another configuration.

    Raises:
        BadInput: there is one; the message lists the fields that differ.
    """
    mine = {trial.id: to_dict(trial.config) for trial in trials}
    for each in saved:
        found = {name: differences(past, mine[name]) for name, past in each.trials.items() if name in mine}
        if any(found.values()):
            raise BadInput(
                f"{each.folder} holds checkpoints of another configuration ({listing(found)}); choose another "
                "--workdir or move them away"
            )


def groups(trials: Sequence[Trial], saved: Sequence[Saved], traced: Mapping[str, tuple[str, ...]]) -> list[Group]:
    """Trials by population: those of one checkpoint go on together, by the program that they began with.

    Args:
        trials: what is left to run.
        saved: the checkpoints that there are.
        traced: by program key, the fields that the program of new trials takes as arguments.
    """
    newest: dict[str, Saved] = {}
    for each in sorted(saved, key=lambda each: each.step):
        newest |= dict.fromkeys(each.trials, each)
    members: dict[Path | None, list[Trial]] = {}
    origins = {each.folder: each for each in saved}
    for trial in trials:
        members.setdefault(newest[trial.id].folder if trial.id in newest else None, []).append(trial)
    return [
        Group(part, origins[origin].traced if origin else traced[program_key(part[0].config)], origin)
        for origin, together in members.items()
        for part in group(together)
    ]
