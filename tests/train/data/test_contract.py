"""What every data set promises, whoever wrote it: each that can be had without files or network is put to the test.

A new file in train/data/ is found by itself.
"""

import functools
import io
import json
import math
import re
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import describe
from experiments.report import data_picture
from models.base import BadInput, plugin, plugin_names
from models.inputs import Padded, Pair
from train import data
from train.data.files import Packaged
from train.data.task import Batch, FinalEvaluation, Task

ASKS_FOR_FILES = re.compile(r"--data_dir|--config\.data|data\.\w+")
"""A data set that lives on files which the user must bring says which flag is wanting."""

MUST_LOAD = {
    "adding_problem",
    "associative_recall",
    "copy_memory",
    "copying",
    "digits",
    "induction",
    "modular_arithmetic",
    "parity",
    "rare_classes",
    "sotu",
    "sparse_regression",
    "teacher_network",
    "wilson_construction",
}

quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def module_of(name: str) -> ModuleType:
    return plugin("train.data", name, kind="data set")


NAMES = [
    name for name in plugin_names("train.data") if all(isinstance(file, Packaged) for file in module_of(name).FILES)
]
every = pytest.mark.parametrize("name", NAMES)


@functools.cache
def loaded(name: str) -> Task:
    config = module_of(name).Config()
    try:
        return data.load(config, None)
    except BadInput as error:
        if name in MUST_LOAD or module_of(name).FILES or not ASKS_FOR_FILES.search(str(error)):
            raise
        pytest.skip(f"{name} needs files of one's own: {error}")


def splits(task: Task) -> dict[str, dict]:
    found = {"train": task.train, "validation": task.validation}
    return {name: dict(split.arrays) for name, split in found.items()} | {
        "test": dict(task.test.open(FinalEvaluation()))
    }


def held_out(task: Task) -> list[dict]:
    return [arrays for name, arrays in splits(task).items() if name != "train"]


def real_tokens(inputs: Padded | np.ndarray) -> np.ndarray:
    return inputs.values[np.asarray(inputs.mask)] if isinstance(inputs, Padded) else np.asarray(inputs)


def check_inputs(task: Task, inputs, size: int) -> None:
    shapes = task.shapes
    if isinstance(inputs, Pair):
        assert shapes.target is not None
        check_inputs(task, inputs.source, size)
        assert inputs.target.values.shape[0] == size
        assert inputs.target.values.shape[1] <= shapes.target
        assert inputs.target.values.max() < shapes.outputs
        return
    values = inputs.values if isinstance(inputs, Padded) else inputs
    assert values.shape[0] == size
    assert values.shape[2:] == shapes.inputs[1:]
    # Sequences may be shorter than the longest that the task has; nothing else may.
    is_sequence = isinstance(inputs, Padded) or (shapes.vocabulary is not None and shapes.per_position)
    assert values.shape[1] <= shapes.inputs[0] if is_sequence else values.shape[1] == shapes.inputs[0]
    if isinstance(inputs, Padded):
        mask = np.asarray(inputs.mask)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, np.arange(mask.shape[1]) < mask.sum(1)[:, None])
    if shapes.vocabulary is None:
        assert values.dtype == np.float32
        assert np.all(np.isfinite(real_tokens(inputs)))
    else:
        assert values.dtype == np.int32
        assert values.min() >= 0
        assert values.max() < shapes.vocabulary


def check_batch(task: Task, batch: Batch, size: int) -> None:
    check_inputs(task, batch.inputs, size)
    weights = np.asarray(batch.weights)
    assert weights.dtype == np.float32
    assert set(np.unique(weights)) <= {0.0, 1.0}
    assert weights.shape[0] == size
    assert weights.ndim == (2 if task.shapes.per_position else 1)
    targets = np.asarray(getattr(batch.targets, "values", batch.targets))
    assert targets.shape[: weights.ndim] == weights.shape
    if np.issubdtype(targets.dtype, np.integer):
        assert targets.dtype == np.int32
        assert targets.shape == weights.shape
        counted = targets[weights > 0]
        assert counted.size == 0 or (counted.min() >= 0 and counted.max() < task.shapes.outputs)
    else:
        assert targets.dtype == np.float32
        assert math.prod(targets.shape[weights.ndim :]) == task.shapes.outputs
        assert np.all(np.isfinite(targets))


def test_there_are_data_sets_to_test():
    assert set(NAMES) >= MUST_LOAD
    assert not {"mnist", "tinyshakespeare"} & set(NAMES)


@every
def test_batches_fit_what_the_task_declares(name):
    task = loaded(name)
    arrays = dict(task.train.arrays)
    task.sampler.check(arrays, batch_size=4)
    gather = quick(task.sampler.gather)
    for arrays in (dict(task.train.arrays), *held_out(task)):
        size = min(task.sampler.train_size(arrays), 5)
        last = task.sampler.train_size(arrays) - 1
        places = jnp.asarray([0, last, *range(1, size - 1)][:size], jnp.int32)
        check_batch(task, jax.device_get(gather(arrays, places)), size)


@every
def test_drawing_goes_on_from_any_step_inside_the_split(name):
    task = loaded(name)
    arrays, size = dict(task.train.arrays), 4

    @quick
    def two(key, step):
        order = task.sampler.order(arrays, key, step, batch_size=size)
        period = task.sampler.epoch_steps(arrays, batch_size=size)
        following = jax.lax.cond(
            (step + 1) % period == 0,
            lambda: task.sampler.order(arrays, key, step + 1, batch_size=size),
            lambda: order,
        )
        first = task.sampler.draw(order, arrays, key, step, batch_size=size)
        return first, task.sampler.draw(following, arrays, key, step + 1, batch_size=size)

    key = jax.random.key(1)
    drawn = np.stack([two(key, jnp.int32(step)) for step in range(3)])
    np.testing.assert_array_equal(drawn[:-1, 1], drawn[1:, 0])
    assert drawn.shape == (3, 2, size)
    assert drawn.min() >= 0
    assert drawn.max() < task.sampler.train_size(arrays)
    assert not np.array_equal(two(jax.random.key(2), jnp.int32(0)), drawn[0])


def wanted(task: Task, arrays: dict) -> tuple[float, float | None]:
    """The weight of a whole split, and the sum of its targets, from the arrays alone."""
    if "tokens" in arrays:
        return arrays["tokens"].shape[0] - 1, float(np.sum(arrays["tokens"][1:], dtype=np.float64))
    if "targets" not in arrays:  # the sampler's own way of cutting examples out of a series
        return task.sampler.evaluation_size(arrays), None
    targets = np.asarray(getattr(arrays["targets"], "values", arrays["targets"]), np.float64)
    weights = arrays.get("weights", np.ones(len(targets)))
    weighted = targets * weights.reshape(weights.shape + (1,) * (targets.ndim - weights.ndim))
    return float(np.sum(weights, dtype=np.float64)), float(weighted.sum())


@every
def test_an_evaluation_goes_through_each_item_once(name):
    task, size = loaded(name), 257

    @quick
    def summed(arrays, first):
        batch = task.sampler.evaluation_batch(arrays, first + jnp.arange(size, dtype=jnp.int32))
        targets = jnp.asarray(getattr(batch.targets, "values", batch.targets), jnp.float32)
        weights = batch.weights.reshape(batch.weights.shape + (1,) * (targets.ndim - batch.weights.ndim))
        return jnp.sum(batch.weights), jnp.sum(weights * targets)

    for arrays in held_out(task):
        items = task.sampler.evaluation_size(arrays)
        arrays = jax.device_put(arrays)
        parts = [summed(arrays, jnp.int32(first)) for first in range(0, items, size)]
        weight, targets = np.sum(np.asarray(parts, np.float64), axis=0)
        expected_weight, expected_targets = wanted(task, jax.device_get(arrays))
        assert weight == expected_weight
        if expected_targets is not None:
            assert targets == pytest.approx(expected_targets, rel=1e-5, abs=1e-3 * math.sqrt(weight))
        assert float(summed(arrays, jnp.int32(items))[0]) == 0


@every
def test_metrics_are_those_that_the_objective_names(name):
    task = loaded(name)
    arrays = held_out(task)[0]
    size = min(6, task.sampler.evaluation_size(arrays))
    batch = quick(task.sampler.evaluation_batch)(arrays, jnp.arange(size, dtype=jnp.int32))
    per_position = batch.weights.shape if task.shapes.per_position else (size,)
    outputs = np.random.default_rng(0).normal(size=(*per_position, task.shapes.outputs)).astype(np.float32)
    assert np.isfinite(quick(task.objective.loss)(outputs, batch))
    sums = {name: np.asarray(value, np.float64) for name, value in quick(task.objective.sums)(outputs, batch).items()}
    with np.errstate(invalid="ignore"):  # a metric of a group that none of these items is in
        finished = task.objective.finish(sums)
    assert tuple(finished) == tuple(task.objective.metrics)
    assert all(isinstance(value, float) for value in finished.values())


@every
def test_facts_can_be_recorded(name):
    facts = loaded(name).facts
    json.dumps(dict(facts), allow_nan=False)
    assert re.fullmatch("[0-9a-f]{64}", str(facts["fingerprint"]))
    assert facts["source"]
    assert facts["licence"]
    assert all("\n" not in str(value) for value in facts.values())


@every
def test_it_can_be_described(name, tmp_path):
    console = Console(file=io.StringIO(), width=100)
    found = describe.tell(loaded(name), console)
    said = console.file.getvalue()
    assert loaded(name).facts["fingerprint"] in said
    assert found
    assert all(view.text for view in found)
    assert found[0].text.splitlines()[0][:60] in said
    if any(view.image is not None or view.series is not None for view in found):
        assert data_picture.write(tmp_path / "picture.png", found).stat().st_size > 1000


@every
def test_the_same_configuration_gives_the_same_data(name):
    task = loaded(name)
    if sum(leaf.nbytes for arrays in splits(task).values() for leaf in jax.tree.leaves(arrays)) > 20e6:
        pytest.skip("too large to be loaded twice; its own tests compare fingerprints")
    again = data.load(module_of(name).Config(), None)
    assert again.facts["fingerprint"] == task.facts["fingerprint"]


@every
def test_what_the_record_says_of_leaks_is_so(name):
    task = loaded(name)
    found = splits(task)
    rows = {}
    for split, arrays in found.items():
        if "inputs" in arrays:
            parts = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(arrays["inputs"])]
            rows[split] = [tuple(part[row].tobytes() for part in parts) for row in range(len(parts[0]))]
    if not rows:
        pytest.skip("not made of examples")
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if earlier in rows:
            shared = set(rows[earlier])
            count = sum(row in shared for row in rows[later])
            assert task.facts[f"{later}_examples_in_{earlier}"] == count
            is_generated = str(task.facts["source"]).startswith("generated")
            assert count == 0 or not is_generated or "evaluation" in task.facts
