"""Several processes that run one study on one mesh: two on this machine, over loopback."""

import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.experiments.launchers import slurm_cluster

pytestmark = pytest.mark.slow
NO_SLURM = slurm_cluster.lacking()

STUDY = (
    "--experiment=architectures",
    "--preset=smoke",
    "--arms=cnn",
    "--only=mlp",
    "--seeds=1",
    "--config.execution.checkpoint_seconds=1",
)
LONG = ("--config.training.steps=1000000", "--config.training.evaluate_every=50")
SECONDS = 150


def command(*arguments):
    return [sys.executable, "-m", "experiments", *STUDY, *arguments]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def begin(folder: Path, *arguments, count=2):
    """Start the processes; what each prints goes to a file of its own."""
    port = free_port()
    result = []
    for index in range(count):
        own = (f"--distributed=127.0.0.1:{port},{index}/{count}", f"--workdir={folder}", *arguments)
        with (folder / f"process{index}.log").open("w") as log:
            result.append(subprocess.Popen(command(*own), stdout=log, stderr=subprocess.STDOUT))
    return result


def ends(processes, folder: Path):
    """The exit status of each process."""
    try:
        return [process.wait(SECONDS) for process in processes]
    except subprocess.TimeoutExpired:
        logs = "\n".join((folder / f"process{index}.log").read_text() for index in range(len(processes)))
        raise AssertionError(f"a process hangs\n{logs}") from None
    finally:
        for process in processes:
            process.kill()


def rows(path: Path):
    with path.open() as file:
        return list(csv.DictReader(file))


def newest(folder: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    steps = [int(path.name) for path in folder.glob("architectures/checkpoints/*/*") if path.name.isdigit()]
    return max(steps, default=0)


def await_checkpoint(folder: Path, processes):
    """Wait until these processes have written one more checkpoint."""
    before, until = newest(folder), time.monotonic() + SECONDS
    while newest(folder) == before:
        assert time.monotonic() < until
        assert all(process.poll() is None for process in processes), (folder / "process0.log").read_text()
        time.sleep(0.2)


def curve(path: Path):
    """What is measured at each step, without how long it took."""
    return [(row["step"], row["train_loss"], row["validation_loss"]) for row in rows(path)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def measured(path: Path):
    """What was measured of each trial or at each step: the numbers that must not depend on who computes them."""
    return [
        [float(row[name] or 0) for name in row if re.search(r"^(train|validation|test)_loss$", name)]
        for row in rows(path)
    ]


def test_two_processes_train_what_one_does(folder):
    """Four devices of two processes or of one: equal up to the order of sums; of two processes twice: equal bits."""
    mesh, places = "--mesh=data:2,fsdp:2", [folder / name for name in ("two", "again", "one")]
    for place in places[:2]:
        place.mkdir()
        assert ends(begin(place, mesh), place) == [0, 0]
    alone = subprocess.run(command(mesh, f"--workdir={places[2]}"), capture_output=True, text=True)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    for name in ("trials.csv", "curves.csv"):
        two, again, one = (measured(place / "architectures" / name) for place in places)
        assert len(two) > 0
        assert two == again
        np.testing.assert_allclose(two, one, rtol=1e-6)
    # The first process alone writes and reports.
    assert (places[0] / "architectures" / "report" / "index.html").exists()
    assert "Report:" in (places[0] / "process0.log").read_text()
    assert "Report:" not in (places[0] / "process1.log").read_text()


def test_a_process_told_to_end_makes_all_save_at_one_step_and_another_layout_goes_on(folder):
    processes = begin(folder, "--mesh=data:2", *LONG)
    await_checkpoint(folder, processes)
    processes[1].send_signal(signal.SIGTERM)
    assert ends(processes, folder) == [85, 85]
    step, before = newest(folder), curve(folder / "architectures" / "curves.csv")
    # One process, four devices, parameters cut: another mesh and another number of processes.
    alone = [subprocess.Popen(command("--mesh=fsdp:4", f"--workdir={folder}", *LONG))]
    await_checkpoint(folder, alone)
    alone[0].send_signal(signal.SIGTERM)
    assert ends(alone, folder) == [130]
    assert newest(folder) > step
    after = curve(folder / "architectures" / "curves.csv")
    assert len(after) >= len(before) >= 1
    assert after[: len(before)] == before


def test_a_killed_process_ends_the_gang_which_goes_on_when_started_again(folder):
    processes = begin(folder, "--mesh=data:2", *LONG)
    await_checkpoint(folder, processes)
    processes[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    assert ends(processes, folder) == [85, -signal.SIGKILL]
    assert time.monotonic() - killed < 30  # the default would be 100 s and an abort
    said = " ".join((folder / "process0.log").read_text().split())
    assert "another process of this run was lost" in said
    assert "start all of them again" in said
    step = newest(folder)
    processes = begin(folder, "--mesh=data:2", *LONG)
    await_checkpoint(folder, processes)
    processes[0].send_signal(signal.SIGTERM)
    assert ends(processes, folder) == [85, 85]
    assert newest(folder) > step


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--distributed=nonsense", "--mesh=data:2"), "must be auto or HOST:PORT,INDEX/COUNT"),
        (("--distributed=127.0.0.1:1,2/2", "--mesh=data:2"), "must be auto or HOST:PORT,INDEX/COUNT"),
        (("--mesh=data:2,fsdp",), "must give the size of each axis"),
        (("--mesh=model:2",), "axis of a mesh"),
    ],
)
def test_bad_input_is_one_line(arguments, words, folder):
    done = subprocess.run(
        command(*arguments, f"--workdir={folder}"), env=os.environ, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "architectures").exists()


def test_processes_need_a_mesh(folder):
    assert ends(begin(folder), folder) == [2, 2]
    assert "say how with --mesh" in (folder / "process0.log").read_text()


@pytest.mark.engine
@pytest.mark.skipif(bool(NO_SLURM), reason=f"NO SLURM HERE ({NO_SLURM}): srun was not seen to start a gang")
def test_srun_starts_a_gang_that_finds_its_peers(folder):
    with slurm_cluster.cluster(folder / "slurm") as environment:
        steps = ["srun", "--partition=low", "--ntasks=2", "--cpus-per-task=1"]
        whole = [*steps, *command("--mesh=data:2", "--distributed=auto", f"--workdir={folder}")]
        done = subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["strategy"] for row in rows(folder / "architectures" / "trials.csv")] == ["sequential x mesh data:2"]
    assert done.stdout.count("Report:") == 1
