"""WikiText-2: 2 million words of Wikipedia, 33,278 different ones (Merity et al. 2017, section 4 and table 1)."""

import dataclasses
from pathlib import Path

from train.data import wikitext
from train.data.task import Task
from train.data.word_benchmarks import Counts, WordsConfig

FILES = (
    wikitext.archive(
        "wikitext-2",
        size=4_475_746,
        sha256="92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
    ),
)

_COUNTS = Counts(train=2_088_628, validation=217_646, test=245_569)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(WordsConfig):
    """WikiText-2, by words unless ``tokens`` says otherwise."""


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of predicting the next word.

    Raises:
        BadInput: the files are not the published ones, or cannot be had.
    """
    return wikitext.load("wikitext2", "wikitext-2", FILES[0], _COUNTS, config=config, data_dir=data_dir)
