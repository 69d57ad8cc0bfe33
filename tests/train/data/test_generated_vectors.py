"""Generated tasks whose inputs are vectors, against closed forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data import rare_classes, sparse_regression, teacher_network, wilson_construction
from train.data.task import FinalEvaluation, Task


@functools.cache
def loaded(module, **changes) -> Task:
    return module.load(module.Config(**changes), None)


def test_the_teacher_labels_and_some_labels_are_wrong():
    options = {"train_examples": 4000, "features": 6, "width": 5, "classes": 3}
    clean, noisy = (loaded(teacher_network, label_noise=noise, **options) for noise in (0.0, 0.2))
    x = clean.train.arrays["inputs"]
    np.testing.assert_array_equal(x, noisy.train.arrays["inputs"])
    outputs = teacher_network.teacher(teacher_network.Config(**options), x)
    np.testing.assert_array_equal(clean.train.arrays["targets"], outputs.argmax(1))
    wrong = clean.train.arrays["targets"] != noisy.train.arrays["targets"]
    assert wrong.sum() == noisy.facts["wrong_train_labels"]
    assert abs(wrong.mean() - 0.2) < 4 * math.sqrt(0.16 / 4000)
    np.testing.assert_array_equal(clean.validation.arrays["targets"], noisy.validation.arrays["targets"])
    # Both wrong labels are equally likely, whatever the right one.
    shift = (noisy.train.arrays["targets"] - clean.train.arrays["targets"])[wrong] % 3
    assert abs(np.mean(shift == 1) - 0.5) < 4 * math.sqrt(0.25 / wrong.sum())


def test_the_teacher_of_real_targets():
    clean = loaded(teacher_network, target="real", train_examples=3000)
    noisy = loaded(teacher_network, target="real", train_examples=3000, label_noise=0.5)
    assert clean.train.arrays["targets"].std() == pytest.approx(1, abs=1e-5)
    noise = noisy.train.arrays["targets"] - clean.train.arrays["targets"]
    assert noise.std() == pytest.approx(0.5, rel=0.1)
    np.testing.assert_array_equal(clean.validation.arrays["targets"], noisy.validation.arrays["targets"])


def test_sparse_regression_has_the_weights_that_it_says():
    task = loaded(sparse_regression, features=30, nonzero=4, noise=0.1, train_examples=5000)
    found = dict(pair.split(":") for pair in task.facts["weights"].split())
    weights = np.zeros(30)
    weights[list(map(int, found))] = list(map(int, found.values()))
    x, y = (task.train.arrays[name].astype(np.float64) for name in ("inputs", "targets"))
    estimate = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(estimate, weights, atol=5 * 0.1 / math.sqrt(5000))
    assert np.square(y - x @ weights).mean() == pytest.approx(task.facts["least_mse"], rel=0.1)
    assert np.square(y).mean() == pytest.approx(task.facts["mse_of_zero"], rel=0.1)
    assert np.count_nonzero(weights) == 4


def test_on_wilsons_construction_plain_descent_is_right_and_adagrad_is_not():
    task = loaded(wilson_construction, train_examples=60, evaluation_examples=40)
    splits = [task.train.arrays, task.validation.arrays, task.test.open(FinalEvaluation())]
    own = [set(np.flatnonzero(arrays["inputs"][:, 3:].any(0))) for arrays in splits]
    assert not own[0] & own[1]
    assert not own[0] & own[2]
    assert not own[1] & own[2]
    x, y = (splits[0][name].astype(np.float64) for name in ("inputs", "targets"))
    np.testing.assert_array_equal(x[:, 0], y)
    np.testing.assert_array_equal(x[:, 3:].sum(1), np.where(y > 0, 1, 5))
    plain, adaptive, squares = np.zeros(x.shape[1]), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for _ in range(4000):
        plain -= 0.005 * x.T @ (x @ plain - y)
        gradient = x.T @ (x @ adaptive - y)
        squares += gradient**2
        adaptive -= 0.1 * gradient / np.sqrt(np.maximum(squares, 1e-300))
    held, truth = (splits[2][name].astype(np.float64) for name in ("inputs", "targets"))
    assert np.all(np.sign(held @ plain) == truth)
    assert np.all(held @ adaptive > 0)
    negatives = task.facts["test_negatives"] / 40
    batch = task.sampler.evaluation_batch(splits[2], jnp.arange(40))
    sums = task.objective.sums(jnp.asarray(held @ adaptive, jnp.float32)[:, None], batch)
    assert task.objective.finish(sums)["accuracy"] == pytest.approx(1 - negatives)


def test_rare_classes_have_the_published_counts_and_group_losses():
    task = loaded(rare_classes, groups=4)
    targets = task.train.arrays["targets"]
    assert np.bincount(targets).tolist() == [16, 8, 8, *[4] * 4, *[2] * 8]
    assert task.train.arrays["inputs"].shape == (64, 5 * 16)
    logits = np.random.default_rng(0).normal(size=(64, 15)).astype(np.float32)
    batch = task.sampler.evaluation_batch(task.validation.arrays, jnp.arange(64))
    metrics = task.objective.finish(jax.device_get(task.objective.sums(jnp.asarray(logits), batch)))
    losses = np.log(np.exp(logits.astype(np.float64)).sum(1)) - logits[np.arange(64), targets]
    for group, classes in enumerate(([0], [1, 2], range(3, 7), range(7, 15))):
        expected = losses[np.isin(targets, list(classes))].mean()
        assert metrics[f"loss_group_{group}"] == pytest.approx(expected, rel=1e-5)
