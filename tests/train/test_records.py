"""Records survive a crash at any byte, and say clearly when a file is not theirs."""

import csv
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.base import BadInput
from train.records import Table, write_atomically

COLUMNS = ("trial", "step", "config")
ROWS = [{"trial": "a", "step": step, "config": json.dumps({"x": 'é, "q"', "n": [1, 2]})} for step in range(3)]


def texts(rows):
    return [{name: str(row.get(name, "")) for name in COLUMNS} for row in rows]


def test_rows_come_back_in_the_order_they_were_appended(tmp_path):
    table = Table(tmp_path / "t.csv", COLUMNS)
    assert table.rows() == []
    table.append([])
    assert not table.path.exists()
    table.append(ROWS[:1])
    table.append(ROWS[1:])
    assert table.rows() == texts(ROWS)
    assert Table(table.path, COLUMNS).rows() == texts(ROWS)
    assert table.path.read_text(encoding="utf-8").count("trial,step,config") == 1


def test_json_survives_quoting(tmp_path):
    table = Table(tmp_path / "t.csv", COLUMNS)
    table.append(ROWS)
    with table.path.open(encoding="utf-8", newline="") as file:
        again = [json.loads(row["config"]) for row in csv.DictReader(file)]
    assert again == [json.loads(row["config"]) for row in ROWS]


def test_a_row_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    table = Table(tmp_path / "t.csv", COLUMNS)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    table.append(ROWS)
    assert synced == [table.path.stat().st_size]


def test_a_table_torn_at_any_byte_keeps_its_whole_rows(tmp_path):
    path = tmp_path / "t.csv"
    Table(path, COLUMNS).append(ROWS)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        table = Table(path, COLUMNS)
        whole = max(0, content[:size].count(b"\n") - 1)
        assert table.rows() == texts(ROWS[:whole]), size
        table.append(ROWS[whole:])
        assert path.read_bytes() == content, size


@pytest.mark.parametrize("header", ["trial,step\n", "trial,config,step\n", "trial,step,config,more\n", "\n", "\xff\n"])
def test_a_file_with_another_header_is_refused_and_left_alone(header, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(header + "a,1\n", encoding="latin-1")
    before = path.read_bytes()
    with pytest.raises(BadInput, match="has other columns") as caught:
        Table(path, COLUMNS)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == before


def test_optional_columns_are_added_and_strange_ones_kept(tmp_path):
    path = tmp_path / "t.csv"
    Table(path, ("trial", "own", "step")).append([{"trial": "a", "own": "x", "step": 1}])
    table = Table(path, ("trial", "step", "late"), optional={"late", "own"})
    assert table.rows() == [{"trial": "a", "step": "1", "late": "", "own": "x"}]
    table.append([{"trial": "b", "step": 2, "late": 3}])
    assert table.rows()[1] == {"trial": "b", "step": "2", "late": "3", "own": ""}
    with pytest.raises(BadInput, match="has other columns"):
        Table(path, ("trial", "needed"), optional={"late"})


def test_an_unknown_column_is_a_mistake_and_writes_nothing(tmp_path):
    table = Table(tmp_path / "t.csv", COLUMNS)
    table.append(ROWS[:1])
    with pytest.raises(ValueError, match="colour"):
        table.append([ROWS[1], {"colour": "red"}])
    assert table.rows() == texts(ROWS[:1])


def test_put_replaces_rows_of_the_same_key(tmp_path):
    table = Table(tmp_path / "t.csv", COLUMNS)
    table.put([{"trial": "a", "step": 1}, {"trial": "b", "step": 2}], key="trial")
    table.put([{"trial": "a", "step": 3}, {"trial": "c", "step": 4}], key="trial")
    assert [(row["trial"], row["step"]) for row in table.rows()] == [("b", "2"), ("a", "3"), ("c", "4")]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.keep(lambda row: int(row["step"]) < 1),
        lambda table: table.put([{"trial": "a", "step": 9}], key="trial"),
        lambda table: write_atomically(table.path, "new"),
    ],
    ids=["keep", "put", "write"],
)
def test_a_crash_while_rewriting_leaves_the_old_table(change, tmp_path, monkeypatch):
    table = Table(tmp_path / "t.csv", COLUMNS)
    table.append(ROWS)
    before = table.path.read_bytes()

    def crash(*_):
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="the power went"):
            change(table)
    assert table.path.read_bytes() == before
    change(table)
    assert table.path.read_bytes() != before


def test_keep_drops_what_does_not_meet_the_condition(tmp_path):
    table = Table(tmp_path / "t.csv", COLUMNS)
    table.keep(lambda row: False)
    assert not table.path.exists()
    table.append(ROWS)
    table.keep(lambda row: row["step"] != "1")
    assert [row["step"] for row in table.rows()] == ["0", "2"]
    table.append([{"trial": "z", "step": 7}])
    assert len(Table(table.path, COLUMNS).rows()) == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00")), min_size=1, max_size=4))
def test_any_one_line_text_survives(tmp_path, cells):
    path = tmp_path / "any.csv"
    path.unlink(missing_ok=True)
    rows = [{"trial": "t", "config": cell} for cell in cells]
    Table(path, COLUMNS).append(rows)
    assert Table(path, COLUMNS).rows() == texts(rows)


def test_a_table_admits_columns_that_its_rows_have_empty(tmp_path):
    table = Table(tmp_path / "t.csv", COLUMNS, optional=())
    table.admit(["extra/a"])
    assert not table.path.exists()
    table.append(ROWS[:1])
    table.admit(["step", "extra/b"])
    table.append([{**ROWS[1], "extra/b": 2.5, "extra/a": 1}])
    assert [(row["extra/a"], row["extra/b"]) for row in table.rows()] == [("", ""), ("1", "2.5")]
    assert texts(table.rows()) == texts(ROWS[:2])
    again = Table(table.path, COLUMNS, optional=())  # as another process finds it
    again.admit(["extra/a"])
    again.append([{**ROWS[2], "extra/a": 3}])
    assert [row["extra/a"] for row in again.rows()] == ["", "1", "3"]
