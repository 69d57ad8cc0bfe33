"""Inference latency: how long each arm takes for one example, measured when nothing else of the study runs.

The arms take turns, round after round, so that what slows the machine down for a while slows all of them. What is
timed is the compiled evaluation of one example whose input and output lie on the device. Weights are fresh: what they
are changes nothing of the time.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import pandas as pd

import models
from experiments import examples, tables
from experiments.plan import Plan
from models.base import BadInput
from train import provenance
from train.config import Config, digest
from train.data.task import Task
from train.records import Table

ROUNDS = 12
"""Measurements of each arm."""

SECONDS = 0.02
"""Each measurement, the median of some calls, goes on for about so long, and at least three calls."""

_COLUMNS = ("id", "arm", "config_hash", "round", "milliseconds")


def measure(plan: Plan, tasks: Mapping[Config, Task], folder: Path) -> None:
    """Write ``latency.csv``: for each arm that has none there yet, a row a round.

    Args:
        plan: of the study.
        tasks: of each configuration.
        folder: of the study.
    """
    table = Table(folder / "latency.csv", (*_COLUMNS, *provenance.COLUMNS))
    known = {row["config_hash"] for row in table.rows()}
    left = {arm: config for arm, config in plan.configs.items() if digest(config) not in known}
    calls = {arm: _call(config, tasks[config]) for arm, config in left.items()}
    counts = {arm: max(3, int(SECONDS / _seconds(call, 3))) for arm, call in calls.items()}
    rows: list[dict[str, Any]] = []
    for number in range(ROUNDS):
        for arm, call in calls.items():
            spent = 1000 * _seconds(call, counts[arm])
            name = digest(left[arm])
            rows.append(
                {
                    "id": f"{name}-{number}",
                    "arm": arm,
                    "config_hash": name,
                    "round": number,
                    "milliseconds": round(spent, 6),
                    **provenance.collect(),
                }
            )
    table.append(rows)


def read(plan: Plan, folder: Path) -> pd.DataFrame | None:
    """The rows of the plan's arms in ``latency.csv``; None where there is no such file.

    Raises:
        BadInput: the file is damaged.
    """
    path = folder / "latency.csv"
    if not path.exists():
        return None
    wanted = pd.DataFrame(
        [(arm, digest(config)) for arm, config in plan.configs.items()], columns=["arm", "config_hash"], dtype=str
    )
    try:
        return wanted.merge(tables.read(path).drop(columns="arm"), on="config_hash")
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is damaged ({reason}); move it away and run again") from None


def _call(config: Config, task: Task) -> Callable[[], Any]:
    """The compiled evaluation of one validation example; it has run once."""
    model = models.build(config.model, task.shapes, compute_dtype=config.training.compute_dtype)
    batch = examples.validation(task, [0])
    variables = jax.jit(model.init)(jax.random.key(0), batch.inputs)

    def evaluate(variables: Any, inputs: Any) -> Any:
        return model.apply(variables, inputs, train=False, rngs={}, hyperparameters={})[0]

    compiled = jax.jit(evaluate).lower(variables, batch.inputs).compile()
    jax.block_until_ready(compiled(variables, batch.inputs))
    return lambda: compiled(variables, batch.inputs)


def _seconds(call: Callable[[], Any], count: int) -> float:
    """Seconds of a call: the median of ``count``, one after another, so that a moment's hindrance counts little."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - start)
    return statistics.median(found)
