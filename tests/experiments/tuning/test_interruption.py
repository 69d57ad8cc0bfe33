"""A tuning that was killed, wherever that was, goes on to what the undisturbed one comes to."""

import json

import pandas as pd
import pytest

from experiments.spaces import Uniform
from experiments.study import Tuning
from train.records import Table

SPACE = {"optimizer.learning_rate": Uniform(1e-3, 10.0, log=True)}


class Killed(BaseException):
    """What nothing catches."""


def die_at(monkeypatch, number: int, *, before: bool) -> None:
    """Die at the so-manieth write of a table, before or after it is on the disk."""
    count = [0]

    def dying(original):
        def write(self, *args, **options):
            count[0] += 1
            if count[0] == number and before:
                raise Killed
            original(self, *args, **options)
            if count[0] == number:
                raise Killed

        return write

    monkeypatch.setattr(Table, "append", dying(Table.append))
    monkeypatch.setattr(Table, "put", dying(Table.put))


def outcome(folder) -> dict:
    """All that a tuning leaves behind but its durations."""
    tables = {}
    for name in ("tuning.csv", "tuning_curves.csv", "trials.csv", "curves.csv"):
        frame = pd.read_csv(folder / "tiny" / name)
        timed = [column for column in frame if "seconds" in column]
        key = [column for column in ("trial", "step") if column in frame]
        tables[name] = frame.drop(columns=timed).sort_values(key).reset_index(drop=True).to_csv()
    return tables | {"winners": json.loads((folder / "tiny" / "tuning.json").read_text())}


@pytest.mark.slow
@pytest.mark.parametrize("search", ["halton", "tpe"])
def test_a_tuning_that_was_killed_is_the_one_that_was_not(search, run, tmp_path, monkeypatch):
    """Killed before and after the rung at step 4, twice without having come further, and at the rows of the end."""
    if search == "tpe":
        pytest.importorskip("optuna")
    tuning = Tuning(space=SPACE, trials=10, search=search, pruning="halving")
    through, stopped = tmp_path / "through", tmp_path / "stopped"
    options = {"arms": [], "seeds": 1, "overrides": {"execution.checkpoint_seconds": 0}}
    run(tuning, **options, workdir=through)
    assert (pd.read_csv(through / "tiny" / "tuning.csv")["status"] == "pruned").sum() >= 6
    for number, before in ((3, True), (2, False), (1, True), (1, False), (4, False)):
        with monkeypatch.context() as patched:
            die_at(patched, number, before=before)
            with pytest.raises(Killed):
                run(tuning, **options, workdir=stopped)
        assert not (stopped / "tiny" / "tuning.json").exists()
    run(tuning, **options, workdir=stopped)
    assert outcome(stopped) == outcome(through)
