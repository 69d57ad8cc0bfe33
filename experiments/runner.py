"""Run a study here: load its data, run its populations one after another, report.

The same from Python as from the command line::

    result = experiments.run("architectures", seeds=10)
    result.trials.groupby("arm").test_accuracy.mean()
"""

import collections
import contextlib
import dataclasses
import json
import logging
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
from rich.console import Console

from experiments import data_changes, matching, registration, report, tables
from experiments.plan import Plan, check_against, document, load, recorded_matches, resolve, with_matched
from experiments.progress import StudyProgress, clock
from models.base import BadInput, unknown
from train import data, devices, resumption, strategies, trackers
from train.config import Config, Trial, digest
from train.cost import Cost, cost
from train.data.task import Task
from train.folder import SPLITS, Files, metric_names
from train.loop import Watch, run_population
from train.packing import halves, is_out_of_memory, study_traced_paths
from train.population import Population
from train.preparation import Preparation
from train.records import write_atomically
from train.resumption import Group
from train.rows import crashed_rows
from train.signals import Interrupted, Stop

logger = logging.getLogger("paribus")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a study came to.

    Attributes:
        folder: where everything lies.
        trials: a row a trial, as in ``trials.csv``.
        curves: a row a trial and evaluation, as in ``curves.csv``.
        summary: comparisons and verdicts.
        crashed: number of trials that crashed.
    """

    folder: Path
    trials: pd.DataFrame
    curves: pd.DataFrame
    summary: Any
    crashed: int


def run(
    name: str,
    *,
    preset: str = "cpu",
    seeds: int | None = None,
    arms: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | Sequence[tuple[str, str]] = (),
    vary: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    again: bool = False,
    variance: Sequence[str] | None = None,
    workdir: str | Path = "runs",
    data_dir: str | Path | None = None,
    report_only: bool = False,
    accept_changed_data: bool = False,
    deterministic: bool = False,
    tracker: Sequence[str] = (),
    profile: bool = False,
    only: Sequence[str] | None = None,
    parquet: bool = False,
    command: str | None = None,
    console: Console | None = None,
) -> Result:
    """Run a study, or go on with it where it stopped; then report.

    Args:
        name: a study of the catalog.
        preset: smoke, cpu or full.
        seeds: number of paired seeds; None for the study's own.
        arms: the arms beside the baseline; None for all.
        overrides: changes of the baseline by path, e.g. ``{"model.width": 512}``.
        vary: the arms are all combinations of these values, e.g. ``{"model.dropout_rate": "0,0.1"}``; the name of
            the study then has the paths appended.
        again: whether an arm is added that is the baseline under other seeds.
        variance: sources of chance (init, order, noise, split), each the only one that varies in an arm.
        workdir: results go to ``workdir/name``.
        data_dir: where data sets lie, as ``data_dir/<data set>/<file>``.
        report_only: rebuild the report from the records, run nothing.
        accept_changed_data: go on although the data changed since the study began; the records say so.
        deterministic: a GPU computes the same bits in every run; see :data:`train.devices.DETERMINISTIC`.
        tracker: what is told of the curves beside ``curves.csv``: tensorboard, wandb.
        profile: whether a few steps of each population are profiled, into ``workdir/name/profiles``.
        only: arms or trials that are run, e.g. ``cnn`` or ``cnn-s3``; the others of the plan are left. None for all.
        parquet: whether ``trials.parquet`` and ``curves.parquet`` are written beside the CSV files.
        command: the command that the report shows; None for the one that these arguments make.
        console: where progress, table and verdict go; None for standard output.

    Raises:
        BadInput: the request cannot be met; nothing has been written.
        Interrupted: SIGINT or SIGTERM arrived; the same call goes on.
    """
    console = console or Console()
    given = overrides.items() if isinstance(overrides, Mapping) else overrides
    pairs = [(path, str(value)) for path, value in given]
    factors = [*(vary.items() if isinstance(vary, Mapping) else vary)]
    plan = resolve(
        load(name, preset), seeds=seeds, arms=arms, overrides=pairs, vary=factors, again=again, variance=variance
    )
    designed = [f"--vary={path}={values}" for path, values in factors] + ["--again"] * again
    designed += [f"--attribute_variance={','.join(variance)}"] if variance is not None else []
    command = command or _command(name, preset, seeds, arms, pairs, designed, workdir, data_dir, deterministic)
    folder = Path(workdir) / plan.study.name
    if parquet:
        tables.check_parquet()
    devices.prepare(deterministic=deterministic)
    if report_only:
        return _report(
            with_matched(plan, recorded_matches(plan.study, folder)), folder, command, console, parquet=parquet
        )
    told = trackers.make(tracker, folder)
    plan, tasks = matched_plan(plan, load_tasks(plan, data_dir), folder)
    chosen = choose(plan, only)
    check_metric(plan, tasks)
    expected = costs(plan, tasks)
    with _only_process(folder), Stop() as stop:
        _write_plan(plan, tasks, folder, command, accept_changed_data)
        watched = Watch(lambda _: None, lambda: stop.asked, told, folder / "profiles" if profile else None)
        crashed = _run_populations(plan, chosen, tasks, expected, folder, console, watched)
        result = _report(plan, folder, command, console, parquet=parquet)
    return dataclasses.replace(result, crashed=crashed)


def _command(
    name: str,
    preset: str,
    seeds: Any,
    arms: Any,
    pairs: Any,
    designed: Sequence[str],
    workdir: Any,
    data_dir: Any,
    deterministic: bool,
) -> str:
    """The shell command that does the same."""
    words = ["python", "-m", "experiments", f"--experiment={name}", f"--preset={preset}"]
    words += [f"--seeds={seeds}"] if seeds is not None else []
    words += [f"--arms={','.join(arms)}"] if arms is not None else []
    words += [f"--config.{path}={text}" for path, text in pairs]
    words += designed
    words += [f"--workdir={workdir}"] if str(workdir) != "runs" else []
    words += [f"--data_dir={data_dir}"] if data_dir is not None else []
    words += ["--deterministic"] if deterministic else []
    return shlex.join(words)


def choose(plan: Plan, only: Sequence[str] | None) -> tuple[Trial, ...]:
    """The trials of the plan that ``only`` names, as arms or one by one; all of them where it is None.

    Raises:
        BadInput: a name is neither an arm nor a trial of the plan.
    """
    if only is None:
        return plan.trials
    names = {name: each for each in plan.trials for name in (each.arm, each.id)}
    for name in only:
        if name not in names:
            raise unknown("arm or trial", name, names)
    return tuple(trial for trial in plan.trials if trial.arm in only or trial.id in only)


def load_tasks(plan: Plan, data_dir: str | Path | None) -> dict[Config, Task]:
    """The task of each arm's configuration; each data set is loaded once.

    Raises:
        BadInput: ``data_dir`` is no folder, or the data cannot be had or are damaged.
    """
    loaded: dict[Any, Task] = {}
    directory = None if data_dir is None else Path(data_dir)
    if directory is not None and not directory.is_dir():
        raise BadInput(f"data_dir={str(directory)!r} is not a folder")
    for config in plan.configs.values():
        if config.data not in loaded:
            loaded[config.data] = data.load(config.data, directory)
    return {config: loaded[config.data] for config in plan.configs.values()}


def matched_plan(plan: Plan, tasks: dict[Config, Task], folder: Path) -> tuple[Plan, dict[Config, Task]]:
    """The plan and its tasks once the arms are as large or expensive as the baseline.

    What an earlier run in the folder solved for stays: a measured time is another every time.

    Raises:
        BadInput: an arm cannot be.
    """
    if plan.study.matching is None:
        return plan, tasks
    matched = recorded_matches(plan.study, folder)
    if {each.arm for each in matched} != set(plan.study.matching.by):
        matched = matching.solve(plan.study.matching, plan.configs, plan.study.baseline_name, tasks)
    found = with_matched(plan, matched)
    return found, {config: tasks[plan.configs[name]] for name, config in found.configs.items()}


def check_metric(plan: Plan, tasks: Mapping[Config, Task]) -> None:
    """Every arm's task must report the metric that the study compares, lest it be missed after hours.

    Raises:
        BadInput: one does not.
    """
    metric = plan.study.metric
    for name, config in plan.configs.items():
        reported = metric_names([tasks[config]], final=True)
        curves = {f"validation_{each}" for each in metric_names([tasks[config]])}
        if (
            metric.column not in {f"{split}_{each}" for split in SPLITS for each in reported}
            or metric.curve not in curves
        ):
            raise BadInput(
                f"arm {name!r}: study {plan.study.name} compares {metric.column}, and data set {config.data.name!r} "
                f"reports only {', '.join(f'test_{each}' for each in reported)}"
            )


def costs(plan: Plan, tasks: Mapping[Config, Task]) -> dict[str, Cost]:
    """What one trial of each arm costs; finds out, too, whether every model can treat its task.

    Raises:
        BadInput: one cannot. Nothing has been compiled or written by then.
    """
    result = {}
    for name, config in plan.configs.items():
        try:
            result[name] = cost(config, tasks[config])
        except BadInput as error:
            raise BadInput(f"arm {name!r}: {error}") from None
    return result


@contextlib.contextmanager
def _only_process(folder: Path) -> Iterator[None]:
    """Hold the folder; a second process is refused. The lock goes with the process, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout:  # before OSError, of which it is one
        raise BadInput(f"another process is working in {folder}; wait for it or choose another --workdir") from None
    except OSError as error:
        raise BadInput(f"cannot write to {folder}: {error.strerror or error}; choose another --workdir") from None
    with lock:
        yield


def _write_plan(plan: Plan, tasks: Mapping[Config, Task], folder: Path, command: str, accepted: bool) -> None:
    path = folder / "study.json"
    history = check_against(plan, path)
    resumption.check(plan.trials, resumption.find(folder / "checkpoints"))
    facts = data_changes.data_of(plan, tasks, path)
    changed = data_changes.check(facts, path, accepted=accepted)
    entry = {"command": command, "arms": list(plan.configs), "seeds": plan.study.seeds}
    if changed:
        logger.warning("going on with other data: %s", "; ".join(changed))
        entry["changed_data"] = changed
    if not history or {key: history[-1].get(key) for key in entry} != entry:
        history.append({**entry, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    registered = registration.register(registration.content(plan.study, plan.configs), registration.entry(path))
    content = {**document(plan, command, history), "registration": registered, "data": facts}
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _run_populations(
    plan: Plan,
    chosen: Sequence[Trial],
    tasks: Mapping[Config, Task],
    expected: Mapping[str, Cost],
    folder: Path,
    console: Console,
    watch: Watch,
) -> int:
    """Run what is chosen and has no record yet. Returns the number of trials that crashed."""
    files = Files(folder, plan.trials, list(tasks.values()))
    finished = files.finished()
    traced = study_traced_paths(plan.trials)
    # Only what is left: more seeds or arms leave the finished trials alone. Since a population's rows
    # are written all at once, one that was broken off has the same trials, and so its name, again.
    left = [trial for trial in chosen if (trial.id, digest(trial.config)) not in finished]

    def work(trials: Sequence[Trial]) -> float:
        return sum(expected[trial.arm].flops_per_step * trial.config.training.steps for trial in trials)

    def make(members: Group) -> Population:
        config = members.trials[0].config
        args = (members.trials, members.traced, tasks[config])
        return strategies.population(lambda way: Population(*args, way), config, len(members.trials))

    def run_one(members: Group, following: Group | None) -> dict[str, float]:
        population = preparation.take(members, following)
        return run_population(population, files, watch._replace(progress=progress.advance), origin=members.origin)

    crashed = 0
    seconds: dict[str, float] = {}
    begin = time.perf_counter()
    queue = collections.deque(resumption.groups(left, resumption.find(folder / "checkpoints"), traced))
    preparation = Preparation(make)
    with contextlib.closing(preparation), StudyProgress(work(chosen), console) as progress:
        progress.skip(work(chosen) - work(left))
        while queue:
            members = queue.popleft()
            trials = members.trials
            if watch.interrupted():
                raise Interrupted
            progress.begin(_title(trials), expected[trials[0].arm].flops_per_step)
            try:
                spent = run_one(members, queue[0] if queue else None)
                seconds = {key: seconds.get(key, 0.0) + value for key, value in spent.items()}
            except (Interrupted, BadInput, OSError):
                raise
            except Exception as error:
                if is_out_of_memory(error) and len(trials) > 1:
                    logger.warning("%s: %s; half of them at a time", _title(trials), _one_line(error))
                    queue.extendleft(members._replace(trials=half) for half in reversed(halves(trials)))
                    continue
                logger.exception("%s crashed; the others go on", _title(trials))
                files.trials.put(crashed_rows(trials, error), key="trial")
                crashed += len(trials)
    if seconds:
        seconds["compile"] += preparation.seconds
        _log_seconds(seconds, time.perf_counter() - begin)
    return crashed


def _log_seconds(seconds: Mapping[str, float], total: float) -> None:
    """Say what the time of a study went into."""
    parts = {**seconds, "other": total - sum(seconds.values())}
    shares = ", ".join(f"{key} {value:.1f} s ({value / total:.0%})" for key, value in parts.items())
    logger.info("ran for %s: %s", clock(total), shares)


def _one_line(error: BaseException) -> str:
    """What an error says, cut to a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _title(trials: Sequence[Trial]) -> str:
    arms = ", ".join(dict.fromkeys(trial.arm for trial in trials))
    return f"{arms} ({len(trials)} trial{'s' if len(trials) > 1 else ''})"


def _report(plan: Plan, folder: Path, command: str, console: Console, *, parquet: bool) -> Result:
    """The report on the trials of the plan, from the records alone."""
    trials, curves = tables.records(plan, folder)
    missing = len(plan.trials) - len(trials)
    if missing == len(plan.trials):
        raise BadInput(
            f"{folder / 'trials.csv'} has none of the trials of this plan; check --preset, --arms and --config"
        )
    if missing:
        logger.warning("%d of %d trials have no record yet; the report leaves them out", missing, len(plan.trials))
    beside = tables.untrained(plan, folder)
    summary = report.write(folder, plan.study, trials, curves, command=command, untrained=beside)
    if parquet:
        tables.write_parquet(folder)
    report.print_table(console, summary)
    console.print(f"Report: {folder / 'report' / 'index.html'}", highlight=False, soft_wrap=True)
    return Result(folder, trials, curves, summary, int((trials["status"] == "crashed").sum()))
