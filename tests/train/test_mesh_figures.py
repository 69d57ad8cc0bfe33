"""The figures of meshes that are kept beside this file: what each device holds, and what it sends in a step.

Parameters, optimizer state and data are exact. Activations and what is sent depend on the version of XLA, and may move
by :data:`TOLERANCE`. Where they move by more, or a kind of collective comes or goes, see why, and then keep the new:

    python -m tests.benchmarks.meshes --networks=small,gpt2_xl,resnet50 --keep=tests/train/mesh_figures.json
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.published import PUBLISHED

KEPT = json.loads(Path(__file__).with_name("mesh_figures.json").read_text(encoding="utf-8"))
EXACT = ("devices", "parameters", "optimizer", "other", "data")
TOLERANCE = 0.1
SMALL_SHARE = 0.02
"""Of all that is sent, a kind of collective that may come or go."""


def sent(figures):
    return {kind: amount["sent"] for kind, amount in figures["traffic"].items()}


def differences(kept, found):
    """What of the figures of one mesh is not as it was."""
    wrong = [name for name in EXACT if kept[name] != found[name]]
    before, after = sent(kept), sent(found)
    if abs(found["temporaries"] / kept["temporaries"] - 1) > TOLERANCE:
        wrong.append("temporaries")
    for kind in before.keys() | after.keys():
        change = abs(after.get(kind, 0) - before.get(kind, 0))
        if change > max(TOLERANCE * before.get(kind, 0), SMALL_SHARE * sum(before.values())):
            wrong.append(kind)
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    ["small", "gpt2_xl", "resnet50"],
)
def test_the_figures_are_those_that_are_kept(network, tmp_path):
    """In a process of its own, for it has 256 virtual devices."""
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks.meshes", f"--networks={network}", f"--keep={path}"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    found = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: figures for name, figures in KEPT.items() if name.split()[0] == network}
    assert kept.keys() == found.keys()
    assert {name: wrong for name in kept if (wrong := differences(kept[name], found[name]))} == {}


def test_a_figure_that_moved_is_found():
    kept = KEPT["gpt2_xl fsdp:64"]
    moved = json.loads(json.dumps(kept))
    moved["parameters"] += 4
    moved["temporaries"] *= 2
    moved["traffic"]["all-to-all"] = {"count": 1, "sent": sum(sent(kept).values())}
    del moved["traffic"]["all-gather"]
    assert differences(kept, kept) == []
    assert sorted(differences(kept, moved)) == ["all-gather", "all-to-all", "parameters", "temporaries"]


BYTES = {name: 4 * PUBLISHED[name].parameters for name in ("gpt2_xl", "resnet50")}
TABLE = 4 * 50_257 * 1600


def test_the_kept_figures_are_those_that_one_counts_by_hand():
    gpt2 = {name.split()[1]: figures for name, figures in KEPT.items() if name.startswith("gpt2_xl")}
    resnet = {name.split()[1]: figures for name, figures in KEPT.items() if name.startswith("resnet50")}
    # Every device has all parameters, and AdamW keeps two numbers for each; momentum one.
    assert gpt2["data:8"]["parameters"] == BYTES["gpt2_xl"]
    assert gpt2["data:8"]["optimizer"] == pytest.approx(2 * BYTES["gpt2_xl"], rel=1e-6)
    assert resnet["data:256"]["optimizer"] == pytest.approx(BYTES["resnet50"], rel=1e-6)
    # Fully sharded storage divides them, but for small ones and those whose sizes 64 does not divide.
    assert gpt2["fsdp:64"]["parameters"] == pytest.approx(BYTES["gpt2_xl"] / 64, rel=0.01)
    # Data parallelism sums a gradient; that of the tied table in two parts. Beside it, statistics of normalisation.
    assert sent(gpt2["data:8"]) == {"all-reduce": pytest.approx(2 * 7 / 8 * (BYTES["gpt2_xl"] + TABLE), rel=1e-3)}
    assert sent(resnet["data:8"]) == {"all-reduce": pytest.approx(2 * 7 / 8 * BYTES["resnet50"], rel=0.01)}
    # Parameters are gathered for the forward pass and for the backward pass, but for the tables, which are kept.
    twice = 2 * BYTES["gpt2_xl"] - TABLE
    assert sent(gpt2["fsdp:64"])["all-gather"] == pytest.approx(63 / 64 * twice, rel=0.03)
    # Megatron: two sums forward, two backward, one more for rematerialisation; examples are cut into 32 parts.
    activation = 512 / 32 * 1024 * 1600 * 4
    gradients = 2 * 31 / 32 * ((BYTES["gpt2_xl"] - TABLE) / 5 + 2 * TABLE)
    sums = 48 * 5 * 2 * 4 / 5 * activation
    assert sent(gpt2["fsdp:32,tensor:5"])["all-reduce"] == pytest.approx(sums + gradients, rel=0.03)
