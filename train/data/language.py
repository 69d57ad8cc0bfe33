"""Tasks of predicting the next token of a text: of any text, cut into tokens in any of four ways."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np

from models.base import BadInput, Configuration, Shapes, Static
from train.data.characters import Vocabulary
from train.data.facts import facts
from train.data.files import Packaged, Remote
from train.data.task import Task, Test, Train, Validation
from train.data.tokens import BytePairs, Bytes, Kind, Tokeniser, Tokens, Words, begins_character


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig(Configuration):
    """What every text lets one choose.

    Attributes:
        context: tokens that a model sees at once.
        stride: an evaluation moves its window on by so many tokens. Each window reads ``context - stride``
            tokens again, which give context and do not count, so that a token is predicted from at
            least so many (but for the first ones of the text); a stride of 1 is the slowest and gives each
            the whole context (Press et al. 2021, "Shortformer", section 3, on sliding windows).
            None: windows that do not overlap.
        tokens: characters, bytes (of UTF-8), words (what white space separates), or bpe: byte-pair
            encoding, learnt from the training text that is used.
        vocabulary: tokens at the most, for words (None: all that occur ``least`` times) and for bpe
            (None: 1,024; at least the 256 bytes).
        least: how often a character or a word must occur in the training text that is used to have
            its own token, else it shares the unknown one. None: what the data set holds right.
        train_characters: use only the first so many characters of the training split; None for all.
        evaluation_characters: use only the first so many of the validation split, and of the test
            split; None for all.
        by_position: report the loss early and late in a window, too (see ``train.objectives.language_modelling``);
            for windows of 16 tokens or more that do not overlap.
    """

    BPE_VOCABULARY: ClassVar[int] = 1024

    context: Annotated[int, Static(ge=1)] = 64
    stride: Annotated[int | None, Static(ge=1)] = None
    tokens: Annotated[Kind, Static()] = "characters"
    vocabulary: Annotated[int | None, Static(ge=3)] = None
    least: Annotated[int | None, Static(ge=1)] = None
    train_characters: Annotated[int | None, Static(ge=2)] = None
    evaluation_characters: Annotated[int | None, Static(ge=2)] = None
    by_position: Annotated[bool, Static()] = False

    def validate(self) -> None:
        """A training window and the token behind it must fit into the training split; nothing is given in vain."""
        if self.train_characters is not None and self.train_characters <= self.context:
            raise BadInput(f"train_characters={self.train_characters} must be greater than context={self.context}")
        if self.stride is not None and self.stride > self.context:
            raise BadInput(f"stride={self.stride} must be at most context={self.context}")
        if self.vocabulary is not None and self.tokens not in ("words", "bpe"):
            raise BadInput(f"vocabulary={self.vocabulary} needs tokens=words or tokens=bpe; tokens={self.tokens!r}")
        if self.vocabulary is not None and self.tokens == "bpe" and self.vocabulary < Bytes.size:
            raise BadInput(f"vocabulary={self.vocabulary} must be at least {Bytes.size}, the bytes, where tokens=bpe")
        if self.least is not None and self.tokens not in ("characters", "words"):
            raise BadInput(f"least={self.least} needs tokens=characters or tokens=words; tokens={self.tokens!r}")
        if self.by_position and (self.context < 16 or self.stride not in (None, self.context)):
            raise BadInput(
                f"by_position=true needs a context of at least 16 and windows that do not overlap; "
                f"context={self.context}, stride={self.stride}"
            )


class Texts(NamedTuple):
    """The text of each split; bytes of UTF-8 are possible where tokens are bytes."""

    train: str | bytes
    validation: str | bytes
    test: str | bytes


def language_modelling(
    name: str,
    files: Sequence[Remote | Packaged],
    texts: Texts,
    *,
    config: TextConfig,
    least: int,
    least_words: int = 2,
    notes: Mapping[str, str | int] | None = None,
) -> Task:
    """The task of predicting each token of a text from those before it.

    Args:
        name: of the data set.
        files: where the text comes from.
        texts: the splits in full.
        config: how much of them is used, how it is cut into tokens, and the context.
        least: how often a character must occur in the training text that is used to have its own
            token, where the config does not say it.
        least_words: the same for a word.
        notes: what else the record should say.

    Raises:
        BadInput: more characters are asked for than a split has, a split is too short, or the
            training text that is used has fewer than two different tokens.
    """
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.sampling import Windows

    used = Texts(
        _first(texts.train, config.train_characters, "train_characters", "training"),
        _first(texts.validation, config.evaluation_characters, "evaluation_characters", "validation"),
        _first(texts.test, config.evaluation_characters, "evaluation_characters", "test"),
    )
    tokeniser = fitted(used.train, config, least=least, least_words=least_words)
    encoded = {split: tokeniser.encode(text) for split, text in used._asdict().items()}
    if np.all(encoded["train"] == encoded["train"][:1]):
        raise BadInput(
            f"the training text of {name} has fewer than two different tokens, so there is nothing to predict: "
            "give it more text, or lower data.least"
        )
    splits: dict[str, dict[str, np.ndarray]] = {"train": {"tokens": _stored(encoded["train"])}}
    for split in ("validation", "test"):
        lengths = tokeniser.lengths(getattr(used, split), encoded[split])
        if encoded[split].size < 2 or not all(array[1:].any() for array in lengths.values()):
            raise BadInput(
                f"the {split} split of {name} is too short: {encoded[split].size} tokens, needed are 2 at least"
            )
        splits[split] = {"tokens": _stored(encoded[split]), **lengths}
    sizes = {"vocabulary": tokeniser.size, "context": config.context}
    sizes |= _sizes(texts, used, encoded, tokeniser)
    return Task(
        name=name,
        shapes=Shapes(
            inputs=(config.context,),
            vocabulary=tokeniser.size,
            outputs=tokeniser.size,
            per_position=True,
            causal=True,
        ),
        objective=objectives.language_modelling(
            tokeniser.unit, spelled=tokeniser.spelled, by_position=config.by_position
        ),
        sampler=Windows(config.context, config.stride),
        train=Train(splits["train"]),
        validation=Validation(splits["validation"]),
        test=Test(splits["test"]),
        facts=facts(files, sizes=sizes, splits=splits) | dict(notes or {}),
        show=lambda batch: tokeniser.decode(np.asarray(batch.inputs)),
        spell=(lambda token: tokeniser.decode(np.array([token], np.int32)),),
    )


def fitted(text: Any, config: TextConfig, *, least: int, least_words: int) -> Tokeniser:
    """The tokeniser that the config asks for, fitted to ``text``; see :func:`language_modelling`."""
    if config.tokens == "characters":
        return Vocabulary(text, least=config.least or least)
    if config.tokens == "words":
        return Words(text, least=config.least or least_words, most=config.vocabulary)
    if config.tokens == "bpe":
        return BytePairs(text, size=config.vocabulary or config.BPE_VOCABULARY)
    return Bytes()


def _first(text: Any, limit: int | None, field: str, split: str) -> Any:
    """The first ``limit`` characters of a text, which may be bytes."""
    if limit is None:
        return text
    if limit > (available := _count(text)):
        raise BadInput(f"{field}={limit} must be at most {available}, the characters of the {split} split")
    if isinstance(text, str) or limit == available:
        return text[:limit]
    return text[: int(np.flatnonzero(begins_character(np.frombuffer(text, np.uint8)))[limit])]


def _count(text: str | bytes) -> int:
    """The characters of a text, which may be bytes."""
    if isinstance(text, str):
        return len(text)
    return int(np.count_nonzero(begins_character(np.frombuffer(text, np.uint8))))


def _stored(tokens: Tokens) -> np.ndarray:
    """Tokens as the device keeps them: 32 bits, or the fewest that do where there are very many."""
    return tokens.astype(np.int32 if tokens.size <= 2**24 else np.min_scalar_type(int(tokens.max())))


def _sizes(texts: Texts, used: Texts, encoded: Mapping[str, Tokens], tokeniser: Tokeniser) -> dict[str, int]:
    """What there is to count in every split."""
    sizes: dict[str, int] = {}
    for split, tokens in encoded.items():
        sizes[f"{split}_characters"] = _count(getattr(used, split))
        sizes[f"{split}_characters_available"] = _count(getattr(texts, split))
        if tokeniser.unit != "character":
            sizes[f"{split}_tokens"] = tokens.size
        if tokeniser.unknown is not None:
            sizes[f"{split}_{tokeniser.unit}s_unknown"] = int(np.sum(tokens == tokeniser.unknown))
        if split != "train":
            sizes[f"{split}_lines_in_train"] = repeated_lines(used.train, getattr(used, split))
    return sizes


SHORTEST_LINE = 40
"""Lines that are shorter (headings, salutations) recur by chance: they do not count as repeated."""


def repeated_lines(train: Any, other: Any) -> int:
    """How many lines of ``other``, of 40 characters or bytes at least, are lines of ``train`` too."""
    end: Any = "\n" if isinstance(train, str) else b"\n"
    known = {line for line in train.split(end) if len(line) >= SHORTEST_LINE}
    return sum(line in known for line in other.split(end))
