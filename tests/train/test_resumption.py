"""Trials go on from whatever checkpoint has them, and from none that is of another configuration."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from models.base import BadInput
from train import loop, provenance, resumption
from train.checkpoints import Checkpoints
from train.config import digest, program_key, replace, to_dict, traced_paths
from train.folder import Files
from train.loop import Watch, run_population
from train.population import Population
from train.resumption import Saved
from train.signals import Interrupted

PROGRAMS: dict[tuple, dict] = {}
RATE = ("optimizer.learning_rate",)


def saved(folder, step, trials, traced=RATE):
    return Saved(Path(folder), step, {trial.id: to_dict(trial.config) for trial in trials}, traced)


def planned(trials, checkpoints):
    """The groups, short: names of the trials, where they go on, and how many fields are traced."""
    traced = {program_key(trial.config): ("a", "b") for trial in trials}
    return [
        (" ".join(trial.id for trial in each.trials), str(each.origin), len(each.traced))
        for each in resumption.groups(trials, checkpoints, traced)
    ]


def test_without_checkpoints_trials_are_grouped_by_program(make_trials):
    trials = make_trials({}, {"model.width": 4}, seeds=(0, 1))
    assert planned(trials, []) == [("arm0-s0 arm0-s1", "None", 2), ("arm1-s0 arm1-s1", "None", 2)]


def test_old_trials_go_on_and_new_ones_begin(make_trials):
    trials = make_trials({}, seeds=range(4))
    assert planned(trials, [saved("p", 5, trials[:2])]) == [("arm0-s0 arm0-s1", "p", 1), ("arm0-s2 arm0-s3", "None", 2)]


def test_fewer_trials_take_their_own(make_trials):
    trials = make_trials({}, seeds=range(4))
    assert planned(trials[1:3], [saved("p", 5, trials)]) == [("arm0-s1 arm0-s2", "p", 1)]


def test_the_most_advanced_checkpoint_counts(make_trials):
    trials = make_trials({}, seeds=range(4))
    checkpoints = [saved("late", 9, trials[:2]), saved("early", 5, trials)]
    assert planned(trials, checkpoints) == [("arm0-s0 arm0-s1", "late", 1), ("arm0-s2 arm0-s3", "early", 1)]


def test_smaller_populations_go_on_from_the_large_one(make_trials):
    trials = make_trials({}, seeds=range(4), execution__max_lanes=3)
    assert planned(trials, [saved("p", 5, trials)]) == [("arm0-s0 arm0-s1 arm0-s2", "p", 1), ("arm0-s3", "p", 1)]


def test_a_checkpoint_of_another_configuration_is_refused(make_trials):
    trials = make_trials({}, {"optimizer.learning_rate": 0.2}, seeds=(0, 1))
    old = [
        dataclasses.replace(each, config=replace(each.config, {"model.width": 4, "training.steps": 9}))
        for each in trials
    ]
    with pytest.raises(BadInput) as caught:
        resumption.check(trials, [saved("here/p", 5, old)])
    message = str(caught.value)
    assert "here/p holds checkpoints of another configuration" in message
    assert "model.width 4 -> 8 in arm0-s0, arm0-s1, arm1-s0 and 1 more" in message
    assert "training.steps 9 -> 12 in" in message
    assert "optimizer" not in message
    assert "choose another --workdir" in message
    assert "\n" not in message
    resumption.check(trials, [saved("p", 5, trials)])
    elsewhere = [dataclasses.replace(each, arm="other") for each in old]
    resumption.check(trials, [saved("p", 5, elsewhere)])
    faster = [dataclasses.replace(t, config=replace(t.config, {"execution.keep_best": 3})) for t in trials]
    resumption.check(faster, [saved("p", 5, trials)])


def populate(trials, task, traced):
    """Programs are compiled once for all tests of this file."""
    population = Population(trials, traced, task)
    population._programs = PROGRAMS.setdefault(
        (digest(trials[0].config), len(population.lanes.seed), population.layout.mesh.size), {}
    )
    return population


def run(folder, trials, task, *, stop_after=math.inf):
    """As the runner does it: each group from where it stopped. The steps done in this call, by population."""
    folder.mkdir(exist_ok=True)
    files = Files(folder, trials, [task])
    traced = {program_key(trial.config): traced_paths([trials[0].config]) for trial in trials}
    finished, result = {name for name, _ in files.finished()}, {}
    left = [trial for trial in trials if trial.id not in finished]
    for members, paths, origin in resumption.groups(left, resumption.find(folder / "checkpoints"), traced):
        asked, done = [], []
        population = populate(members, task, paths)
        interrupted = lambda asked=asked: asked.append(1) or len(asked) >= stop_after  # noqa: E731
        names = " ".join(trial.id for trial in members)
        try:
            run_population(population, files, Watch(done.append, interrupted), origin=origin)
        finally:
            result[names] = sum(done[1:]) if origin else sum(done)  # the first is what was done before
    return result


def outcome(folder, trials, task):
    """What a trial comes to: its rows but for times, and the bits of its last state."""
    files = Files(folder, trials, [task])
    times = {"seconds": "", "train_seconds": "", "strategy": ""}
    result = {}
    for each in resumption.find(folder / "checkpoints"):
        checkpoints = Checkpoints(each.folder)
        for name in set(each.trials) & {trial.id for trial in trials} if each.step == 12 else ():
            like = jax.eval_shape(populate(trials[:1], task, each.traced).init)
            result[name] = [leaf.tobytes() for leaf in jax.tree.leaves(checkpoints.read(12, like, [name]).states)]
        checkpoints.close()
    rows = [{**row, **times} for table in (files.trials, files.curves) for row in table.rows()]
    return result, sorted(map(str, rows))


@pytest.mark.slow
def test_more_and_fewer_seeds_in_between_change_nothing(make_trials, images, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    trials = make_trials({}, seeds=range(3), model__dropout_rate=0.2, execution__strategy="sequential")
    whole = tmp_path / "whole"
    assert run(whole, trials, images) == {"arm0-s0 arm0-s1 arm0-s2": 36}
    cut = tmp_path / "cut"
    for members, stop in ((trials[:2], 2), (trials[1:2], 2), (trials, 1)):
        with pytest.raises(Interrupted):
            run(cut, members, images, stop_after=stop)
    # First dispatches have four steps. The first trial was left at 5, then at 9, the second at 5, then at 10.
    assert run(cut, trials, images) == {"arm0-s0": 3, "arm0-s1": 2, "arm0-s2": 12}
    ours, theirs = outcome(cut, trials, images), outcome(whole, trials, images)
    assert set(ours[0]) == {trial.id for trial in trials}
    assert ours == theirs


@pytest.mark.slow
def test_another_number_of_devices_in_between_changes_nothing(make_trials, images, tmp_path, monkeypatch):
    """Three lanes are padded to four on two devices."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    spread = make_trials({}, seeds=range(3), execution__strategy="sequential")
    alone = make_trials({}, seeds=range(3), execution__strategy="sequential", execution__spread=False)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", spread, images, stop_after=2)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", alone, images, stop_after=2)
    assert run(tmp_path / "cut", spread, images) == {"arm0-s0 arm0-s1 arm0-s2": 3 * 2}
    run(tmp_path / "whole", spread, images)
    assert not list((tmp_path / "cut" / "checkpoints").glob("*.damaged-*"))
    states = outcome(tmp_path / "cut", spread, images)[0]
    assert len(states) == 3
    assert states == outcome(tmp_path / "whole", spread, images)[0]


@pytest.fixture
def trained(make_trials, images, tmp_path, monkeypatch):
    """Two trials with their best checkpoint kept; the second learns too fast and gets worse."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    rates = ({"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 3.0})
    trials = make_trials(*rates, execution__strategy="sequential", execution__keep_best=1, training__evaluate_every=2)
    assert run(tmp_path, trials, images) == {"arm0-s0 arm1-s0": 24}
    return tmp_path, trials


@pytest.mark.slow
def test_the_best_checkpoints_are_those_of_the_best_evaluations(trained, images):
    folder, trials = trained
    rows = [row for row in Files(folder, trials, [images]).curves.rows() if int(row["step"])]
    best = set()
    for trial in trials:
        mine = [row for row in rows if row["trial"] == trial.id]
        best.add(min(mine, key=lambda row: float(row["validation_loss"]))["step"])
    (population,) = (folder / "checkpoints").iterdir()
    kept = {path.name for path in population.iterdir()}
    assert len(best) == 2, "the test needs trials whose best steps differ"
    assert best <= kept
    assert "12" in kept
    assert len(kept) <= 4
    checkpoints = Checkpoints(population)
    for row in rows:
        if row["step"] in kept:
            assert checkpoints.scores(int(row["step"]))[row["trial"]] == float(row["validation_loss"])
    facts = checkpoints.facts(12)
    checkpoints.close()
    assert facts["made_by"] == provenance.collect()
    assert facts["metric"] == "validation_loss"
    assert {name: each["config"] for name, each in facts["trials"].items()} == {
        trial.id: json.loads(json.dumps(to_dict(trial.config))) for trial in trials
    }
    assert facts["traced"] == list(traced_paths([trial.config for trial in trials]))


def test_other_versions_are_told_of(tmp_path, caplog):
    states = {"w": np.zeros((1, 2), np.float32)}
    own = Checkpoints(tmp_path / "p", ["a"])
    own.save(3, states, {"made_by": provenance.collect() | {"jax": "0.9.1"}})
    assert resumption.restored(own, None, states).step == 3
    assert f"going on from step 3 of p, which was written with jax 0.9.1 -> {jax.__version__}" in caplog.text
    caplog.clear()
    own.save(4, states, {"made_by": provenance.collect()})
    assert resumption.restored(own, None, states).step == 4
    assert caplog.text == ""
    own.close()


def test_what_is_no_checkpoint_is_passed_over(tmp_path):
    assert resumption.find(tmp_path / "absent") == []
    for name in ("p", "p.damaged-3", "empty"):
        opened = Checkpoints(tmp_path / name, ["a"])
        facts = {"trials": {"a": {"config": {}}}, "traced": ["x"]}
        for step in (1, 2) if name != "empty" else ():
            opened.save(step, {"w": np.zeros((1, 2), np.float32)}, facts)
        opened.close()
    (tmp_path / "note.txt").write_text("mine")
    assert resumption.find(tmp_path) == [Saved(tmp_path / "p", 2, {"a": {}}, ("x",))]
    for path in (tmp_path / "p" / "2" / "facts").iterdir():
        path.write_text("{")
    assert resumption.find(tmp_path) == [Saved(tmp_path / "p", 1, {"a": {}}, ("x",))]
