"""A whole study on a disk that is too small or forbids writing: one line, status 2, and the same command goes on."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.small_disk import mount, small_disk

ROOT = Path(__file__).parents[2]
COMMAND = (
    *("-m", "experiments", "--experiment=architectures", "--preset=smoke", "--arms="),
    *("--config.model.width=128", "--config.training.steps=400", "--config.training.evaluate_every=40"),
    "--config.execution.checkpoint_seconds=0",
)


@pytest.fixture(scope="module")
def kill():
    """The benchmark, which knows what must be the same."""
    spec = importlib.util.spec_from_file_location("kill", ROOT / "tests" / "benchmarks" / "kill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(workdir: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *COMMAND, f"--workdir={workdir}"], cwd=ROOT, capture_output=True, text=True)


def refused(workdir: Path) -> str:
    """The one line of the error."""
    done = run(workdir)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "INFO" not in line and line.strip()[:5] == "error"]
    assert done.stderr.rstrip().endswith(line), done.stderr
    return line


@pytest.mark.slow
def test_a_study_goes_on_when_there_is_room_again(kill, tmp_path, monkeypatch):
    with small_disk("5m") as disk:
        folder = disk / "architectures"
        line = refused(disk)
        assert f"{folder}/checkpoints/mlp-" in line
        assert "No space left on device; make room, and the same command goes on from the last checkpoint" in line
        saved = sorted(int(path.name) for path in folder.glob("checkpoints/*/*"))
        assert saved, "one checkpoint fits"
        assert not (folder / "trials.csv").exists()
        mount("-o", "remount,ro", str(disk))
        assert "Read-only file system" in refused(disk)
        mount("-o", "remount,rw", str(disk))
        assert "No space left on device" in refused(disk)
        assert set(saved) <= {int(path.name) for path in folder.glob("checkpoints/*/*")}
        mount("-o", "remount,size=50m", str(disk))
        if os.geteuid() == 0 and subprocess.run(["chattr", "+i", str(folder)], capture_output=True).returncode == 0:
            assert "Operation not permitted; allow it to be written to" in refused(disk)
            subprocess.run(["chattr", "-i", str(folder)], check=True)
        done = run(disk)
        assert done.returncode == 0, done.stderr
        assert run(tmp_path).returncode == 0
        # A commit while this test runs is no difference that the disk made.
        monkeypatch.setattr(kill, "TIMES", (*kill.TIMES, "code_version", "code_dirty"))
        assert kill.differences(folder, tmp_path / "architectures") == []
