"""Several processes on one storage, of each kind: no trial is lost, none is done twice, and all choose the same."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.experiments.tuning import postgres

pytest.importorskip("optuna")

ROOT = Path(__file__).parents[3]
WORKER = Path(__file__).with_name("worker.py")
LOST = 6.0
"""Seconds after which a worker is taken for lost, here."""


@pytest.fixture(scope="module")
def server():
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def url(request, tmp_path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("server").database(tmp_path.name)
    return f"{request.param}:///{tmp_path}/shared"


@pytest.fixture
def start(tmp_path):
    """Starts a worker in a folder; those that a test leaves behind are killed."""
    started = []

    def call(name: str, url: str, trials: int, *options: str) -> subprocess.Popen:
        command = [sys.executable, str(WORKER), str(tmp_path / name), url, str(trials), f"lost={LOST}", *options]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def finish(*processes: subprocess.Popen) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors


def trained(folder: Path) -> list[int]:
    """Numbers of the trials that began in a folder."""
    path = folder / "trained.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def agree(*folders: Path, trials: int) -> set[int]:
    """Check that these workers have the same table and choice; the numbers that it holds."""
    tables, choices = [], []
    for folder in folders:
        with (folder / "tuning.csv").open(newline="") as file:
            tables.append(sorted(csv.DictReader(file), key=lambda row: int(row["number"])))
        choices.append(json.loads((folder / "tuning.json").read_text()))
    assert all(table == tables[0] for table in tables)
    assert all(choice == choices[0] for choice in choices)
    numbers = [int(row["number"]) for row in tables[0]]
    assert len(numbers) == len(set(numbers)) == trials
    best = max(tables[0], key=lambda row: (float(row["value"]), -int(row["number"])))
    assert choices[0]["arms"]["plain"]["number"] == int(best["number"])
    return set(numbers)


@pytest.mark.slow
def test_two_processes_that_ask_at_the_same_moments_lose_and_double_no_trial(url, start, tmp_path):
    """One trial at a time, which takes no time, from the moment when neither has made the tables yet."""
    a, b = tmp_path / "a", tmp_path / "b"
    workers = [start(each, url, 30, "batch=1", f"start={tmp_path / 'go'}") for each in ("a", "b")]
    for folder, worker in zip((a, b), workers, strict=True):
        wait_for(folder / "ready", worker)
    (tmp_path / "go").touch()
    finish(*workers)
    numbers = agree(a, b, trials=30)
    assert Counter(trained(a) + trained(b)) == Counter(numbers)
    assert trained(a)
    assert trained(b)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["journal", "postgresql"], indirect=True)
def test_what_a_killed_worker_leaves_is_done_by_it_or_by_others(url, start, tmp_path):
    """Killed twice while its second population runs. The same command goes on; later others go on without it."""
    a, b, c = (tmp_path / each for each in "abc")
    killed = start("a", url, 20, "batch=4", "hang=2")
    wait_for(a / "hangs", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (a / "hangs").unlink()
    assert sorted(trained(a)) == [0, 1, 2, 3, 4, 5, 6, 7]

    killed = start("a", url, 20, "batch=4", "hang=2")  # its first is what it was killed in; then it asks for more
    wait_for(a / "hangs", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert Counter(trained(a)) == Counter([*range(12), 4, 5, 6, 7]), "4 to 7 had begun and had no result"

    finish(*[start(each, url, 20, "batch=4") for each in ("b", "c")])
    # Of two that ask at the same moment for the last one, the later gives its number up again.
    numbers = agree(b, c, trials=20)
    assert numbers.isdisjoint(range(8, 12)), "these are lost, others replace them"
    assert numbers > {*range(8), *range(12, 20)}
    assert Counter(trained(b) + trained(c)) == Counter(numbers - {*range(8)})

    finish(start("a", url, 20, "batch=4"))  # it comes back, too late
    assert agree(a, b, c, trials=20)
    assert len(trained(a)) == 16, "it trained more"


@pytest.mark.slow
def test_a_server_that_goes_away_is_one_line_and_the_same_command_goes_on(server, start, tmp_path):
    url = server.database("away")
    stopped = start("a", url, 12, "batch=4", "hang=2")
    wait_for(tmp_path / "a" / "hangs", stopped)
    server.stop()
    try:
        (tmp_path / "a" / "go on").touch()
        _, errors = stopped.communicate(timeout=60)
    finally:
        server.start()
    assert stopped.returncode != 0
    assert errors.startswith("error: the storage of the tuning, postgresql+psycopg://paribus:***@127.0.0.1")
    assert errors.endswith("the same command goes on\n")
    assert len(errors.splitlines()) == 1
    assert "secret" not in errors
    finish(start("a", url, 12, "batch=4"), start("b", url, 12, "batch=4"))
    agree(tmp_path / "a", tmp_path / "b", trials=12)
    both = trained(tmp_path / "a") + trained(tmp_path / "b")
    assert Counter(both) == Counter(range(12)), "what was trained while the server was away had a result"
