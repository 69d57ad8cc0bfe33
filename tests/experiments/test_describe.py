"""``--data``: what it says, the picture it writes, and what it refuses."""

import dataclasses
import io

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from experiments import describe, examples, glyphs
from experiments.__main__ import main
from models.base import BadInput
from models.inputs import Padded, Pair
from train import data
from train.data import digits, rare_classes
from train.data.task import Batch


def described(tmp_path, name, *overrides) -> str:
    console = Console(file=io.StringIO(), width=120)
    describe.show(name, overrides, data_dir=None, workdir=str(tmp_path), console=console)
    return console.file.getvalue()


def test_images(tmp_path):
    text = described(tmp_path, "digits", ("data.train_examples", "30"))
    assert "28 x 28 x 1 real numbers -> 10 outputs for the whole" in text
    assert "train_examples: 30\n" in text
    assert text.count("10.0%") == 10
    assert any(shade in text for shade in glyphs.SHADES[1:])
    picture = matplotlib.image.imread(tmp_path / "data" / "digits.png")
    assert min(picture.shape[:2]) > 300
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 10


def test_what_is_generated_and_has_no_picture(tmp_path):
    text = described(tmp_path, "copy_memory", ("data.delay", "20"), ("data.evaluation_examples", "50"))
    assert "made in every step" in text
    assert "closed until the end" in text
    assert f"...................|{'.' * 10}" in text
    assert "memoryless_loss: 0.5198" in text
    assert list(tmp_path.iterdir()) == []


def test_the_test_split_stays_closed(tmp_path, monkeypatch):
    from train.data.task import Test

    monkeypatch.setattr(Test, "open", lambda *_: pytest.fail("opened"))
    described(tmp_path, "modular_arithmetic", ("data.modulus", "7"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data=dgits"], "unknown data set 'dgits'; did you mean 'digits'?"),
        (["--data=digits", "--experiment=char_lm"], "give one of the two"),
        (["--data=digits", "--config.model.width=3"], "only --config.data.FIELD=VALUE"),
        (["--data=digits", "--config.data.name=mnist"], "only --config.data.FIELD=VALUE"),
        (["--data=digits", "--config.data.train_exampels=3"], "data.train_examples"),
        (["--data=digits", "--config.data.train_examples=0"], "must be at least 1"),
        (["--data=digits", "--data_dir=/nowhere/at/all"], "is not a folder"),
        (["--data"], "--data has no value"),
    ],
)
def test_refusals(capsys, tmp_path, arguments, message):
    assert main([*arguments, f"--workdir={tmp_path}"]) == 2
    output = capsys.readouterr()
    (line,) = output.err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(BadInput, match=r"cannot write .*choose another --workdir"):
        described(tmp_path, "digits", ("data.train_examples", "10"))


def viewed(inputs, targets, *, show=None, weights=1.0, classes=()):
    task = dataclasses.replace(data.load(rare_classes.Config(groups=2), None), show=show, classes=classes)
    return examples.view(task, Batch(inputs, np.asarray(targets), np.asarray(weights, np.float32)))


MASK = np.array([True, True, False])
TOKENS = np.array([4, 5, 0], np.int32)


def test_every_shape_has_a_view():
    generator = np.random.default_rng(0)
    grey = viewed(generator.normal(size=(6, 5, 1)).astype(np.float32), 1, classes=("a", "b", "c"))
    assert (grey.text, grey.image.shape, grey.image.dtype) == ("b", (6, 5), np.uint8)
    assert (grey.image.min(), grey.image.max()) == (0, 255)
    assert viewed(generator.random((6, 5, 3), np.float32), 1).image.shape == (6, 5, 3)
    assert viewed(generator.random((9, 40), np.float32), 1).image.shape == (40, 9)  # a spectrogram: time to the right
    series = viewed(generator.random((9, 2), np.float32), np.float32([0.5, 1.5]))
    assert series.series.shape == (9, 2)
    assert series.text == "0.5 1.5"
    assert viewed(np.float32([1, 2.5]), 2).text == "1 2.5 -> 2"
    assert viewed(Padded(TOKENS, MASK), 0).text == "4 5 -> 0"
    assert viewed(TOKENS, [7, 8, 9], weights=[0, 1, 1]).text == "4 5 0 -> 8 9"
    pair = Pair(Padded(TOKENS, MASK), Padded(TOKENS + 1, MASK))
    assert viewed(pair, [6, 0, 0], weights=[1, 0, 0]).text == "4 5 | 5 6 -> 6"
    assert viewed(TOKENS, 0, show=lambda example: "so " * 500).text.endswith("...")
    shown = viewed(TOKENS, 2, show=lambda example: np.zeros((3, 3), np.uint8))
    assert shown.text == "2"
    assert shown.image.shape == (3, 3)


def test_blocks_are_brighter_where_the_image_is():
    image = np.zeros((8, 8), np.uint8)
    image[:, 4:] = 255
    assert glyphs.blocks(image, columns=8) == ["    ████"] * 4
    assert glyphs.blocks(image, columns=4) == ["  ██"] * 2
    assert glyphs.blocks(np.stack([image] * 3, axis=-1), columns=8) == ["    ████"] * 4
    assert glyphs.blocks(np.full((1, 1), 128, np.uint8), columns=20) == ["▒"]
    assert glyphs.beside([["ab", "c"], ["d"]]) == ["ab  d", "c"]


def test_sparklines_rise_with_the_series():
    assert glyphs.sparkline(np.arange(8.0), columns=20) == glyphs.LEVELS
    assert glyphs.sparkline(np.repeat(np.arange(8.0), 5), columns=8) == glyphs.LEVELS
    assert glyphs.sparkline(np.array([2.0, 2.0]), columns=9) == "▁▁"
    assert glyphs.sparkline(np.array([np.nan, 0.0, 1.0]), columns=9) == " ▁█"
    assert glyphs.sparkline(np.array([np.nan]), columns=9) == " "


def test_examples_of_a_task_whose_classes_take_turns_are_of_several_classes():
    task = data.load(digits.Config(), None)
    assert len({view.text for view in examples.views(task, 24)}) > 5
    few = dataclasses.replace(
        task, train=type(task.train)({name: array[:3] for name, array in task.train.arrays.items()})
    )
    assert len(examples.views(few, 24)) == 3
