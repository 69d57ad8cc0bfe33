"""WikiText-103: 103 million words of Wikipedia, 267,735 different ones (Merity et al. 2017, section 4 and table 1)."""

import dataclasses
from pathlib import Path

from train.data import wikitext
from train.data.task import Task
from train.data.word_benchmarks import Counts, WordsConfig

FILES = (
    wikitext.archive(
        "wikitext-103",
        size=190_229_076,
        sha256="242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
    ),
)

_COUNTS = Counts(train=103_227_021, validation=217_646, test=245_569)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WordsConfig):
    """WikiText-103, by words unless ``tokens`` says otherwise."""


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of predicting the next word.

    Raises:
        BadInput: the files are not the published ones, or cannot be had.
    """
    return wikitext.load("wikitext103", "wikitext-103", FILES[0], _COUNTS, config=config, data_dir=data_dir)
