"""MNIST-1D against the published arrays."""

import numpy as np
import pytest

from models.base import BadInput
from train.data import mnist1d
from train.data.task import FinalEvaluation


@pytest.fixture(scope="module")
def published(shared_data):
    return np.load(shared_data / "mnist1d" / "mnist1d_data.npz")


@pytest.fixture(scope="module")
def generated():
    return mnist1d.generate(np.random.RandomState(42), 5_000)


@pytest.fixture(scope="module")
def task():
    return mnist1d.load(mnist1d.Config(), None)


def test_seed_42_gives_the_published_examples(published, generated):
    signals, classes = generated
    standardised = (signals - signals.mean()) / signals.std()  # as they are published: over both splits
    for part, rows in (("", slice(4_000)), ("_test", slice(4_000, None))):
        np.testing.assert_allclose(standardised[rows], published[f"x{part}"], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(classes[rows], published[f"y{part}"])


@pytest.mark.slow
def test_the_task_is_the_published_data_but_for_what_standardises_it(published, task):
    """Affine in the published values, with moments of the training split alone."""
    found = {"x": task.train.arrays, "x_test": task.test.open(FinalEvaluation())}
    mean, deviation = published["x"].mean(), published["x"].std()
    for name, arrays in found.items():
        np.testing.assert_allclose(arrays["inputs"][..., 0], (published[name] - mean) / deviation, atol=1e-5)
        np.testing.assert_array_equal(arrays["targets"], published[name.replace("x", "y")])
    assert task.shapes.inputs == (40, 1)
    assert (task.facts["train_examples"], task.facts["validation_examples"], task.facts["test_examples"]) == (
        4_000,
        1_000,
        1_000,
    )


def test_another_seed_has_the_published_statistics(published):
    """Means by class and place, and correlations of neighbours, within the error of 500 examples of a class each."""
    signals, classes = mnist1d.generate(np.random.RandomState(7), 5_000)
    signals = (signals - signals.mean()) / signals.std()
    theirs = np.concatenate([published["x"], published["x_test"]])
    labels = np.concatenate([published["y"], published["y_test"]])
    assert not np.allclose(signals, theirs)
    for digit in range(10):
        ours, others = signals[classes == digit], theirs[labels == digit]
        assert len(ours) == len(others) == 500
        error = np.sqrt((ours.var(0) + others.var(0)) / 500)
        assert np.abs((ours.mean(0) - others.mean(0)) / error).max() < 4.5
        np.testing.assert_allclose(ours.std(0), others.std(0), rtol=0.25)
    neighbours = [np.corrcoef(data[:, :-1].ravel(), data[:, 1:].ravel())[0, 1] for data in (signals, theirs)]
    assert neighbours[0] == pytest.approx(neighbours[1], abs=0.01)


def test_templates_are_whitened_and_start_at_zero():
    templates = mnist1d.templates()
    assert templates.shape == (10, 12)
    np.testing.assert_allclose(templates.std(1), 1 / 6)
    np.testing.assert_array_equal(templates[:, 0], 0)
    np.testing.assert_allclose(templates[:, -1], 0, atol=1e-12)
    correlations = np.corrcoef(templates)
    assert (correlations - np.eye(10)).max() < 0.97  # no two digits have one template
    assert correlations[0, 6] == pytest.approx(-1)  # the 6 is the 0 upside down, in the published data too


def test_validation_and_other_sizes(task):
    held = task.validation.arrays
    assert np.bincount(held["targets"]).tolist() == [100] * 10
    assert [task.facts[f"{a}_examples_in_{b}"] for a, b in (("validation", "train"), ("test", "train"))] == [0, 0]
    small = mnist1d.load(mnist1d.Config(samples=100, generator_seed=3), None)
    assert (len(small.train.arrays["targets"]), small.facts["test_examples"]) == (80, 20)
    with pytest.raises(BadInput, match="samples=120 must be a multiple of 50; nearest: 100"):
        mnist1d.Config(samples=120)


def test_the_control_permutes_the_points_of_all_alike(task):
    shuffled = mnist1d.load(mnist1d.Config(permutation_seed=0), None)
    before, after = task.train.arrays["inputs"][..., 0], shuffled.train.arrays["inputs"][..., 0]
    order = [int(np.flatnonzero((before == after[:, [place]]).all(0))[0]) for place in range(40)]
    assert sorted(order) == list(range(40))
    assert order != list(range(40))
    held = task.validation.arrays["inputs"][:, order]
    np.testing.assert_array_equal(shuffled.validation.arrays["inputs"], held)
