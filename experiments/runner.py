"""Run a study here: load its data, run its populations one after another, report.

The same from Python as from the command line::

    result = experiments.run("architectures", seeds=10)
    result.trials.groupby("arm").test_accuracy.mean()
"""

import contextlib
import dataclasses
import json
import logging
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import filelock
import pandas as pd
from rich.console import Console

from experiments import data_changes, latency, registration, report, tables
from experiments.adaptation import adapted
from experiments.explanations import run as explanations
from experiments.feasibility import check_metric, costs, costs_of, load_tasks, matched_plan
from experiments.launchers import Launch
from experiments.launchers.request import Request
from experiments.plan import Plan, check_against, document, load, recorded_matches, resolve, with_matched
from experiments.populations import work
from experiments.progress import StudyProgress
from experiments.tuning import command_line, declaration, storages
from experiments.tuning import run as tuning
from experiments.tuning.declaration import Prepared
from models.base import BadInput, unknown
from train import devices, meshes, processes, resumption, trackers
from train.config import Config, Trial
from train.data.task import Task
from train.folder import Files
from train.loop import Watch
from train.records import Table, write_atomically
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
    vary: Mapping[str, Any] | Sequence[tuple[str, str]] = (),
    again: bool = False,
    variance: Sequence[str] | None = None,
    workdir: str | Path = "runs",
    data_dir: str | Path | None = None,
    report_only: bool = False,
    explain: Sequence[str] | None = None,
    checkpoint: Literal["last", "best"] = "last",
    accept_changed_data: bool = False,
    deterministic: bool = False,
    tracker: Sequence[str] = (),
    profile: bool = False,
    only: Sequence[str] | None = None,
    parquet: bool = False,
    tune: bool = True,
    tuned: command_line.Changes = (),
    tuning_storage: str | None = None,
    launch: Launch | None = None,
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
        vary: the arms are all combinations of these values, e.g. ``{"model.dropout_rate": (0.0, 0.1)}``; the name of
            the study then has the paths appended.
        again: whether an arm is added that is the baseline under other seeds.
        variance: sources of chance (init, order, noise, split), each the only one that varies in an arm.
        workdir: results go to ``workdir/name``.
        data_dir: where data sets lie, as ``data_dir/<data set>/<file>``.
        report_only: rebuild the report from the records, run nothing.
        explain: run nothing, but show in the report what these trials look at; of an arm its first seed, of none
            named that of every arm. They need the weights that they kept. None: nothing is explained.
        checkpoint: which of their checkpoints is explained: the last, or the best of those that were kept.
        accept_changed_data: go on although the data changed since the study began; the records say so.
        deterministic: a GPU computes the same bits in every run; see :data:`train.devices.DETERMINISTIC`.
        tracker: what is told of the curves beside ``curves.csv``: tensorboard, wandb.
        profile: whether a few steps of each population are profiled, into ``workdir/name/profiles``.
        only: arms or trials that are run, e.g. ``cnn`` or ``cnn-s3``; the others of the plan are left. None for all.
        parquet: whether ``trials.parquet`` and ``curves.parquet`` are written beside the CSV files.
        tune: false: the declared configurations run, whatever tuning the study declares.
        tuned: changes of the declared tuning, or what makes one: spaces by path, and fields such as ``trials``, e.g.
            ``{"optimizer.learning_rate": Uniform(1e-4, 1e-1, log=True), "trials": 16}``.
        tuning_storage: URL of the storage of an adaptive search; None for a file in the folder.
        launch: where trials run, and with what resources; None for this process.
        command: the command that the report shows; None for the one that these arguments make.
        console: where progress, table and verdict go; None for standard output.

    Raises:
        BadInput: the request cannot be met; nothing has been written.
        Interrupted: SIGINT or SIGTERM arrived; the same call goes on.
    """
    console = console or Console()
    given = overrides.items() if isinstance(overrides, Mapping) else overrides
    pairs = [(path, str(value)) for path, value in given]
    factors = _factors(vary)
    study = load(name, preset)
    if study.adapt is not None:
        devices.prepare(deterministic=deterministic, mesh=meshes.size(dict(pairs).get("execution.mesh", "")))
        study = adapted(study, pairs, data_dir)
    plan = resolve(study, seeds=seeds, arms=arms, overrides=pairs, vary=factors, again=again, variance=variance)
    designed = [f"--vary={path}={values}" for path, values in factors] + ["--again"] * again
    designed += [f"--attribute_variance={','.join(variance)}"] if variance is not None else []
    plan = command_line.changed(plan, tune=tune, changes=tuned)
    designed += command_line.words(tune=tune, changes=tuned)
    command = command or _command(name, preset, seeds, arms, pairs, designed, workdir, data_dir, deterministic)
    folder = Path(workdir) / plan.study.name
    if parquet:
        tables.check_parquet()
    devices.prepare(deterministic=deterministic, mesh=_devices(plan))
    if report_only or explain is not None:
        plan = tuning.with_winners(with_matched(plan, recorded_matches(plan.study, folder)), folder)
        if explain is not None:
            wanted = explanations.chosen(plan, explain)
            explanations.explain(plan, load_tasks(plan, data_dir), folder, wanted, checkpoint)
        return _report(plan, folder, command, console, parquet=parquet)
    if launch is not None and launch.options is not None and (tracker or profile):
        asked = "--tracker" if tracker else "--profile"
        raise BadInput(f"{asked} watches trials that run in this process: leave it out, or --launcher={launch.kind}")
    told = trackers.make(tracker if processes.is_first() else (), folder)
    plan, tasks = matched_plan(plan, load_tasks(plan, data_dir), folder)
    choose(plan, only)
    check_metric(plan, tasks)
    prepared = declaration.prepare(plan, tasks) if plan.study.tuning is not None else None
    storages.check(tuning_storage, prepared)
    costs(plan, tasks)
    _check_processes(plan, prepared)
    tasks_of_arms = {arm: tasks[config] for arm, config in plan.configs.items()}
    launcher = (launch or Launch()).launcher(folder, data_dir=data_dir, deterministic=deterministic)
    with contextlib.closing(launcher), _only_process(folder), Stop() as stop:
        _write_plan(plan, tasks, folder, command, accept_changed_data)
        watched = Watch(lambda _: None, lambda: stop.asked, told, folder / "profiles" if profile else None)
        plan, crashed = _train(plan, only, prepared, tasks, folder, console, watched, tuning_storage, launcher)
        if plan.study.recommends and processes.is_first():
            latency.measure(plan, {config: tasks_of_arms[arm] for arm, config in plan.configs.items()}, folder)
        if processes.is_first():
            result = _report(plan, folder, command, console, parquet=parquet)
        else:
            result = Result(folder, pd.DataFrame(), pd.DataFrame(), None, crashed)
        processes.barrier("reported")
    return dataclasses.replace(result, crashed=crashed)


def _devices(plan: Plan) -> int:
    """Devices that the meshes of the plan take at the most."""
    return max(meshes.size(config.execution.mesh) for config in plan.configs.values())


def _check_processes(plan: Plan, prepared: Prepared | None) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        BadInput: a configuration has no mesh, or the tuning learns from its trials.
    """
    if processes.count() == 1:
        return
    if not all(config.execution.mesh for config in plan.configs.values()):
        raise BadInput("--distributed runs every trial on the devices of all processes: say how with --mesh")
    if prepared is not None and (prepared.points is None or prepared.tuning.pruning != "none"):
        raise BadInput("--distributed goes with tuning by grid, random, sobol or halton, and without pruning")


def _factors(vary: Mapping[str, Any] | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Paths and values as the command line spells them."""
    pairs = vary.items() if isinstance(vary, Mapping) else vary
    # Semicolons between values, since a value may hold commas, and one at the end, since there may be one value.
    return [
        (path, values if isinstance(values, str) else "".join(f"{value};" for value in values))
        for path, values in pairs
    ]


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


@contextlib.contextmanager
def _only_process(folder: Path) -> Iterator[None]:
    """Hold the folder; a second process is refused. The lock goes with the process, however it ends.

    Of processes that run together the first one holds it.
    """
    if not processes.is_first():
        yield
        return
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
    if plan.study.tuning is None:  # else the configurations are not known yet
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


def _train(
    plan: Plan,
    only: Sequence[str] | None,
    prepared: Prepared | None,
    tasks: Mapping[Config, Task],
    folder: Path,
    console: Console,
    watch: Watch,
    storage: str | None,
    launcher: Any,
) -> tuple[Plan, int]:
    """Tune what is to be tuned, then run what is chosen and has no record yet.

    Returns:
        the plan with the configurations that were chosen, and the number of trials that crashed.
    """
    declared = costs_of(plan.trials, tasks)
    crashed = 0
    left = work(choose(plan, only), declared) + (
        tuning.work_planned(prepared, declared, plan, folder) if prepared else 0.0
    )
    with StudyProgress(left, console) as progress:
        if prepared is not None:

            def execute(trials: Sequence[Trial]) -> Table:
                nonlocal crashed
                mine = {trial.config: tasks[plan.configs[trial.arm]] for trial in trials}
                files = Files(folder, trials, list(tasks.values()), tuning=True)
                quiet = watch._replace(trackers=(), profiles=None)
                costs_here = costs_of(trials, mine)
                asked = Request(trials, mine, costs_here, files, progress, quiet, tuning.judging(prepared))
                crashed += launcher.run(asked)
                return files.trials

            def heed() -> None:
                if watch.interrupted():
                    raise Interrupted

            tuning.tune(prepared, folder, execute, storage, heed)
            chosen = tuning.with_winners(plan, folder)
            tasks = {config: tasks[plan.configs[arm]] for arm, config in chosen.configs.items()}
            plan = chosen
        files = Files(folder, plan.trials, list(tasks.values()))
        costs_now = costs_of(plan.trials, tasks)
        asked = Request(plan.trials, tasks, costs_now, files, progress, watch, chosen=choose(plan, only))
        crashed += launcher.run(asked)
    return plan, crashed


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
    summary = report.write(
        folder,
        plan.study,
        trials,
        curves,
        command=command,
        untrained=beside,
        registration=_registered(plan, folder),
        latencies=latency.read(plan, folder) if plan.study.recommends else None,
    )
    if parquet:
        tables.write_parquet(folder)
    report.print_table(console, summary)
    console.print(f"Report: {folder / 'report' / 'index.html'}", highlight=False, soft_wrap=True)
    return Result(folder, trials, curves, summary, int((trials["status"] == "crashed").sum()))


def _registered(plan: Plan, folder: Path) -> registration.Registration | None:
    """What was registered before the first step; None where the records are of an older version."""
    entry = registration.entry(folder / "study.json")
    return None if entry is None else registration.read(entry, registration.content(plan.study, plan.configs))
