"""What a study declares to be tuned, checked for all arms before anything runs."""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

from experiments.plan import Plan
from experiments.points import points
from experiments.study import Study, Tuning
from experiments.tuning import search
from experiments.tuning.arm_spaces import FIRST_SEED, ArmSpace, check_paths, of_arm, replaced
from experiments.tuning.selection import STEPS, Compared, compared
from models.base import BadInput, unknown
from train.config import Config, Trial, digest
from train.data.task import Task

ADAPTIVE = {"tpe": {"optuna": "tuning"}, "gp": {"optuna": "tuning", "torch": "tuning-gp"}}
"""Searches that learn from what earlier points came to: the libraries that each needs, and the extras they are in."""

PATIENCE = 50
"""Repetitions in a row, for each trial, after which no more points of a space are looked for."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The tuning of a plan, checked.

    Attributes:
        study: whose it is.
        tuning: as declared.
        spaces: of the arms that have something to tune.
        points: the values of each tuning trial, by arm; None where an adaptive search finds them one after another.
        compared: by what configurations are compared.
        arms: all arms of the plan.
        same: those that are the baseline under other seeds, and take what it is given.
        remarks: what a reader should know of the budgets.
    """

    study: Study
    tuning: Tuning
    spaces: Mapping[str, ArmSpace]
    points: Mapping[str, Sequence[Mapping[str, Any]]] | None
    compared: Compared
    arms: tuple[str, ...]
    same: tuple[str, ...]
    remarks: tuple[str, ...]

    def count(self, arm: str) -> int:
        """The points that an arm tries."""
        return self.tuning.trials if self.points is None else len(self.points[arm])

    def trials(self, arms: Sequence[str]) -> list[Trial]:
        """The tuning trials of these arms, as far as they are known before the first runs."""
        return [
            trial
            for arm in arms
            for number, drawn in enumerate(self.points[arm] if self.points is not None else ())
            for trial in self.spaces[arm].trials(number, drawn, self.tuning.seeds)
        ]


def prepare(plan: Plan, tasks: Mapping[Config, Task]) -> Prepared:
    """The tuning that the plan's study declares.

    Raises:
        BadInput: it cannot be done; nothing has run.
    """
    study, tuning = plan.study, plan.study.tuning
    assert tuning is not None
    _check_numbers(tuning, plan)
    _check_libraries(tuning.search)
    _check_steps(tuning, plan)
    metric = compared(tuning, study.metric, {name: tasks[config] for name, config in plan.configs.items()})
    steps = {} if tuning.steps is None else {"training.steps": tuning.steps}
    same = same_but_for_seeds(plan)
    spaces = {}
    for arm, config in plan.configs.items():
        if arm in same:
            continue
        short = replaced(config, steps, f"tuning.steps={tuning.steps}: arm {arm!r}")
        _check_pruning(tuning, short, arm)
        spaces[arm] = of_arm(tuning, arm, short)
    check_paths(tuning, plan.configs, spaces)
    _check_matched(plan, spaces)
    remarks = [f"arm {arm!r} takes what {study.baseline_name!r} is given: it differs in seeds alone" for arm in same]
    remarks += [f"arm {arm!r} has nothing to tune: it runs as declared" for arm in spaces if not spaces[arm].spaces]
    remarks += _replaced_values(plan, spaces)
    spaces = {arm: space for arm, space in spaces.items() if space.spaces}
    points = None
    if tuning.search not in ADAPTIVE:
        points = {arm: _points(space, study, tuning) for arm, space in spaces.items()}
        remarks += [
            f"arm {arm!r} tries {len(found)} points instead of {tuning.trials}: there are no more different ones"
            for arm, found in points.items()
            if len(found) < tuning.trials
        ]
    return Prepared(study, tuning, spaces, points, metric, tuple(plan.configs), tuple(same), tuple(remarks))


def same_but_for_seeds(plan: Plan) -> list[str]:
    """The arms that are the baseline under other seeds: they are not tuned, lest they be something else."""
    baseline = plan.configs[plan.study.baseline_name]
    return [
        arm
        for arm, config in plan.configs.items()
        if config != baseline and dataclasses.replace(config, seeds=baseline.seeds) == baseline
    ]


def _check_steps(tuning: Tuning, plan: Plan) -> None:
    """The steps that trials take say something only where they end at a target, and only once they have ended."""
    if tuning.column != STEPS:
        return
    for arm, config in plan.configs.items():
        if not config.training.target_metric:
            raise BadInput(f"tuning.column={STEPS!r}: arm {arm!r} has no target; set training.target_metric")
    if tuning.pruning != "none":
        raise BadInput(f"tuning.column={STEPS!r} is known at the end alone: tuning.pruning must be 'none'")


def _check_numbers(tuning: Tuning, plan: Plan) -> None:
    for name in ("search", "pruning"):
        known = get_args(get_type_hints(Tuning)[name])
        if getattr(tuning, name) not in known:
            raise unknown(f"tuning.{name}", getattr(tuning, name), known)
    for name, least in (("trials", 2), ("seeds", 1), ("steps", 1)):
        value = getattr(tuning, name)
        if value is not None and value < least:
            raise BadInput(f"tuning.{name}={value} must be at least {least}")
    if not tuning.space and not any(tuning.arms.values()):
        raise BadInput("tuning.space is empty: name what is tuned, e.g. {'optimizer.learning_rate': Uniform(...)}")
    kept = range(FIRST_SEED, FIRST_SEED + tuning.seeds)
    for trial in plan.trials:
        if trial.seed >= FIRST_SEED or trial.root("init") in kept or trial.root("order") in kept:
            raise BadInput(
                f"trial {trial.id} would use a seed that tuning keeps for itself: those of results must be below "
                f"{FIRST_SEED}, lest a configuration be reported by the seeds that it was chosen by"
            )


def _check_matched(plan: Plan, spaces: Mapping[str, ArmSpace]) -> None:
    """A field cannot be tuned and solved for."""
    for arm, path in (plan.study.matching.by if plan.study.matching is not None else {}).items():
        if arm in spaces and path in spaces[arm].spaces:
            raise BadInput(
                f"arm {arm!r}: {path} is solved for, so that the arm equals the baseline in "
                f"{plan.study.matching.equal}, and cannot be tuned too; give the arm None for it in tuning.arms"  # type: ignore[union-attr]
            )


def _replaced_values(plan: Plan, spaces: Mapping[str, ArmSpace]) -> list[str]:
    """Which values that arms set themselves give way to tuned ones."""
    own: dict[str, list[str]] = {}
    for arm, space in spaces.items():
        for path in space.spaces:
            if path in plan.study.arms.get(arm, {}):
                own.setdefault(path, []).append(arm)
    return [f"{path} of {', '.join(arms)} is what tuning finds, not what the arm sets" for path, arms in own.items()]


def _check_libraries(name: str) -> None:
    for library, extra in ADAPTIVE.get(name, {}).items():
        if importlib.util.find_spec(library) is None:
            raise BadInput(f"tuning.search={name} needs {library}; install it with: pip install -e '.[{extra}]'")


def _check_pruning(tuning: Tuning, config: Config, arm: str) -> None:
    training = config.training
    if tuning.pruning != "none" and training.evaluate_every >= training.steps:
        raise BadInput(
            f"tuning.pruning={tuning.pruning} needs evaluations before the end: arm {arm!r} has "
            f"training.evaluate_every={training.evaluate_every}, and a tuning trial has {training.steps} steps"
        )


def _points(space: ArmSpace, study: Study, tuning: Tuning) -> list[dict[str, Any]]:
    """The values of each tuning trial; no two give the same configuration."""
    if tuning.search == "grid":
        drawn = (space.draw(lambda path, _, at=at: at[path]) for at in search.grid(space.spaces, tuning.trials))
    else:
        seed = search.seed_of("tuning", study.name, space.arm)
        drawn = (space.at(unit) for unit in points(tuning.search, len(space.spaces), seed))
    found: dict[str, dict[str, Any]] = {}
    repeated = 0
    for point in drawn:
        key = digest(space.with_values(point))
        repeated = repeated + 1 if key in found else 0
        found.setdefault(key, point)
        if len(found) == tuning.trials or repeated == PATIENCE * tuning.trials:
            break
    return list(found.values())
