"""Data sets of Hugging Face: local copies of every form, and what is said when something is wanting."""

import json
import sys

import numpy as np
import pytest

from experiments.describe import chosen
from experiments.examples import views
from models.base import BadInput
from train.data import hf
from train.data.task import FinalEvaluation

datasets = pytest.importorskip("datasets")

TEXTS = {"text": [f"word{i % 3} word{i % 5} Good" for i in range(60)], "label": [i % 2 for i in range(60)]}


def load(dataset, **options):
    return hf.load(hf.Config(dataset=str(dataset), **options), None)


def refused(dataset, **options) -> str:
    with pytest.raises(BadInput) as found:
        load(dataset, **options)
    assert "\n" not in str(found.value)
    return str(found.value)


def sizes(task) -> list[int]:
    arrays = (task.train.arrays, task.validation.arrays, task.test.open(FinalEvaluation()))
    return [len(part["targets"]) for part in arrays]


def test_the_prefix_names_the_data_set():
    assert chosen("hf:some/set", ()).data == hf.Config(dataset="some/set")
    assert chosen("hf:./x:y", [("data.length", "7")]).data == hf.Config(dataset="./x:y", length=7)
    with pytest.raises(BadInput, match=r"name a data set: --config.data.name=hf:NAME"):
        load("")


def test_a_saved_dictionary_of_texts(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    train = datasets.Dataset.from_dict(TEXTS, features=features)
    datasets.DatasetDict(train=train, dev=train.select(range(10)), test=train.select(range(7))).save_to_disk(tmp_path)
    task = load(tmp_path, least=1)
    assert sizes(task) == [60, 10, 7]
    assert task.facts["class_names"] == "no, yes"
    assert task.facts["source"] == str(tmp_path)
    assert task.shapes.outputs == 2
    assert "good" in views(task, 1)[0].text


def test_splits_that_are_not_published_are_cut_and_equal_rows_stay_together(tmp_path):
    (tmp_path / "all.jsonl").write_text(
        "\n".join(json.dumps({"text": f"say {i % 40}", "label": "ab"[i % 2]}) for i in range(120))
    )
    task = load(tmp_path, least=1)
    assert sum(sizes(task)) == 120
    assert min(sizes(task)) > 0
    assert task.facts["validation_examples_in_train"] == task.facts["test_examples_in_train"] == 0
    assert task.facts["class_names"] == "a, b"


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_a_folder_of_files(tmp_path, kind):
    table = datasets.Dataset.from_dict(TEXTS)
    for name, rows in (("train-00000-of-00002", 40), ("train-00001-of-00002", 20), ("validation", 9), ("test", 8)):
        path, part = tmp_path / f"{name}.{kind}", table.select(range(rows))
        if kind == "csv":
            path.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in part))
        elif kind == "parquet":
            part.to_parquet(path)
        elif kind == "json":
            path.write_text(json.dumps(list(part)))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in part))
    assert sizes(load(tmp_path)) == [60, 9, 8]
    assert sizes(load(tmp_path, train_examples=20)) == [20, 9, 8]
    assert "train_examples=61 must be at most 60" in refused(tmp_path, train_examples=61)


def test_images(tmp_path):
    from PIL import Image

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (30, 5, 4, 3), dtype=np.uint8)
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])})
    content = {"picture": [Image.fromarray(one) for one in pixels], "kind": [i % 2 for i in range(30)]}
    table = datasets.Dataset.from_dict(content, features=features)
    for name, rows in (("train", range(20)), ("valid", range(20, 26)), ("test", range(26, 30))):
        table.select(rows).to_parquet(tmp_path / f"{name}.parquet")
    task = load(tmp_path)
    assert task.shapes.inputs == (5, 4, 3)
    assert sizes(task) == [20, 6, 4]
    inputs = task.validation.arrays["inputs"]
    train = pixels[:20].astype(np.float64) / 255
    expected = (pixels[20:26] / 255 - train.mean((0, 1, 2))) / train.std((0, 1, 2))
    np.testing.assert_allclose(inputs, expected, atol=1e-5)
    assert load(tmp_path, size=8).shapes.inputs == (8, 8, 3)
    assert "data.context=32 has no use for a task of images" in refused(tmp_path, context=32)


def test_texts_alone_are_language(tmp_path):
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"line": f"{name} and so on {i}"}) + "\n" for i in range(30))
        )
    task = load(tmp_path, context=8)
    assert task.shapes.causal
    assert task.shapes.inputs == (8,)
    assert task.train.arrays["tokens"].size == sum(len(f"train and so on {i}") for i in range(30)) + 29
    assert load(tmp_path, tokens="bytes").shapes.vocabulary == 256
    assert "data.length=5 has no use for a task of language" in refused(tmp_path, length=5)


def write(folder, *rows):
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_is_wrong_is_named_with_its_row(tmp_path):
    good = [{"text": f"a {i}", "label": i % 2} for i in range(80)]
    write(tmp_path, *good, {"text": None, "label": 1})
    assert "split 'train', row 80: the column 'text' has no value" in refused(tmp_path)
    write(tmp_path, *good, {"text": "...", "label": 1}, {"text": "", "label": 0})
    assert "row " in refused(tmp_path)
    write(tmp_path, *({**row, "label": 1} for row in good))
    assert "has 1 label" in refused(tmp_path)
    write(tmp_path, *good)
    assert "did you mean 'label'" in refused(tmp_path, label="lable")
    assert "did you mean 'text'" in refused(tmp_path, text="txt", label="label")
    assert "data.test_split: unknown split 'tset'" in refused(tmp_path, test_split="tset")
    assert "data.subset='x' is for data sets on the hub" in refused(tmp_path, subset="x")
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": -1}\n')
    assert "test split, row 0: the label -1 is none of 0, 1; is the split published without labels?" in refused(
        tmp_path
    )
    (tmp_path / "test.jsonl").write_text('{"text": "a", "label": 1}\n{"text": \n')
    assert "test.jsonl, line 2" in refused(tmp_path)
    (tmp_path / "test.jsonl").write_text("")
    assert "test.jsonl is empty" in refused(tmp_path)
    (tmp_path / "test.jsonl").unlink()
    (tmp_path / "test.csv").write_text("text,label\na,1\nb,0,7\n")
    assert "test.csv cannot be read" in refused(tmp_path)
    (tmp_path / "test.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    assert "split 'test', row 0: the column 'text' holds no text in UTF-8" in refused(tmp_path)
    (tmp_path / "test.csv").unlink()
    write(tmp_path, {"a": "x", "b": "y"}, {"a": "x", "b": "y"})
    assert "which column is it?" in refused(tmp_path)


def test_folders_that_are_none(tmp_path):
    assert "is not a folder" in refused(tmp_path / "nowhere")
    assert "holds no tables" in refused(tmp_path)
    (tmp_path / "state.json").write_text("{}")
    assert "cannot be read" in refused(tmp_path)


def test_a_copy_in_the_folder_of_data_sets_comes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    (tmp_path / "hf" / "mine").mkdir(parents=True)
    write(tmp_path / "hf" / "mine", *({"text": f"a {i}", "label": i % 2} for i in range(80)))
    assert sum(sizes(hf.load(hf.Config(dataset="mine", least=1), tmp_path))) == 80


def test_the_hub_is_asked_and_what_it_says_is_one_line(tmp_path, monkeypatch):
    def unreachable(name, subset, *, revision):
        assert (name, subset, revision) == ("some/set", "de", "main")
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    message = refused("some/set", subset="de", revision="main")
    assert "'some/set' could not be had from the Hugging Face hub (no route to host)" in message
    assert "hf:FOLDER" in message
    table = datasets.DatasetDict(train=datasets.Dataset.from_dict(TEXTS))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    assert load("some/set", revision="abc").facts["source"] == "hf:some/set@abc"


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'paribus[hf]'" in refused("some/set")
