"""Studies on a real Ray: a cluster of their own, and one of three nodes on loopback that loses workers and nodes."""

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.experiments.launchers import commands
from tests.experiments.launchers.commands import LONG, STUDY, assert_equal, results, wait_for

REASON = "" if importlib.util.find_spec("ray") else "ray is not installed"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),  # Ray starts its nodes from here, beside jax
    pytest.mark.skipif(bool(REASON), reason=f"NO RAY HERE ({REASON}): no study was run on it"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """Three nodes, of which the head has no CPU for packs, so that it is never the one that is lost."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster()
    made.add_node(num_cpus=0, node_ip_address="127.0.0.2", include_dashboard=False)
    nodes = [made.add_node(num_cpus=1, node_ip_address=f"127.0.0.{number}") for number in (3, 4)]
    yield made, nodes
    made.shutdown()


@pytest.fixture
def flags(cluster) -> tuple[str, ...]:
    made, _ = cluster
    return "--launcher=ray", f"--launch.address={made.address}"


def raylet_of(node) -> int:
    return node.all_processes["raylet"][0].process.pid


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_study_comes_to_what_a_local_run_comes_to(tmp_path):
    study = (*STUDY, "--arms=cnn")
    commands.run(tmp_path / "local", *study)
    commands.run(tmp_path / "there", *study, "--launcher=ray", "--launch.pack_trials=1")
    assert_equal(results(tmp_path / "there"), results(tmp_path / "local"))


def test_a_pack_loses_its_worker_and_then_its_node_and_goes_on(cluster, flags, long_run, tmp_path):
    made, nodes = cluster
    with commands.begun(tmp_path, *flags) as head:
        first = commands.worker_of(tmp_path)
        os.kill(first, signal.SIGKILL)
        second = wait_for(lambda: other if (other := commands.worker_of(tmp_path)) != first else None)
        lost = next(node for node in nodes if raylet_of(node) == parent_of(second))
        made.remove_node(lost, allow_graceful=False)
        commands.said(head, 0)
    assert_equal(results(tmp_path), long_run)


def test_a_head_that_goes_calls_its_packs_off_and_the_same_command_goes_on(flags, long_run, tmp_path):
    with commands.begun(tmp_path, *flags) as head:
        worker = commands.worker_of(tmp_path)
        head.send_signal(signal.SIGINT)
        assert "the same command goes on" in commands.said(head, 130)
    wait_for(lambda: commands.worker_of(tmp_path) != worker)
    commands.run(tmp_path, *LONG, *flags)
    assert_equal(results(tmp_path), long_run)


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path):
    said = commands.run(tmp_path, *STUDY, "--launcher=ray", "--launch.address=127.0.0.9:1", status=2)
    assert said.startswith("error: --launch.address=127.0.0.9:1: no cluster of Ray answers there")
    assert list(tmp_path.iterdir()) == []


def test_what_this_machine_does_not_have_is_refused(tmp_path):
    said = commands.run(tmp_path, *STUDY, "--launcher=ray", "--launch.gpus=1000", status=2)
    assert said.startswith("error: this machine has no 1 CPU core, 1000 GPUs")
