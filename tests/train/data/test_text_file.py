"""A text of one's own: files and folders, encodings, and every way in which they can be wrong."""

import io
import zipfile

import numpy as np
import pytest

from models.base import BadInput
from train.data import text_file, zipped
from train.data.files import File
from train.data.task import FinalEvaluation

TEXT = "".join(f"line {number}: the quick brown fox — jumps over the lazy dog\n" for number in range(40))


def load(data_dir, path, **fields):
    return text_file.load(text_file.Config(path=str(path), context=8, **fields), data_dir)


def texts(task):
    parts = (task.train.arrays, task.validation.arrays, task.test.open(FinalEvaluation()))
    return [task.show(type("Batch", (), {"inputs": part["tokens"]})) for part in parts]


@pytest.mark.parametrize("tokens", ["characters", "bytes", "bpe"])
def test_a_file_is_split_by_its_characters(tmp_path, tokens):
    (tmp_path / "mine.log").write_text(TEXT, encoding="utf-8")
    task = load(tmp_path, "mine.log", tokens=tokens, train_fraction=0.8, validation_fraction=0.1)
    parts = texts(task)
    assert [len(part) for part in parts] == [task.facts[f"{s}_characters"] for s in ("train", "validation", "test")]
    assert len(parts[0]) == int(len(TEXT) * 0.8)
    assert len(parts[1]) == pytest.approx(len(TEXT) * 0.1, abs=1)
    assert "".join(parts) == TEXT
    assert task.facts["source"] == "mine.log"
    assert all(isinstance(fact, str | int | float) for fact in task.facts.values())


def test_paths_are_as_given_or_below_the_data_dir(tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text(TEXT, encoding="utf-8")
    there = load(tmp_path, "mine.txt").facts
    assert load(tmp_path / "..", tmp_path / "mine.txt").facts["fingerprint"] == there["fingerprint"]
    monkeypatch.chdir(tmp_path)
    assert load(None, "mine.txt").facts == there


def test_a_folder_is_its_text_files_in_the_order_of_their_paths(tmp_path):
    for name, content in (
        ("b.txt", TEXT),
        ("a/z.txt", "first\n"),
        ("notes.md", "no text file"),
        ("a/deep/er.txt", "é"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    task = load(tmp_path.parent, tmp_path.name)
    assert "".join(texts(task)) == f"é\n\nfirst\n\n\n{TEXT}"
    assert task.facts["files"] == 3
    (tmp_path / "notes.md").write_text("changed", encoding="utf-8")
    assert load(tmp_path.parent, tmp_path.name).facts == task.facts
    (tmp_path / "b.txt").write_text(TEXT.replace("quick", "quiet"), encoding="utf-8")
    changed = load(tmp_path.parent, tmp_path.name).facts
    assert changed["files_sha256"] != task.facts["files_sha256"]
    assert changed["fingerprint"] != task.facts["fingerprint"]


def test_each_split_may_have_its_own_path(tmp_path):
    for name, content in (("train", TEXT), ("valid", "the lazy fox"), ("test", "the quick dog")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    task = load(tmp_path, "train", validation_path="valid", test_path="test")
    assert texts(task) == [TEXT, "the lazy fox", "the quick dog"]
    with pytest.raises(BadInput, match="validation_path and test_path must both be given, or neither"):
        text_file.Config(path="train", test_path="test")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252"])
def test_other_encodings(tmp_path, encoding):
    (tmp_path / "t").write_bytes(TEXT.replace("—", "é").encode(encoding))
    (tmp_path / "u").write_bytes(TEXT.replace("—", "é").encode())
    one, two = load(tmp_path, "t", encoding=encoding), load(tmp_path, "u")
    np.testing.assert_array_equal(one.train.arrays["tokens"], two.train.arrays["tokens"])


@pytest.mark.parametrize(
    ("content", "fields", "words"),
    [
        (b"", {}, "t is empty: expected text in UTF-8"),
        (b"caf\xe9 au lait", {}, r"t is not UTF-8: byte 3 is 0xe9 .*--config\.data\.encoding=NAME"),
        (TEXT.encode()[:-20] + b"\xff", {}, r"t is not UTF-8: byte 2,\d\d\d is 0xff in line \d+ "),
        (b"one\ntwo\ncaf\xe9", {}, "byte 11 is 0xe9 in line 3 "),
        (TEXT.encode("utf-16-le"), {}, "t is not plain text: byte 1 is NUL"),
        (b"abc", {"encoding": "utf-16"}, "t is not UTF-16: byte 2 is 0x63"),
        (b"a", {}, "the training text of text_file has fewer than two different tokens"),
        (b"a" * 500, {}, "fewer than two different tokens"),
        (b"ab" * 5, {}, "the validation split of text_file is too short: 0 tokens"),
    ],
)
def test_a_file_that_is_no_such_text_is_one_line(tmp_path, content, fields, words):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(BadInput, match=words) as error:
        load(tmp_path, "t", **fields)
    assert "\n" not in str(error.value)


def test_a_wrong_file_in_a_folder_is_named(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"ab\xff")
    with pytest.raises(BadInput, match=r"b\.txt is not UTF-8: byte 2 is 0xff"):
        load(tmp_path.parent, tmp_path.name)


def test_a_path_that_is_not_there(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/goethe.txt").write_text(TEXT, encoding="utf-8")
    for path, words in (
        ("letters/goehte.txt", r"letters has no 'goehte\.txt'; nearest: goethe\.txt"),
        ("leters/goethe.txt", "has no 'leters'; nearest: letters"),
        ("letters/goethe.txt/deeper", r"has no 'goethe\.txt'|has no 'deeper'|not exist"),
    ):
        with pytest.raises(BadInput, match=words) as error:
            load(tmp_path, path)
        assert "\n" not in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"the folder .*empty has no file \*\.txt in it or below it"):
        load(tmp_path, "empty")
    with pytest.raises(BadInput, match=r"text_file needs the path .*--config\.data\.path=PATH"):
        text_file.load(text_file.Config(), tmp_path)
    with pytest.raises(BadInput, match="is not a folder"):
        load(tmp_path / "nowhere", "x")


def test_fields_that_cannot_be_meant():
    with pytest.raises(BadInput, match=r"train_fraction=0\.9 and validation_fraction=0\.1 must leave a share"):
        text_file.Config(path="x", validation_fraction=0.1)
    with pytest.raises(BadInput, match="encoding='utf-9' must be one that Python knows, such as utf-8"):
        text_file.Config(path="x", encoding="utf-9")


@pytest.mark.parametrize("encoding", ["hex", "rot13", "zlib", "undefined", "a\0b", ""])
def test_a_codec_that_is_no_encoding_of_text_is_refused(encoding):
    with pytest.raises(BadInput, match="must be one that Python knows"):
        text_file.Config(path="x", encoding=encoding)


def zip_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_file_in_a_zip():
    content = np.random.default_rng(0).integers(0, 50, 5000).astype(np.uint8).tobytes()
    archive = File("some.zip", zip_of(inside=content, other=b"x"))
    assert zipped.member(archive, "inside") == File("some.zip:inside", content)
    with pytest.raises(BadInput, match=r"some\.zip: unknown file in this archive 'insede'; did you mean 'inside'"):
        zipped.member(archive, "insede")


@pytest.mark.parametrize("position", range(40, 3000, 290))
def test_a_broken_zip_is_one_line(position):
    whole = zip_of(inside=np.random.default_rng(0).integers(0, 50, 5000).astype(np.uint8).tobytes())
    flipped = bytearray(whole)
    flipped[position] ^= 0xFF
    for content in (whole[:position], bytes(flipped), b"", b"<html>"):
        with pytest.raises(BadInput, match=r"some\.zip cannot be unpacked: .*; get the file again") as error:
            zipped.member(File("some.zip", content), "inside")
        assert "\n" not in str(error.value)
