"""How long a study ran, in ``sittings.csv``."""

import pytest

from experiments.sittings import Sitting
from train.folder import SITTING, SPENT
from train.records import Table

COLUMNS = ("began", "tuning", "trials", "cores", "seconds", *SPENT, *SITTING)


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
    assert {name: float(row[name]) for name in ("step", "evaluate", "compile", "idle")} == {
        "step": 15.0,
        "evaluate": 2.0,
        "compile": 4.0,
        "idle": 9.0,
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


def test_the_whole_is_compared_with_the_steps_at_their_fastest(table, monkeypatch, caplog):
    clock = iter([100.0, 130.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    worked = iter([7.0, 52.0])
    monkeypatch.setattr("time.process_time", lambda: next(worked))
    with caplog.at_level("INFO", "paribus"), Sitting(table, tuning=False) as sitting:
        sitting.add(3, {"step": 16.0, "ideal": 15.0})
        sitting.add(2, {"step": 6.0, "ideal": 5.0})
    (row,) = table.rows()
    assert (row["step"], row["idle"], row["ideal"]) == ("22.0", "8.0", "20.0")
    assert float(row["cpu_seconds"]) == 45.0
    assert "1.50 times the 20.0 s of its steps at their fastest; 1.50 of " in caplog.text


def test_sittings_of_an_earlier_version_are_kept(tmp_path):
    path = tmp_path / "sittings.csv"
    path.write_text("began,tuning,trials,cores,seconds,compile,step,evaluate,checkpoint,input,diagnose,other\n")
    with path.open("a") as file:
        file.write("2026-01-01T00:00:00Z,False,4,2,10.0,1.0,6.0,1.0,0.0,0.0,0.0,2.0\n")
    with Sitting(Table(path, COLUMNS, optional=SITTING), tuning=False) as sitting:
        sitting.add(1, {})
    first, second = Table(path, COLUMNS, optional=SITTING).rows()
    assert (first["other"], first["idle"], second["other"], second["trials"]) == ("2.0", "", "", "1")
