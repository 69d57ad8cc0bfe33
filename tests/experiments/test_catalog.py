"""Every study of the catalog: that it can run, says what it must, and keeps what it promises."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

from experiments import feasibility, plan, runner
from experiments.__main__ import main
from experiments.comparisons import compare_results
from experiments.study import PRESETS, Better, Study
from tests.experiments.stand_ins import STAND_INS
from train import data
from train.config import Config
from train.cost import cost
from train.data.task import Task

STUDIES = plan.study_names()


@pytest.fixture(scope="module")
def task_of():
    """The task of a configuration, loaded once; of the right shapes where it would be downloaded."""
    tasks = {}

    def load(config: Config) -> Task:
        if config.data not in tasks:
            stand_in = STAND_INS.get(config.data.name)
            tasks[config.data] = stand_in(config.data) if stand_in else data.load(config.data, None)
        return tasks[config.data]

    return load


def test_the_stand_ins_have_the_shapes_of_what_they_stand_for():
    assert STAND_INS["tinyshakespeare"](plan.load("char_lm", "full").baseline.data).shapes.vocabulary == 66


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_plan_at_every_preset(name, preset):
    study = plan.load(name, preset)
    assert (study.name, study.preset) == (name, preset)
    assert plan.resolve(study).study.claims == study.claims  # they name arms that exist
    assert study.claims or study.recommends
    # Results are of the test split (or of the training itself), curves and what is chosen by them never.
    assert not study.metric.column.startswith("validation_")
    assert not study.metric.curve.startswith("test_")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["cpu", "full"])  # smoke runs as a whole, below
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_traced(name, preset, task_of):
    study = plan.load(name, preset)
    study = study if study.adapt is None else study.adapt(study, task_of(study.baseline))
    resolved = plan.resolve(study)
    tasks = {config: task_of(config) for config in resolved.configs.values()}
    feasibility.check_metric(resolved, tasks)
    for config, task in tasks.items():
        assert cost(config, task).parameters > 0


@pytest.mark.parametrize("preset", ["cpu", "full"])
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_seeds_enough_for_its_test(name, preset):
    study = plan.load(name, preset)
    if not any(isinstance(claim, Better) for claim in study.claims):
        return  # what it claims is decided by intervals alone
    values = pd.Series(np.arange(study.seeds, dtype=float))
    family = compare_results(study, dict.fromkeys((study.baseline_name, *study.arms), values))
    # The least p-value of n paired seeds, under Holm's correction for all that is tested.
    assert 2 / 2**study.seeds * family.comparisons[0].family < 0.05


@pytest.mark.parametrize("name", STUDIES)
def test_the_head_of_a_study_is_complete(name):
    about = plan.about(name)
    assert set(about.time) == set(PRESETS)
    assert all((about.group, about.claim, about.source, *about.time.values()))
    assert about.claim.endswith(".")
    module = plan.module(name)
    assert f"python -m experiments --experiment={name}" in module.__doc__
    assert "Expected:" in module.__doc__


def parameters(study: Study, task_of) -> dict[str, int]:
    configs = plan.resolve(study).configs
    return {name: cost(config, task_of(config)).parameters for name, config in configs.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_char_lm_compares_networks_of_one_size(preset, task_of):
    sizes = parameters(plan.load("char_lm", preset), task_of)
    assert max(sizes.values()) <= 1.03 * min(sizes.values()), sizes


@pytest.mark.parametrize("preset", ["smoke", "cpu"])
def test_the_cnn_of_architectures_has_at_most_a_third_of_the_parameters(preset, task_of):
    sizes = parameters(plan.load("architectures", preset), task_of)
    assert 3 * sizes["cnn"] <= sizes["mlp"], sizes


@pytest.fixture
def compiled():
    """The names of the functions that XLA was asked to compile."""
    names = []

    def listen(event: str, seconds: float, **facts) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(facts.get("fun_name", ""))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_a_study_compiles_once_for_each_architecture(compiled, monkeypatch, tmp_path, task_of):
    study = plan.load("architectures", "smoke")
    changes = [
        ("data.train_examples", "64"),
        ("training.steps", "2"),
        ("training.batch_size", "8"),
        ("training.evaluate_every", "2"),
        ("schedule.warmup_steps", "1"),
        ("optimizer.name", "adamw"),
        ("model.width", "8"),
    ]
    arms = {
        "fast": {"optimizer.learning_rate": 0.1},
        "decayed": {"optimizer.weight_decay": 0.3},
        "dropped": {"model.dropout_rate": 0.4},
        "wide": {"model.width": 16},
        "wide_and_fast": {"model.width": 16, "optimizer.learning_rate": 0.1},
    }
    monkeypatch.setattr("experiments.report.folder._fill", lambda folder, summary, curves: None)
    study = dataclasses.replace(study, arms=arms, claims=())
    monkeypatch.setattr(runner, "load", lambda name, preset: study)
    result = runner.run("architectures", preset="smoke", seeds=3, overrides=changes, workdir=tmp_path)
    assert set(result.trials["status"]) == {"ok"}
    assert len(result.trials) == 18
    programs = [name for name in compiled if "on_device" in name]
    # init, advance and the two evaluations, for each of two widths; 18 trials differ in values alone.
    assert len(programs) == 2 * 4, compiled


@pytest.mark.slow
@pytest.mark.usefixtures("quickly_compiled")
@pytest.mark.parametrize("name", STUDIES)
def test_the_smoke_preset_runs_end_to_end(name, tmp_path, capsys):
    assert main([f"--experiment={name}", "--preset=smoke", f"--workdir={tmp_path}"]) == 0
    assert "No evidence" in capsys.readouterr().out
    assert (tmp_path / name / "report" / "index.html").exists()
