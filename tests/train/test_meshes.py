"""Meshes: what the command line says of them; and the tests that need eight devices, in a process of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.base import BadInput
from models.partitioning import storage_axes, tensor_axis
from train import meshes

EIGHT = Path(__file__).parent / "eight_devices"


def test_sizes_by_axis():
    assert meshes.parse("data:4,fsdp:2") == {"lanes": 1, "data": 4, "fsdp": 2, "tensor": 1}
    assert meshes.size("lanes:3,tensor:2") == 6
    assert meshes.parse("") == {}
    assert meshes.size("") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dat:4", "data"),
        ("data", "must give the size"),
        ("data:0", "must give the size"),
        ("data:-1", "must give the size"),
        ("data:2,data:2", "twice"),
        ("data:2,", "axis of a mesh"),
    ],
)
def test_what_is_no_mesh_is_refused(text, words):
    with pytest.raises(BadInput, match=words):
        meshes.parse(text)


@pytest.mark.parametrize(
    ("path", "shape", "axis"),
    [
        ("block_0/queries_keys_values/kernel", (32, 96), 1),
        ("block_0/queries_keys_values/bias", (96,), 0),
        ("block_0/attention_out/kernel", (32, 32), 0),
        ("block_0/attention_out/bias", (32,), None),
        ("blocks/feedforward_in/kernel", (6, 32, 128), 2),
        ("blocks/feedforward_out/kernel", (6, 128, 32), 1),
        ("tokens/embedding", (100, 32), 0),
        ("logits/kernel", (32, 100), 1),
        ("norm/scale", (32,), None),
    ],
)
def test_tensor_parallelism_cuts_as_megatron_does(path, shape, axis):
    assert tensor_axis(path, shape) == axis


def test_storage_is_cut_along_the_longest_axis_but_never_along_scanned_blocks():
    assert storage_axes("dense/kernel", (3, 8, 5)) == [1, 2, 0]
    assert storage_axes("blocks/feedforward_in/kernel", (64, 32, 16)) == [1, 2]


@pytest.mark.slow
def test_on_eight_devices():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(EIGHT)]
    done = subprocess.run(command, env=os.environ | {"PARIBUS_TEST_DEVICES": "8"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None
    assert int(found[1]) > 10
    assert "skipped" not in done.stdout
