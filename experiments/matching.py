"""Arms made as large or as expensive as the baseline, by solving for one whole number of their configuration."""

import bisect
import functools
import json
import math
import time
from collections.abc import Callable, Mapping

import jax

from experiments.study import Matched, Matching
from models.base import BadInput, Static, unknown
from train import config as configuration
from train.config import Config, Trial, traced_paths
from train.cost import cost, parameter_count
from train.data.task import Task
from train.population import Population

LARGEST = 1 << 20
"""The search stops here: nothing sensible is wider."""

MOST_APART = 256
"""Allowed values are at most so far apart."""


def solve(
    matching: Matching, configs: Mapping[str, Config], baseline: str, tasks: Mapping[Config, Task]
) -> tuple[Matched, ...]:
    """What each matched field becomes.

    Args:
        matching: what is to be equal, and by which field of each arm.
        configs: by arm, the baseline's among them.
        baseline: its name.
        tasks: the task of each configuration.

    Raises:
        BadInput: an unknown arm or path, a path that is not a whole number, or a size that cannot be reached.
    """
    matched: list[Matched] = []
    timed: dict[str, float] = {}
    target = _measure(matching, configs[baseline], tasks[configs[baseline]], timed)
    for arm, path in matching.by.items():
        if arm not in configs:
            raise unknown("arm", arm, configs)
        if arm == baseline:
            raise BadInput(f"matching: {arm!r} is the baseline, to which the others are matched")
        measure = functools.partial(_measure, matching, task=tasks[configs[arm]], timed=timed)
        value, config = _solved(configs[arm], arm, path, target, measure)
        ratio = measure(config) / target
        if abs(ratio - 1) > matching.tolerance:
            raise BadInput(
                f"arm {arm!r} cannot have the baseline's {matching.equal} within {matching.tolerance:.1%} by {path}: "
                f"the nearest is {value}, with {ratio:.3g} times as many; widen the tolerance or choose another field"
            )
        matched.append(Matched(arm=arm, path=path, value=value, equal=matching.equal, ratio=ratio))
    return tuple(matched)


def _measure(matching: Matching, config: Config, task: Task, timed: dict[str, float]) -> float:
    """The quantity that is to be equal."""
    if matching.equal == "train_seconds":
        # A step takes as long however many there are, so that solving for their number measures once.
        content = configuration.to_dict(config)
        key = json.dumps({**content, "training": {**content["training"], "steps": 0}})
        if key not in timed:
            timed[key] = seconds_per_step(config, task)
        return timed[key] * config.training.steps
    if matching.equal == "parameters":
        return float(parameter_count(config, task))
    return cost(config, task).flops_per_step


def _solved(
    config: Config, arm: str, path: str, target: float, cost_of: Callable[[Config], float]
) -> tuple[int, Config]:
    """The value with the nearest cost. The cost is taken to rise with it."""
    known = configuration.paths(config)
    if path not in known:
        raise unknown("configuration path", path, known)
    leaf = known[path]
    if leaf.field.annotation is not int or not isinstance(leaf.field.kind, Static):
        raise BadInput(f"arm {arm!r}: {path}={leaf.value} is no whole number that sets a size; match by another field")
    cost = functools.cache(lambda value: _cost(config, path, value, cost_of))
    if cost(leaf.value) is None:
        raise BadInput(f"arm {arm!r}: {path}={leaf.value} is not allowed; give it a value to start from")
    # Heads must divide a width: the next allowed value tells how far apart allowed ones are.
    apart = next((step for step in range(1, MOST_APART + 1) if cost(leaf.value + step) is not None), None)
    if apart is None:
        raise BadInput(f"arm {arm!r}: no value of {path} next to {leaf.value} is allowed; match by another field")
    values = range(leaf.value % apart or apart, LARGEST, apart)

    def size(value: int) -> float:
        """What is not allowed counts as too small below the field's own value, and as too large above."""
        return found if (found := cost(value)) is not None else math.inf if value > leaf.value else 0.0

    top = 1
    while top < len(values) and size(values[top]) < target:
        top *= 2
    above = bisect.bisect_left(range(min(top, len(values))), target, key=lambda index: size(values[index]))
    near = [values[index] for index in (above - 1, above) if 0 <= index < len(values) and cost(values[index])]
    best = min(near or [leaf.value], key=lambda value: abs(size(value) - target))
    return best, configuration.replace(config, {path: best})


def _cost(config: Config, path: str, value: int, cost_of: Callable[[Config], float]) -> float | None:
    """None where the value is not allowed."""
    try:
        return cost_of(configuration.replace(config, {path: value}))
    except BadInput:
        return None


def seconds_per_step(config: Config, task: Task, *, steps: int = 5, repeats: int = 3) -> float:
    """Measured seconds of one training step of one trial alone: the least of a few short runs after compiling."""
    population = Population([Trial(arm="measured", seed=0, config=config)], traced_paths([config]), task)
    last = min(steps, config.training.steps)
    state, _ = population.advance(population.init(), 0, last)
    jax.block_until_ready(state)
    spent = []
    for _ in range(repeats):
        state = population.init()
        jax.block_until_ready(state)
        begin = time.perf_counter()
        state, _ = population.advance(state, 0, last)
        jax.block_until_ready(state)
        spent.append((time.perf_counter() - begin) / last)
    return min(spent)
