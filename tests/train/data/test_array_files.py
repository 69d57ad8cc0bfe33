"""Arrays of one's own in files: what is found by going through them once, and what is refused."""

import hashlib
import io
import re

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import describe
from models.base import BadInput
from train.data import array_files, array_scan
from train.data.array_files import Config
from train.data.image_sampling import StandardisedExamples
from train.data.images import Scaling
from train.data.task import FinalEvaluation

GENERATOR = np.random.default_rng(0)
SIZES = {"train": 40, "validation": 11, "test": 9}
IMAGES = {split: GENERATOR.integers(0, 256, (size, 5, 4, 3)).astype(np.uint8) for split, size in SIZES.items()}
CLASSES = {split: np.arange(size) % 3 for split, size in SIZES.items()}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(array_scan, "cache_folder", lambda: tmp_path / "cache")
    (tmp_path / "cache").mkdir()


@pytest.fixture
def folder(tmp_path):
    """Images and their classes, a folder for each split."""
    for split in SIZES:
        (tmp_path / "set" / split).mkdir(parents=True)
        np.save(tmp_path / "set" / split / "inputs.npy", IMAGES[split])
        np.save(tmp_path / "set" / split / "targets.npy", CLASSES[split])
    return tmp_path / "set"


def load(folder, **options):
    return array_files.load(Config(folder=str(folder), **options), None)


def splits(task):
    return {"train": task.train.arrays, "validation": task.validation.arrays, "test": task.test.open(FinalEvaluation())}


def test_images_stay_in_their_files_and_are_standardised_by_the_training_rows_that_are_used(folder):
    for count in (None, 10):
        task = load(folder, train_examples=count)
        assert all(isinstance(arrays["inputs"], np.memmap) for arrays in splits(task).values())
        scaling = Scaling.of(IMAGES["train"][:count], 255)
        assert task.sampler == StandardisedExamples(tuple(scaling.mean.tolist()), tuple(scaling.divisor.tolist()))
        assert task.facts["pixel_mean_green"] == pytest.approx(IMAGES["train"][:count, ..., 1].mean() / 255, rel=1e-6)
        assert (task.shapes.inputs, task.shapes.outputs, task.facts["train_examples"]) == ((5, 4, 3), 3, count or 40)
        batch = jax.jit(task.sampler.gather)(dict(task.train.arrays), np.array([3, 7], np.int32))
        np.testing.assert_allclose(batch.inputs, scaling.standardised(IMAGES["train"][[3, 7]]), rtol=1e-5, atol=1e-6)
        assert batch.targets.tolist() == [0, 1]


def test_nothing_of_the_held_out_splits_enters_what_is_fitted(folder):
    before = load(folder)
    np.save(folder / "validation" / "inputs.npy", IMAGES["validation"] // 2)
    np.save(folder / "test" / "inputs.npy", IMAGES["test"] // 3)
    after = load(folder)
    assert (before.sampler, before.shapes) == (after.sampler, after.shapes)
    assert before.facts["fingerprint"] != after.facts["fingerprint"]


def test_small_blocks_find_the_same_as_the_whole_and_the_next_start_reads_nothing(folder, monkeypatch):
    np.save(folder / "validation" / "inputs.npy", np.concatenate([IMAGES["validation"][:8], IMAGES["train"][5:8]]))
    np.save(folder / "test" / "inputs.npy", np.concatenate([IMAGES["train"][:2], IMAGES["validation"][:7]]))
    monkeypatch.setattr(array_scan, "BLOCK_BYTES", 200)
    monkeypatch.setattr(array_scan, "remember", lambda place, found: None)
    small = load(folder)
    monkeypatch.undo()
    monkeypatch.setattr(array_scan, "cache_folder", lambda: folder.parent / "cache")
    whole = load(folder)
    assert whole.facts == small.facts
    repeated = {name: value for name, value in whole.facts.items() if "_in_" in name}
    assert repeated == {
        "validation_examples_in_train": 3,
        "test_examples_in_train": 2,
        "test_examples_in_validation": 7,
    }
    monkeypatch.setattr(array_scan, "scanned", None)
    again = load(folder)
    assert (again.facts, again.sampler) == (whole.facts, whole.sampler)


def test_one_pair_of_files_is_cut_into_three_parts(tmp_path):
    inputs = GENERATOR.normal(size=(50, 6)).astype(np.float32)
    targets = GENERATOR.normal(size=(50, 2)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "targets.npy", targets)
    task = load(tmp_path, train_fraction=0.5, validation_fraction=0.25)
    parts = splits(task)
    assert [len(part["inputs"]) for part in parts.values()] == [25, 12, 13]
    for name, whole in (("inputs", inputs), ("targets", targets)):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts.values()]), whole)
    assert task.objective.metrics == ("mse", "mae")
    assert (task.shapes.inputs, task.shapes.outputs, task.shapes.vocabulary) == ((6,), 2, None)


def test_tokens_of_any_integer_type(tmp_path):
    tokens = GENERATOR.integers(0, 300, (50, 7)).astype(np.uint16)
    tokens[0, 0] = 299
    np.save(tmp_path / "inputs.npy", tokens)
    np.save(tmp_path / "targets.npy", np.arange(50) % 2)
    task = load(tmp_path)
    assert task.shapes.vocabulary == 300
    batch = jax.jit(task.sampler.gather)(dict(task.train.arrays), np.array([4], np.int32))
    assert batch.inputs.dtype == np.int32
    np.testing.assert_array_equal(batch.inputs, tokens[[4]])


@pytest.mark.parametrize("kind", ["tokens", "text"])
def test_a_long_text_stays_in_its_file(kind, tmp_path):
    text = "Das ist ein längerer Text. " * 40
    content = np.frombuffer(text.encode(), np.uint8)
    if kind == "text":
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    else:
        np.save(tmp_path / "tokens.npy", content.astype(np.int16))
    task = load(tmp_path, context=8, stride=4)
    parts = splits(task)
    np.testing.assert_array_equal(np.concatenate([part["tokens"] for part in parts.values()]), content)
    assert all(isinstance(part["tokens"], np.memmap) for part in parts.values())
    assert task.shapes.outputs == (256 if kind == "text" else content.max() + 1)
    assert task.objective.metrics[1] == ("bits_per_byte" if kind == "text" else "bits_per_token")
    batch = jax.jit(task.sampler.gather)(dict(task.train.arrays), np.array([3], np.int32))
    assert bytes(np.asarray(batch.inputs[0], np.uint8)) == text.encode()[3:11]
    if kind == "text":
        assert "Text" in describe_text(load(tmp_path, context=30))


def describe_text(task):
    console = Console(file=io.StringIO(), width=100)
    describe.tell(task, console)
    return console.file.getvalue()


def test_it_is_described(folder):
    said = describe_text(load(folder))
    assert "5 x 4 x 3 real numbers -> 3 outputs" in said
    assert re.search(r"fingerprint: [0-9a-f]{64}", said)


def save(path, array):
    np.save(path, array, allow_pickle=True)


def archive(path):
    with path.open("wb") as file:
        np.savez(file, a=ONES)


def one_class(path):
    for split, size in SIZES.items():
        save(path.parents[1] / split / "targets.npy", np.zeros(size, int))


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[:-7])


ONES = np.ones((40, 5, 4, 3), np.float32)
BROKEN = {
    "missing": ("train/targets.npy", lambda path: path.unlink(), r"targets.npy cannot be read: No such file"),
    "empty": ("train/inputs.npy", lambda path: path.write_bytes(b""), r"train/inputs.npy is empty"),
    "truncated": ("test/inputs.npy", truncate, r"test/inputs.npy is no whole array of numbers .*which must have ended"),
    "not npy": ("train/inputs.npy", lambda path: path.write_bytes(b"PNG?" * 40), r"is no whole array of numbers"),
    "objects": ("train/targets.npy", lambda path: save(path, np.array([{}] * 40)), r"is no whole array of numbers"),
    "pickle": ("train/targets.npy", lambda path: path.write_bytes(b"\x80\x04]q\x00."), r"is no whole array of numbers"),
    "archive": ("train/inputs.npy", archive, r"is not one array"),
    "scalar": ("train/targets.npy", lambda path: save(path, np.int64(3)), r"has an array of shape \(\)"),
    "other rows": (
        "train/targets.npy",
        lambda path: save(path, np.zeros(39, int)),
        r"inputs.npy has 40 rows; .*39 rows",
    ),
    "other shape": (
        "test/inputs.npy",
        lambda path: save(path, IMAGES["test"][:, :4]),
        r"\(4, 4, 3\) of uint8.*must agree",
    ),
    "doubles": (
        "train/inputs.npy",
        lambda path: save(path, ONES.astype(np.float64)),
        r"type float64; inputs are of uint8",
    ),
    "text": (
        "train/targets.npy",
        lambda path: save(path, np.array(["a"] * 40)),
        r"type <U1; targets are of an integer",
    ),
    "Fortran": (
        "train/inputs.npy",
        lambda path: save(path, np.asfortranarray(IMAGES["train"])),
        r"is in Fortran order",
    ),
    "byte order": ("train/targets.npy", lambda path: save(path, CLASSES["train"].astype(">i8")), r"byte order"),
    "matrix": (
        "train/targets.npy",
        lambda path: save(path, np.zeros((40, 2), int)),
        r"shape \(40, 2\) of int64; targets",
    ),
    "label": (
        "validation/targets.npy",
        lambda path: save(path, np.array([0, 1, 3] + [0] * 8)),
        r"row 2 has 3; expected 0 to 2",
    ),
    "negative": (
        "train/targets.npy",
        lambda path: save(path, np.array([0] * 9 + [-1] + [1] * 30)),
        r"row 9 has -1; expected 0",
    ),
    "one class": ("train/targets.npy", one_class, r"has one class, 0, alone"),
}


@pytest.mark.parametrize(("name", "breaking", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_said_in_one_line_that_names_the_file(name, breaking, message, folder):
    breaking(folder / name)
    with pytest.raises(BadInput, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert name.rpartition("/")[2] in str(error.value)


def test_numbers_that_are_not_finite_are_named_by_row(tmp_path):
    inputs = np.zeros((50, 4), np.float32)
    inputs[33, 2] = np.nan
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "targets.npy", np.arange(50) % 2)
    with pytest.raises(BadInput, match=r"inputs.npy: row 33 has nan; expected finite numbers"):
        load(tmp_path)


def test_folders_and_fractions_that_make_no_sense(folder, tmp_path):
    with pytest.raises(BadInput, match=r"is not a folder; expected inputs.npy and targets.npy in it"):
        load(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"train_examples=41 must be at most 40"):
        load(folder, train_examples=41)
    with pytest.raises(BadInput, match=r"must leave a share for the test split"):
        Config(train_fraction=0.9, validation_fraction=0.1)
    (folder / "test").rename(folder / "tset")
    with pytest.raises(BadInput, match=r"must have 'test' beside it"):
        load(folder)


def test_row_hashes_tell_rows_apart_and_know_equal_ones():
    rows = GENERATOR.integers(0, 4, (5000, 9)).astype(np.uint8)
    hashes = array_scan.row_hashes(rows)
    digests = [hashlib.sha256(row.tobytes()).digest() for row in rows]
    assert len(set(hashes.tolist())) == len(set(digests)) < 5000
    np.testing.assert_array_equal(array_scan.row_hashes(rows[100:200]), hashes[100:200])
    near = np.eye(64, dtype=np.uint8)  # rows that differ in two bytes
    assert len(set(array_scan.row_hashes(near).tolist())) == 64
