"""Data that change between start and resume: noticed, named, refused, and marked where the user insists."""

import dataclasses
import json

import pytest

from experiments import data_changes
from experiments.report.summary import summarise
from models.base import BadInput
from tests.experiments.test_runner import plain_report, run, table  # noqa: F401
from train import data


@pytest.fixture
def other_digits(monkeypatch):
    """The digits without the last training one, as if the file had been replaced."""
    original = data.load

    def load(config, data_dir):
        task = original(config, data_dir)
        arrays = {name: array[:-1] for name, array in task.train.arrays.items()}
        facts = {**task.facts, "train_examples": 3499, "fingerprint": "f" * 64}
        return dataclasses.replace(task, train=type(task.train)(arrays), facts=facts)

    return lambda: monkeypatch.setattr(data, "load", load)


@pytest.mark.slow
@pytest.mark.usefixtures("plain_report")
def test_changed_data_are_refused_unless_the_user_insists(run, tmp_path, other_digits, caplog):
    run(arms=["slow"], seeds=1)
    study = tmp_path / "tiny" / "study.json"
    before = {path: path.read_bytes() for path in (study, *study.parent.glob("*.csv"))}
    recorded = json.loads(study.read_text())["data"]
    assert set(recorded) == {"plain", "slow"}
    assert recorded["plain"]["name"] == "digits"
    assert recorded["plain"]["train_examples"] == 3500

    other_digits()
    with pytest.raises(BadInput) as refusal:
        run(arms=["slow"], seeds=2)
    message = str(refusal.value)
    assert "data set 'digits': train_examples 3500 -> 3499, fingerprint" in message
    assert "--accept_changed_data" in message
    assert "\n" not in message
    assert {path: path.read_bytes() for path in before} == before

    run(arms=["slow"], seeds=2, accept_changed_data=True)
    entries = json.loads(study.read_text())["history"]
    assert "changed_data" not in entries[0]
    assert "3500 -> 3499" in entries[1]["changed_data"][0]
    assert "going on with other data" in caplog.text
    prints = table(tmp_path, "trials.csv").groupby("seed")["data_fingerprint"].unique().map(list)
    assert prints[1] == ["f" * 64] != prints[0]

    run(arms=["slow"], seeds=2)  # what was accepted is now what is expected
    assert json.loads(study.read_text())["history"] == entries


@pytest.mark.slow
@pytest.mark.usefixtures("plain_report")
def test_an_arm_that_was_left_out_in_between_is_remembered(run, tmp_path, other_digits):
    run(arms=["slow"], seeds=1)
    run(arms=[], seeds=1)
    assert set(json.loads((tmp_path / "tiny" / "study.json").read_text())["data"]) == {"plain", "slow"}
    other_digits()
    with pytest.raises(BadInput, match="changed since it was begun"):
        run(arms=["slow"], seeds=1)


def test_a_file_of_an_older_version_says_nothing(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    assert data_changes.check({"plain": {"name": "x"}}, tmp_path / "study.json", accepted=False) == []
    assert data_changes.check({"plain": {"name": "x"}}, tmp_path / "none.json", accepted=False) == []
    (tmp_path / "study.json").write_text('{"data": [1]}')
    with pytest.raises(BadInput, match="is damaged"):
        data_changes.check({}, tmp_path / "study.json", accepted=False)


def test_a_report_warns_of_an_arm_on_two_data_sets(make_study, make_records):
    study = make_study()
    trials, _ = make_records(study)
    trials["data_fingerprint"] = "a"
    assert "different data" not in " ".join(summarise(study, trials, command="").cautions)
    trials.loc[(trials["arm"] == "lstm") & (trials["seed"] > 3), "data_fingerprint"] = "b"
    (found,) = [line for line in summarise(study, trials, command="").cautions if "different data" in line]
    assert found.endswith(": lstm.")
