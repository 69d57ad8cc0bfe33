"""What ``--dry_run`` shows: the resolved plan and what it costs, before anything runs."""

import time
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.feasibility import check_metric, costs, load_tasks, matched_plan
from experiments.formatting import si
from experiments.plan import Plan
from experiments.progress import clock
from train import devices, strategies
from train.config import Config, paths
from train.cost import Cost
from train.data.task import Task
from train.packing import group

EFFICIENCY = 0.3
"""Share of the speed of a large matrix product that the small networks of an ablation typically reach."""


def show(plan: Plan, data_dir: str | None, console: Console, *, workdir: str = "runs") -> None:
    """Print arms, populations, compilations, operations, memory and a rough time; write nothing.

    Raises:
        BadInput: the plan cannot run.
    """
    devices.prepare()
    plan, tasks = matched_plan(plan, load_tasks(plan, data_dir), Path(workdir) / plan.study.name)
    check_metric(plan, tasks)
    spent = costs(plan, tasks)
    console.print(_arms(plan, spent, tasks))
    for matched in plan.matched:
        console.print(f"matched: {matched}", highlight=False, markup=False, soft_wrap=True)
    for remark in plan.remarks:
        console.print(f"override: {remark}", highlight=False, markup=False, soft_wrap=True)
    populations = group(plan.trials)
    total = sum(spent[trial.arm].flops_per_step * trial.config.training.steps for trial in plan.trials)
    backend = jax.default_backend()
    ways = sorted({strategies.expected(each[0].config, backend, len(each)) for each in populations})
    console.print(
        f"{len(plan.trials)} trials in {len(populations)} populations ({', '.join(ways)}), each compiled once; "
        f"{si(total)}FLOP in all; at this machine's speed very roughly {clock(total / _speed() / EFFICIENCY)}",
        highlight=False,
        soft_wrap=True,
    )
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


def _speed() -> float:
    """Operations a second of a matrix product on this machine's default device."""
    matrix = jnp.ones((1024, 1024))
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    start = time.perf_counter()
    for _ in range(5):
        product(matrix, matrix).block_until_ready()
    return 5 * 2 * 1024**3 / (time.perf_counter() - start)
