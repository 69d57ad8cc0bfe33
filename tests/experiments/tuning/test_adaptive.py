"""Optuna's searches: budgets, determinism, what a reopened database repeats, what several machines share."""

import time

import pandas as pd
import pytest

from experiments.spaces import Choice, Integers, Uniform
from experiments.study import Tuning
from experiments.tuning import adaptive
from experiments.tuning.adaptive import ArmSearch
from experiments.tuning.storages import opened
from models.base import BadInput

pytest.importorskip("optuna")

SPACE = {"optimizer.learning_rate": Uniform(1e-3, 10.0, log=True), "model.width": Integers(4, 64, log=True)}


def rows(number: int, values: dict, seeds: int = 1, status: str = "ok") -> list[dict[str, str]]:
    """What the trials of a point come to: best at a learning rate of 0.1 and a width of 32."""
    rate = values["optimizer.learning_rate"]
    loss = abs(rate - 0.1) + abs(values.get("model.width", 32) - 32) / 32
    return [
        {"number": str(number), "seed": str(1000 + seed), "trial": f"t{number}", "status": status, "steps": "5"}
        | ({"value": str(loss)} if status in ("ok", "pruned") else {})
        for seed in range(seeds)
    ]


@pytest.fixture
def search(prepare, tmp_path):
    prepared = prepare(Tuning(space=SPACE, search="tpe", trials=20))

    def make(storage, *, owner="", trials=20, kind="tpe") -> ArmSearch:
        return ArmSearch(prepared.spaces["plain"], kind, "plain", trials=trials, storage=storage, owner=owner)

    return make


def go_on(search: ArmSearch, table: list, batches: int = 99) -> list:
    """Ask and tell, for at most so many batches; every point that was trained, in order."""
    trained = []
    for _ in range(batches):
        batch = search.batch(table, 1)
        if not batch:
            break
        for number, values in batch:
            table += rows(number, values)
            trained.append((number, values))
        for number, values in batch:
            search.tell(number, rows(number, values), higher_is_better=False)
    return trained


@pytest.mark.slow
def test_a_reopened_search_goes_on_and_repeats_no_draw(search, tmp_path):
    with opened(f"sqlite:///{tmp_path}/through.db") as storage:
        through = go_on(search(storage), [])
    assert [number for number, _ in through] == list(range(20))
    assert len({tuple(values.values()) for _, values in through}) == 20
    assert all(type(values["model.width"]) is int and 4 <= values["model.width"] <= 64 for _, values in through)

    stopped, table = [], []
    url = f"sqlite:///{tmp_path}/stopped.db"
    with opened(url) as storage:
        stopped += go_on(search(storage), table, batches=1)
        asked = search(storage)
        numbers = [asked._ask() for _ in range(3)]  # and is killed while it asks
        assert numbers == [8, 9, 10]
    with opened(url) as storage:
        reopened = search(storage)
        batch = reopened.batch(table, 1)
        assert [number for number, _ in batch] == list(range(8, 16))
        for number, values in batch:
            table += rows(number, values)
        for number, values in batch[:5]:  # and is killed while it tells
            reopened.tell(number, rows(number, values), higher_is_better=False)
        stopped += batch
    with opened(url) as storage:
        third = search(storage)
        assert [number for number, _ in third.batch(table, 1)] == [13, 14, 15]
        for number, values in batch[5:]:
            third.tell(number, rows(number, values), higher_is_better=False)
        stopped += go_on(third, table)
        assert stopped == through
        assert [(number, values) for number, values, _ in third.told()] == through


@pytest.mark.slow
def test_machines_that_share_a_database_share_its_budget(search, tmp_path):
    with opened(f"sqlite:///{tmp_path}/shared.db") as storage:
        here, there = search(storage, owner="here"), search(storage, owner="there")
        mine, theirs = here.batch([], 1), there.batch([], 1)
        assert [number for number, _ in mine] == list(range(8))
        assert [number for number, _ in theirs] == list(range(8, 16))
        for number, values in theirs:
            there.tell(number, rows(number, values), higher_is_better=False)
        last = there.batch([], 1)
        assert [number for number, _ in last] == list(range(16, 20))
        assert [number for number, _ in here.batch([], 1)] == list(range(8))
        assert here.left() == there.left() == 12
        for number, values in last:
            there.tell(number, rows(number, values, status="pruned"), higher_is_better=False)
        for number, values in mine:
            here.tell(number, rows(number, values, status="diverged"), higher_is_better=False)
        assert here.batch([], 1) == there.batch([], 1) == []
        assert here.left() == there.left() == 0
        assert here.told() == there.told()
        assert [values for _, values, _ in here.told()] == [values for _, values in mine + theirs + last]
        states = [trial.state.name for trial in here._all()]
        assert states == ["COMPLETE"] * 16 + ["PRUNED"] * 4
        assert [here._all()[n].value for n in (0, 8)] == [float("inf"), float(rows(*theirs[0])[0]["value"])]


def test_a_trial_of_a_machine_that_was_lost_is_replaced(search, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptive, "LOST_SECONDS", 0.05)
    with opened(f"sqlite:///{tmp_path}/lost.db") as storage:
        here, there = search(storage, owner="here", trials=2), search(storage, owner="there", trials=2)
        theirs = there.batch([], 1)
        assert here.batch([], 1) == []
        for _ in range(3):  # signs of life
            there.beat()
            here.reclaim()
            time.sleep(0.1)
        assert here.batch([], 1) == []
        assert here.left() == 2
        here.reclaim()
        replacing = here.batch([], 1)
        assert [number for number, _ in replacing] == [2, 3]
        assert not {tuple(values.values()) for _, values in replacing} & {
            tuple(values.values()) for _, values in theirs
        }
        for number, values in theirs:  # it was only slow
            there.tell(number, rows(number, values), higher_is_better=False)
        assert there.batch([], 1) == []
        assert there.left() == 2
        for number, values in replacing:
            here.tell(number, rows(number, values), higher_is_better=False)
        assert there.left() == here.left() == 0
        assert [number for number, *_ in there.told()] == [number for number, *_ in here.told()] == [2, 3]


class Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize("killed", [False, True])
def test_who_asks_beyond_the_budget_withdraws(search, tmp_path, monkeypatch, killed):
    """It had counted before the other asked. It may be killed before it withdraws; then it does so when it is back."""

    def die(_):
        raise Killed

    with opened(f"sqlite:///{tmp_path}/race.db") as storage:
        here, there = search(storage, owner="here", trials=1), search(storage, owner="there", trials=1)
        assert here._ask() == 0
        counted, before = there._counted, [[]]
        with monkeypatch.context() as patched:
            patched.setattr(there, "_counted", lambda: before.pop() if before else counted())
            if killed:
                patched.setattr(there, "_fail", die)
                with pytest.raises(Killed):
                    there._ask()
            else:
                assert there._ask() is None
        assert there.left() == 1
        assert there.batch([], 1) == []
        assert [trial.state.name for trial in there._all()] == ["RUNNING", "FAIL"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tpe", "gp"])
def test_tuning_with_optuna_from_end_to_end(run, table, winners, kind, tmp_path):
    if kind == "gp":
        pytest.importorskip("torch")
    space = {
        "optimizer.learning_rate": Uniform(1e-3, 10.0, log=True),
        "optimizer.weight_decay": Choice((0.0, 1e-4, 0.1)),
    }
    tuning = Tuning(space=space, search=kind, trials=10, pruning="halving")
    run(tuning, arms=[])
    tuned = table()
    assert list(tuned["number"]) == list(range(10))
    assert (tuned["status"] == "pruned").any()
    found, own = winners()["plain"], tuned[tuned["status"] == "ok"].set_index("number")
    assert found["number"] == own["value"].idxmax()
    assert found["winner"]["optimizer.weight_decay"] == own.loc[found["number"], "optimizer.weight_decay"]
    assert found["trials"] == 10
    assert (tmp_path / "tiny" / "tuning.db").exists()


@pytest.mark.slow
def test_a_second_machine_takes_what_the_first_has_found_from_the_shared_database(run, table, winners, tmp_path):
    tuning = Tuning(space={"optimizer.learning_rate": SPACE["optimizer.learning_rate"]}, search="tpe", trials=3)
    options = {"arms": [], "seeds": 1, "tuning_storage": f"sqlite:///{tmp_path}/shared.db"}
    first, second = tmp_path / "first", tmp_path / "second"
    run(tuning, **options, workdir=first)
    run(tuning, **options, workdir=second)
    here, there = table(workdir=second), table(workdir=first)
    pd.testing.assert_frame_equal(here[sorted(here)], there[sorted(there)])
    assert winners(second) == winners(first)
    assert not (second / "tiny" / "tuning_curves.csv").exists(), "it trained what the first had trained"


@pytest.mark.parametrize(("kind", "library"), [("tpe", "optuna"), ("gp", "torch")])
def test_an_absent_library_is_named(kind, library, prepare, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == library else find(name, *rest))
    with pytest.raises(BadInput, match=rf"needs {library}; install it with: pip install -e '.\[tuning"):
        prepare(Tuning(space=SPACE, search=kind))
