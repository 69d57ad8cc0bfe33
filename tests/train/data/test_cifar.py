"""CIFAR-10 and CIFAR-100: their binary format, in files made here, whole and broken."""

import dataclasses
import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest

from models.base import BadInput
from train.data import cifar, cifar10, cifar100
from train.data.files import File
from train.data.task import FinalEvaluation


@pytest.fixture
def few(monkeypatch):
    """The published numbers of records cut to a size for tests."""
    monkeypatch.setattr(cifar10, "_RECORDS", 8)
    monkeypatch.setattr(cifar100, "_TRAIN_RECORDS", 40)
    monkeypatch.setattr(cifar100, "_TEST_RECORDS", 8)
    for module in (cifar10, cifar100):
        monkeypatch.setattr(module, "_VALIDATION", 5)


def content(labels, random):
    """Records byte by byte, as the format is described on the publisher's page, and the images as they should come."""
    written, images = bytearray(), []
    for each in labels:
        image = random.integers(0, 256, (32, 32, 3), np.uint8)
        written += bytes(each)
        for channel in range(3):
            for row in range(32):
                for column in range(32):
                    written.append(image[row, column, channel])
        images.append(image)
    return bytes(written), np.array(images)


@pytest.fixture(scope="module")
def ten():
    """The files of CIFAR-10 by name, with their images and labels."""
    random = np.random.default_rng(0)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    labels = {name: random.integers(0, 10, (8, 1)).tolist() for name in names}
    return {name: (*content(labels[name], random), np.ravel(labels[name])) for name in names}


@pytest.fixture(scope="module")
def hundred():
    random = np.random.default_rng(1)
    labels = {
        name: np.stack([random.integers(0, 20, size), random.integers(0, 100, size)], 1).tolist()
        for name, size in (("train.bin", 40), ("test.bin", 8))
    }
    return {name: (*content(labels[name], random), np.array(labels[name])) for name in labels}


def archive(files, folder, *, compressed=True):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (data, *_) in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0) if compressed else buffer.getvalue()


def unpack(files, folder):
    folder.mkdir(parents=True)
    for name, (data, *_) in files.items():
        (folder / name).write_bytes(data)


def check(task, images, labels, test_images, test_labels):
    shown = {
        "train": task.train.arrays,
        "validation": task.validation.arrays,
        "test": task.test.open(FinalEvaluation()),
    }
    mean, deviation = (images[:-5] / 255).mean((0, 1, 2)), (images[:-5] / 255).std((0, 1, 2))
    expected = {"train": images[:-5], "validation": images[-5:], "test": test_images}
    targets = {"train": labels[:-5], "validation": labels[-5:], "test": test_labels}
    for split, arrays in shown.items():
        np.testing.assert_allclose(arrays["inputs"], (expected[split] / 255 - mean) / deviation, atol=3e-6)
        np.testing.assert_array_equal(arrays["targets"], targets[split])
    assert task.shapes.inputs == (32, 32, 3)


@pytest.mark.parametrize("inner", ["cifar10", "cifar10/cifar-10-batches-bin"])
def test_cifar10_unpacked(inner, ten, few, tmp_path):
    unpack(ten, tmp_path / inner)
    task = cifar10.load(cifar10.Config(), tmp_path)
    *train, test = ten.values()
    images, labels = (np.concatenate([part[place] for part in train]) for place in (1, 2))
    check(task, images, labels, test[1], test[2])
    assert task.facts["classes"] == 10


def test_cifar10_out_of_the_published_archive(ten, few, tmp_path, monkeypatch):
    """The published sum refuses any other archive; with the sum of this one, it is read."""
    (tmp_path / "cifar10").mkdir()
    data = archive(ten, "cifar-10-batches-bin")
    (tmp_path / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(data)
    with pytest.raises(BadInput, match=r"cifar-10-binary.tar.gz has the wrong content: expected 170,052,171 bytes"):
        cifar10.load(cifar10.Config(), tmp_path)
    own = dataclasses.replace(cifar10.FILES[0], sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    monkeypatch.setattr(cifar10, "FILES", (own,))
    task = cifar10.load(cifar10.Config(train_examples=20), tmp_path)
    assert task.facts["train_examples"] == 20
    *train, test = ten.values()
    images, labels = (np.concatenate([part[place] for part in train]) for place in (1, 2))
    check(cifar10.load(cifar10.Config(), tmp_path), images, labels, test[1], test[2])


@pytest.mark.parametrize(("labels", "column", "classes"), [("coarse", 0, 20), ("fine", 1, 100)])
def test_cifar100_fine_and_coarse(labels, column, classes, hundred, few, tmp_path):
    unpack(hundred, tmp_path / "cifar100" / "cifar-100-binary")
    task = cifar100.load(cifar100.Config(labels=labels), tmp_path)
    (_, images, found), (_, test_images, test_found) = hundred.values()
    check(task, images, found[:, column], test_images, test_found[:, column])
    assert (task.facts["classes"], task.shapes.outputs) == (classes, classes)


def test_cifar100_says_which_labels_there_are():
    with pytest.raises(BadInput, match="labels='all' must be one of fine, coarse"):
        cifar100.Config(labels="all")  # type: ignore


def test_a_file_that_is_cut_or_long_or_empty(ten, few, tmp_path):
    unpack(ten, tmp_path / "cifar10")
    file = tmp_path / "cifar10" / "data_batch_3.bin"
    whole = file.read_bytes()
    for broken in (whole[:-1], whole + b"\0", b""):
        file.write_bytes(broken)
        message = (
            f"data_batch_3.bin is not the binary .* expected 8 records of 3,073 bytes, found {len(broken):,} bytes"
        )
        with pytest.raises(BadInput, match=message):
            cifar10.load(cifar10.Config(), tmp_path)


def test_a_label_out_of_range_is_told_with_its_record(ten, hundred, few, tmp_path):
    unpack(ten, tmp_path / "cifar10")
    file = tmp_path / "cifar10" / "test_batch.bin"
    broken = bytearray(file.read_bytes())
    broken[3 * 3073] = 10
    file.write_bytes(broken)
    with pytest.raises(BadInput, match=r"test_batch.bin: record 3 has the label 10; expected 0 to 9"):
        cifar10.load(cifar10.Config(), tmp_path)
    data = bytearray(hundred["test.bin"][0])
    data[2 * 3074] = 20  # a fine label may be 20, a coarse one may not
    with pytest.raises(BadInput, match="record 2 has the label 20; expected 0 to 19"):
        cifar.records([File("test.bin", bytes(data))], classes=(20, 100), count=8)


def test_a_file_is_absent(ten, few, tmp_path):
    unpack(ten, tmp_path / "cifar10")
    (tmp_path / "cifar10" / "data_batch_2.bin").unlink()
    with pytest.raises(BadInput, match=r"cifar10 lacks data_batch_2.bin: expected data_batch_1.bin, .*test_batch.bin"):
        cifar10.load(cifar10.Config(), tmp_path)


def test_broken_archives(ten, few, tmp_path, monkeypatch):
    whole = archive(ten, "cifar-10-batches-bin")
    plain = archive(ten, "cifar-10-batches-bin", compressed=False)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    cases = {
        whole[: len(whole) // 2]: "is cut short: no end of its gzip stream",
        bytes(damaged): "is corrupt: CRC check failed|is corrupt: Error -3",
        plain[: len(plain) // 2]: "corrupt or cut short|is not the archive",
        b"": "corrupt or cut short",
        b"not an archive" * 100: "corrupt or cut short",
        archive(ten, "elsewhere"): "is not the archive that it should be: .*cifar-10-batches-bin/data_batch_1.bin",
    }
    for data, message in cases.items():
        monkeypatch.setattr(cifar, "obtain", lambda remote, *_, data=data: File(remote.filename, data))
        with pytest.raises(BadInput, match=message) as caught:
            cifar10.load(cifar10.Config(), None)
        assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_file_in_the_archive():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("cifar-100-binary/train.bin")
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    with pytest.raises(BadInput, match=r"train.bin is not a file"):
        list(cifar._unpacked(File("a.tar.gz", buffer.getvalue()), ["cifar-100-binary/train.bin"]))


def test_the_pickled_versions_are_never_read(tmp_path, monkeypatch):
    """A user who has the version for Python is asked for the other one: nothing of it is opened."""
    (tmp_path / "cifar10" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "cifar10" / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    asked = []

    def obtain(remote, *_):
        asked.append(remote.filename)
        raise BadInput("nowhere")

    monkeypatch.setattr(cifar, "obtain", obtain)
    with pytest.raises(BadInput, match="nowhere"):
        cifar10.load(cifar10.Config(), tmp_path)
    assert asked == ["cifar-10-binary.tar.gz"]
