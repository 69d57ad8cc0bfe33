"""How long a study ran, in ``sittings.csv``."""

import pytest

from experiments.sittings import Sitting
from train.folder import SPENT
from train.records import Table

COLUMNS = ("began", "tuning", "trials", "cores", "seconds", *SPENT, "other")


@pytest.fixture
def table(tmp_path):
    return Table(tmp_path / "sittings.csv", COLUMNS)


def test_seconds_add_up_to_the_whole(table, monkeypatch):
    clock = iter([100.0, 130.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    with Sitting(table, tuning=False) as sitting:
        sitting.add(3, {"step": 10.0, "evaluate": 2.0})
        sitting.add(2, {"step": 5.0, "compile": 4.0})
    (row,) = table.rows()
    assert (row["trials"], row["tuning"], row["seconds"]) == ("5", "False", "30.0")
    assert {name: float(row[name]) for name in ("step", "evaluate", "compile", "other")} == {
        "step": 15.0,
        "evaluate": 2.0,
        "compile": 4.0,
        "other": 9.0,
    }


def test_a_sitting_that_is_broken_off_counts(table):
    with pytest.raises(KeyboardInterrupt), Sitting(table, tuning=True):
        raise KeyboardInterrupt
    assert [row["trials"] for row in table.rows()] == ["0"]


def test_a_sitting_without_work_leaves_no_row(table):
    with Sitting(table, tuning=False):
        pass
    assert table.rows() == []


def test_a_full_disk_stays_the_error(table):
    sitting = Sitting(table, tuning=False)
    sitting.add(1, {})
    with pytest.raises(OSError, match="full"), sitting:
        raise OSError("full")
    assert table.rows() == []
