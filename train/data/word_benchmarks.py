"""Texts that are published as words, rare ones replaced by ``<unk>``: their splits, and what is known of them.

A word is what white space separates, a line's end is the word ``<eos>``, and ``<unk>`` in the text is the unknown.
Counts of words are published, and tell the word-level files from others of the same names.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from models.base import BadInput, Static
from train.data.files import File, Remote
from train.data.language import TextConfig, Texts, language_modelling
from train.data.task import Task
from train.data.text import text
from train.data.tokens import Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordsConfig(TextConfig):
    """What a text of words lets one choose; ``perplexity`` by words is what papers print."""

    tokens: Annotated[Kind, Static()] = "words"


class Counts(NamedTuple):
    """The published number of words in each split, ``<eos>`` at each line's end included."""

    train: int
    validation: int
    test: int


def task(
    name: str, files: Sequence[Remote], splits: Mapping[str, File], counts: Counts, *, config: WordsConfig
) -> Task:
    """The task of predicting the next word of a text in its published form.

    Args:
        name: of the data set.
        files: where they are published.
        splits: the files of ``train``, ``validation`` and ``test``.
        counts: what is published of them.
        config: how much of them is used, and how.

    Raises:
        BadInput: a file is not text, or is not the published one.
    """
    texts = Texts(**{split: text(file) for split, file in splits.items()})
    for split, content in texts._asdict().items():
        expected, found = getattr(counts, split), words(content)
        if found != expected:
            raise BadInput(
                f"{splits[split].origin} is not the published {split} text of {name}: it has {found:,} words and line "
                f"ends, not {expected:,}; get it from {files[0].urls[0]}, or read another text with data.name=text_file"
            )
    return language_modelling(name, files, texts, config=config, least=1, least_words=1)


def words(content: str) -> int:
    """The words of a text and its line ends."""
    return len(content.split()) + content.count("\n") + (not content.endswith("\n"))


def placed(name: str, filenames: Mapping[str, str], data_dir: Path | None) -> dict[str, Path] | None:
    """The user's own files of the splits in ``DATA_DIR/NAME``, or None where they are not all there."""
    if data_dir is None:
        return None
    paths = {split: data_dir / name / filename for split, filename in filenames.items()}
    return paths if all(path.is_file() for path in paths.values()) else None
