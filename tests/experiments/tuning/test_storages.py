"""Storages of adaptive searches: what is refused, in one line that holds no password, and what is mended."""

import builtins
import os
import sqlite3

import pytest

from experiments.spaces import Uniform
from experiments.study import Tuning
from experiments.tuning.adaptive import ArmSearch
from experiments.tuning.storages import check, opened, shown
from models.base import BadInput
from tests.experiments.tuning import postgres

pytest.importorskip("optuna")

SPACE = {"optimizer.learning_rate": Uniform(1e-3, 10.0, log=True)}


@pytest.fixture(scope="module")
def server():
    with postgres.running() as server:
        yield server


@pytest.fixture
def adaptive_search(prepare):
    return prepare(Tuning(space=SPACE, search="tpe", trials=4))


@pytest.fixture
def asked(adaptive_search):
    """Opens a storage and asks for a point; gives its number."""

    def ask(url) -> int | None:
        with opened(url) as storage:
            search = ArmSearch(adaptive_search.spaces["plain"], "tpe", "plain", trials=4, storage=storage, owner="me")
            return search._ask()

    return ask


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "must be a URL such as sqlite:///FILE, journal:///FILE or postgresql://"),
        ("", "must be a URL such as"),
        ("strange://me:hidden@there/name", "'strange' is no kind of database that is known"),
        ("postgresql://me:hidden", "must be a URL such as"),
        ("postgresql://me:hidden@there:hidden/name", "must be a URL such as"),
        ("postgresql://me:hid@hidden@there/name", "write an @ in the password as %40"),
        ("journal://tuning.log", "must name a file: journal:///FILE"),
        ("journal:///", "must name a file"),
        ("sqlite://", "must name a file: sqlite:///FILE"),
        ("journal:///no/such/tuning.log", r"no folder no/such \(three slashes begin a relative path, four"),
        ("sqlite:////no/such/tuning.db", "no folder /no/such"),
        ("mysql+pymysql://me:hidden@there/name", r"mysql\+pymysql://me:\*\*\*@there/name' needs a driver"),
        ("postgresql://me:hidden@127.0.0.1:1/name", r"me:\*\*\*@127.0.0.1:1/name, cannot be used: .*refused"),
        ("postgresql://me@127.0.0.1:1/name?password=hidden", "me@127.0.0.1:1/name, cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_is_refused(url, message, adaptive_search):
    if url.startswith("postgresql") and "127.0.0.1" in url:
        pytest.importorskip("psycopg")
    with pytest.raises(BadInput, match=message) as caught:
        check(url, adaptive_search)
    assert "hid" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_storage_that_nothing_would_use_is_refused(prepare):
    with pytest.raises(BadInput, match="needs a tuning with --tuning_search=tpe or gp"):
        check("sqlite:///x.db", prepare(Tuning(space=SPACE, search="sobol")))
    with pytest.raises(BadInput, match="needs a tuning"):
        check("sqlite:///x.db", None)


def test_an_absent_driver_is_named_and_no_password(adaptive_search, monkeypatch):
    importing = builtins.__import__

    def absent(name, *rest, **options):
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'")
        return importing(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(
        BadInput, match=r"needs a driver .*: install psycopg with: pip install -e '\.\[postgres\]'"
    ) as it:
        check("postgresql://me:hidden@there/name", adaptive_search)
    assert "hidden" not in str(it.value)


def test_a_server_answers_and_refuses_a_wrong_password(server, adaptive_search, asked):
    url = server.database("passwords")
    check(url, adaptive_search)
    assert [asked(url), asked(url)] == [0, 1]
    assert shown(url).endswith(f"paribus:***@127.0.0.1:{server.port}/passwords")
    for wrong in (url.replace("kept", "wrong"), url.replace("/passwords", "/nowhere")):
        with pytest.raises(BadInput, match=r"cannot be used: .*(authentication failed|does not exist)") as caught:
            check(wrong, adaptive_search)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("version", "remedy"), [("v3.0.0.d", "optuna storage upgrade"), ("v99.0.0.a", "updating optuna")]
)
def test_a_database_of_another_version_of_optuna_is_refused(tmp_path, asked, version, remedy):
    url = f"sqlite:///{tmp_path}/tuning.db"
    asked(url)
    with sqlite3.connect(tmp_path / "tuning.db") as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
    database.close()
    with pytest.raises(BadInput, match=f"is of another version of Optuna. .*{remedy}") as caught:
        asked(url)
    assert "\n" not in str(caught.value)


def test_a_database_that_must_not_be_written_to_is_refused(tmp_path, asked):
    asked(f"sqlite:///{tmp_path}/tuning.db")
    with pytest.raises(BadInput, match="failed: attempt to write a readonly database; once that is mended"):
        asked(f"sqlite:///file:{tmp_path}/tuning.db?mode=ro&uri=true")


def test_a_file_that_is_no_database_is_refused(tmp_path, asked):
    (tmp_path / "notes.txt").write_text("milk, bread\n" * 50)
    with pytest.raises(BadInput, match="cannot be used: file is not a database"):
        asked(f"sqlite:///{tmp_path}/notes.txt")


@pytest.mark.parametrize("content", ["milk", "milk\n", '{"op_code":99,"worker_id":"w"}\n', '{"op_code":4}\n', "[]\n"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path, asked, content):
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(BadInput, match="is no journal that this version of Optuna can read"):
        asked(f"journal:///{path}")
    assert path.read_text() == content
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_journal_that_was_torn_goes_on(tmp_path, asked):
    path = tmp_path / "tuning.log"
    url = f"journal:///{path}"
    assert [asked(url), asked(url)] == [0, 1]
    whole = path.read_bytes()
    for torn in (b'{"op', b'{"op_code":4,"worker_id":"a full disk'):
        path.write_bytes(whole + torn)
        assert asked(url) == 2
        path.write_bytes(whole)
