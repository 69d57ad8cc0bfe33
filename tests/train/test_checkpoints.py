"""Checkpoints come back bit for bit; a damaged one is passed over for the one before."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from train.checkpoints import Checkpoints, digest

# Reading a damaged checkpoint ends while TensorStore still reads its other arrays; what then finds its
# event loop closed is reported from a thread of TensorStore's own, in whichever test runs by then.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")


LANES = ("a", "b")
OWN = {"lanes": ["a", "b"], "scores": {}}  # what a checkpoint says of its own accord


class Tree(NamedTuple):
    params: Any
    count: Any


def draw(seed, features=4):
    generator = np.random.default_rng(seed)
    kernel = generator.normal(size=(2, 3, features)).astype(np.float32)
    kernel[0, 0, :3] = np.nan, -0.0, np.inf  # a diverged lane is saved like any other
    return Tree(
        params={"dense": {"kernel": kernel, "bias": np.zeros((2, features), np.float32)}, "empty": {}},
        count=np.asarray([seed, -1], np.int32),
    )


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "some" / "folder", LANES)
    yield opened
    opened.close()


def files(folder: Path, step: int) -> list[Path]:
    """The files of a checkpoint that hold arrays, largest first."""
    found = [path for path in (folder / str(step) / "states").rglob("d/*") if path.is_file()]
    return sorted(found, key=lambda path: -path.stat().st_size)


def test_there_is_none_in_the_beginning(checkpoints):
    assert checkpoints.restore(draw(0)) is None


def test_a_checkpoint_comes_back_bit_for_bit(checkpoints):
    checkpoints.save(7, jax.device_put(draw(7)), {"train_seconds": 1.25})
    again = checkpoints.restore(jax.eval_shape(lambda: draw(0)))
    assert (again.step, again.facts) == (7, {"train_seconds": 1.25} | OWN)
    assert_same_bits(again.states, draw(7))


def test_another_process_reads_what_one_has_written(checkpoints):
    checkpoints.save(3, draw(3), {})
    other = Checkpoints(checkpoints.folder, LANES)
    assert_same_bits(other.restore(draw(0)).states, draw(3))
    other.close()


def test_the_newest_two_are_kept(checkpoints):
    for step in (1, 2, 5, 9):
        checkpoints.save(step, draw(step), {})
    assert sorted(path.name for path in checkpoints.folder.iterdir() if path.name.isdigit()) == ["5", "9"]
    assert checkpoints.restore(draw(0)).step == 9


def kept(checkpoints):
    return sorted(int(path.name) for path in checkpoints.folder.iterdir() if path.name.isdigit())


def test_each_trials_best_are_kept_beside_the_newest(tmp_path):
    """Scores as a NumPy table; what should be kept, by sorting its columns."""
    table = np.random.default_rng(0).normal(size=(12, 2))
    table[3, 0], table[4, 1] = np.nan, np.inf  # a trial that has diverged has no best
    opened = Checkpoints(tmp_path / "best", LANES, newest=3, best=2)
    for step, row in enumerate(table):
        scores = dict(zip(LANES, row.tolist(), strict=True))
        ranks = [np.sum(table[:step, lane] < row[lane]) for lane in range(2) if np.isfinite(row[lane])]
        assert opened.would_keep(step, scores) == (min(ranks) < 2)
        opened.save(step, draw(step), {}, scores)
        ranked = np.argsort(np.where(np.isfinite(table[: step + 1]), table[: step + 1], 99), axis=0)
        assert kept(opened) == sorted({*range(step + 1)[-3:], *ranked[:2].ravel().tolist()})
        if step == 6:  # another process goes on
            opened.close()
            opened = Checkpoints(opened.folder, LANES, newest=3, best=2)
    assert opened.scores(11) == dict(zip(LANES, table[11].tolist(), strict=True))
    opened.close()


def test_a_checkpoint_without_scores_is_kept_for_its_age_alone(tmp_path):
    opened = Checkpoints(tmp_path / "best", LANES, newest=1, best=1)
    for step, scores in enumerate([{}, {"a": 1.0}, {}, {"a": 2.0, "b": 9.0}, {}, {}]):
        opened.save(step, draw(step), {}, scores)
    assert kept(opened) == [1, 3, 5]
    assert not opened.would_keep(6, {})
    opened.close()


def test_lanes_of_padding_are_not_saved_and_others_come_in_any_order(checkpoints):
    padded = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[:1], leaf[:1]]), draw(3))
    checkpoints.save(3, padded, {})
    assert_same_bits(checkpoints.restore(padded).states, draw(3))
    assert_same_bits(
        checkpoints.restore(draw(0), ["b"]).states, jax.tree.map(lambda leaf: np.asarray(leaf)[1:], draw(3))
    )
    assert_same_bits(
        checkpoints.restore(draw(0), ["b", "a"]).states, jax.tree.map(lambda leaf: np.asarray(leaf)[::-1], draw(3))
    )


def test_what_a_broken_off_save_left_is_removed_by_the_next(checkpoints):
    checkpoints.save(1, draw(1), {})
    (checkpoints.folder / "2.orbax-checkpoint-tmp-7" / "states").mkdir(parents=True)
    (checkpoints.folder / "mine").mkdir()
    opened = Checkpoints(checkpoints.folder, LANES)
    assert opened.steps() == [1]
    opened.save(2, draw(2), {})
    assert sorted(path.name for path in opened.folder.iterdir()) == ["1", "2", "mine"]
    assert_same_bits(opened.restore(draw(0)).states, draw(2))
    opened.close()


def test_what_is_said_of_a_checkpoint_is_protected_too(checkpoints, caplog):
    for step in (1, 2):
        checkpoints.save(step, draw(step), {"rate": 0.25})
    (path,) = [path for path in (checkpoints.folder / "2" / "facts").iterdir() if b"rate" in path.read_bytes()]
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.75"))
    assert checkpoints.restore(draw(0)).step == 1
    assert "do not match their digest" in caplog.text


def test_saving_a_step_again_changes_nothing(checkpoints):
    checkpoints.save(4, draw(4), {"train_seconds": 1.0})
    checkpoints.save(4, draw(5), {"train_seconds": 2.0})
    again = checkpoints.restore(draw(0))
    assert again.facts == {"train_seconds": 1.0} | OWN
    assert_same_bits(again.states, draw(4))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 3):
        content[place] ^= 0x40
    path.write_bytes(content)


def remove(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, remove, empty])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(damage, checkpoints, caplog):
    for step in (10, 20):
        checkpoints.save(step, draw(step), {"train_seconds": float(step)})
    damage(files(checkpoints.folder, 20)[0])
    checkpoints.close()
    opened = Checkpoints(checkpoints.folder, LANES)
    with caplog.at_level(logging.WARNING, "paribus"):
        again = opened.restore(draw(0))
    assert (again.step, again.facts["train_seconds"]) == (10, 10.0)
    assert_same_bits(again.states, draw(10))
    warnings = [record.getMessage() for record in caplog.records if record.name == "paribus"]
    assert len(warnings) == 1
    assert "20 is damaged" in warnings[0]
    assert "\n" not in warnings[0]
    aside = checkpoints.folder.with_name("folder.damaged-20")
    assert aside.is_dir(), "kept for whoever wants to look"
    opened.save(20, draw(21), {})  # made again
    assert_same_bits(opened.restore(draw(0)).states, draw(21))
    opened.close()


def test_any_damaged_file_is_noticed_or_does_no_harm(checkpoints):
    """Whatever file of the newest is damaged: what comes back is one of the two, whole."""
    number = 1
    while True:
        for step in (number, number + 1):
            checkpoints.save(step, draw(step), {})
        folder = checkpoints.folder / str(number + 1)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        index = number // 10
        if index >= len(paths):
            break
        flip(paths[index])
        again = checkpoints.restore(draw(0))
        assert again is not None, paths[index]
        assert_same_bits(again.states, draw(again.step))
        number += 10
    assert number > 30


@pytest.mark.parametrize(
    "error",
    [MemoryError("no memory"), PermissionError("not allowed"), ValueError("PERMISSION_DENIED: Error opening file")],
)
def test_a_checkpoint_that_this_machine_cannot_read_stays(error, checkpoints, monkeypatch):
    checkpoints.save(10, draw(10), {})

    def fail(step, like, lanes):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "read", fail)
        with pytest.raises(type(error)):
            checkpoints.restore(draw(0))
    assert checkpoints.restore(draw(0)).step == 10


def test_when_all_are_damaged_there_is_none(checkpoints, caplog):
    for step in (1, 2):
        checkpoints.save(step, draw(step), {})
        cut(files(checkpoints.folder, step)[0])
    assert checkpoints.restore(draw(0)) is None
    assert sum("is damaged" in record.getMessage() for record in caplog.records) == 2
    checkpoints.save(1, draw(1), {})
    assert_same_bits(checkpoints.restore(draw(0)).states, draw(1))


@pytest.mark.parametrize(
    "other",
    [
        draw(0, features=5),
        draw(0)._replace(count=np.zeros(2, np.float32)),
        Tree({"dense": draw(0).params["dense"]["kernel"]}, draw(0).count),
        {"params": draw(0).params},
    ],
    ids=["shape", "type", "name", "fewer"],
)
def test_arrays_of_another_model_are_not_taken(other, checkpoints, caplog):
    checkpoints.save(1, draw(1), {})
    assert checkpoints.restore(other) is None
    assert "are not those of this model" in caplog.text


def test_the_digest_sees_names_types_shapes_and_contents():
    array = np.arange(6, dtype=np.float32)
    variants = [
        {"a": array},
        {"b": array},
        {"a": array.astype(np.int32)},
        {"a": array.reshape(2, 3)},
        {"a": np.where(array == 0, np.float32(-0.0), array)},
        {"a": array, "b": array[:0]},
        {},
    ]
    assert len({digest(variant, {}) for variant in variants}) == len(variants)
    assert digest({"a": array, "b": array}, {}) == digest({"b": array, "a": array}, {})
    assert digest({"a": np.arange(12.0)[::2]}, {}) == digest({"a": np.arange(0, 12, 2.0)}, {})
    assert digest({"a": array}, {"x": 1, "y": 2}) == digest({"a": array}, {"y": 2, "x": 1})
    assert digest({"a": array}, {"x": 1}) != digest({"a": array}, {"x": 2})
