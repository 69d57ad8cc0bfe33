"""A small study that declares a tuning, and a call that runs it."""

import io
import json

import pandas as pd
import pytest
from rich.console import Console

import experiments
from experiments import plan as planning
from experiments import runner
from experiments.feasibility import load_tasks
from experiments.spaces import Uniform
from experiments.study import About, Metric, Study, Tuning
from experiments.tuning import declaration
from models import mlp
from train.config import Config, Training
from train.data import digits
from train.optimizers import sgd
from train.schedules import constant

RATES = Uniform(1e-3, 10.0, log=True)


def tiny(tuning: Tuning | None, **changes) -> Study:
    baseline = Config(
        data=digits.Config(),
        model=mlp.Config(width=8, depth=1),
        optimizer=sgd.Config(learning_rate=0.1),
        schedule=constant.Config(),
        training=Training(steps=12, batch_size=8, evaluate_every=2),
    )
    values = {
        "name": "tiny",
        "preset": "smoke",
        "about": About(group="g", claim="c", source="s", time={}),
        "baseline_name": "plain",
        "baseline": baseline,
        "arms": {"deep": {"model.depth": 2}},
        "seeds": 2,
        "metric": Metric(
            column="test_accuracy", label="test accuracy", curve="validation_accuracy", higher_is_better=True
        ),
        "claims": (),
        "tuning": tuning,
    }
    return Study(**{**values, **changes})


@pytest.fixture
def study_with():
    return tiny


@pytest.fixture
def prepare():
    """The tuning of a study, checked, without running anything."""

    def call(tuning, **changes) -> declaration.Prepared:
        options = {key: changes.pop(key) for key in ("overrides", "again") if key in changes}
        plan = planning.resolve(tiny(tuning, **changes), **options)
        return declaration.prepare(plan, load_tasks(plan, None))

    return call


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the small study with a tuning; its folder holds what a run leaves. Figures have tests of their own."""

    def fill(folder, summary, curves):
        folder.mkdir(exist_ok=True)
        (folder / "index.html").write_text("report")

    monkeypatch.setattr("experiments.report.folder._fill", fill)

    def call(tuning, *, workdir=tmp_path, changes=None, **options) -> runner.Result:
        monkeypatch.setattr(runner, "load", lambda name, preset: tiny(tuning, **(changes or {})))
        console = Console(file=io.StringIO(), width=120)
        return experiments.run("tiny", preset="smoke", workdir=workdir, console=console, **options)

    return call


@pytest.fixture
def table(tmp_path):
    def read(name: str = "tuning.csv", workdir=tmp_path) -> pd.DataFrame:
        return pd.read_csv(workdir / "tiny" / name)

    return read


@pytest.fixture
def winners(tmp_path):
    def read(workdir=tmp_path) -> dict:
        return json.loads((workdir / "tiny" / "tuning.json").read_text())["arms"]

    return read
