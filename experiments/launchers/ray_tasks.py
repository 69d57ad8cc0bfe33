"""Packs as tasks of Ray: a local cluster, or one that runs already.

A task whose worker or node is lost is started again elsewhere and goes on from the pack's checkpoint. How far the
packs are is told to one actor, which is pinned to the head of the cluster.
"""

import logging
import os
import socket
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.launchers import packs
from experiments.launchers.engine import Engine, Resources, State
from experiments.launchers.options import Ray
from experiments.launchers.packs import Pack, Progress
from models.base import BadInput
from train.signals import Interrupted, Stop

logger = logging.getLogger("paribus")

RETRIES = 5
"""Workers and nodes that a pack may lose before it counts as lost."""

ANSWER_SECONDS = 10.0
"""How long a cluster may take to answer."""

SAVE_SECONDS = 30.0
"""How long packs have to save when they are called off."""


class Board:
    """Where packs run and how far they are: the actor that tasks tell."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, Progress]] = {}

    def tell(self, name: str, node: str, progress: Progress) -> None:
        """A pack is so far."""
        self._found[name] = (node, progress)

    def read(self) -> dict[str, tuple[str, Progress]]:
        """Node and progress of each pack that has begun."""
        return dict(self._found)


def run_pack(folder: str, name: str, board: Any) -> None:
    """The task: run one pack to its end, or until it is cancelled, which Ray does as Ctrl-C would."""
    import ray  # pyright: ignore[reportMissingImports]

    node = ray.util.get_node_ip_address()
    board.tell.remote(name, node, Progress())
    with Stop() as stop:
        try:
            packs.run(Path(folder), lambda: stop.asked, lambda progress: board.tell.remote(name, node, progress))
        except Interrupted:
            logger.warning("saved")


class RayTasks(Engine):
    """The tasks of one study.

    Args:
        resources: of each task.
        options: of the cluster.

    Raises:
        BadInput: ray is not installed, no cluster answers, or none of one's own could run a task.
    """

    def __init__(self, resources: Resources, options: Ray) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray.exceptions  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise BadInput("--launcher=ray needs ray: pip install 'paribus[ray]'") from None
        self._ray, self._resources = ray, resources
        address = options.address
        _check_answers(address)
        # A cluster of this machine alone listens to this machine alone.
        own: dict[str, Any] = {} if address else {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
        try:
            with warnings.catch_warnings():
                # jax says of every fork that it may deadlock; Ray's only go on to start another program.
                warnings.filterwarnings("ignore", message=r".*os\.fork\(\)", category=RuntimeWarning)
                ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise BadInput(f"--launch.address={address}: {' '.join(str(error).split())[:200]}") from None
        self._check_resources(is_own=not address)
        self._board = ray.remote(num_cpus=0, resources={"node:__internal_head__": 0.001})(Board).remote()
        self._tasks: dict[str, Any] = {}
        self._told: dict[str, tuple[str, Progress]] = {}

    def submit(self, packs: Sequence[Pack]) -> None:
        """A task for each."""
        asked = {"memory": round(self._resources.memory_gib * 2**30)} if self._resources.memory_gib else {}
        task = self._ray.remote(
            num_cpus=self._resources.cpus, num_gpus=self._resources.gpus, max_retries=RETRIES, **asked
        )(run_pack)
        for pack in packs:
            self._tasks[pack.name] = task.remote(str(pack.folder.resolve()), pack.name, self._board)

    def states(self, packs: Sequence[Pack]) -> Mapping[str, tuple[State, str]]:
        """What Ray says of the tasks, and the board of where they are."""
        self._told = self._read()
        open_ = self._open()
        found: dict[str, tuple[State, str]] = {}
        for pack in packs:
            if self._tasks.get(pack.name) not in open_:
                found[pack.name] = ("gone", "")
            elif pack.name in self._told:
                found[pack.name] = ("running", f"on {self._told[pack.name][0]}")
            else:
                found[pack.name] = ("queued", "")
        return found

    def progress(self, pack: Pack) -> Progress:
        """What the pack had told the board at the last look at the states."""
        return self._told.get(pack.name, ("", Progress()))[1]

    def fate(self, pack: Pack) -> str:
        """What Ray raises for a task that ended before its pack was done."""
        try:
            self._ray.get(self._tasks[pack.name], timeout=0)
        except Exception as error:
            return " ".join(str(error).split())[-200:]
        return ""

    def leave(self, packs: Sequence[Pack]) -> str:
        """They end with the driver, once they have saved."""
        open_ = self._open()
        for task in open_:
            self._ray.cancel(task)
        if open_:
            self._ray.wait(open_, num_returns=len(open_), timeout=SAVE_SECONDS)
        return (
            f"called off in Ray: {len(open_)} packs; the same command goes on from their checkpoints" if open_ else ""
        )

    def close(self) -> None:
        """Leave the cluster; one of this machine's own ends."""
        self._ray.shutdown()

    def _open(self) -> list[Any]:
        """The tasks that have not ended."""
        tasks = list(self._tasks.values())
        return self._ray.wait(tasks, num_returns=len(tasks), timeout=0)[1] if tasks else []

    def _read(self) -> dict[str, tuple[str, Progress]]:
        try:
            return self._ray.get(self._board.read.remote())
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"Ray does not answer ({reason}); the same command goes on from the checkpoints") from None

    def _check_resources(self, *, is_own: bool) -> None:
        """Say so where no node has what a pack asks for: Ray would wait for one without a word.

        Raises:
            BadInput: no other node will come.
        """
        asked = {
            "CPU": self._resources.cpus,
            "GPU": self._resources.gpus,
            "memory": self._resources.memory_gib * 2**30,
        }
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= count for name, count in asked.items()) for node in nodes):
            return
        if is_own:
            self._ray.shutdown()
            raise BadInput(
                f"this machine has no {self._resources} for a pack; ask for less, by --launch.cpus=N and so on"
            )
        logger.warning("no node of the cluster has %s: packs wait until one joins", self._resources)


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes, and say so in a dozen lines.

    Raises:
        BadInput: the address names a host and a port, and nothing answers there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"--launch.address={address}: no cluster of Ray answers there ({reason})") from None
