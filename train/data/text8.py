"""text8: 100,000,000 characters of Wikipedia in 27 symbols, lower-case letters and the space (Mahoney).

It is what is left of the Wikipedia of enwik8 when markup is taken out and numbers are spelled. The split is the
standard one (Mikolov et al. 2012): 90, 5 and 5 million characters.
"""

import dataclasses
from pathlib import Path

import numpy as np

from models.base import BadInput
from train.data import large_text
from train.data.language import language_modelling
from train.data.task import Task

_PUBLISHED = large_text.large_text(
    "text8",
    zip_size=31_344_016,
    zip_sha256="a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
    sha256="6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7",
)
FILES = (_PUBLISHED.archive,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(large_text.LargeTextConfig):
    """Wikipedia's words, by characters unless ``tokens`` says otherwise."""


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of predicting the next character.

    Raises:
        BadInput: the file is broken, is only a part that is not called one, or cannot be had.
    """
    file = large_text.content("text8", _PUBLISHED, config, data_dir)
    symbols = np.frombuffer(file.content, np.uint8)
    strange = (symbols != ord(" ")) & ((symbols < ord("a")) | (symbols > ord("z")))
    if strange.any():
        place = int(strange.argmax())
        raise BadInput(
            f"{file.origin} is not text8: byte {place:,} is 0x{symbols[place]:02x}, and there are only a to z and space"
        )
    return language_modelling(
        "text8",
        FILES,
        large_text.split(file, characters=config.tokens != "bytes"),
        config=config,
        least=1,
        notes=large_text.notes("text8", file, _PUBLISHED),
    )
