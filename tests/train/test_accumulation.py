"""Parts of a batch, recomputation and the whole split: other ways to the same gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.base import BadInput
from tests.train.optimizer_cases import assert_same_bits, traced
from train import objectives
from train.config import replace
from train.cost import cost
from train.full_batch import WholeSplit, resolve
from train.gradients import forward
from train.step import make_step


def batch_of(task, size=8):
    return task.sampler.gather(jax.tree.map(jnp.asarray, dict(task.train.arrays)), jnp.arange(size))


def one_step(config, task, batch, *, start=None, keys=None, step=0, jit=True):
    """The states before and after a step."""
    functions, values = make_step(config, task.shapes, task.objective), traced(config)
    start = functions.init(jnp.uint32(0), values, batch) if start is None else start
    train = jax.jit(functions.train) if jit else functions.train
    return start, train(start, values, batch, keys or {}, jnp.int32(step))


def assert_close(ours, theirs, rtol=2e-5, atol=1e-6):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("parts", [2, 8])
def test_the_parts_of_a_batch_make_the_step_of_the_whole(parts, base, images):
    """Items of different weight, one part of no weight at all, penalties, smoothing, a z-loss."""
    changes = {"training.batch_size": 8, "regularisation.l1": 0.01, "regularisation.l2": 0.1}
    changes |= {"regularisation.label_smoothing": 0.1, "regularisation.z_loss": 0.01}
    config = replace(base, changes)
    batch = batch_of(images)._replace(weights=jnp.float32([1, 0, 0.5, 2, 0, 1, 0, 0]))
    start, whole = one_step(config, images, batch)
    _, summed = one_step(replace(config, {"training.accumulation": parts}), images, batch)
    assert_close(summed.params, whole.params)
    np.testing.assert_allclose(summed.loss_sum, whole.loss_sum, rtol=1e-6)
    assert np.abs(whole.params["logits"]["kernel"] - start.params["logits"]["kernel"]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("objective", [objectives.language_modelling("character"), objectives.translation(3.7)])
def test_tokens_weigh_the_same_in_every_part(objective, base, pairs):
    """Sentences differ in length, so that the parts differ in their number of tokens."""
    task = dataclasses.replace(pairs, objective=objective)
    changes = {"model.name": "seq2seq", "model.width": 8, "model.embedding": 4, "training.batch_size": 8}
    config = replace(base, changes)
    batch = batch_of(task)
    assert len(set(np.asarray(batch.weights).reshape(2, 4, -1).sum((1, 2)))) == 2
    _, whole = one_step(config, task, batch)
    _, summed = one_step(replace(config, {"training.accumulation": 2}), task, batch)
    assert_close(summed.params, whole.params)
    np.testing.assert_allclose(summed.loss_sum, whole.loss_sum, rtol=1e-6)


@pytest.mark.slow
def test_parts_of_a_mixed_batch_and_of_a_perturbed_step(base, images):
    """Mixup mixes the whole batch before it is cut; a second gradient is summed too."""
    changes = {"training.batch_size": 8, "augmentation.mixup_alpha": 0.5, "regularisation.sam_radius": 0.1}
    config = replace(base, changes)
    batch, keys = batch_of(images), {"mixup": jax.random.key(3)}
    _, whole = one_step(config, images, batch, keys=keys)
    _, summed = one_step(replace(config, {"training.accumulation": 4}), images, batch, keys=keys)
    assert_close(summed.params, whole.params, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_line_search_goes_over_all_parts(base, images):
    config = replace(base, {"optimizer.name": "lbfgs", "training.batch_size": 8})
    batch = batch_of(images)
    _, whole = one_step(config, images, batch)
    _, summed = one_step(replace(config, {"training.accumulation": 2}), images, batch)
    assert_close(summed.params, whole.params, rtol=1e-4, atol=1e-5)


def test_parts_that_do_not_divide_are_bad_input(base, images):
    with pytest.raises(BadInput, match=r"accumulation=3 must divide batch_size=4; nearest: 2 and 4"):
        replace(base, {"training.accumulation": 3})
    whole = replace(base, {"training.accumulation": 3, "training.batch_size": 0})
    with pytest.raises(BadInput, match=r"accumulation=3 must divide the size of a batch=23; nearest: 1 and 23"):
        cost(whole, images)


FAMILIES = {
    "mlp": ("images", {"model.width": 8, "model.normalisation": "batch", "model.dropout_rate": 0.2}),
    "cnn": ("images", {"model.channels": (4,)}),
    "rnn": ("text", {"model.width": 8}),
    "transformer": ("text", {"model.width": 8, "model.depth": 1, "model.heads": 2, "model.feedforward": 16}),
}


@pytest.mark.parametrize("rematerialise", ["elementwise", "everything"])
@pytest.mark.parametrize(
    "family", [name if name == "mlp" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_what_is_computed_again_is_the_same_bit_for_bit(family, rematerialise, base, request):
    kind, changes = FAMILIES[family]
    task = request.getfixturevalue(kind)
    config = replace(base, {"model.name": family} | changes)
    batch, keys = batch_of(task), {"dropout": jax.random.key(1)}
    start, kept = one_step(config, task, batch, keys=keys)
    _, again = one_step(replace(config, {"training.rematerialise": rematerialise}), task, batch, keys=keys)
    assert_same_bits(again, kept)
    assert not np.array_equal(*(jax.tree.leaves(state.params)[0] for state in (start, kept)))


def test_recomputation_is_in_the_program_only_where_it_is_wanted(base, images):
    model = models.build(base.model, images.shapes)
    batch = batch_of(images)
    params = model.init(jax.random.key(0), batch.inputs)["params"]

    def total(rematerialise):
        apply = forward(model, rematerialise)
        return str(jax.make_jaxpr(lambda params: apply(params, {}, batch.inputs, {}, {})[0])(params))

    assert ["checkpoint" in total(kind) or "remat" in total(kind) for kind in ("nothing", "everything")] == [
        False,
        True,
    ]


def test_the_whole_split_is_one_batch_without_noise(base, images):
    """Its gradient is that of the mean loss over all examples, in float64 by NumPy; no seed changes it."""
    config = replace(base, {"training.batch_size": 0})
    task, size = resolve(config, images)
    assert (size, type(task.sampler)) == (23, WholeSplit)
    assert resolve(config, task) == (task, size)
    arrays = jax.tree.map(jnp.asarray, dict(task.train.arrays))
    assert task.sampler.order(arrays, jax.random.key(5), 0, batch_size=size) == ()
    indices = task.sampler.draw((), arrays, jax.random.key(5), 3, batch_size=size)
    np.testing.assert_array_equal(indices, np.arange(23))
    start, state = one_step(config, task, task.sampler.gather(arrays, indices))
    p = jax.tree.map(np.float64, start.params)
    x = np.float64(images.train.arrays["inputs"]).reshape(23, -1)
    before = x @ p["hidden_0"]["kernel"] + p["hidden_0"]["bias"]
    hidden = np.maximum(before, 0)
    logits = hidden @ p["logits"]["kernel"] + p["logits"]["bias"]
    error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error[np.arange(23), images.train.arrays["targets"]] -= 1
    into_hidden = error @ p["logits"]["kernel"].T * (before > 0)
    rate = base.optimizer.learning_rate
    expected = {
        "hidden_0": {"kernel": x.T @ into_hidden / 23, "bias": into_hidden.mean(0)},
        "logits": {"kernel": hidden.T @ error / 23, "bias": error.mean(0)},
    }
    found = jax.tree.map(lambda new, old: (old - np.float64(new)) / rate, state.params, p)
    assert_close(found, expected, rtol=1e-4, atol=2e-6)


def test_windows_have_no_whole(base, text):
    with pytest.raises(BadInput, match=r"batch_size=0 takes the whole training split"):
        resolve(replace(base, {"training.batch_size": 0}), text)
