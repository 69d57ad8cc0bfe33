"""The readers of pairs: Multi30k, numbers in words, Tatoeba, two files of one's own."""

import jax
import pytest

from models.base import BadInput
from train.data import aligned_files, multi30k, number_words, tatoeba
from train.data.files import File
from train.data.task import Batch, FinalEvaluation


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "fr")])
def test_multi30k_as_published(shared_data, source, target):
    config = multi30k.Config(source=source, target=target, train_examples=300)
    task = multi30k.load(config, shared_data)
    assert task.facts["train_examples_available"] == 29_000
    assert len(task.validation.references) == 1_014
    assert len(task.test.open_references(FinalEvaluation())) == 1_000
    assert task.facts["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert len(task.facts["source"].split()) == 6
    with pytest.raises(BadInput, match="must be two languages"):
        multi30k.Config(source="en")


def test_numbers_that_test_are_never_trained_on():
    task = number_words.load(number_words.Config(numbers=300), None)
    splits = {"train": task.train.arrays, "validation": task.validation.arrays}
    splits["test"] = task.test.open(FinalEvaluation())
    shown = {
        split: {
            task.show(Batch(jax.tree.map(lambda leaf, row=row: leaf[row], arrays["inputs"]), None, None))
            for row in range(len(arrays["targets"]))
        }
        for split, arrays in splits.items()
    }
    assert sum(map(len, shown.values())) == len(set().union(*shown.values())) == 300
    assert "fifty-one -> einundfünfzig" in set().union(*shown.values())
    assert task.decoding.metrics == ("exact_match",)
    assert [len(shown[split]) for split in ("validation", "test")] == [
        task.facts["validation_examples"],
        task.facts["test_examples"],
    ]
    assert min(map(len, shown.values())) > 10
    assert "bleu_signature" not in task.facts


def test_numbers_in_a_language_that_there_is_not():
    with pytest.raises(BadInput, match="unknown language of num2words 'klingon'"):
        number_words.load(number_words.Config(target="klingon", numbers=100), None)
    with pytest.raises(BadInput, match="must be two languages"):
        number_words.Config(source="de")


LINES = [(f"sentence {n} is here", f"Satz {n} ist hier") for n in range(60)]


def test_tatoeba(tmp_path):
    folder = tmp_path / "tatoeba"
    folder.mkdir()
    rows = [
        f"{source}\t{target}\tCC-BY 2.0 (France) Attribution: tatoeba.org #{n}"
        for n, (source, target) in enumerate(LINES)
    ]
    rows.append("sentence 3 is here\tSatz 3, der ist hier")
    (folder / "deu.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    task = tatoeba.load(tatoeba.Config(least=1), tmp_path)
    assert sum(task.facts[f"{split}_examples"] for split in ("train", "validation", "test")) == 61
    assert len(task.facts["file_sha256"]) == 64
    back = tatoeba.load(tatoeba.Config(least=1, direction="second_to_first"), tmp_path)
    assert back.test.open_references(FinalEvaluation())[0].startswith("sentence")
    with pytest.raises(
        BadInput, match=r"deu\.txt, row 2: expected a sentence, a tab and its translation, found 'alone'"
    ):
        tatoeba.pairs(File("deu.txt", b"a\tb\nalone\n"))
    with pytest.raises(BadInput, match=r"deu\.txt, row 1: expected"):
        tatoeba.pairs(File("deu.txt", b"a\t\tb\n"))


def aligned(tmp_path, source, target, **options):
    for name, content in (("one.en", source), ("one.de", target)):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    config = aligned_files.Config(source=str(tmp_path / "one.en"), target="one.de", least=1, **options)
    return aligned_files.load(config, tmp_path)


def test_aligned_files(tmp_path):
    texts = ["".join(f"{line[side]}\r\n" for line in LINES) for side in (0, 1)]
    task = aligned(tmp_path, *texts)
    assert sum(task.facts[f"{split}_examples"] for split in ("train", "validation", "test")) == 60
    held = {
        f"{split}_{side}": f"one.{'en' if side == 'source' else 'de'}"
        for split in ("validation", "test")
        for side in ("source", "target")
    }
    whole = aligned(tmp_path, *texts, **held)
    assert whole.facts["test_examples"] == whole.facts["train_examples"] == 60
    assert whole.facts["test_examples_in_train"] == 60  # and the record says so
    with pytest.raises(BadInput, match="go together"):
        aligned_files.Config(source="a", target="b", test_source="c")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("", "a\n", r"one\.en is empty"),
        ("a\nb\n", "a\n", r"one\.en has 2 lines and .*one\.de 1: line n of the one"),
        ("a\n\nc\n", "a\nb\nc\n", r"one\.en, row 2: the line is empty"),
        (b"a\n\xff\n", "a\nb\n", r"one\.en is not UTF-8: byte 2"),
        ("a\n", "b\n", "split of aligned_files is empty"),
    ],
)
def test_broken_aligned_files(tmp_path, source, target, message):
    with pytest.raises(BadInput, match=message) as caught:
        aligned(tmp_path, source, target)
    assert "\n" not in str(caught.value)


def test_aligned_files_that_are_not_named():
    with pytest.raises(BadInput, match=r"data\.source must name a file"):
        aligned_files.load(aligned_files.Config(), None)
