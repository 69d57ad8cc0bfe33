"""enwik8, text8, WikiText and Penn Treebank: readers and splits on small files in the exact form, and real bytes."""

import gzip
import hashlib
import io
import zipfile

import numpy as np
import pytest

from models.base import BadInput
from train.data import enwik8, large_text, ptb, text8, wikitext2, wikitext103
from train.data.task import FinalEvaluation
from train.data.word_benchmarks import Counts

XML = ("<mediawiki >\n" + "".join(f"<p>{n} é½ \U0001f600</p>\n" for n in range(200))).encode()[:2000]
WORDS = (b" anarchism originated as a term of abuse" * 60)[:2000]


def zip_of(**members):
    """The bytes of an archive: the same at any time of day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def published(name, content):
    """What is published of a text that has this content, which is not the 100,000,000 bytes of the real one."""
    archive = zip_of(**{name: content})
    made = large_text.large_text(
        name,
        zip_size=len(archive),
        zip_sha256=hashlib.sha256(archive).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    whole = type(made.whole)(**{**vars(made.whole), "size": len(content)})
    return made._replace(whole=whole), archive


@pytest.fixture
def small(monkeypatch):
    for module, content in ((enwik8, XML), (text8, WORDS)):
        monkeypatch.setattr(module, "_PUBLISHED", published(module.__name__.rpartition(".")[2], content)[0])


def place(folder, name, filename, content):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / filename).write_bytes(content)
    return folder


def joined(task):
    parts = (task.train.arrays, task.validation.arrays, task.test.open(FinalEvaluation()))
    return [part["tokens"] for part in parts]


def test_enwik8_is_split_by_bytes_however_it_is_packed(small, tmp_path, cache):
    packed = {"enwik8": XML, "enwik8.gz": gzip.compress(XML), "enwik8.zip": published("enwik8", XML)[1]}
    tasks = []
    for number, (filename, content) in enumerate(packed.items()):
        (tmp_path / str(number)).mkdir()
        tasks.append(enwik8.load(enwik8.Config(), place(tmp_path / str(number), "enwik8", filename, content)))
    (cache / "data/enwik8").mkdir(parents=True)
    (cache / "data/enwik8/enwik8.zip").write_bytes(packed["enwik8.zip"])
    tasks.append(enwik8.load(enwik8.Config(), None))
    for task in tasks:
        parts = joined(task)
        size = len(XML)
        assert [len(part) for part in parts] == [
            size * 90 // 100,
            size * 95 // 100 - size * 90 // 100,
            size - size * 95 // 100,
        ]
        assert np.concatenate(parts).astype(np.uint8).tobytes() == XML
        assert task.facts == tasks[0].facts
        assert task.facts["part"] == "whole"
        assert task.shapes.vocabulary == 256
    assert tasks[0].objective.metrics[:3] == ("loss", "bits_per_byte", "bits_per_character")


@pytest.mark.parametrize("size", [*range(2000, 1970, -1), 150])
def test_a_part_is_used_only_where_it_is_called_one(small, tmp_path, size):
    part = place(tmp_path, "enwik8", "enwik8-beginning.gz", gzip.compress(XML[:size]))
    if size < len(XML):
        words = rf"is not enwik8: it has {size:,} of {len(XML):,} bytes; .*--config\.data\.first_bytes={size}"
        with pytest.raises(BadInput, match=words):
            enwik8.load(enwik8.Config(), part)
    by_bytes, by_characters = (
        enwik8.load(enwik8.Config(first_bytes=size, tokens=tokens), part) for tokens in ("bytes", "characters")
    )
    assert np.concatenate(joined(by_bytes)).astype(np.uint8).tobytes() == XML[:size]
    # A character that is cut at the very end is left out where tokens are characters, and no other is lost.
    assert sum(map(len, joined(by_characters))) == len(XML[:size].decode(errors="ignore"))
    assert ("not comparable with published enwik8" in str(by_bytes.facts["part"])) == (size < len(XML))
    with pytest.raises(BadInput, match=rf"first_bytes=5000 must be at most {size:,}, the bytes of"):
        enwik8.load(enwik8.Config(first_bytes=5000), part)


def test_a_part_of_the_whole_is_the_part(small, tmp_path):
    (tmp_path / "other").mkdir()
    whole = enwik8.load(enwik8.Config(first_bytes=1000), place(tmp_path, "enwik8", "enwik8", XML))
    part = enwik8.load(enwik8.Config(first_bytes=1000), place(tmp_path / "other", "enwik8", "enwik8.1000", XML[:1000]))
    assert whole.facts == part.facts


@pytest.mark.parametrize(
    ("filename", "content", "words"),
    [
        ("enwik8", XML[:-1] + b"!", "enwik8 has the wrong content: expected .* bytes with sha256"),
        ("enwik8.zip", zip_of(other=XML), r"enwik8\.zip: unknown file in this archive 'enwik8'"),
        ("enwik8.zip", zip_of(enwik8=XML)[:-30], r"enwik8\.zip cannot be unpacked"),
        ("enwik8.gz", gzip.compress(XML)[:-9], r"enwik8\.gz is cut short"),
        ("enwik8", b"", "is not enwik8: it has 0 of"),
    ],
)
def test_a_wrong_enwik8_is_one_line(small, tmp_path, filename, content, words):
    with pytest.raises(BadInput, match=words) as error:
        enwik8.load(enwik8.Config(), place(tmp_path, "enwik8", filename, content))
    assert "\n" not in str(error.value)


def test_a_part_must_be_of_the_right_text_too(small, tmp_path):
    place(tmp_path, "enwik8", "enwik8", b"<html>" + XML)
    with pytest.raises(BadInput, match="is not enwik8: its first bytes are b'<html><medi'"):
        enwik8.load(enwik8.Config(first_bytes=500), tmp_path)
    place(tmp_path, "enwik8", "enwik8", XML[:600] + b"\xff" * 9 + XML)
    with pytest.raises(BadInput, match="enwik8 is not UTF-8: byte 600 is 0xff"):
        enwik8.load(enwik8.Config(first_bytes=800, tokens="characters"), tmp_path)
    place(tmp_path, "text8", "text8", WORDS[:600] + b"A" + WORDS)
    with pytest.raises(BadInput, match="text8 is not text8: byte 600 is 0x41, and there are only a to z and space"):
        text8.load(text8.Config(first_bytes=800), tmp_path)


def test_text8_has_letters_and_the_space(small, tmp_path):
    task = text8.load(text8.Config(), place(tmp_path, "text8", "text8.zip", published("text8", WORDS)[1]))
    letters = sorted(set(WORDS[: len(WORDS) * 9 // 10].decode()))
    assert task.shapes.vocabulary == len(letters) + 1
    assert "".join(letters[token - 1] for token in np.concatenate(joined(task))) == WORDS.decode()
    assert task.objective.metrics[:2] == ("loss", "bits_per_character")


def test_the_real_beginning_of_enwik8(shared_data):
    if not (shared_data / "enwik8").is_dir():
        pytest.skip(f"no enwik8 in {shared_data}")
    with pytest.raises(BadInput, match="it has 10,000,000 of 100,000,000 bytes"):
        enwik8.load(enwik8.Config(), shared_data)
    task = enwik8.load(enwik8.Config(first_bytes=10_000_000, context=512), shared_data)
    parts = joined(task)
    assert [part.size for part in parts] == [9_000_000, 500_000, 500_000]
    assert parts[0][:10].astype(np.uint8).tobytes() == b"<mediawiki"
    assert task.facts["part"] == "the first 10,000,000 of 100,000,000 bytes: not comparable with published enwik8"
    # 9,952,067 characters by Python's own decoder
    content = gzip.decompress(next((shared_data / "enwik8").glob("*.gz")).read_bytes())
    assert sum(task.facts[f"{s}_characters"] for s in ("train", "validation", "test")) == len(content.decode())


TREEBANK = {
    "ptb.train.txt": b" mr. <unk> is N years old \n mr. vinken is chairman \n",
    "ptb.valid.txt": b" mr. vinken is N \n",
    "ptb.test.txt": b" the chairman is <unk> \n",
}
WIKI = {
    "wiki.train.tokens": b" \n = Valkyria <unk> = \n \n The game @-@ play , of Valkyria . \n",
    "wiki.valid.tokens": b" \n = The game = \n",
    "wiki.test.tokens": b" \n = of <unk> = \n",
}


@pytest.fixture
def counts(monkeypatch):
    monkeypatch.setattr(ptb, "_COUNTS", Counts(train=12, validation=5, test=5))
    files = [
        type(remote)(**{**vars(remote), "sha256": hashlib.sha256(TREEBANK[remote.filename]).hexdigest()})
        for remote in ptb.FILES
    ]
    monkeypatch.setattr(ptb, "FILES", tuple(files))
    for module, title in ((wikitext2, "wikitext-2"), (wikitext103, "wikitext-103")):
        monkeypatch.setattr(module, "_COUNTS", Counts(train=16, validation=6, test=6))
        archive = zip_of(**{f"{title}/": "", **{f"{title}/{name}": content for name, content in WIKI.items()}})
        remote = module.FILES[0]
        changed = type(remote)(**{**vars(remote), "sha256": hashlib.sha256(archive).hexdigest()})
        monkeypatch.setattr(module, "FILES", (changed,))


def test_penn_treebank_in_its_published_form(counts, tmp_path):
    for filename, content in TREEBANK.items():
        place(tmp_path, "ptb", filename, content)
    task = ptb.load(ptb.Config(context=4), tmp_path)
    assert task.show(type("Batch", (), {"inputs": np.arange(9)})).split("\n") == [
        "<unk>",
        "is mr. N chairman old vinken years",
    ]
    assert task.shapes.vocabulary == 9
    train, validation, test = joined(task)
    assert train.tolist() == [3, 0, 2, 4, 8, 6, 1, 3, 7, 2, 5, 1]
    assert validation.tolist() == [3, 7, 2, 4, 1]
    assert test.tolist() == [0, 5, 2, 0, 1]
    assert task.facts["test_words_unknown"] == 2  # "the", and the published <unk>
    assert task.objective.metrics[:2] == ("loss", "bits_per_word")


@pytest.mark.parametrize("module", [wikitext2, wikitext103])
def test_wikitext_from_its_archive_and_unpacked(counts, tmp_path, module):
    name = module.__name__.rpartition(".")[2]
    title = name.replace("wikitext", "wikitext-")
    archive = zip_of(**{f"{title}/": "", **{f"{title}/{key}": content for key, content in WIKI.items()}})
    packed = module.load(module.Config(context=4), place(tmp_path, name, f"{title}-v1.zip", archive))
    (tmp_path / name / f"{title}-v1.zip").unlink()
    for filename, content in WIKI.items():
        place(tmp_path, name, filename, content)
    unpacked = module.load(module.Config(context=4), tmp_path)
    assert packed.facts == unpacked.facts
    assert packed.shapes.vocabulary == 11
    assert [part.size for part in joined(packed)] == [16, 6, 6]


def test_a_text_of_words_that_is_not_the_published_one_is_refused(counts, tmp_path):
    for filename, content in WIKI.items():
        place(tmp_path, "wikitext2", filename, content)
    place(tmp_path, "wikitext2", "wiki.test.tokens", WIKI["wiki.test.tokens"] + b" one more \n")
    with pytest.raises(
        BadInput, match=r"wiki\.test\.tokens is not the published test text of wikitext2: it has 9 .*, not 6;"
    ):
        wikitext2.load(wikitext2.Config(), tmp_path)
    for filename, content in TREEBANK.items():
        place(tmp_path, "ptb", filename, content)
    place(tmp_path, "ptb", "ptb.valid.txt", b"mr. vinken\n")
    with pytest.raises(BadInput, match=r"ptb\.valid\.txt has the wrong content"):
        ptb.load(ptb.Config(), tmp_path)
