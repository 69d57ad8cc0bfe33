"""Arms solved to be as large or expensive as the baseline, against their neighbours."""

import dataclasses
import json

import pytest

from experiments import matching, plan
from experiments.plan import recorded_matches, resolve, with_matched
from experiments.study import Matching
from models.base import BadInput
from train import config as configuration
from train import data
from train.cost import cost


@pytest.fixture(scope="module")
def task():
    return data.load(plan.load("architectures", "smoke").baseline.data, None)


def resolved(equal, by, tolerance=0.02, arms=("lstm", "transformer")):
    study = plan.load("architectures", "smoke")
    return resolve(
        dataclasses.replace(study, claims=(), matching=Matching(equal=equal, by=by, tolerance=tolerance)), arms=arms
    )


def solved(found, task):
    tasks = dict.fromkeys(found.configs.values(), task)
    return matching.solve(found.study.matching, found.configs, found.study.baseline_name, tasks)


@pytest.mark.slow
def test_parameters_are_matched_better_than_by_the_next_widths(task):
    found = resolved("parameters", {"lstm": "model.width", "transformer": "model.width"})
    matched = {each.arm: each for each in solved(found, task)}
    target = cost(found.configs["mlp"], task).parameters

    def parameters(arm, width):
        return cost(configuration.replace(found.configs[arm], {"model.width": width}), task).parameters

    for arm, apart in (("lstm", 1), ("transformer", 4)):  # four heads must divide a width
        best = matched[arm].value
        near = [abs(parameters(arm, width) - target) for width in (best - apart, best, best + apart)]
        assert near[1] < min(near[0], near[2])
        assert matched[arm].ratio == pytest.approx(parameters(arm, best) / target)
    plan_after = with_matched(found, list(matched.values()))
    assert plan_after.configs["lstm"].model.width == matched["lstm"].value
    assert {trial.config.model.width for trial in plan_after.trials if trial.arm == "lstm"} == {matched["lstm"].value}


@pytest.mark.slow
def test_operations_are_matched(task):
    found = resolved("flops_per_step", {"lstm": "model.width"}, tolerance=0.05, arms=("lstm",))
    (matched,) = solved(found, task)
    after = with_matched(found, [matched]).configs
    ratio = cost(after["lstm"], task).flops_per_step / cost(after["mlp"], task).flops_per_step
    assert ratio == pytest.approx(matched.ratio)
    assert abs(ratio - 1) < 0.05


@pytest.mark.slow
def test_training_time_is_matched_by_the_number_of_steps(task):
    found = resolved("train_seconds", {"lstm": "training.steps"}, tolerance=0.2, arms=("lstm",))
    (matched,) = solved(found, task)
    # An LSTM's step takes longer than the MLP's.
    assert 1 <= matched.value < found.configs["mlp"].training.steps
    assert 0.8 <= matched.ratio <= 1.2


@pytest.mark.parametrize(
    ("equal", "by", "message"),
    [
        ("parameters", {"lstm": "model.widht"}, "did you mean 'model.width'"),
        ("parameters", {"lstm": "optimizer.learning_rate"}, "no whole number"),
        ("parameters", {"mlp": "model.width"}, "is the baseline"),
        pytest.param(
            "parameters",
            {"lstm": "training.batch_size"},
            "cannot have the baseline's parameters",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_be_matched(task, equal, by, message):
    found = resolved(equal, {"lstm": "model.width"}, arms=("lstm",))
    declared = dataclasses.replace(found.study.matching, by=by)
    tasks = dict.fromkeys(found.configs.values(), task)
    with pytest.raises(BadInput, match=message):
        matching.solve(declared, found.configs, "mlp", tasks)


def test_what_an_earlier_run_solved_for_stays(task, tmp_path):
    found = resolved("parameters", {"lstm": "model.width"}, arms=("lstm",))
    matched = solved(found, task)
    content = plan.document(with_matched(found, matched), "command", [])
    (tmp_path / "study.json").write_text(json.dumps(content))
    assert recorded_matches(found.study, tmp_path) == matched
    other = dataclasses.replace(found.study.matching, equal="flops_per_step")
    assert recorded_matches(dataclasses.replace(found.study, matching=other), tmp_path) == ()
