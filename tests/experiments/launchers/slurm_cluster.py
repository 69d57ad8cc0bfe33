"""A Slurm of one machine, started without systemd and without accounting, for as long as tests need it."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=5
MinJobAge=300
SchedulerParameters=sched_interval=2,bf_interval=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4096 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def lacking() -> str:
    """Why no Slurm can be started here; empty where it can."""
    absent = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "it is started as root"


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; gives the environment in which its commands are run."""
    host = socket.gethostname().partition(".")[0]
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(host=host, folder=folder, ports=_free_ports(2)))
    daemons: list[subprocess.Popen] = []
    # One at a time on a machine: they share munge.
    alone = filelock.FileLock(Path(tempfile.gettempdir()) / "paribus-tests-slurm.lock")
    with alone, (folder / "daemons.log").open("wb") as log, contextlib.ExitStack() as stack:
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode != 0:
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            munge = ["runuser", "-u", "munge", "--", "munged", "--foreground"]
            daemons.append(subprocess.Popen(munge, stdout=log, stderr=log, env=environment))
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        stack.callback(_end, daemons)
        _await_idle(environment, folder)
        yield environment


def _await_idle(environment: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        found = subprocess.run(
            ["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, env=environment, check=False
        )
        if "idle" in found.stdout:
            return
        time.sleep(0.5)
    raise RuntimeError((folder / "slurmctld.log").read_text()[-2000:] + (folder / "daemons.log").read_text()[-1000:])


def _end(daemons: list[subprocess.Popen]) -> None:
    for each in reversed(daemons):
        each.terminate()
    for each in daemons:
        try:
            each.wait(10)
        except subprocess.TimeoutExpired:
            each.kill()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
