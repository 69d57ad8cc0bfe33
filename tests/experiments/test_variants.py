"""Studies that the command line makes of a study."""

import pytest

from experiments import plan, runner, variants
from experiments.plan import resolve
from models.base import BadInput
from train import config as configuration


@pytest.fixture(scope="module")
def study():
    return plan.load("architectures", "smoke")


def test_a_grid_of_any_fields(study):
    found = resolve(study, vary=[("model.width", "64, 128"), ("regularisation.l2", "0,1e-3")])
    width = {name: configuration.values(config)["model.width"] for name, config in found.configs.items()}
    assert width == {
        "mlp": 128,  # width=128, l2=0 is the baseline itself
        "width=64, l2=0": 64,
        "width=64, l2=0.001": 64,
        "width=128, l2=0.001": 128,
    }
    assert found.study.claims == ()
    assert found.study.name == "architectures+model.width+regularisation.l2"


def test_a_field_of_one_name_alone_is_varied_there(study):
    found = resolve(study, vary=[("optimizer.name", "adam,sgd"), ("optimizer.b1", "0.8,0.9")])
    assert list(found.configs) == ["mlp", "optimizer=adam, b1=0.8", "optimizer=sgd"]
    assert found.configs["optimizer=sgd"].optimizer.name == "sgd"


def test_values_that_hold_commas_stand_between_semicolons(study):
    found = resolve(study, vary=[("model.name", "cnn"), ("model.channels", "4,8;8,16")])
    channels = [config.model.channels for name, config in found.configs.items() if name != "mlp"]
    assert channels == [(4, 8), (8, 16)]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ([("model.widht", "3")], "did you mean 'model.width'"),
        ([("model.width", "3"), ("model.width", "4")], "given twice"),
        ([("model.width", ",")], "has no values"),
        ([("model.width", "x")], r"--vary model\.width='x' must be an integer"),
        ([("model.width", "128")], "every combination is the baseline itself"),
        ([("optimizer.learning_rate", "-1")], "must be greater than 0"),
    ],
)
def test_what_cannot_be_varied(study, vary, message):
    with pytest.raises(BadInput, match=message):
        resolve(study, vary=vary)


def test_the_baseline_again_differs_in_its_seeds_alone(study):
    found = resolve(study, again=True, arms=["cnn"])
    assert list(found.configs) == ["mlp", "mlp again", "cnn"]
    changed = configuration.replace(found.configs["mlp again"], {"seeds.offset": 0})
    assert changed == found.configs["mlp"]
    roots = {(trial.arm, trial.root("init")) for trial in found.trials if trial.arm.startswith("mlp")}
    assert roots == {("mlp", 0), ("mlp", 1), ("mlp again", 1_000_000), ("mlp again", 1_000_001)}


def test_one_source_varies_and_the_others_are_held(study):
    found = resolve(study, variance=("init", "order", "split"), seeds=3)
    roots = {
        arm: [tuple(t.root(s) for s in variants.STREAMS) for t in found.trials if t.arm == arm] for arm in found.configs
    }
    assert roots == {
        "everything": [(0, 0, 0), (1, 1, 1), (2, 2, 2)],
        "init": [(0, 0, 0), (1, 0, 0), (2, 0, 0)],
        "order": [(0, 0, 0), (0, 1, 0), (0, 2, 0)],
        "split": [(0, 0, 0)] * 3,
    }
    assert found.configs["split"].seeds.split == "seed"


@pytest.mark.parametrize("sources", [(), ("init", "init"), ("dropuot",)])
def test_sources_that_are_none(study, sources):
    with pytest.raises(BadInput, match=r"source|sources|attribute_variance"):
        resolve(study, variance=sources)


def test_a_grid_and_sources_exclude_each_other(study):
    with pytest.raises(BadInput, match="give one of the two"):
        resolve(study, vary=[("model.width", "3")], variance=("init",))


def test_values_from_python_are_spelled_as_on_the_command_line(study):
    found = resolve(study, vary=runner._factors({"model.name": ["cnn"], "model.channels": [(4, 8), (8, 16)]}))
    assert [config.model.channels for name, config in found.configs.items() if name != "mlp"] == [(4, 8), (8, 16)]
    assert runner._factors([("model.width", "64,128")]) == [("model.width", "64,128")]
