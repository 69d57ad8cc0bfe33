"""Tuning without a file: spaces as text, changes of what a study declares, and what contradicts itself."""

import shlex

import pytest

from experiments import plan as planning
from experiments.__main__ import main
from experiments.spaces import Choice, Integers, Uniform
from experiments.study import Matching, Tuning
from experiments.tuning import command_line
from models.base import BadInput

RATES = Uniform(1e-3, 10.0, log=True)


@pytest.fixture
def changed(study_with):
    def call(tuning=None, *, tune=True, **changes) -> Tuning | None:
        plan = planning.resolve(study_with(tuning))
        pairs = [(name.replace("__", "."), value) for name, value in changes.items()]
        return command_line.changed(plan, tune=tune, changes=pairs).study.tuning

    return call


def test_spaces_are_read_by_the_type_of_their_field(changed):
    found = changed(
        optimizer__learning_rate="log:1e-4:1e-1",
        model__width="log:16:256",
        model__depth="1:3",
        model__dropout_rate="0,0.1,0.5",
        model__activation="relu,gelu",
        trials="12",
        search="halton",
        steps="none",
    )
    assert found == Tuning(
        space={
            "optimizer.learning_rate": Uniform(1e-4, 1e-1, log=True),
            "model.width": Integers(16, 256, log=True),
            "model.depth": Integers(1, 3),
            "model.dropout_rate": Choice((0.0, 0.1, 0.5)),
            "model.activation": Choice(("relu", "gelu")),
        },
        trials=12,
        search="halton",
    )


def test_what_a_study_declares_is_changed_and_may_be_left_out(changed):
    declared = Tuning(space={"optimizer.learning_rate": RATES}, trials=5)
    found = changed(declared, model__depth="1,2", trials=7)
    assert found == Tuning(space={"optimizer.learning_rate": RATES, "model.depth": Choice((1, 2))}, trials=7)
    assert changed(declared) == declared
    assert changed(declared, tune=False) is None
    assert changed() is None


def test_the_words_of_a_command_mean_the_same(changed):
    changes = {"optimizer.learning_rate": RATES, "model.depth": Choice((1, 2)), "trials": 7, "pruning": "median"}
    words = command_line.words(tune=True, changes=changes)
    assert shlex.join(words) == (
        "--tune.optimizer.learning_rate=log:0.001:10.0 --tune.model.depth=1,2 --tuning_trials=7 --tuning_pruning=median"
    )
    read = {
        word.removeprefix("--tune.").removeprefix("--tuning_").replace(".", "__").split("=")[0]: word.split("=")[1]
        for word in words
    }
    assert changed(**read) == changed(**{name.replace(".", "__"): value for name, value in changes.items()})
    assert command_line.words(tune=False, changes=()) == ["--notune"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--notune", "--tuning_trials=4"], "--notune and --tuning_trials=4 contradict each other"),
        (["--tuning_trials=4"], "declares no tuning; say what is tuned with --tune.PATH="),
        (["--tune.optimizer.rate=1:2"], "unknown path in --tune. 'optimizer.rate'; did you mean"),
        (["--tune.optimizer.learning_rate=small"], "LOW:HIGH, log:LOW:HIGH or values with commas, each a number"),
        (["--tune.optimizer.learning_rate=1:2:3"], "must be LOW:HIGH, log:LOW:HIGH"),
        (["--tune.optimizer.learning_rate=2:1"], "the range must be finite, low before high"),
        (["--tune.optimizer.learning_rate=log:0:1"], "the range must be positive"),
        (["--tune.optimizer.learning_rate"], "has no value; write --tune.optimizer.learning_rate=VALUE"),
        (["--tune.model.width=1:2", "--tune.model.width=3:4"], "--tune.model.width is given twice"),
        (["--tune.model.width=4:9", "--tuning_search=sobl"], "unknown --tuning_search 'sobl'; did you mean 'sobol'"),
        (["--tune.model.width=4:9", "--tuning_trials=many"], "--tuning_trials=many must be an integer"),
        (["--tune.model.width=4:9", "--tuning_trials=1"], "tuning.trials=1 must be at least 2"),
        (["--tune.model.width=4:9", "--tuning_storage=sqlite:///x.db"], "it needs a tuning with --tuning_search=tpe"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(flags, message, tmp_path, monkeypatch, capsys, study_with):
    monkeypatch.setattr("experiments.runner.load", lambda name, preset: study_with(None))
    monkeypatch.setattr("experiments.plan.study_names", lambda: ("tiny",))
    for more in (["--dry_run"], []):
        assert main(["--experiment=tiny", "--preset=smoke", f"--workdir={tmp_path}", *flags, *more]) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert len(errors.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_what_is_tuned(monkeypatch, capsys, study_with, tmp_path):
    tuning = Tuning(space={"optimizer.learning_rate": RATES}, trials=8, steps=6, seeds=2)
    arms = {"deep": {"model.depth": 2, "optimizer.learning_rate": 0.3}}
    monkeypatch.setattr("experiments.runner.load", lambda name, preset: study_with(tuning, arms=arms))
    monkeypatch.setattr("experiments.plan.study_names", lambda: ("tiny",))
    arguments = ["--experiment=tiny", "--preset=smoke", "--dry_run", "--again", f"--workdir={tmp_path}"]
    assert main(arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "log:0.001:10.0",
        "32 tuning trials in 2 populations: sobol, pruning none, 2 seeds from 1000 on, 6 steps",
        "training.steps is replaced, and schedules follow",
        "by validation_accuracy (more is better)",
        "optimizer.learning_rate of deep is what tuning finds, not what the arm sets",
        "arm 'plain again' takes what 'plain' is given",
    ):
        assert text in shown
    assert list(tmp_path.iterdir()) == []


def test_a_field_is_not_tuned_and_solved_for(prepare):
    tuning = Tuning(space={"model.width": Integers(4, 9)})
    matching = Matching(equal="parameters", by={"deep": "model.width"})
    with pytest.raises(BadInput, match=r"model\.width is solved for"):
        prepare(tuning, matching=matching)
    prepare(Tuning(space=tuning.space, arms={"deep": {"model.width": None}}), matching=matching)
