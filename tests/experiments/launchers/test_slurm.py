"""Studies on a real Slurm, which the tests start: arrays, preemption, time-outs, kills, a head that goes and comes."""

import functools
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.experiments.launchers import commands, slurm_cluster
from tests.experiments.launchers.commands import LONG, STUDY, assert_equal, results, wait_for

REASON = slurm_cluster.lacking() or ("" if importlib.util.find_spec("submitit") else "submitit is not installed")
SLURM = ("--launcher=slurm", "--launch.partition=low")

pytestmark = [pytest.mark.slow, pytest.mark.engine]
on_slurm = pytest.mark.skipif(bool(REASON), reason=f"NO SLURM HERE ({REASON}): no study was run on it")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def ask(environment: Mapping[str, str], *words: str) -> str:
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


def jobs(environment: Mapping[str, str]) -> list[list[str]]:
    """Id, state and partition of what is in the queue."""
    return [line.split() for line in ask(environment, "squeue", "-h", "-r", "-o", "%i %T %P").splitlines()]


def move_on(environment: Mapping[str, str], *changes: str) -> None:
    """Wait until the job is queued again, and have it start: Slurm keeps such a one for two minutes."""
    ((number, *_),) = wait_for(lambda: [job for job in jobs(environment) if job[1:] == ["PENDING", "low"]])
    ask(environment, "scontrol", "update", f"jobid={number}", *changes, "StartTime=now")


def logs(workdir: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(workdir.rglob("*_log.out")))


def hand_overs(workdir: Path) -> int:
    return len(list(workdir.rglob("*_submitted.pkl")))


@on_slurm
def test_an_array_comes_to_what_a_local_run_comes_to(slurm, tmp_path):
    study = (*STUDY, "--arms=cnn")
    commands.run(tmp_path / "local", *study)
    flags = (*study, *SLURM, "--launch.parallel=1", "--launch.memory_gib=0.5", "--launch.sbatch.comment=hello")
    with commands.started(tmp_path / "there", *flags, environment=slurm) as head:
        show = functools.partial(ask, slurm, "scontrol", "show", "job")
        facts = wait_for(lambda: found if "ArrayTaskThrottle" in (found := show()) else "")
        for asked in ("ArrayTaskThrottle=1", "TimeLimit=01:00:00", "NumCPUs=1", "MinMemoryNode=512M", "Comment=hello"):
            assert asked in facts
        commands.said(head, 0)
    assert_equal(results(tmp_path / "there"), results(tmp_path / "local"))
    assert jobs(slurm) == []


@on_slurm
def test_a_head_goes_and_comes_back_while_its_job_is_preempted(slurm, long_run, tmp_path):
    with commands.begun(tmp_path, *SLURM, environment=slurm) as head:
        ((number, *_),) = jobs(slurm)
        head.send_signal(signal.SIGINT)
        farewell = commands.said(head, 130)
    assert f"the same command attaches to them again, 'scancel {number}' ends them" in farewell
    assert jobs(slurm) == [[number, "RUNNING", "low"]]
    ask(slurm, "sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    move_on(slurm)
    commands.run(tmp_path, *LONG, *SLURM, environment=slurm)
    assert "this job is preempted" in logs(tmp_path)
    assert hand_overs(tmp_path) == 1
    assert_equal(results(tmp_path), long_run)


@on_slurm
def test_a_job_runs_out_of_time_and_is_killed_while_no_head_looks(slurm, long_run, tmp_path):
    with commands.begun(tmp_path, *SLURM, "--launch.signal_seconds=50", environment=slurm) as head:
        ((number, *_),) = jobs(slurm)
        # Slurm looks at time limits twice a minute: until its signals come, SIGCONT among them, nothing is trained.
        os.kill(commands.worker_of(tmp_path), signal.SIGSTOP)
        ask(slurm, "scontrol", "update", f"jobid={number}", "TimeLimit=1")
        move_on(slurm, "TimeLimit=60")
        assert "Caught signal SIGUSR2" in logs(tmp_path)
        wait_for(lambda: jobs(slurm) == [[number, "RUNNING", "low"]])
        head.kill()
    os.kill(wait_for(lambda: commands.worker_of(tmp_path)), signal.SIGKILL)
    wait_for(lambda: jobs(slurm) == [])
    commands.run(tmp_path, *LONG, *SLURM, environment=slurm)
    assert hand_overs(tmp_path) == 2
    assert_equal(results(tmp_path), long_run)


@on_slurm
def test_a_killed_job_is_noticed_without_accounting_and_a_cancelled_one_is_let_be(slurm, long_run, tmp_path):
    with commands.begun(tmp_path, *SLURM, environment=slurm) as head:
        ((first, *_),) = jobs(slurm)
        os.kill(commands.worker_of(tmp_path), signal.SIGKILL)
        ((second, *_),) = wait_for(lambda: [job for job in jobs(slurm) if job[0] != first and job[1] == "RUNNING"])
        ask(slurm, "scancel", second)
        said = commands.said(head, 2)
    assert re.search(rf"was lost \(job {first} FAILED, exit code \S+, see .*\); it is handed over again", said)
    assert f"job {second} of pack mlp (2) was cancelled; the same command goes on" in said
    wait_for(lambda: jobs(slurm) == [])
    commands.run(tmp_path, *LONG, *SLURM, environment=slurm)
    assert_equal(results(tmp_path), long_run)


@on_slurm
def test_what_slurm_refuses_is_said_in_one_line(slurm, tmp_path):
    said = commands.run(tmp_path, *STUDY, "--launcher=slurm", "--launch.partition=none", environment=slurm, status=2)
    assert said.startswith("error: Slurm refuses the jobs: ")
    assert "invalid partition" in said.lower()


def test_a_machine_without_slurm_says_so_and_writes_nothing(tmp_path):
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent)}
    assert shutil.which("sbatch", path=environment["PATH"]) is None
    assert "needs sbatch" in commands.run(tmp_path, *STUDY, "--launcher=slurm", environment=environment, status=2)
    assert list(tmp_path.iterdir()) == []
