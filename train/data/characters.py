"""Tasks of predicting the next character of a text.

The vocabulary comes from the training split alone: one symbol for everything unknown, then the
characters that occur often enough there, in the order of their code points. An unknown character
counts as one character predicted, and its bits are those of the unknown symbol: bits per character
is then a lower bound for a model of the raw text, by less than (share of unknown characters) x
(bits to say which one); the record has the numbers of unknown characters.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt32

from models.base import BadInput, Configuration, Shapes, Static
from train.data.facts import facts
from train.data.files import Packaged, Remote
from train.data.task import Task, Test, Train, Validation

UNKNOWN = 0
"""The token of every character that is not in the vocabulary."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CharactersConfig(Configuration):
    """What every text of characters lets one choose.

    Attributes:
        context: characters that a model sees at once.
        train_characters: use only the first so many characters of the training split; None for all.
        evaluation_characters: use only the first so many of the validation split, and of the test
            split; None for all.
    """

    context: Annotated[int, Static(ge=1)] = 64
    train_characters: Annotated[int | None, Static(ge=2)] = None
    evaluation_characters: Annotated[int | None, Static(ge=2)] = None

    def validate(self) -> None:
        """A training window and the character behind it must fit into the training split."""
        if self.train_characters is not None and self.train_characters <= self.context:
            raise BadInput(f"train_characters={self.train_characters} must be greater than context={self.context}")


class Texts(NamedTuple):
    """The text of each split."""

    train: str
    validation: str
    test: str


class Vocabulary:
    """The characters that have a token of their own: those that occur ``least`` times or more in ``text``.

    Attributes:
        characters: the characters; the token of the i-th is i + 1.
        size: number of tokens, with the unknown one.
    """

    def __init__(self, text: str, *, least: int) -> None:
        counts = np.bincount(_code_points(text))
        known = np.flatnonzero(counts >= least)
        self.characters = "".join(map(chr, known))
        self.size = known.size + 1
        self._tokens = np.full(counts.size + 1, UNKNOWN, np.int32)  # the last place is for whatever lies beyond
        self._tokens[known] = np.arange(1, self.size)

    def encode(self, text: str) -> Int32[np.ndarray, " characters"]:
        """The token of each character."""
        return self._tokens[np.minimum(_code_points(text), self._tokens.size - 1)]

    def decode(self, tokens: Int32[np.ndarray, " characters"]) -> str:
        """The characters of these tokens, with U+FFFD for the unknown."""
        characters = "\N{REPLACEMENT CHARACTER}" + self.characters  # not NumPy's strings, which drop a NUL
        return "".join(characters[token] for token in tokens.tolist())


def language_modelling(
    name: str, files: Sequence[Remote | Packaged], texts: Texts, *, config: CharactersConfig, least: int
) -> Task:
    """The task of predicting each character of a text from those before it.

    Args:
        name: of the data set.
        files: where the text comes from.
        texts: the splits in full.
        config: how much of them is used, and the context.
        least: how often a character must occur in the training text that is used to have its own token.

    Raises:
        BadInput: more characters are asked for than a split has, or the training split is too short.
    """
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.sampling import Windows

    used = Texts(
        _first(texts.train, config.train_characters, "train_characters", "training"),
        _first(texts.validation, config.evaluation_characters, "evaluation_characters", "validation"),
        _first(texts.test, config.evaluation_characters, "evaluation_characters", "test"),
    )
    vocabulary = Vocabulary(used.train, least=least)
    splits = {split: {"tokens": vocabulary.encode(text)} for split, text in used._asdict().items()}
    sizes: dict[str, int] = {"vocabulary": vocabulary.size, "context": config.context}
    for split, arrays in splits.items():
        sizes[f"{split}_characters"] = arrays["tokens"].size
        sizes[f"{split}_characters_available"] = len(getattr(texts, split))
        sizes[f"{split}_characters_unknown"] = int(np.sum(arrays["tokens"] == UNKNOWN))
    return Task(
        name=name,
        shapes=Shapes(
            inputs=(config.context,),
            vocabulary=vocabulary.size,
            outputs=vocabulary.size,
            per_position=True,
            causal=True,
        ),
        objective=objectives.language_modelling("character"),
        sampler=Windows(config.context),
        train=Train(splits["train"]),
        validation=Validation(splits["validation"]),
        test=Test(splits["test"]),
        facts=facts(files, sizes=sizes, splits=splits),
    )


def _first(text: str, limit: int | None, field: str, split: str) -> str:
    if limit is not None and limit > len(text):
        raise BadInput(f"{field}={limit} must be at most {len(text)}, the characters of the {split} split")
    return text[:limit]


def _code_points(text: str) -> UInt32[np.ndarray, " characters"]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
