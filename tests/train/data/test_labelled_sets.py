"""The readers of labelled texts: SST-2, IMDB, the presidents' messages, a table of one's own."""

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest

from models.base import BadInput
from train.data import imdb, labelled_text, passages, sentences, sotu_era, sotu_party, sst2
from train.data.files import File
from train.data.sentences import Text
from train.data.task import FinalEvaluation


def test_sst2_as_published(shared_data):
    task = sst2.load(sst2.Config(), shared_data)
    sizes = [task.facts[f"{split}_examples"] for split in ("train", "validation", "test")]
    assert sizes == [6920, 872, 1821]
    assert task.facts["train_most_frequent_class"] == 3610
    targets = task.test.open(FinalEvaluation())["targets"]
    assert (targets == 0).sum() == 912
    assert task.facts["test_examples_in_train"] == 2
    # each sentence of the file is there once, with its label
    rows = sst2.sentences(File("f", (shared_data / "sst2/stsa.binary.train").read_bytes()))
    assert int(task.train.arrays["inputs"].mask.sum()) == sum(len(row.words) for row in rows)
    assert json.loads(json.dumps(dict(task.facts))) == task.facts


@pytest.mark.parametrize("line", ["2 a film", "1", "a film", "1 ", "-1 film"])
def test_sst2_with_a_broken_line(line):
    with pytest.raises(BadInput, match=r"train, row 2: expected 0 or 1, a space and a sentence"):
        sst2.sentences(File("train", f"0 fine\n{line}\n".encode()))


def archive(reviews, films):
    """A tar.gz in the exact form of aclImdb_v1."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:

        def add(name, text):
            content = text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

        add("aclImdb/README", "read me")
        add("aclImdb/imdb.vocab", "the\nand")
        add("aclImdb/train/unsup/0_0.txt", "nobody knows")
        add("aclImdb/train/urls_unsup.txt", "http://www.imdb.com/title/tt0000000/usercomments\n")
        for name, text in reviews.items():
            add(f"aclImdb/{name}.txt", text)
        for folder, addresses in films.items():
            add(f"aclImdb/train/urls_{folder}.txt", "".join(f"{address}\n" for address in addresses))
    return buffer.getvalue()


FILMS = [f"http://www.imdb.com/title/tt{number:07d}/usercomments" for number in range(40)]
REVIEWS = {
    **{f"train/{folder}/{n}_{stars}": f"Film {n // 2}<br /><br />{word}!" for n in range(40)
       for folder, stars, word in (("neg", 2, "awful"), ("pos", 9, "great"))},
    **{f"test/{folder}/{n}_{stars}": f"{word}, I say" for n in range(3)
       for folder, stars, word in (("neg", 1, "bad"), ("pos", 10, "good"))},
}  # fmt: skip
BY_REVIEW = {folder: [FILMS[n // 2] for n in range(40)] for folder in ("neg", "pos")}


def test_imdb_out_of_its_archive():
    splits = imdb.reviews(File("aclImdb_v1.tar.gz", archive(REVIEWS, BY_REVIEW)))
    assert splits["test"][:1] == [Text(["bad", ",", "i", "say"], 0)]
    assert [text.label for text in splits["test"]] == [0, 0, 0, 1, 1, 1]
    assert len(splits["train"]) + len(splits["validation"]) == 80
    # a film's reviews, good and bad, are in one split
    films = {split: {text.words[1] for text in splits[split]} for split in ("train", "validation")}
    assert films["train"] & films["validation"] == set()
    held = {str(n) for n, address in enumerate(FILMS[:20]) if sentences.share(address, 10) == 0}
    assert films["validation"] == held
    assert held
    assert splits["train"][0].words[2:] == ["awful", "!"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "corrupt or cut short"),
        (archive(REVIEWS, BY_REVIEW)[:900], "corrupt or cut short"),
        (archive({"train/neg/0_1": "x"}, BY_REVIEW), "has no reviews aclImdb/train/pos/NUMBER_STARS.txt"),
        (archive(REVIEWS, {"neg": FILMS[:3], "pos": FILMS}), "urls_neg.txt has no line for review 3"),
        (archive({**REVIEWS, "test/pos/7_7": " "}, BY_REVIEW), "test/pos/7_7.txt has no words"),
    ],
    ids=["empty", "cut", "lacking", "films", "wordless"],
)
def test_broken_imdb(content, message):
    with pytest.raises(BadInput, match=message):
        imdb.reviews(File("aclImdb_v1.tar.gz", content))


@pytest.fixture(scope="module")
def messages():
    return passages.messages()


@pytest.mark.parametrize(("module", "label"), [(sotu_party, sotu_party.party), (sotu_era, sotu_era.era)])
def test_presidents_are_in_one_split(messages, module, label):
    classes = {}
    for message in messages:
        chosen = label(message)
        if chosen is not None:
            assert classes.setdefault(message.president, chosen) == chosen  # no president has two classes
    splits = passages.split_by_president(classes)
    for each in module.CLASSES:
        for split in ("train", "validation", "test"):
            assert any(splits[who] == split for who in classes if classes[who] == each)
    task = module.load(module.Config(), None)
    held = {split: set(str(task.facts[f"{split}_presidents"]).split(", ")) for split in ("validation", "test")}
    assert held["validation"] & held["test"] == set()
    words = sum(
        len(piece)
        for message in messages
        if message.president in held["test"] and label(message)
        for piece in passages.passages(message.words, 100)
    )
    assert task.facts["test_words"] == words
    assert task.facts["test_examples_in_train"] == 0


def test_messages_are_all_there(messages):
    assert len(messages) == 249
    assert len({message.president for message in messages}) == 43  # Cleveland and Trump, twice in office, are one each


def test_passages():
    assert passages.passages(list("abcdefgh"), 3) == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]
    assert passages.passages(list("abcdefg"), 3) == [["a", "b", "c"], ["d", "e", "f"]]
    with pytest.raises(ValueError, match="class 'x' has 2 presidents"):
        passages.split_by_president({"a": "x", "b": "x"})


ROWS = [(f"text {n}, {'fine' if n % 3 else 'poor'}", "up" if n % 3 else "down") for n in range(60)]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_labelled_texts_of_ones_own(tmp_path: Path, ending):
    path = tmp_path / f"mine.{ending}"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter="," if ending == "csv" else "\t")
        writer.writerows([("id", "text", "label"), *((n, *row) for n, row in enumerate(ROWS + ROWS[:9]))])
    task = labelled_text.load(labelled_text.Config(path=path.name, least=1), tmp_path)
    assert task.facts["class_names"] == "down, up"
    assert sum(task.facts[f"{split}_examples"] for split in ("train", "validation", "test")) == 69
    # equal texts are in one split
    assert task.facts["test_examples_in_train"] == task.facts["validation_examples_in_train"] == 0
    again = labelled_text.load(labelled_text.Config(path=str(path), least=1), None)
    assert again.facts["fingerprint"] == task.facts["fingerprint"]


def own(tmp_path, text, name="mine.csv", **options):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return labelled_text.load(labelled_text.Config(path=str(tmp_path / name), **options), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (b"text,label\ncaf\xe9,1\n", "is not UTF-8: byte 14"),
        ("txt,label\na,b\n", "unknown column of .*mine.csv 'text'; did you mean 'txt'"),
        ("text,label\na b,1\nc d\n", "row 3: expected 2 values as in the first row, found 1"),
        ("text,label\na b,1\nc d,1,1\n", "row 3: expected 2 values as in the first row, found 3"),
        ("text,label\na b,1\nc d,\n", "row 3: the label is missing"),
        ("text,label\n ,1\n", "row 2: the text has no words"),
        ('text,label\n"open,1\n', "row 2: unexpected end of data"),
        ("text,label\n", "at least 2 are needed"),
    ],
)
def test_broken_tables(tmp_path, text, message):
    with pytest.raises(BadInput, match=message) as caught:
        own(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_label_that_training_never_saw(tmp_path):
    (tmp_path / "held.csv").write_text("text,label\nfine thing,up\nodd thing,side\n")
    table = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS)
    held = str(tmp_path / "held.csv")
    with pytest.raises(BadInput, match=r"held\.csv, row 3: unknown label 'side'.* in the training texts"):
        own(tmp_path, table, validation_path=held, test_path=held)
    with pytest.raises(BadInput, match="go together"):
        labelled_text.Config(path="x", test_path=held)


def test_own_files_that_are_not_there(tmp_path):
    with pytest.raises(BadInput, match=r"data\.path must name a file: --config\.data\.path=FILE"):
        labelled_text.load(labelled_text.Config(), None)
    with pytest.raises(BadInput, match=r"data\.path='gone\.csv' is not there: looked for .*gone\.csv"):
        labelled_text.load(labelled_text.Config(path="gone.csv"), tmp_path)
