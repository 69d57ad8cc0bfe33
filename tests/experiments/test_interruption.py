"""Stopping: a run that was interrupted or killed and goes on is the run that was not.

Few moments, chosen by what the run has written; ``tests/benchmarks/kill.py`` takes many at random.
"""

import csv
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train.signals import Stop, deferred, terminable

ROOT = Path(__file__).parents[2]
STEPS = 3000
COMMAND = (
    *("-m", "experiments", "--experiment=architectures", "--preset=smoke", "--arms="),
    *("--config.model.width=16", f"--config.training.steps={STEPS}", "--config.training.evaluate_every=100"),
    "--config.execution.checkpoint_seconds=0.2",
)


@pytest.fixture(scope="module")
def kill():
    """The benchmark, which knows what must be the same."""
    path = ROOT / "tests" / "benchmarks" / "kill.py"
    spec = importlib.util.spec_from_file_location("kill", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(workdir: Path) -> subprocess.Popen:
    command = [sys.executable, *COMMAND, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(workdir: Path) -> None:
    with start(workdir) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def last_step(folder: Path) -> int:
    path = folder / "curves.csv"
    if not path.exists():
        return -1
    with path.open(newline="") as file:
        steps = [row["step"] for row in csv.DictReader(file)]
    return max((int(step) for step in steps if step), default=-1)


def stop(workdir: Path, number: int) -> tuple[int, str]:
    """Send a signal once another evaluation has been recorded; the exit status and standard error."""
    before = last_step(workdir / "architectures")
    with start(workdir) as process:
        deadline = time.monotonic() + 300
        while last_step(workdir / "architectures") <= before:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    return process.returncode, errors


@pytest.mark.slow
def test_a_run_that_was_stopped_four_times_is_the_run_that_was_not(tmp_path, kill, monkeypatch):
    workdir = tmp_path / "stopped"
    folder = workdir / "architectures"

    reached = []
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        status, errors = stop(workdir, number)
        if number == signal.SIGKILL:
            assert status == -number
        else:
            assert status == 130, errors
            assert "the same command goes on" in errors
            assert "Traceback" not in errors
            # Saved where it stopped, not at the last regular checkpoint.
            saved = max(int(path.name) for path in folder.glob("checkpoints/*/*") if path.name.isdigit())
            assert saved >= last_step(folder)
        reached.append(last_step(folder))
    assert reached[-1] < STEPS, "the signals came too late to mean anything; raise STEPS"
    assert not (folder / "trials.csv").exists()
    finish(workdir)

    finish(tmp_path / "through")
    # A commit while this test runs is no difference that the interruption made.
    monkeypatch.setattr(kill, "TIMES", (*kill.TIMES, "code_version", "code_dirty"))
    assert kill.differences(folder, tmp_path / "through" / "architectures") == []
    curves = kill.rows(folder / "curves.csv")
    assert [row["step"] for row in curves if row["seed"] == "1"] == [str(step) for step in range(0, STEPS + 1, 100)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_starting_up_is_an_interruption_too(tmp_path, number):
    with start(tmp_path) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        if not maps.exists():
            process.kill()
            pytest.skip("needs /proc to see how far the process has come")
        # jaxlib is being loaded: main() is at work, and nothing has been written.
        while process.poll() is None and "jaxlib" not in maps.read_text():
            time.sleep(0.005)
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors


def test_the_first_signal_asks_and_the_second_insists():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_deferred_interrupts_afterwards(number):
    before = signal.getsignal(number)
    done = []

    def receive():
        with deferred():
            os.kill(os.getpid(), number)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        receive()
    assert done
    assert signal.getsignal(number) == before
    with deferred():
        pass


def test_terminable_makes_sigterm_an_interruption_and_puts_the_old_handler_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
