"""What every set of images lets one choose, and what its record says: on images made here."""

import struct

import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from models.inputs import Padded
from train.data import facts, fashion_mnist, idx, images, mnist
from train.data.files import File
from train.data.images import ImagesConfig, Labelled, classification
from train.data.sampling import ShuffledExamples
from train.data.task import Batch, FinalEvaluation

SIZES = {"train": 50, "validation": 12, "test": 9}


@pytest.fixture(scope="module")
def made():
    """Colour images of 4 x 5; the training classes are unequal: 25, 15 and 10 of three."""
    random = np.random.default_rng(0)
    labels = {"train": random.permutation(np.repeat([0, 1, 2], [25, 15, 10]))}
    labels |= {split: np.arange(SIZES[split]) % 3 for split in ("validation", "test")}
    pixels = {split: random.integers(0, 256, (size, 4, 5, 3), np.uint8) for split, size in SIZES.items()}
    for split in pixels:
        pixels[split][..., 2] //= 8  # a dark blue
    return {split: Labelled(pixels[split], labels[split].astype(np.uint8)) for split in SIZES}


def build(made, **options):
    return classification("made", (), **made, classes=3, options=ImagesConfig(**options))


def splits(task):
    return {"train": task.train.arrays, "validation": task.validation.arrays, "test": task.test.open(FinalEvaluation())}


def test_each_channel_is_standardised_by_the_training_images_that_are_used(made):
    task = build(made, train_examples=20)
    chosen = [np.flatnonzero((made["train"].pixels == picture).all((1, 2, 3)))[0] for picture in shown(task, "train")]
    used = made["train"].pixels[chosen] / 255.0
    for channel, name in enumerate(("red", "green", "blue")):
        assert task.facts[f"pixel_mean_{name}"] == pytest.approx(used[..., channel].mean(), abs=1e-7)
        assert task.facts[f"pixel_deviation_{name}"] == pytest.approx(used[..., channel].std(), abs=1e-7)
    mean, deviation = used.mean((0, 1, 2)), used.std((0, 1, 2))
    for split, arrays in splits(task).items():
        pixels = used if split == "train" else made[split].pixels / 255.0
        np.testing.assert_allclose(arrays["inputs"], (pixels - mean) / deviation, atol=3e-6)


@pytest.mark.parametrize("crop", [None, 3])
def test_each_image_is_standardised_by_itself(made, crop):
    made = made | {"test": Labelled(np.full((2, 4, 5, 3), 7, np.uint8), np.array([0, 1], np.uint8))}
    task = build(made, standardisation="image", crop=crop)
    arrays = splits(task)
    for split, rows in (("train", made["train"]), ("test", made["test"])):
        images = rows.pixels.astype(np.float64) if crop is None else rows.pixels[:, 0:3, 1:4].astype(np.float64)
        positions = jnp.arange(len(images), dtype=jnp.int32)
        batch = task.sampler.evaluation_batch(arrays[split], positions)
        flat = images.reshape(len(images), -1)
        expected = flat - flat.mean(1, keepdims=True)
        if split == "train":
            expected /= flat.std(1, keepdims=True)
        np.testing.assert_allclose(np.asarray(batch.inputs).reshape(flat.shape), expected, atol=2e-5)
    assert task.shapes.inputs == ((4, 5, 3) if crop is None else (3, 3, 3))
    assert not any(name.startswith("pixel_") for name in task.facts)
    picture = task.show(Batch(np.asarray(task.sampler.gather(arrays["train"], jnp.arange(1)).inputs[0]), None, None))
    assert (picture.min(), picture.max()) == (0, 255)


def test_a_crop_larger_than_the_images_is_refused(made):
    with pytest.raises(BadInput, match="crop=5 must be at most the side of the images, and examples are 4 x 5"):
        build(made, crop=5)


def shown(task, split):
    return np.stack([task.show(Batch(inputs, None, None)) for inputs in splits(task)[split]["inputs"]])


def test_other_splits_change_nothing_that_is_trained_on(made):
    other = made | {"validation": Labelled(255 - made["validation"].pixels, made["validation"].classes)}
    one, two = build(made), build(other)
    np.testing.assert_array_equal(one.train.arrays["inputs"], two.train.arrays["inputs"])
    assert one.facts["fingerprint"] != two.facts["fingerprint"]


def test_an_example_is_shown_as_it_was(made):
    for options in ({}, {"sequential": True}, {"train_examples": 7}):
        np.testing.assert_array_equal(shown(build(made, **options), "test"), made["test"].pixels)
    grey = {split: Labelled(pixels[..., 0], labels) for split, (pixels, labels) in made.items()}
    np.testing.assert_array_equal(shown(build(grey), "test"), grey["test"].pixels)


def test_subsets_are_nested_and_as_balanced_as_can_be(made):
    previous = set()
    for count in (1, 3, 10, 29, 30, 31, 45, 50):
        task = build(made, train_examples=count)
        assert task.facts["train_examples"] == count
        assert task.facts["train_examples_available"] == 50
        rows = {picture.tobytes() for picture in shown(task, "train")}
        assert previous <= rows
        assert len(rows) == count
        previous = rows
        found = np.bincount(task.train.arrays["targets"], minlength=3)
        # As a loop would deal them: one of each class in turn, as long as there are any.
        left, expected = [25, 15, 10], [0, 0, 0]
        while sum(expected) < count:
            for label in range(3):
                if left[label] and sum(expected) < count:
                    left[label] -= 1
                    expected[label] += 1
        assert found.tolist() == expected
    with pytest.raises(BadInput, match="train_examples=51 must be at most 50"):
        build(made, train_examples=51)


def test_all_the_examples_keep_their_order(made):
    np.testing.assert_array_equal(build(made).train.arrays["targets"], made["train"].classes)


def test_a_pixel_sequence_goes_row_by_row(made):
    plain, sequence = build(made), build(made, sequential=True)
    assert sequence.shapes.inputs == (20, 3)
    for split, arrays in splits(sequence).items():
        for row in range(4):
            for column in range(5):
                expected = splits(plain)[split]["inputs"][:, row, column]
                np.testing.assert_array_equal(arrays["inputs"][:, 5 * row + column], expected)


@pytest.mark.parametrize("sequential", [False, True])
def test_one_permutation_of_the_pixels_for_every_image(made, sequential):
    plain, permuted = build(made, sequential=sequential), build(made, sequential=sequential, permutation_seed=1)
    assert permuted.shapes == plain.shapes
    order = images.permutation(1, 20)
    for split, arrays in splits(permuted).items():
        before = splits(plain)[split]["inputs"].reshape(-1, 20, 3)
        np.testing.assert_array_equal(arrays["inputs"].reshape(-1, 20, 3), before[:, order])
    assert permuted.facts["pixel_mean_red"] == plain.facts["pixel_mean_red"]
    assert not (images.permutation(2, 20) == order).all()
    # Published results rest on this order. If it changes, they must all be run again.
    assert images.permutation(0, 8).tolist() == [6, 4, 2, 1, 7, 5, 0, 3]  # by sha256sum of "0 0" to "0 7", sorted


def test_duplicates_across_splits_are_counted(made):
    pixels, labels = made["test"]
    again = pixels.copy()
    again[0], again[1] = made["train"].pixels[3], made["validation"].pixels[2]
    again[2] = made["train"].pixels[3]
    task = build(made | {"test": Labelled(again, labels)})
    found = {name: value for name, value in task.facts.items() if "examples_in" in name}
    assert found == {"validation_examples_in_train": 0, "test_examples_in_train": 2, "test_examples_in_validation": 1}


def test_duplicates_of_sequences_heed_every_array():
    values = np.arange(12).reshape(4, 3)
    mask = np.ones((4, 3), bool)
    shorter = np.tile([True, True, False], (4, 1))
    found = facts.duplicates(
        {"train": {"inputs": Padded(values, mask)}, "test": {"inputs": Padded(values[::-1], mask)}}  # type: ignore
    )
    assert found == {"test_examples_in_train": 4}
    found = facts.duplicates(
        {"train": {"inputs": Padded(values, mask)}, "test": {"inputs": Padded(values, shorter)}}  # type: ignore
    )
    assert found == {"test_examples_in_train": 0}
    assert facts.duplicates({"train": {"tokens": values[0]}, "test": {"tokens": values[0]}}) == {}


def test_a_large_set_stays_bytes_and_gives_the_same_batches(made, monkeypatch):
    plain = build(made, permutation_seed=4)
    monkeypatch.setattr(images, "LARGEST_STANDARDISED", 4 * made["train"].pixels.size - 1)
    task = build(made, permutation_seed=4)
    assert isinstance(plain.sampler, ShuffledExamples)
    assert task.train.arrays["inputs"].dtype == np.uint8
    assert task.facts["fingerprint"] != plain.facts["fingerprint"]
    rows = jnp.array([0, 8, 3, 20])
    for method, split in (("gather", "train"), ("evaluation_batch", "test")):
        ours, theirs = (getattr(each.sampler, method)(splits(each)[split], rows) for each in (task, plain))
        assert ours.inputs.dtype == jnp.float32
        np.testing.assert_allclose(ours.inputs, theirs.inputs, atol=1e-6)
        np.testing.assert_array_equal(ours.targets, theirs.targets)
        np.testing.assert_array_equal(ours.weights, theirs.weights)


def test_equal_pixels_and_labels_out_of_range(made):
    flat = Labelled(np.full((4, 2, 2, 3), 7, np.uint8), np.arange(4, dtype=np.uint8) % 3)
    task = classification("flat", (), train=flat, validation=flat, test=flat, classes=3)
    np.testing.assert_allclose(task.train.arrays["inputs"], 0, atol=1e-6)
    with pytest.raises(BadInput, match="flat, train split: example 2 has the label 2; expected 0 to 1"):
        classification("flat", (), train=flat, validation=flat, test=flat, classes=2)


def test_debians_fashion_mnist_is_found_by_itself(monkeypatch, tmp_path, cache):
    """Tiny files of the published form and names in Debian's place; the published sums must then refuse them."""
    for remote in fashion_mnist.FILES:
        (tmp_path / remote.filename).write_bytes(b"\0\0\x08\x01\0\0\0\0")
    monkeypatch.setattr(fashion_mnist, "_DEBIAN", tmp_path)
    with pytest.raises(
        BadInput, match=rf"{tmp_path}/train-images-idx3-ubyte.gz has the wrong content: expected 47,040"
    ):
        fashion_mnist.load(fashion_mnist.Config(), None)
    assert not cache.exists() or not list(cache.rglob("*ubyte*"))


def test_a_set_in_the_form_of_mnist():
    """6,000 + 10 images of 1 x 2 pixels: ten classes, with names or without; the last 5,000 validate."""
    labels = np.arange(6_010, dtype=np.uint8) % 10
    parts = [(np.stack([labels] * 2, -1)[:, None], labels) for labels in (labels[:6_000], labels[6_000:])]
    files = [
        File(f"file {number}", struct.pack(f">{1 + array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes())
        for number, array in enumerate(array for part in parts for array in part)
    ]
    task = idx.task("made", (), files, ImagesConfig(), classes=fashion_mnist.CLASSES)
    assert (task.shapes.outputs, task.facts["classes"], task.classes) == (10, 10, fashion_mnist.CLASSES)
    assert [len(arrays["targets"]) for arrays in splits(task).values()] == [1_000, 5_000, 10]
    np.testing.assert_array_equal(shown(task, "validation")[:, 0, 1], labels[1_000:6_000])
    np.testing.assert_array_equal(splits(task)["test"]["targets"], labels[6_000:])
    digits = idx.task("made", (), files, ImagesConfig())
    assert (digits.shapes.outputs, digits.classes) == (10, ())


def test_the_whole_of_fashion_mnist():
    if not (fashion_mnist._DEBIAN / fashion_mnist.FILES[0].filename).exists():
        pytest.skip("no Fashion-MNIST: install Debian's package dataset-fashion-mnist")
    task = fashion_mnist.load(fashion_mnist.Config(), None)
    assert task.facts["fingerprint"] == "06584ba28a68010c114f47993a7cacd49d1a5e20ef70aa87b9a697f56e6c2e93"
    counts = sum(np.bincount(splits(task)[split]["targets"]) for split in ("train", "validation"))
    assert counts.tolist() == [6_000] * 10
    # The moments that are commonly quoted for all 60,000 are 0.2860 and 0.3530.
    assert task.facts["pixel_mean"] == pytest.approx(0.2860, abs=5e-4)
    assert task.facts["pixel_deviation"] == pytest.approx(0.3530, abs=5e-4)


def test_mnist_has_no_duplicates_across_splits_by_another_count(shared_data):
    task = mnist.load(mnist.Config(train_examples=1_000), shared_data)
    assert np.bincount(task.train.arrays["targets"]).tolist() == [100] * 10
    inputs = [arrays["inputs"].reshape(-1, 784) for arrays in splits(task).values()]
    kinds = [len(np.unique(np.concatenate(parts), axis=0)) for parts in ((inputs[0],), (inputs[1],), inputs[:2])]
    shared = kinds[0] + kinds[1] - kinds[2]
    assert (task.facts["validation_examples_in_train"] == 0) == (shared == 0)
