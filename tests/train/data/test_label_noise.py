"""Wrong labels on purpose: how many, which, by what, and never on a held-out example."""

import hashlib

import numpy as np
import pytest

from models.base import BadInput
from train.data import images, mnist1d
from train.data.images import ImagesConfig, Labelled, classification
from train.data.label_noise import noisy
from train.data.task import Batch, FinalEvaluation

COUNT, CLASSES = 20_000, 7
LABELS = np.random.default_rng(0).integers(0, CLASSES, COUNT).astype(np.uint8)


def replaced(probability, replacement="other", seed=0, labels=LABELS):
    return noisy(labels, classes=CLASSES, probability=probability, replacement=replacement, seed=seed)


@pytest.mark.parametrize("probability", [0.0, 0.15, 0.5, 1.0])
@pytest.mark.parametrize("replacement", ["other", "any"])
def test_the_share_and_the_distribution_of_what_is_replaced(probability, replacement):
    """Within 4.5 standard errors of the binomial; every class that may come is as probable as any other."""
    labels, found = replaced(probability, replacement)
    assert labels.dtype == LABELS.dtype
    error = np.sqrt(probability * (1 - probability) / COUNT)
    assert abs(found.mean() - probability) <= 4.5 * error
    np.testing.assert_array_equal(labels[~found], LABELS[~found])
    choices = CLASSES - (replacement == "other")
    moved = (labels[found].astype(int) - LABELS[found]) % CLASSES
    counts = np.bincount(moved, minlength=CLASSES)
    assert replacement == "any" or counts[0] == 0
    expected = found.sum() / choices
    assert (np.abs(counts[CLASSES - choices :] - expected) <= 4.5 * np.sqrt(expected)).all()


def test_random_labels_say_nothing_of_the_true_ones():
    labels, found = replaced(1.0, "any")
    assert found.all()
    table = np.histogram2d(LABELS, labels, bins=CLASSES)[0]
    expected = np.outer(table.sum(1), table.sum(0)) / COUNT
    chi_squared = np.sum((table - expected) ** 2 / expected)
    assert chi_squared < 77  # of 36 degrees of freedom: one in ten thousand


@pytest.mark.parametrize("replacement", ["other", "any"])
def test_less_noise_is_part_of_more_and_a_shorter_set_of_a_longer(replacement):
    labels, found = replaced(0.6, replacement)
    fewer, some = replaced(0.2, replacement)
    assert found[some].all()
    np.testing.assert_array_equal(fewer[some], labels[some])
    np.testing.assert_array_equal(replaced(0.6, replacement, labels=LABELS[:500])[0], labels[:500])
    other = replaced(0.6, replacement, seed=1)[1]
    assert 0.45 < np.mean(other == found) < 0.6  # 0.6^2 + 0.4^2 where the seeds have nothing to do with each other


def test_no_release_of_numpy_changes_the_noise():
    """Places worked out from PCG64's published recurrence, in Python's own integers."""
    words = np.random.PCG64(int.from_bytes(hashlib.sha256(b"3 label noise").digest()[:16], "big"))
    state = words.state["state"]
    value, increment = state["state"], state["inc"]
    chances = []
    for _ in range(40):
        value = (value * 0x2360ED051FC65DA44385DF649FCCF645 + increment) % 2**128
        mixed, turn = (value >> 64) ^ (value % 2**64), value >> 122
        chances.append((((mixed >> turn) | (mixed << (64 - turn))) % 2**64 >> 11) / 2**53)
    found = noisy(np.zeros(20, int), classes=3, probability=0.4, replacement="other", seed=3)[1]
    np.testing.assert_array_equal(found, np.array(chances[::2]) < 0.4)


@pytest.fixture(scope="module")
def made():
    random = np.random.default_rng(1)
    sizes = {"train": 300, "validation": 40, "test": 40}
    return {
        split: Labelled(random.integers(0, 256, (size, 3, 3), np.uint8), random.integers(0, 5, size).astype(np.uint8))
        for split, size in sizes.items()
    }


def build(made, **options):
    return classification("made", (), **made, classes=5, options=ImagesConfig(**options))


def test_only_training_labels_are_touched_and_the_record_says_how_many(made):
    clean, wrong = build(made), build(made, label_noise=0.3)
    np.testing.assert_array_equal(wrong.validation.arrays["targets"], clean.validation.arrays["targets"])
    tests = [task.test.open(FinalEvaluation())["targets"] for task in (clean, wrong)]
    np.testing.assert_array_equal(*tests)
    np.testing.assert_array_equal(wrong.train.arrays["inputs"], clean.train.arrays["inputs"])
    differing = int(np.sum(wrong.train.arrays["targets"] != clean.train.arrays["targets"]))
    assert 60 < differing < 120
    assert wrong.facts["train_labels_replaced"] == wrong.facts["train_labels_wrong"] == differing
    assert "train_labels_wrong" not in clean.facts
    assert wrong.facts["fingerprint"] != clean.facts["fingerprint"]
    anything = build(made, label_noise=0.3, label_noise_kind="any").facts
    assert anything["train_labels_replaced"] == differing
    assert 0 < anything["train_labels_wrong"] < differing


def test_a_subset_has_the_noise_of_the_whole(made):
    """The same examples as without noise, and each called what it is called in every larger subset."""
    options = {"label_noise": 0.4, "label_noise_seed": 2}
    called = {}
    for count in (300, 120, 17):
        noisy_task, clean = build(made, train_examples=count, **options), build(made, train_examples=count)
        np.testing.assert_array_equal(noisy_task.train.arrays["inputs"], clean.train.arrays["inputs"])
        pixels = [noisy_task.show(one) for one in rows(noisy_task)]
        for picture, target in zip(pixels, noisy_task.train.arrays["targets"], strict=True):
            assert called.setdefault(picture.tobytes(), target) == target
        wrong = np.sum(noisy_task.train.arrays["targets"] != clean.train.arrays["targets"])
        assert noisy_task.facts["train_labels_wrong"] == wrong
    assert len(called) == 300


def rows(task):
    arrays = task.train.arrays
    return [Batch(x, y, None) for x, y in zip(arrays["inputs"], arrays["targets"], strict=True)]


def test_the_sets_of_images_take_it():
    """15 per cent of MNIST-1D's 4,000, the setting in which double descent was shown."""
    task = mnist1d.load(mnist1d.Config(label_noise=0.15), None)
    assert 0.13 < task.facts["train_labels_wrong"] / 4_000 < 0.17


@pytest.mark.parametrize("options", [{"label_noise": -0.1}, {"label_noise": 1.5}, {"label_noise_kind": "none"}])
def test_refusals(options):
    with pytest.raises(BadInput, match=next(iter(options))):
        images.ImagesConfig(**options)


def test_a_label_that_is_out_of_range_is_named_before_any_noise(made):
    broken = made | {"train": Labelled(made["train"].pixels, np.where(np.arange(300) == 4, 9, 0))}
    with pytest.raises(BadInput, match="train split: example 4 has the label 9; expected 0 to 4"):
        build(broken, label_noise=1.0)
