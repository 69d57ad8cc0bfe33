"""Tuning from end to end on a small study: budgets, seeds, selection, resumption, what is left behind."""

import json

import numpy as np
import pytest

from experiments.spaces import Choice, Uniform
from experiments.study import Tuning
from models.base import BadInput
from train import conclusion
from train.population import Population

RATES = {"optimizer.learning_rate": Uniform(1e-3, 10.0, log=True)}


@pytest.fixture
def populations(monkeypatch):
    """The trials of each population that was made, which is each program that was compiled."""
    made = []
    original = Population.__init__

    def init(self, trials, *rest):
        made.append([trial.id for trial in trials])
        original(self, trials, *rest)

    monkeypatch.setattr(Population, "__init__", init)
    return made


@pytest.mark.slow
def test_every_arm_gets_the_same_and_the_best_runs_again_on_other_seeds(run, table, winners, populations, tmp_path):
    result = run(Tuning(space=RATES, trials=16, steps=6, seeds=2))
    tuned = table()
    assert dict(tuned.groupby("arm").size()) == {"plain": 32, "deep": 32}
    assert set(tuned["steps"]) == {6}
    assert set(tuned["status"]) <= {"ok", "diverged"}
    assert set(tuned["seed"]) == {1000, 1001}
    assert not any(column.startswith("test_") for column in tuned)
    # Sixteen values of a traced field, two seeds: one program for each arm; and one for its results.
    assert [len(trials) for trials in populations] == [32, 32, 2, 2]

    for arm, found in winners().items():
        own = tuned[tuned["arm"] == arm].assign(value=lambda frame: frame["value"].fillna(-np.inf))
        means = own.groupby("number")["value"].mean()
        assert found["number"] == means.idxmax()
        assert found["value"] == pytest.approx(means.max())
        rate = own.loc[own["number"] == found["number"], "optimizer.learning_rate"].iloc[0]
        assert found["winner"]["optimizer.learning_rate"] == rate
        reported = result.trials[result.trials["arm"] == arm]
        assert set(reported["optimizer.learning_rate"]) == {rate}
        assert set(reported["seed"]) == {0, 1}
        assert set(reported["steps"]) == {12}

    written = json.loads((tmp_path / "tiny" / "study.json").read_text())
    assert written["tuning"]["space"]["optimizer.learning_rate"]["high"] == 10.0
    assert written["arms"]["plain"]["optimizer"]["learning_rate"] == 0.1
    assert not (tmp_path / "tiny" / "tuning_checkpoints").exists()

    populations.clear()
    before = {path: path.read_bytes() for path in (tmp_path / "tiny").glob("*.*")}
    run(Tuning(space=RATES, trials=16, steps=6, seeds=2))
    assert run(Tuning(space=RATES, trials=16, steps=6, seeds=2), report_only=True).summary is not None
    assert populations == []
    assert {path: path.read_bytes() for path in (tmp_path / "tiny").glob("*.*")} == before
    with pytest.raises(BadInput, match=r"tuning.trials 16 -> 17"):
        run(Tuning(space=RATES, trials=17, steps=6, seeds=2))
    with pytest.raises(BadInput, match="tuned before, and not now"):
        run(Tuning(space=RATES, trials=16, steps=6, seeds=2), tune=False)


@pytest.mark.slow
def test_no_tuning_trial_opens_the_test_split(run, monkeypatch, table):
    """The test split raises while a tuning trial ends; the results then cannot be had, but the tuning can."""
    asked = []
    original = conclusion.splits

    def splits(task, *, test):
        asked.append(test)
        if test:
            raise OSError("the test split was opened")
        return original(task, test=test)

    monkeypatch.setattr("train.data.task.Test.open", lambda *_: pytest.fail("the test split was opened"))
    monkeypatch.setattr(conclusion, "splits", splits)
    with pytest.raises(OSError, match="the test split was opened"):
        run(Tuning(space=RATES, trials=3))
    assert asked == [False, False, True]
    assert len(table()) == 6


@pytest.mark.slow
def test_arms_may_come_later_and_are_tuned_then(run, table, winners, populations):
    tuning = Tuning(space=RATES, trials=4)
    run(tuning, arms=[])
    first = winners()
    assert list(first) == ["plain"]
    populations.clear()
    run(tuning)
    assert list(winners()) == ["plain", "deep"]
    assert winners()["plain"] == first["plain"]
    assert [len(trials) for trials in populations] == [4, 2]
    assert len(table()) == 8


@pytest.mark.slow
def test_the_baseline_against_itself_has_the_configuration_that_the_baseline_was_given(run, winners, table):
    run(Tuning(space=RATES, trials=4), arms=[], again=True)
    assert winners()["plain again"]["winner"] == winners()["plain"]["winner"]
    assert winners()["plain again"]["trials"] == 0
    assert set(table()["arm"]) == {"plain"}


@pytest.mark.slow
def test_pruning_frees_lanes_and_finds_what_brute_force_finds(run, table, winners, tmp_path, monkeypatch):
    """Learning rates so far apart that the order at the first rung is the order at the end."""
    retired = []
    original = Population.retire
    monkeypatch.setattr(
        Population, "retire", lambda self, ended: (retired.append(sum(ended)), original(self, ended))[1]
    )
    space = {"optimizer.learning_rate": Choice((3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6))}
    common = {"space": space, "trials": 8, "search": "grid", "column": "validation_loss"}
    spent = {}
    for pruning in ("none", "median", "halving"):
        workdir = tmp_path / pruning
        run(Tuning(**common, pruning=pruning), arms=[], workdir=workdir)
        assert winners(workdir)["plain"]["winner"]["optimizer.learning_rate"] == 3e-2
        assert winners(workdir)["plain"]["edges"] == ["optimizer.learning_rate"]
        tuned, curves = table(workdir=workdir), table("tuning_curves.csv", workdir)
        spent[pruning] = tuned["steps"].sum()
        assert max(retired, default=0) == (tuned["status"] == "pruned").sum()
        retired.clear()
        for _, row in tuned.iterrows():
            own = curves[curves["trial"] == row["trial"]]
            assert own["step"].max() == row["steps"]
            assert own["validation_loss"].iloc[-1] == row["value"]
    # One rung at 12 / 3 steps, at which two of eight go on. The median ends the worse half at a quarter of 12, or
    # at the evaluation after it.
    assert spent == {"none": 8 * 12, "median": 4 * 4 + 4 * 12, "halving": 6 * 4 + 2 * 12}
