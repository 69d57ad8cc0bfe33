"""Packs as jobs of Slurm: one array, through submitit.

A job that is preempted, or whose time is up, saves a checkpoint and is queued again by submitit. The head may go
and come back: each pack's folder says which job runs it, and Slurm says how that one is.
"""

import contextlib
import getpass
import io
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.launchers import packs
from experiments.launchers.engine import Engine, Resources, State
from experiments.launchers.options import Slurm
from experiments.launchers.packs import FOLDER, Pack
from models.base import BadInput
from train.records import write_atomically
from train.signals import Interrupted, Stop

logger = logging.getLogger("paribus")

JOB = "job.json"
LOGS = "logs"

TIMEOUTS = 1000
"""Times that a job may run out of time; each time it has gone on from a checkpoint."""

END_SECONDS = 300
"""How long a job that was told to end, and has saved, waits for Slurm to end it or to queue it again."""

QUEUE_SECONDS = 5.0
"""Between two questions to Slurm for its queue."""

PATIENCE_SECONDS = 900.0
"""How long Slurm may not answer, e.g. while its controller starts again, before the head gives up."""

_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STAGE_OUT", "SIGNALING", "STOPPED")


class Job:
    """What a job runs: one pack, until it is done or the job is told to end.

    Args:
        folder: of the pack.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        """Run the pack. When Slurm says that the job will end, save; submitit then has it queued again.

        SIGTERM alone comes from ``scancel``, or from a preemption of which Slurm tells only so. After it the job waits
        for Slurm, which knows whether to queue it again.
        """
        number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}")
        queue_again: Any = signal.getsignal(number)
        with Stop(number) as notice, Stop(signal.SIGTERM) as end:
            try:
                packs.run(self.folder, lambda: notice.asked or end.asked)
            except Interrupted:
                logger.warning("saved")
                if not notice.asked:
                    _await_end(lambda: notice.asked)
        if notice.asked:
            queue_again(number, None)

    def checkpoint(self) -> Any:
        """What submitit has to run when the job starts again: the same."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _await_end(noticed: Callable[[], bool]) -> None:
    """Sleep until Slurm kills the process, or it is noticed that the job is to be queued again."""
    begin = time.monotonic()
    while time.monotonic() - begin < END_SECONDS and not noticed():
        time.sleep(0.2)


class SlurmJobs(Engine):
    """The jobs of one study.

    Args:
        folder: of the study.
        resources: of each job.
        options: of the array.

    Raises:
        BadInput: submitit is not installed, or Slurm is not there.
    """

    def __init__(self, folder: Path, resources: Resources, options: Slurm) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise BadInput("--launcher=slurm needs submitit: pip install 'paribus[slurm]'") from None
        if shutil.which("sbatch") is None:
            raise BadInput(
                "--launcher=slurm needs sbatch, which is not on the path: run this on a machine of the cluster"
            )
        self.folder, self.resources, self.options = folder, resources, options
        self._queue: dict[str, list[str]] = {}
        self._asked = self._answered = -math.inf

    def submit(self, packs: Sequence[Pack]) -> None:
        """One array for all of them."""
        import submitit
        from submitit.core.utils import FailedJobError

        logs = self.folder / FOLDER / LOGS
        executor = submitit.SlurmExecutor(folder=logs.resolve(), max_num_timeout=TIMEOUTS)
        asked = {
            "partition": self.options.partition,
            "account": self.options.account,
            "constraint": self.options.constraint,
            "gpus_per_node": self.resources.gpus,
            "mem": f"{round(self.resources.memory_gib * 1024)}M" if self.resources.memory_gib else "",
        }
        executor.update_parameters(
            job_name=f"paribus-{self.folder.name}",
            time=self.options.minutes,
            cpus_per_task=self.resources.cpus,
            srun_args=[f"--cpus-per-task={self.resources.cpus}"],  # since 22.05 srun does not take it from sbatch
            signal_delay_s=self.options.signal_seconds,
            array_parallelism=self.options.parallel,
            stderr_to_stdout=True,
            additional_parameters=dict(self.options.sbatch),
            **{name: value for name, value in asked.items() if value},
        )
        try:
            with contextlib.redirect_stderr(io.StringIO()), executor.batch():  # the error says it, too
                jobs = [executor.submit(Job(pack.folder.resolve())) for pack in packs]
        except (FailedJobError, subprocess.CalledProcessError) as error:
            raise BadInput(f"Slurm refuses the jobs: {' '.join(str(error).split())[:300]}") from None
        for pack, job in zip(packs, jobs, strict=True):
            write_atomically(pack.folder / JOB, json.dumps({"job": job.job_id}) + "\n")
        self._asked = -math.inf  # the queue is another now

    def states(self, packs: Sequence[Pack]) -> Mapping[str, tuple[State, str]]:
        """What the queue says. It needs no accounting: a job that was killed is not in it any more."""
        if time.monotonic() - self._asked >= QUEUE_SECONDS:
            self._look()
        found: dict[str, tuple[State, str]] = {}
        for pack in packs:
            job = job_of(pack)
            _, state, node, reason = self._queue.get(job, ("", "", "", ""))
            if not state:
                found[pack.name] = ("gone", f"job {job}" if job else "")
            elif state in _RUNNING:
                found[pack.name] = ("running", f"job {job} on {node}")
            else:
                found[pack.name] = ("queued", f"job {job} {state.lower()} ({reason})")
        return found

    def _look(self) -> None:
        """Ask for the queue. Where Slurm does not answer, what it said last holds for a while."""
        try:
            lines = _ask(["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T|%N|%r"])
        except BadInput as error:
            if time.monotonic() - self._answered > PATIENCE_SECONDS:
                raise
            logger.warning("%s; it is asked again", error)
            self._asked = time.monotonic()
            return
        self._queue = {parts[0]: parts for parts in (line.split("|", 3) for line in lines) if len(parts) == 4}
        self._asked = self._answered = time.monotonic()

    def fate(self, pack: Pack) -> str:
        """What Slurm remembers of the job, for some minutes and without accounting.

        Raises:
            BadInput: it was cancelled.
        """
        job = job_of(pack)
        try:
            text = " ".join(_ask(["scontrol", "--oneliner", "show", "job", job]))
        except BadInput:
            return f"job {job}"
        facts = dict(word.split("=", 1) for word in text.split() if "=" in word)
        state, logs = facts.get("JobState", ""), facts.get("StdOut", "")
        if state == "CANCELLED":
            raise BadInput(
                f"job {job} of pack {pack.title} was cancelled; the same command goes on from its checkpoint"
            )
        return f"job {job} {state}, exit code {facts.get('ExitCode', '')}, see {logs}"

    def leave(self, packs: Sequence[Pack]) -> str:
        """They go on."""
        states = self.states(packs)
        jobs = [job_of(pack) for pack in packs if states[pack.name][0] != "gone"]
        if not jobs:
            return ""
        numbers = " ".join(sorted({job.partition("_")[0] for job in jobs}))
        return (
            f"left running in Slurm: {len(jobs)} of {len(packs)} packs; the same command attaches to them again, "
            f"'scancel {numbers}' ends them"
        )


def job_of(pack: Pack) -> str:
    """The job that was last asked to run a pack; empty where there is none."""
    try:
        return str(json.loads((pack.folder / JOB).read_text(encoding="utf-8"))["job"])
    except (OSError, ValueError, KeyError):
        return ""


def _ask(command: Sequence[str]) -> list[str]:
    """The lines that a command of Slurm prints.

    Raises:
        BadInput: Slurm does not answer.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise BadInput(f"Slurm does not answer: {command[0]} took over a minute") from None
    except subprocess.CalledProcessError as error:
        raise BadInput(f"Slurm does not answer: {' '.join(error.stderr.split())[:200]}") from None
    return done.stdout.splitlines()
