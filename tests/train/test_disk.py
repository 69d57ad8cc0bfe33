"""Disks that are full or forbid writing: one error that says so, and what was written before is whole."""

import csv
import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.train.small_disk import forbidden_folder, lose_rights, mount, small_disk
from train import checkpoints as module
from train.checkpoints import Checkpoints
from train.records import Table, whole_lines, write_atomically

ROOT = Path(__file__).parents[2]


def states(step, size=100_000):
    """Two lanes of noise, which does not compress."""
    return {"w": np.random.default_rng(step).normal(size=(2, size)).astype(np.float32)}


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("is_checked", [True, False])
def test_a_checkpoint_on_a_full_disk(is_checked, monkeypatch, capsys):
    """Seen beforehand, or found by TensorStore when a quota or another process takes the room meanwhile."""
    if not is_checked:
        monkeypatch.setattr(module, "_check_room", lambda folder, arrays: None)
    with small_disk("5m") as disk:
        opened = Checkpoints(disk / "p", ["a", "b"], newest=9)
        step = 0
        with pytest.raises(OSError, match="No space left on device") as caught:  # noqa: PT012
            while step < 20:
                opened.save(step, states(step), {})
                step += 1
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(disk / "p")
        assert 2 <= step < 20
        assert files(disk / "p") == sorted(str(number) for number in range(step)), "nothing half-written"
        again = opened.restore(states(0))
        assert (again.step, again.states["w"].tobytes()) == (step - 1, states(step - 1)["w"].tobytes())
        opened.close()
        mount("-o", "remount,size=20m", str(disk))
        opened = Checkpoints(disk / "p", ["a", "b"], newest=9)
        opened.save(step, states(step), {})
        assert opened.restore(states(0)).step == step
        opened.close()
    assert capsys.readouterr().err == ""


def test_a_checkpoint_in_a_read_only_file_system():
    with small_disk("8m") as disk:
        opened = Checkpoints(disk / "p", ["a", "b"])
        opened.save(1, states(1), {})
        mount("-o", "remount,ro", str(disk))
        with pytest.raises(OSError, match="Read-only file system") as caught:
            opened.save(2, states(2), {})
        assert (caught.value.errno, caught.value.filename) == (errno.EROFS, str(disk / "p"))
        opened.close()
        opened = Checkpoints(disk / "p", ["a", "b"])  # to read, no right to write is needed
        assert opened.restore(states(0)).states["w"].tobytes() == states(1)["w"].tobytes()
        opened.close()


def test_a_checkpoint_where_writing_is_forbidden():
    with forbidden_folder() as folder:
        opened = Checkpoints(folder / "p", ["a", "b"])
        opened.save(1, states(1), {})
        lose_rights(folder)
        with pytest.raises(OSError, match="Permission denied") as caught:
            opened.save(2, states(2), {})
        assert (caught.value.errno, caught.value.filename) == (errno.EACCES, str(folder / "p"))
        assert opened.restore(states(0)).step == 1
        opened.close()


def table_of(path):
    return Table(path, ("trial", "text"))


def row(number):
    return {"trial": str(number), "text": f"{number} " * 500}


def read(path):
    return list(csv.DictReader(whole_lines(path).decode().splitlines()))


def test_rows_on_a_full_disk():
    with small_disk("1m") as disk:
        table, count = table_of(disk / "t.csv"), 0
        with pytest.raises(OSError, match="No space left on device") as caught:  # noqa: PT012
            while count < 10**4:
                table.append([row(count)])
                count += 1
        assert caught.value.filename == str(disk / "t.csv")
        content = (disk / "t.csv").read_bytes()
        assert content.endswith(b"\n"), "no row is torn"
        assert read(disk / "t.csv") == [row(number) for number in range(count)]
        with pytest.raises(OSError, match="No space left on device") as caught:
            table.put([row(0)], key="trial")  # which needs a second file beside the first
        assert caught.value.filename == str(disk / "t.csv")
        assert files(disk) == ["t.csv"], "no part of a new one stays"
        assert (disk / "t.csv").read_bytes() == content
        mount("-o", "remount,size=4m", str(disk))
        table_of(disk / "t.csv").append([row(count)])
        assert len(read(disk / "t.csv")) == count + 1


def test_rows_beyond_a_limit_on_the_size_of_files(tmp_path):
    """The same without a file system of one's own: a process that may write no file of more than 64 KiB."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from train.records import Table, write_atomically
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
table, count = Table(Path("t.csv"), ("trial", "text")), 0
try:
    while True:
        table.append([{{"trial": str(count), "text": f"{{count}} " * 500}}])
        count += 1
except OSError as error:
    print(count, error.errno, error.filename)
try:
    write_atomically(Path("t.csv"), "x" * 99999)
except OSError as error:
    print(error.errno, error.filename)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    count, number, name, *second = done.stdout.split()
    assert (int(number), name, second) == (errno.EFBIG, "t.csv", [str(errno.EFBIG), "t.csv"])
    assert (tmp_path / "t.csv").read_bytes().endswith(b"\n")
    assert read(tmp_path / "t.csv") == [row(number) for number in range(int(count))]
    assert files(tmp_path) == ["t.csv"]


@pytest.mark.parametrize("kind", ["append", "put"])
def test_rows_of_a_process_that_is_killed(kind, tmp_path):
    """kill -9 at random moments of writing nothing but rows of 100 kB; what can be read are whole rows in order."""
    path = tmp_path / "t.csv"
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from train.records import Table
from pathlib import Path
table = Table(Path({str(path)!r}), ("trial", "text"))
number = len(table.rows())
while True:
    rows = [{{"trial": str(number), "text": f"{{number}} " * 20000}}]
    table.append(rows) if {kind!r} == "append" else table.put(rows, key="trial")
    number += 1
    print(number, flush=True)
"""
    moments, told = random.Random(0), 0
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            told = int(process.stdout.readline())
            time.sleep(0.1 * moments.random())
            process.send_signal(signal.SIGKILL)
            told = max([told, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
        found = [each["trial"] for each in table_of(path).rows()]
        assert found == [str(number) for number in range(len(found))]
        assert len(found) in (told, told + 1), "a row that was told of is on the disk"
        assert all(each["text"] == f"{each['trial']} " * 20000 for each in read(path))


def test_a_last_line_that_is_torn_is_not_read(tmp_path):
    path = tmp_path / "t.csv"
    table_of(path).append([row(1), row(2)])
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    assert read(path) == [row(1)]
    path.write_bytes(b"")
    assert whole_lines(path) == b""


def test_writing_where_it_is_forbidden_names_the_file():
    with forbidden_folder() as folder:
        write_atomically(folder / "study.json", "old")
        lose_rights(folder)
        with pytest.raises(PermissionError) as caught:
            write_atomically(folder / "study.json", "new")
        assert "study.json" in str(caught.value)
        assert (folder / "study.json").read_text() == "old"
        assert os.listdir(folder) == ["study.json"]
