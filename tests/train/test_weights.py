"""Weights leave a checkpoint and come back bit for bit, and they are those that the records speak of."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import models
from models.base import BadInput
from tests.train.test_exactness import SMALL
from train import weights
from train.checkpoints import Checkpoints
from train.config import Trial, replace, to_dict, traced_paths
from train.data.task import FinalEvaluation
from train.folder import Files
from train.loop import Watch, run_population
from train.population import Population


def train(folder, trials, task):
    population = Population(trials, traced_paths([trial.config for trial in trials]), task)
    files = Files(folder, trials, [task])
    run_population(population, files, Watch(lambda _: None, lambda: False))
    return files


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(*map(jax.tree.leaves, jax.device_get((ours, theirs))), strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def losses(found, task, arrays):
    """The metrics of these weights, by the model that their file describes."""
    model = models.build(found.config.model, found.shapes)
    size = task.sampler.evaluation_size(arrays)
    batch = task.sampler.evaluation_batch(arrays, jnp.arange(size, dtype=jnp.int32))
    outputs, _ = model.apply(found.variables, batch.inputs, train=False, rngs={}, hyperparameters={})
    return task.objective.finish(jax.device_get(task.objective.sums(outputs, batch)))


CASES = {
    "trained": [{"model.normalisation": "batch"}, {"model.normalisation": "batch", "optimizer.learning_rate": 0.3}],
    "an average": [{"regularisation.ema_decay": 0.9}, {"regularisation.swa_every": 2}, {}],
    "statistics of an average": [{"regularisation.swa_every": 2, "model.normalisation": "batch"}],
    "early stopping": [
        {"regularisation.early_stopping_patience": 1, "optimizer.learning_rate": 4.0},
        {"regularisation.early_stopping_patience": 9},
    ],
    "schedule-free": [{"optimizer.name": "schedule_free", "regularisation.clip_norm": 1.0}],
    "schedule-free in groups": [{"optimizer.name": "schedule_free", "groups.patterns": ("logits",)}],
    "float16": [{"training.compute_dtype": "float16"}],
    "muP": [{"initialisation.mup_base_width": 4, "optimizer.name": "adam"}],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_weights_of_the_last_checkpoint_are_those_of_the_final_evaluation(case, base, images, tmp_path):
    trials = [Trial(arm=f"arm{n}", seed=n, config=replace(base, arm)) for n, arm in enumerate(CASES[case])]
    rows = {row["trial"]: row for row in train(tmp_path, trials, images).trials.rows()}
    found = weights.of_folder(tmp_path / "checkpoints", "last")
    assert list(found) == [trial.id for trial in trials]
    for trial in trials:
        each = found[trial.id]
        assert (each.config, each.shapes) == (trial.config, images.shapes)
        for split, arrays in {
            "validation": images.validation.arrays,
            "test": images.test.open(FinalEvaluation()),
        }.items():
            for name, value in losses(each, images, arrays).items():
                # In 16 bits, outputs differ by the order of XLA's roundings.
                tolerance = 2e-2 if case == "float16" else 1e-5
                assert value == pytest.approx(float(rows[trial.id][f"{split}_{name}"]), rel=tolerance), (trial.id, name)


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALL)
def test_every_family_comes_back(family, base, request, tmp_path):
    kind, changes = SMALL[family]
    task = request.getfixturevalue(kind)
    config = replace(base, {"model.name": family, "training.steps": 2} | changes)
    (row,) = train(tmp_path, [Trial(arm="arm", seed=0, config=config)], task).trials.rows()
    (found,) = weights.of_folder(tmp_path / "checkpoints", "last").values()
    weights.write(tmp_path / "w.safetensors", found)
    again = weights.read(tmp_path / "w.safetensors")
    assert_same_bits(again.variables, found.variables)
    assert losses(again, task, task.validation.arrays)["loss"] == pytest.approx(float(row["validation_loss"]), rel=1e-4)


@pytest.fixture(scope="module")
def small(tmp_path_factory, images, base):
    """Checkpoints as a run writes them, without a run: two trials, of which one is better at step 4."""
    folder = tmp_path_factory.mktemp("made") / "checkpoints"
    config = replace(base, {"regularisation.ema_decay": 0.5, "model.normalisation": "batch"})
    trials = [Trial(arm=arm, seed=3, config=config) for arm in ("one", "two")]
    facts = {
        "trials": {trial.id: {"arm": trial.arm, "seed": 3, "config": to_dict(config)} for trial in trials},
        "traced": list(traced_paths([config])),
        "shapes": {"inputs": [8, 8, 1], "vocabulary": None, "outputs": 3, "per_position": False},
        "metric": "validation_loss",
        "made_by": {"jax": "0.0"},
    }
    like = weights._state_shape(config, images.shapes, {"regularisation": {"ema_decay": np.float32(0.5)}})
    own = Checkpoints(folder / "p", [trial.id for trial in trials], newest=9)
    states = {}
    for step, scores in {2: (0.5, 0.5), 4: (0.25, 0.75), 6: (float("nan"), 0.9)}.items():
        generator = np.random.default_rng(step)
        states[step] = jax.tree.map(lambda leaf: _noise(leaf, generator), like)  # noqa: B023
        own.save(step, states[step], facts, dict(zip(facts["trials"], scores, strict=True)))
    own.close()
    return folder, states


def _noise(leaf, generator):
    noise = generator.normal(size=(2, *leaf.shape[1:])).astype(np.float32)
    return noise if leaf.dtype == np.float32 else np.zeros(noise.shape, leaf.dtype)


def expected(state, lane):
    """With an exponential average, an evaluation takes that, and running statistics as they are."""
    tree = {"params": state.average["exponential"], "batch_stats": state.batch_stats}
    return jax.tree.map(lambda leaf: leaf[lane], tree)


def test_the_last_and_the_best(small):
    folder, states = small
    last, best = (weights.of_folder(folder, which) for which in ("last", "best"))
    assert [each.facts["step"] for each in last.values()] == [6, 6]
    assert [each.facts["step"] for each in best.values()] == [4, 2]
    assert [each.facts["score"] for each in last.values()] == [None, 0.9]
    assert [each.facts["score"] for each in best.values()] == [0.25, 0.5]
    for lane, (each, step) in enumerate(zip(best.values(), (4, 2), strict=True)):
        assert_same_bits(each.variables, expected(states[step], lane))
    for lane, each in enumerate(last.values()):
        assert_same_bits(each.variables, expected(states[6], lane))
        assert (each.facts["arm"], each.facts["seed"], each.facts["made_by"]) == (
            ("one", "two")[lane],
            3,
            {"jax": "0.0"},
        )


def test_a_file_comes_back_bit_for_bit(small, tmp_path):
    found = weights.of_folder(small[0], "last")["two-s3"]
    found = found._replace(variables=jax.tree.map(np.array, found.variables))
    found.variables["params"]["hidden_0"]["kernel"][0, :3] = np.nan, -0.0, np.inf
    weights.write(tmp_path / "w.safetensors", found)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    again = weights.read(tmp_path / "w.safetensors")
    assert_same_bits(again.variables, found.variables)
    assert (again.config, again.shapes) == (found.config, found.shapes)
    assert again.facts == json.loads(json.dumps(found.facts))


def test_safetensors_alone_reads_a_file(small, tmp_path):
    found = weights.of_folder(small[0], "last")["one-s3"]
    weights.write(tmp_path / "w.safetensors", found)
    arrays = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    kernel = arrays["params/hidden_0/kernel"]
    assert kernel.tobytes() == np.asarray(found.variables["params"]["hidden_0"]["kernel"]).tobytes()
    assert kernel.shape == (64, 8)
    assert len(arrays) == len(jax.tree.leaves(found.variables))
    with safetensors.safe_open(tmp_path / "w.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["config"])["regularisation"]["ema_decay"] == 0.5
    assert metadata["trial"] == '"one-s3"'


@pytest.mark.parametrize("content", [None, b"", b"no tensors", b"\xff" * 64])
def test_what_is_no_file_of_weights_is_refused(content, tmp_path):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=r"w\.safetensors does not hold weights of a trial") as caught:
        weights.read(path)
    assert "\n" not in str(caught.value)


def test_tensors_of_something_else_are_refused(tmp_path):
    path = Path(tmp_path / "w.safetensors")
    safetensors.numpy.save_file({"x": np.zeros(3, np.float32)}, path)
    with pytest.raises(BadInput, match=r"does not hold weights of a trial .*config"):
        weights.read(path)


def test_where_there_is_nothing_there_are_no_weights(tmp_path):
    assert weights.of_folder(tmp_path / "absent", "last") == {}
    (tmp_path / "p").mkdir()
    assert weights.of_folder(tmp_path, "best") == {}
