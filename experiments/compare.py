"""Several finished studies together: the same arms on different tasks. Reads their records alone."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd

from experiments import statistics, tables
from experiments.comparisons import Family, compare, results
from experiments.formatting import listed
from experiments.statistics import Estimate
from experiments.statistics.critical import CriticalDifference, critical_difference
from experiments.statistics.tasks import Profile, improvement_probability, performance_profile, summarise
from experiments.study import About, Metric, Preset, Study
from models.base import BadInput
from train.config import Config

FEWEST_RANKED = 3
"""Tasks from which on average ranks are compared."""

_MIXED = {"code_version": "code versions", "strategy": "execution strategies"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One study: a task on which the arms are compared.

    Attributes:
        name: what the report calls it.
        folder: where its records lie.
        study: what its ``study.json`` declares, without configurations and claims.
        trials: its records, a row a trial.
        values: the metric by seed, for each arm; NaN where a trial failed.
        family: its comparisons with the baseline.
    """

    name: str
    folder: Path
    study: Study
    trials: pd.DataFrame
    values: Mapping[str, pd.Series]
    family: Family


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overall:
    """One arm over all tasks.

    Attributes:
        arm: its name.
        interquartile_mean: of its scores.
        improvement: chance that one of its runs beats one of the baseline, on a task drawn at random; None for the
            baseline itself.
        profile: share of its runs above each score.
        failed: its runs without a result.
    """

    arm: str
    interquartile_mean: Estimate
    improvement: Estimate | None
    profile: Profile
    failed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What several studies say together.

    Attributes:
        tasks: the studies.
        arms: names, baseline first.
        scale: how scores were made comparable, in a sentence.
        runs: runs of each arm and task that the summaries over tasks rest on.
        overall: one for each arm.
        ranks: average ranks and which of them differ; None for fewer than three tasks.
        cautions: what a reader must know, a sentence each.
        command: what makes the report again.
    """

    tasks: tuple[Task, ...]
    arms: tuple[str, ...]
    scale: str
    runs: int
    overall: tuple[Overall, ...]
    ranks: CriticalDifference | None
    cautions: tuple[str, ...]
    command: str

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return self.arms[0]


def read(folder: str | Path) -> Task:
    """A finished study from its ``study.json`` and ``trials.csv``.

    Raises:
        BadInput: there is none, its records cannot be read, or some are missing.
    """
    place = Path(folder)
    if not place.is_dir():
        raise BadInput(f"compare: {str(folder)!r} is not a folder; name that of a finished study, e.g. runs/dropout")
    for name in ("study.json", "trials.csv"):
        if not (place / name).exists():
            raise BadInput(f"compare: {str(folder)!r} has no {name}; name the folder of a finished study")
    path = place / "study.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        study = _study(document)
        # Where tuning chose them, the plan does not know the configurations: the last record of a trial is its own.
        known = ["trial"] if document.get("tuning") else ["trial", "config_hash"]
        wanted = pd.DataFrame(document["trials"], columns=known, dtype=str)
        path = place / "trials.csv"
        trials = wanted.merge(tables.read(path), on=known).drop_duplicates("trial", keep="last")
        trials = trials.assign(seed=trials["seed"].astype(int))
        missing = len(wanted) - len(trials)
        values = results(trials, study.metric)
        family = compare(study, trials)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"compare: {path} cannot be read ({reason})") from None
    if missing:
        raise BadInput(f"compare: {str(folder)!r} is not finished: {missing} of {len(wanted)} trials have no record")
    return Task(name=study.name, folder=place, study=study, trials=trials, values=values, family=family)


def _study(document: Mapping[str, Any]) -> Study:
    """The declaration as far as comparing needs it."""
    baseline = str(document["baseline"])
    return Study(
        name=str(document["study"]),
        preset=cast(Preset, document["preset"]),
        about=About(group="", claim=str(document["claim"]), source=str(document["source"]), time={}),
        baseline_name=baseline,
        baseline=cast(Config, SimpleNamespace()),
        arms={str(arm): {} for arm in document["arms"] if arm != baseline},
        seeds=len(document["seeds"]),
        metric=Metric(**document["metric"]),
        claims=(),
    )


def together(folders: Sequence[str | Path], *, accept_mixed: bool, command: str) -> Comparison:
    """Compare the arms of several studies over all of them.

    Args:
        folders: of finished studies with the same arms.
        accept_mixed: whether records of different code versions or execution strategies may be compared.
        command: what makes the report again.

    Raises:
        BadInput: fewer than two, one of them twice, one that cannot be read, or studies that do not fit together.
    """
    if len(folders) < 2:
        raise BadInput("--compare needs the folders of at least two studies: --compare runs/a runs/b")
    tasks = _named([read(folder) for folder in folders])
    _check_different(tasks)
    arms = _check_alike(tasks)
    mixed = _mixed(tasks, arms)
    if mixed and not accept_mixed:
        raise BadInput(f"compare: {'; '.join(mixed)}; --accept_mixed compares them all the same and says so")
    scores, scale, runs = _scores(tasks, arms)
    return Comparison(
        tasks=tuple(tasks),
        arms=arms,
        scale=scale,
        runs=runs,
        overall=tuple(_overall(arm, arms[0], scores) for arm in arms),
        ranks=critical_difference(_means(tasks, arms)) if len(tasks) >= FEWEST_RANKED and len(arms) > 1 else None,
        cautions=_cautions(tasks, mixed, runs),
        command=command,
    )


def _named(tasks: list[Task]) -> list[Task]:
    """Tasks with names of their own: those of one study's name are told apart by their folders."""
    names = [task.name for task in tasks]
    return [
        dataclasses.replace(task, name=str(task.folder) if names.count(task.name) > 1 else task.name) for task in tasks
    ]


def _check_different(tasks: Sequence[Task]) -> None:
    seen: dict[str, Task] = {}
    for task in tasks:
        content = hashlib.sha256((task.folder / "trials.csv").read_bytes()).hexdigest()
        other = seen.setdefault(content, task)
        if other is not task:
            same = "is given twice" if other.folder.resolve() == task.folder.resolve() else f"is {other.folder} again"
            raise BadInput(f"compare: {str(task.folder)!r} {same}; name different studies")


def _check_alike(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The arms, once it is sure that all studies have them and measure in one direction.

    Raises:
        BadInput: they do not fit together.
    """
    first = tasks[0].study
    arms = (first.baseline_name, *first.arms)
    for task in tasks[1:]:
        study = task.study
        own = (study.baseline_name, *study.arms)
        if set(own) != set(arms):
            differing = sorted(set(own) ^ set(arms))
            raise BadInput(
                f"compare: {task.folder} and {tasks[0].folder} have different arms ({', '.join(differing)}); "
                "run both with the same --arms"
            )
        if study.baseline_name != first.baseline_name:
            raise BadInput(
                f"compare: the baseline of {task.folder} is {study.baseline_name!r}, that of {tasks[0].folder} is "
                f"{first.baseline_name!r}"
            )
        if study.metric.higher_is_better != first.metric.higher_is_better:
            raise BadInput(
                f"compare: in {task.folder} a {'higher' if study.metric.higher_is_better else 'lower'} "
                f"{study.metric.label} is better, in {tasks[0].folder} a "
                f"{'higher' if first.metric.higher_is_better else 'lower'} {first.metric.label}"
            )
    return arms


def _mixed(tasks: Sequence[Task], arms: Sequence[str]) -> list[str]:
    """How the records differ in what should be equal: code overall, and how each arm was executed."""
    found = []
    for column, plural in _MIXED.items():
        users: dict[str, list[str]] = {}
        apart = False
        for arm in arms if column == "strategy" else [None]:
            kinds = set()
            for task in tasks:
                rows = task.trials if arm is None else task.trials[task.trials["arm"] == arm]
                for kind in rows[column].dropna().astype(str).unique() if column in rows else []:
                    kinds.add(kind)
                    if task.name not in users.setdefault(kind, []):
                        users[kind].append(task.name)
            apart = apart or len(kinds) > 1
        if apart:
            parts = [f"{kind} ({', '.join(names)})" for kind, names in users.items()]
            found.append(f"the records mix {plural}: {listed(parts)}")
    return found


def _scores(tasks: Sequence[Task], arms: Sequence[str]) -> tuple[dict[str, np.ndarray], str, int]:
    """Each arm's scores, runs by tasks, higher better; how they were scaled; and how many runs of each."""
    runs = min(task.study.seeds for task in tasks)
    raw = all(task.study.metric.percent and task.study.metric.higher_is_better for task in tasks)
    columns: dict[str, list[np.ndarray]] = {arm: [] for arm in arms}
    for task in tasks:
        sign = 1.0 if task.study.metric.higher_is_better else -1.0
        found = {arm: sign * task.values[arm].to_numpy(np.float64)[:runs] for arm in arms}
        every = np.concatenate(list(found.values()))
        every = every[np.isfinite(every)]
        low, high = (0.0, 1.0) if raw or not every.size else (float(every.min()), float(every.max()))
        for arm in arms:
            columns[arm].append((found[arm] - low) / ((high - low) or 1.0))
    scale = (
        "Scores over tasks are the metric itself."
        if raw
        else "Scores over tasks are the metric turned so that higher is better and stretched so that on each task the "
        "worst run of all arms is 0 and the best is 1."
    )
    return {arm: np.stack(parts, axis=1) for arm, parts in columns.items()}, scale, runs


def _overall(arm: str, baseline: str, scores: Mapping[str, np.ndarray]) -> Overall:
    finite = np.concatenate([each[np.isfinite(each)] for each in scores.values()] or [np.zeros(1)])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    thresholds = np.linspace(min(low, 0.0) if low < 0 else low, high, 101)
    own = summarise(scores[arm])
    return Overall(
        arm=arm,
        interquartile_mean=own.interquartile_mean,
        improvement=None if arm == baseline else improvement_probability(scores[arm], scores[baseline]),
        profile=performance_profile(scores[arm], thresholds),
        failed=own.failed,
    )


def _means(tasks: Sequence[Task], arms: Sequence[str]) -> np.ndarray:
    """The mean of each arm on each task, higher better; NaN, which ranks worst, where no run finished."""
    rows = []
    for task in tasks:
        sign = 1.0 if task.study.metric.higher_is_better else -1.0
        rows.append([sign * statistics.spread(task.values[arm].to_numpy(np.float64)).mean for arm in arms])
    return np.array(rows, dtype=np.float64)


def _cautions(tasks: Sequence[Task], mixed: Sequence[str], runs: int) -> tuple[str, ...]:
    found = []
    smoke = [task.name for task in tasks if task.study.preset == "smoke"]
    if smoke:
        found.append(f"No evidence: smoke preset ({', '.join(smoke)}). It only shows that everything runs.")
    found += [f"Mixed by request: {each}." for each in mixed]
    if any(task.study.seeds > runs for task in tasks):
        found.append(f"Summaries over tasks use the first {runs} seeds of each task, as many as all have.")
    failed = {task.name: int((task.trials["status"] != "ok").sum()) for task in tasks}
    if any(failed.values()):
        parts = [f"{number} in {name}" for name, number in failed.items() if number]
        found.append(f"Trials that diverged or crashed: {listed(parts)}. Over tasks they count as the worst score.")
    if len(tasks) < FEWEST_RANKED:
        found.append(f"{len(tasks)} tasks are too few to rank arms over tasks; {FEWEST_RANKED} is the least.")
    changed = [
        task.name
        for task in tasks
        if "code_dirty" in task.trials and task.trials["code_dirty"].astype(str).str.lower().isin(["true", "1"]).any()
    ]
    if changed:
        found.append(f"Some trials ran with uncommitted changes: {', '.join(changed)}.")
    return tuple(found)
