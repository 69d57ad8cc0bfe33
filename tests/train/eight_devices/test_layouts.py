"""Meshes of eight virtual devices: whatever computes a trial together, it is the trial of one device.

Run by tests/train/test_meshes.py in a process of its own, for other tests have two devices:

    PARIBUS_TEST_DEVICES=8 python -m pytest tests/train/eight_devices
"""

import jax
import numpy as np
import pytest

from models import encoder_decoder, mlp, resnet, rnn, transformer
from models.base import BadInput
from train import meshes
from train.checkpoints import Checkpoints
from train.checksums import checksums
from train.config import Trial, program_key, replace
from train.optimizers import adafactor, adamw, momentum, muon
from train.packing import study_traced_paths
from train.parameters import path_name
from train.population import Population

FAMILIES = {
    "mlp": ("images", mlp.Config(width=16, depth=2, normalisation="batch"), momentum.Config()),
    "resnet": ("images", resnet.Config(depth=8, width=8), momentum.Config()),
    "lstm": ("text", rnn.Config(width=16, embedding=8), adamw.Config()),
    "transformer": (
        "text",
        transformer.Config(width=32, heads=4, feedforward=64, depth=2, dropout_rate=0.1),
        adamw.Config(),
    ),
    "scanned": (
        "text",
        transformer.Config(width=32, heads=4, feedforward=64, depth=2, scan_layers=True, remat=True),
        adafactor.Config(),
    ),
    "encoder_decoder": (
        "pairs",
        encoder_decoder.Config(width=32, heads=4, feedforward=64, depth=1),
        muon.Config(),
    ),
}
"""By name: the task, the model and the optimizer."""

CASES = [
    ("mlp", "data:8"),
    ("resnet", "data:4,fsdp:2"),
    ("lstm", "data:4,fsdp:2"),
    ("transformer", "lanes:2,data:4"),
    ("transformer", "data:2,fsdp:2,tensor:2"),
    ("scanned", "fsdp:4,tensor:2"),
    ("encoder_decoder", "data:2,tensor:4"),
]


@pytest.fixture(autouse=True)
def small(monkeypatch, quickly_compiled):
    """Parameters of these small networks count as large."""
    monkeypatch.setattr(meshes, "SMALL", 64)


def populate(request, base, family, mesh, seeds=(0, 1), **changes):
    name, model, optimizer = FAMILIES[family]
    config = replace(base, {"training.batch_size": 16, "training.evaluation_batch_size": 8, "execution.mesh": mesh})
    config = replace(config, changes)
    config = type(config)(**{**vars(config), "model": model, "optimizer": optimizer})
    trials = [Trial(arm="a", seed=seed, config=config) for seed in seeds]
    return Population(trials, study_traced_paths(trials)[program_key(config)], request.getfixturevalue(name))


def train(population, states, start=0, stop=5):
    return population.advance(states, start, stop)[0]


KNOWN = {}


def alone(request, base, family):
    """Losses and evaluations without a mesh, found once."""
    if family not in KNOWN:
        population = populate(request, base, family, "")
        KNOWN[family] = found(population, train(population, population.init()))
    return KNOWN[family]


def found(population, states):
    """What each lane lost in training, and the sums of its evaluation."""
    evaluation = meshes.fetch(population.evaluate(states, "validation", population.task.validation.arrays))
    sums = {name: np.asarray(value[:2]) for name, value in evaluation.sums.items()}
    return {"lost": np.asarray(meshes.fetch(states.loss_sum))[:2], **sums}


@pytest.mark.parametrize(("family", "mesh"), CASES)
def test_losses_do_not_depend_on_the_mesh(family, mesh, request, base):
    population = populate(request, base, family, mesh)
    wanted = alone(request, base, family)
    own = found(population, train(population, population.init()))
    np.testing.assert_allclose(own["lost"], wanted["lost"], rtol=1e-6)
    np.testing.assert_allclose(own["loss"], wanted["loss"], rtol=2e-6)
    assert (own["weight"] == wanted["weight"]).all()


def test_on_one_mesh_bits_repeat(request, base):
    sums = []
    for _ in range(2):
        population = populate(request, base, "lstm", "data:2,fsdp:4")
        states = train(population, population.init())
        sums.append(checksums({path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(states)}))
    assert sums[0] == sums[1]


@pytest.mark.parametrize("mesh", ["fsdp:8", "fsdp:4,tensor:2"])
def test_each_device_keeps_its_part(mesh, request, base):
    population = populate(request, base, "transformer", mesh, seeds=(0,))
    states = population.init()
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(states))
    held = [0] * 8
    for leaf in jax.tree.leaves(states):
        for shard in leaf.addressable_shards:
            held[shard.device.id] += shard.data.nbytes
    assert max(held) == meshes.bytes_per_device(states)
    assert max(held) < 0.25 * whole
    lies = {path_name(path): leaf.sharding.spec for path, leaf in jax.tree_util.tree_leaves_with_path(states)}
    kernel = "block_0/feedforward_in/kernel"
    moments = [spec for name, spec in lies.items() if name.endswith(kernel) and not name.startswith("params")]
    assert len(moments) == 2
    assert all(spec == lies[f"params/{kernel}"] for spec in moments)


def test_a_checkpoint_of_one_mesh_goes_on_on_another(request, base, tmp_path):
    first = populate(request, base, "transformer", "data:4,fsdp:2")
    states = train(first, first.init())
    names = [trial.id for trial in first.trials]
    saved = Checkpoints(tmp_path / "checkpoints", names)
    saved.save(5, states, {})
    wanted = found(first, train(first, states, 5, 10))
    for mesh in ("fsdp:8", ""):
        other = populate(request, base, "transformer", mesh)
        again = saved.restore(other.init())
        went = found(other, train(other, other.place(again.states), 5, 10))
        np.testing.assert_allclose(went["lost"], wanted["lost"], rtol=1e-6)


def test_a_batch_in_parts_is_cut_along_its_examples(request, base):
    losses = []
    for mesh in ("", "data:4"):
        population = populate(request, base, "lstm", mesh, **{"training.accumulation": 2})
        losses.append(found(population, train(population, population.init()))["lost"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_a_streamed_split_feeds_a_mesh(request, base):
    changes = {"execution.stream_above_gib": 0.0}
    population = populate(request, base, "mlp", "data:4", **changes)
    own = found(population, train(population, population.init()))
    population.splits.close()
    np.testing.assert_allclose(own["lost"], alone(request, base, "mlp")["lost"], rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "mesh", "words"),
    [
        ("mlp", "data:5", "do not divide batch_size=16"),
        ("mlp", "tensor:2", "it is for a Transformer"),
        ("transformer", "tensor:7", "divides no axis"),
        ("transformer", "fsdp:16", "takes 16 devices; there are 8"),
    ],
)
def test_what_a_mesh_does_not_divide_is_refused(family, mesh, words, request, base):
    with pytest.raises(BadInput, match=words):
        populate(request, base, family, mesh)
