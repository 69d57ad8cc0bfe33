"""The Large Movie Review Dataset: 50,000 reviews, negative or positive (Maas et al. 2011).

25,000 train and 25,000 test, of different films, as published; the 50,000 reviews without a class are not
used. No validation split is published. Here it is cut from the training reviews by film, so that no film
is in two splits: the films whose sha256 (of the film's address in the published list, first four bytes,
big-endian) is 0 modulo 10.
"""

import dataclasses
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from models.base import BadInput, Static
from train.data.files import File, Remote
from train.data.lines import lines
from train.data.registry import obtain
from train.data.sentences import SentencesConfig, Text, classification, share
from train.data.task import Task
from train.data.text import text
from train.data.vocabularies import words

FILES = (
    Remote(
        filename="aclImdb_v1.tar.gz",
        urls=("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",),
        sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        size=84_125_825,
        licence="none stated; cite Maas et al. 2011",
        archive=True,
    ),
)

CLASSES = ("negative", "positive")

_FOLDERS = {"neg": 0, "pos": 1}
_REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos)/(\d+)_(\d+)\.txt")
_FILMS = re.compile(r"aclImdb/train/urls_(neg|pos)\.txt")
_BREAK = re.compile(r"<br\s*/?>")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SentencesConfig):
    """Reviews of films, negative or positive."""

    length: Annotated[int, Static(ge=1)] = 400
    vocabulary: Annotated[int | None, Static(ge=2)] = 20_000


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of telling whether a review is negative or positive.

    Raises:
        BadInput: the archive is broken, or is nowhere and cannot be downloaded.
    """
    splits = reviews(obtain(FILES[0], "imdb", data_dir))
    return classification("imdb", FILES, splits, classes=CLASSES, config=config)


def reviews(archive: File) -> dict[str, list[Text]]:
    """The reviews of each split, cut into words, in lower case.

    Raises:
        BadInput: it is no such archive, or it is cut short, or a review is not as it should be.
    """
    found: dict[tuple[str, str], dict[int, Text]] = {}
    films: dict[str, list[str]] = {}
    for name, file in _members(archive):
        if match := _FILMS.fullmatch(name):
            films[match[1]] = lines(file)
        elif match := _REVIEW.fullmatch(name):
            review = words(_BREAK.sub(" ", text(file)).lower())
            if not review:
                raise BadInput(f"{file.origin} has no words")
            found.setdefault((match[1], match[2]), {})[int(match[3])] = Text(review, _FOLDERS[match[2]])
    for split in ("train", "test"):
        for folder in _FOLDERS:
            if (split, folder) not in found:
                raise BadInput(f"{archive.origin} has no reviews aclImdb/{split}/{folder}/NUMBER_STARS.txt")
    result: dict[str, list[Text]] = {"train": [], "validation": [], "test": []}
    for folder in _FOLDERS:
        result["test"] += [review for _, review in sorted(found["test", folder].items())]
        for number, review in sorted(found["train", folder].items()):
            result[_split(archive, films, folder, number)].append(review)
    return result


def _split(archive: File, films: Mapping[str, list[str]], folder: str, number: int) -> str:
    """The split of a training review, by its film: line n of the list (from 0) is that of review n."""
    if number >= len(films.get(folder, [])):
        raise BadInput(f"{archive.origin}: aclImdb/train/urls_{folder}.txt has no line for review {number}")
    return "validation" if share(films[folder][number], 10) == 0 else "train"


def _members(archive: File) -> Iterator[tuple[str, File]]:
    """The members that are wanted, read out of the archive in memory; nothing is written to the disk."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.content), mode="r:*") as tar:
            for member in tar:
                wanted = _REVIEW.fullmatch(member.name) or _FILMS.fullmatch(member.name)
                content = tar.extractfile(member) if wanted else None
                if content is not None:
                    yield member.name, File(f"{archive.origin}:{member.name}", content.read())
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BadInput(f"{archive.origin} is corrupt or cut short: {error}; get the file again") from None
