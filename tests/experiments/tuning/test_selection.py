"""Which configuration is chosen, and which trials end early: against rules written out by hand."""

import dataclasses
import math
import statistics

import numpy as np
import pytest

from experiments.spaces import Uniform
from experiments.study import Metric, Tuning
from experiments.tuning import pruning, selection
from models import mlp
from models.base import BadInput
from train import data, directions
from train.config import Config, Training, Trial
from train.data import digits
from train.data.task import Task
from train.optimizers import sgd
from train.schedules import constant

SPACES = {"optimizer.learning_rate": Uniform(0.0, 1.0)}


def row(number: int, seed: int, value: float | None, status: str = "ok") -> dict[str, str]:
    return {"number": str(number), "seed": str(seed), "status": status, "value": "" if value is None else str(value)}


def choose(rows, *, higher: bool, seeds: int = 2, rates=(0.1, 0.2, 0.3, 0.99)) -> selection.Winner:
    points = [(number, {"optimizer.learning_rate": rate}) for number, rate in enumerate(rates)]
    return selection.choose(rows, points, SPACES, seeds=seeds, higher_is_better=higher)


def test_the_best_mean_wins_and_of_equals_the_earlier():
    values = [(0.5, 0.7), (0.9, 0.1), (0.6, 0.6), (0.2, 0.4)]
    rows = [row(number, 1000 + seed, value[seed]) for number, value in enumerate(values) for seed in (0, 1)]
    best, least = choose(rows, higher=True), choose(rows, higher=False)
    assert (best.number, best.value) == (0, pytest.approx(0.6))
    assert (least.number, least.value, least.edges) == (3, pytest.approx(0.3), ("optimizer.learning_rate",))
    assert best.edges == ()
    assert best.statuses == {"ok": 8}


@pytest.mark.parametrize("status", ["diverged", "crashed", "pruned"])
def test_a_trial_that_did_not_arrive_counts_as_worst(status):
    value = 1.0 if status == "pruned" else None
    rows = [row(0, 1000, 1.0), row(0, 1001, value, status), row(1, 1000, 0.1), row(1, 1001, 0.2)]
    assert choose(rows, higher=True).number == 1
    none = choose([row(0, 1000, value, status), row(1, 1000, value, status)], higher=True)
    assert (none.number, none.value, none.edges) == (0, None, ())


METRIC = Metric(column="test_accuracy", label="a", curve="validation_accuracy", higher_is_better=True)


@pytest.fixture(scope="module")
def task() -> Task:
    found = data.load(digits.Config(), None)
    objective = found.objective._replace(metrics=(*found.objective.metrics, "strange"))
    return dataclasses.replace(found, objective=objective)


def test_the_direction_is_that_of_the_column(task):
    def compared(column, metric=METRIC) -> selection.Compared:
        return selection.compared(Tuning(space=SPACES, column=column), metric, {"plain": task})

    assert compared(None) == ("validation_accuracy", True)
    assert compared("validation_loss") == ("validation_loss", False)
    other = Metric(column="test_loss", label="l", curve="validation_accuracy", higher_is_better=False)
    assert compared(None, other) == ("validation_accuracy", True)
    with pytest.raises(BadInput, match="whether more of it is better is not known"):
        compared("validation_strange")


def test_the_direction_of_every_metric_is_known():
    from train import objectives

    made = [
        objectives.classification(), objectives.translation(4), objectives.regression(), objectives.forecasting(),
        objectives.answers(), objectives.language_modelling("token", spelled=("character", "byte")),
    ]  # fmt: skip
    for objective in made:
        for name in objective.metrics:
            known = (name.startswith(directions.LOWER_IS_BETTER), name in directions.HIGHER_IS_BETTER)
            assert sum(known) == 1, name
            assert directions.higher_is_better(name) is known[1]


def trials_of(count: int, steps: int, every: int, seeds: int = 1) -> list[Trial]:
    config = Config(
        data=digits.Config(),
        model=mlp.Config(),
        optimizer=sgd.Config(),
        schedule=constant.Config(),
        training=Training(steps=steps, evaluate_every=every),
    )
    return [Trial(arm="a", number=n, seed=seed, config=config) for n in range(count) for seed in range(seeds)]


def played(kind: str, curves: np.ndarray, *, every: int = 10, higher: bool = False, told=None) -> list[int]:
    """The step at which each trial ends; curves ``[trial, evaluation]``, the first at step 0."""
    count, length = curves.shape
    trials = trials_of(count, (length - 1) * every, every)
    earlier = pruning.curves(told or [], "value", higher_is_better=higher)
    rule = pruning.rule(kind, trials, earlier, count=count, higher_is_better=higher)
    ends = [(length - 1) * every] * count
    alive = set(range(count))
    for index in range(length - 1):
        ended = rule(index * every, {trials[n].id: float(curves[n, index]) for n in sorted(alive)})
        for n in [n for n in alive if trials[n].id in ended]:
            ends[n] = index * every
            alive.remove(n)
    return ends


def test_halving_lets_a_third_go_on_at_each_rung():
    """Nine trials of 90 steps: rungs at 10 and 30; three go on at the first, one at the second."""
    generator = np.random.default_rng(1)
    curves = generator.normal(size=(9, 10))
    ends = played("halving", curves)
    third = sorted(range(9), key=lambda n: curves[n, 1])[:3]
    best = min(third, key=lambda n: curves[n, 3])
    expected = [90 if n == best else 30 if n in third else 10 for n in range(9)]
    assert ends == expected
    assert played("halving", -curves, higher=True) == expected
    assert pruning.rungs(90, 10, 9) == (10, 30)
    assert pruning.rungs(100, 10, 27) == (10, 20, 40)
    assert pruning.rungs(100, 60, 27) == (60,)
    assert pruning.rungs(100, 10, 2) == ()


def test_the_median_spares_the_first_quarter_and_counts_those_that_ended_by_their_last_value():
    generator = np.random.default_rng(2)
    curves = generator.normal(size=(8, 13))
    ends, last = [120] * 8, {}
    alive = list(range(8))
    for index in range(12):
        last |= {n: curves[n, index] for n in alive}
        if index * 10 < 30:
            continue
        gone = [n for n in alive if curves[n, index] > statistics.median(last[o] for o in range(8) if o != n)]
        for n in gone:
            ends[n] = index * 10
            alive.remove(n)
    assert played("median", curves) == ends
    assert min(ends) == 30
    assert played("median", -curves, higher=True) == ends


def test_values_that_are_no_numbers_are_worst():
    curves = np.tile(np.arange(9.0)[:, None], (1, 10))
    curves[0] = math.nan
    assert played("halving", curves) == [10, 90, 30, 30, 10, 10, 10, 10, 10]


def test_trials_of_later_populations_are_ranked_among_the_earlier_ones():
    curves = np.tile(np.arange(9.0)[:, None], (1, 10)) + 0.5
    told = [
        {"arm": arm, "number": str(100 + n), "step": str(step), "value": str(value)}
        for arm, values in (("a", [0.0, 1.0, 9.0]), ("b", [-9.0] * 9))
        for n, value in enumerate(values)
        for step in (0, 10)
    ]
    # 0, 0.5, 1 and 1.5 are the best third of twelve; nobody of the earlier ones has a value at the second rung.
    assert played("halving", curves, told=told) == [90, 30, *[10] * 7]


def test_seeds_of_a_configuration_end_together():
    trials = trials_of(4, 90, 10, seeds=2)
    rule = pruning.rule("median", trials, {}, count=4, higher_is_better=False)
    values = {trial.id: float(trial.number) + (5 if trial.seed else 0) for trial in trials}
    assert rule(30, values) == {"a-t2-s0", "a-t2-s1", "a-t3-s0", "a-t3-s1"}
