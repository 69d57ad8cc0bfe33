"""What ``--dry_run`` shows: the resolved plan and what it costs, before anything runs."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console
from rich.table import Table

from experiments import mesh_table
from experiments.feasibility import check_metric, costs, costs_of, load_tasks, matched_plan
from experiments.formatting import si
from experiments.launchers import Launch, packs
from experiments.plan import Plan
from experiments.populations import work
from experiments.progress import clock
from experiments.tuning import adaptive, command_line, declaration, storages
from experiments.tuning.arm_spaces import FIRST_SEED
from experiments.tuning.run import work_planned
from train import devices, mesh_account, meshes, strategies
from train.config import Config, paths, program_key
from train.cost import Cost
from train.data.task import Task
from train.mesh_account import Account
from train.packing import group, study_traced_paths
from train.resumption import Group

EFFICIENCY = 0.3
"""Share of the speed of a large matrix product that the small networks of an ablation typically reach."""


def show(
    plan: Plan,
    data_dir: str | None,
    console: Console,
    *,
    workdir: str = "runs",
    tune: bool = True,
    tuned: command_line.Changes = (),
    storage: str | None = None,
    launch: Launch | None = None,
) -> None:
    """Print arms, populations, compilations, operations, memory and a rough time; write nothing.

    Args:
        plan: of the study.
        data_dir: where data sets lie.
        console: to print on.
        workdir: where an earlier run may have matched arms.
        tune: false: nothing is tuned.
        tuned: changes of the declared tuning.
        storage: URL of the storage of an adaptive search.
        launch: where it would run; None for this process.

    Raises:
        BadInput: the plan cannot run.
    """
    plan = command_line.changed(plan, tune=tune, changes=tuned)
    devices.prepare(mesh=max(meshes.size(config.execution.mesh) for config in plan.configs.values()))
    plan, tasks = matched_plan(plan, load_tasks(plan, data_dir), Path(workdir) / plan.study.name)
    check_metric(plan, tasks)
    prepared = declaration.prepare(plan, tasks) if plan.study.tuning is not None else None
    storages.check(storage, prepared)
    spent = costs(plan, tasks)
    console.print(_arms(plan, spent, tasks))
    for matched in plan.matched:
        console.print(f"matched: {matched}", highlight=False, markup=False, soft_wrap=True)
    for remark in plan.remarks:
        console.print(f"override: {remark}", highlight=False, markup=False, soft_wrap=True)
    populations = group(plan.trials)
    total = sum(spent[trial.arm].flops_per_step * trial.config.training.steps for trial in plan.trials)
    if prepared is not None:
        total += _show_tuning(prepared, plan, tasks, spent, console)
    backend = jax.default_backend()
    ways = sorted({strategies.expected(each[0].config, backend, len(each)) for each in populations})
    console.print(
        f"{len(plan.trials)} trials in {len(populations)} populations ({', '.join(ways)}), each compiled once; "
        f"{si(total)}FLOP in all; at this machine's speed very roughly {clock(total / _speed() / EFFICIENCY)}",
        highlight=False,
        soft_wrap=True,
    )
    if launch is not None and launch.options is not None:
        _show_packs(plan, spent, launch, console)
        if prepared is not None:
            console.print("tuning trials run in packs like these, before", highlight=False, soft_wrap=True)
    _show_meshes(plan, tasks, console)
    for arm, cost in spent.items():
        parts = ", ".join(f"{name} {count:,}" for name, count in cost.modules.items())
        console.print(f"parameters of {arm}: {parts}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nThe baseline's fields, as --config.PATH=VALUE", highlight=False)
    for path, leaf in sorted(paths(plan.study.baseline).items()):
        value = leaf.value if not path.endswith(".name") else getattr(plan.study.baseline, path.split(".")[0]).name
        kind = type(leaf.field.kind).__name__.lower()
        console.print(f"  {path}={value}  ({kind})", highlight=False, markup=False, soft_wrap=True)
    first = next(iter(spent.values()))
    for title, names in (("Decayed by L1, L2 and weight decay", first.decayed), ("Left alone", first.undecayed)):
        console.print(f"{title} (baseline): {', '.join(names)}", highlight=False, markup=False, soft_wrap=True)


def _arms(plan: Plan, spent: Mapping[str, Cost], tasks: Mapping[Config, Task]) -> Table:
    """A row for each arm."""
    table = Table(
        title=f"{plan.study.name} ({plan.study.preset}); memory of all trials",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
    )
    table.add_column("arm", overflow="fold")
    for column in ("trials", "steps", "parameters", "FLOP/step", "states", "data"):
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    for name, config in plan.configs.items():
        cost = spent[name]
        splits = (tasks[config].train.arrays, tasks[config].validation.arrays)
        data = sum(array.nbytes for array in jax.tree.leaves([dict(arrays) for arrays in splits]))
        table.add_row(
            name,
            str(plan.study.seeds),
            str(config.training.steps),
            f"{cost.parameters:,}",
            si(cost.flops_per_step),
            f"{si(cost.state_bytes * plan.study.seeds)}B",
            f"{si(data)}B",
        )
    return table


def _show_packs(plan: Plan, spent: Mapping[str, Cost], launch: Launch, console: Console) -> None:
    """A row for each pack, and what each asks for."""
    groups = [Group(trials, (), None) for trials in group(plan.trials)]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("pack", overflow="fold")
    for column in ("trials", "FLOP"):
        table.add_column(column, justify="right", no_wrap=True)
    slices = packs.sliced(groups, launch.pack_trials)
    for trials, *_ in slices:
        total = sum(spent[trial.arm].flops_per_step * trial.config.training.steps for trial in trials)
        table.add_row(", ".join(dict.fromkeys(trial.arm for trial in trials)), str(len(trials)), si(total))
    asked = dataclasses.asdict(launch.options) if launch.options else {}
    beside = "".join(f", {name}={value}" for name, value in asked.items() if value)
    console.print(
        f"{len(slices)} packs for {launch.kind}, each asking for {launch.resources}{beside}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    console.print(table)


def _show_meshes(plan: Plan, tasks: Mapping[Config, Task], console: Console) -> None:
    """Print what each population on a mesh takes of a device; its training program is compiled for that."""
    traced = study_traced_paths(plan.trials)
    accounts: dict[str, Account] = {}
    for trials in group(plan.trials):
        config = trials[0].config
        name = f"{', '.join(dict.fromkeys(trial.arm for trial in trials))} ({len(trials)})"
        if config.execution.mesh and name not in accounts:  # others of that name differ in seeds alone
            accounts[name] = mesh_account.of_trials(trials, traced[program_key(config)], tasks[config])
    if not accounts:
        return
    console.print(mesh_table.table(accounts))
    for name, each in accounts.items():
        words = f"collectives of a step, {name}: {mesh_table.collectives(each)}"
        console.print(words, highlight=False, markup=False, soft_wrap=True)
    console.print(mesh_table.SOURCES, highlight=False, soft_wrap=True)


def _show_tuning(
    prepared: declaration.Prepared,
    plan: Plan,
    tasks: Mapping[Config, Task],
    spent: Mapping[str, Cost],
    console: Console,
) -> float:
    """Print what is tuned, how, and at what cost; return its operations."""
    table = Table(title="tuning, before arms are compared", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for column in ("arm", "path", "space"):
        table.add_column(column, overflow="fold")
    for arm, space in prepared.spaces.items():
        for index, (path, values) in enumerate(space.spaces.items()):
            when = "".join(f", where {name}={value}" for name, value in values.when.items())
            table.add_row(arm if index == 0 else "", path, f"{command_line.spelled(values)}{when}")
    console.print(table)
    for remark in prepared.remarks:
        console.print(f"tuning: {remark}", highlight=False, markup=False, soft_wrap=True)
    trials = prepared.trials(tuple(prepared.spaces))
    known = costs_of(trials, {trial.config: tasks[plan.configs[trial.arm]] for trial in trials})
    expected = {config: spent[arm] for arm, config in plan.configs.items()}
    cost = work(trials, known) if trials else work_planned(prepared, expected, plan)
    tuning = prepared.tuning
    count = sum(prepared.count(arm) for arm in prepared.spaces) * tuning.seeds
    steps = max((space.config.training.steps for space in prepared.spaces.values()), default=0)
    length = " (training.steps is replaced, and schedules follow)" if tuning.steps is not None else ""
    programs = f" in {len(group(trials))} populations" if trials else f", {adaptive.BATCH} an arm at a time"
    console.print(
        f"{count} tuning trials{programs}: {tuning.search}, pruning {tuning.pruning}, {tuning.seeds} "
        f"seed{'s' if tuning.seeds > 1 else ''} from {FIRST_SEED} on, {steps} steps{length}, by "
        f"{prepared.compared.column} ({'more' if prepared.compared.higher_is_better else 'less'} is better); "
        f"{si(cost)}FLOP at most",
        highlight=False,
        soft_wrap=True,
    )
    return cost


def _speed() -> float:
    """Operations a second of a matrix product on this machine's default device."""
    matrix = jnp.ones((1024, 1024))
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    start = time.perf_counter()
    for _ in range(5):
        product(matrix, matrix).block_until_ready()
    return 5 * 2 * 1024**3 / (time.perf_counter() - start)
