"""From text to tokens and back: words, characters, and byte-pair encoding. All are fitted on the texts they are given.

Tokens below ``len(specials)`` mean no text: padding, the unknown, and for targets begin and end.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from models.base import BadInput
from train.data.tokens import BytePairs

Kind = Literal["words", "characters", "bpe"]

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")  # noqa: RUF001


def words(text: str) -> list[str]:
    """The words and punctuation marks of a text; hyphens and apostrophes inside a word belong to it."""
    return _WORD.findall(text)


@runtime_checkable
class Vocabulary(Protocol):
    """What a text becomes, and how it comes back."""

    @property
    def size(self) -> int:
        """Number of tokens, the special ones included."""
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; no special one but that of the unknown."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of these tokens; special ones give nothing, but the unknown gives U+FFFD."""
        ...

    def normalised(self, text: str) -> str:
        """The text as :meth:`decode` would give it, if every part of it were known."""
        ...


class Pieces:
    """A vocabulary of whole words, or of characters: the most frequent pieces of the training texts.

    Args:
        texts: what it is fitted on: the training split and nothing else.
        cut: from a text to its pieces.
        between: what stands between two pieces when they are put together again.
        specials: number of special tokens; the unknown is the last of them.
        least: how often a piece must occur to have a token of its own.
        most: number of pieces at the most, the most frequent first, then in the order of code points.
    """

    def __init__(
        self,
        texts: Iterable[str],
        *,
        cut: Callable[[str], Sequence[str]],
        between: str,
        specials: int,
        least: int,
        most: int | None,
    ) -> None:
        counts = Counter(piece for text in texts for piece in cut(text))
        known = sorted((piece for piece in counts if counts[piece] >= least), key=lambda piece: (-counts[piece], piece))
        self.pieces = known[:most]
        self.size = len(self.pieces) + specials
        self._cut, self._between, self._specials = cut, between, specials
        self._tokens = {piece: number for number, piece in enumerate(self.pieces, specials)}

    def encode(self, text: str) -> list[int]:
        """The token of each piece."""
        return [self._tokens.get(piece, self._specials - 1) for piece in self._cut(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """The pieces put together."""
        known = [token for token in tokens if token >= self._specials - 1]
        return self._between.join(
            "\N{REPLACEMENT CHARACTER}" if token < self._specials else self.pieces[token - self._specials]
            for token in known
        )

    def normalised(self, text: str) -> str:
        """The text's own pieces put together."""
        return self._between.join(self._cut(text))


class Subwords:
    """A vocabulary of merged byte pairs (see :class:`train.data.tokens.BytePairs`): nothing is unknown.

    Args:
        texts: what the merges are learnt on: the training split and nothing else.
        specials: number of special tokens.
        most: number of tokens without the special ones, at least 256.

    Raises:
        BadInput: ``most`` is too small.
    """

    def __init__(self, texts: Iterable[str], *, specials: int, most: int) -> None:
        if most < 256:
            raise BadInput(f"vocabulary={most} must be at least 256 with tokens=bpe: that many bytes there are")
        self._pairs = BytePairs("\n".join(texts), size=most)
        self._specials = specials
        self.size = self._pairs.size + specials

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        return (self._pairs.encode(text) + self._specials).tolist()

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; bytes that are no UTF-8 give U+FFFD."""
        merged = [token - self._specials for token in tokens if token >= self._specials]
        return self._pairs.decode(np.array(merged, np.int32))

    def normalised(self, text: str) -> str:
        """The text itself."""
        return text


def fitted(kind: Kind, texts: Sequence[str], *, specials: int, least: int, most: int | None) -> Vocabulary:
    """The vocabulary of this kind that the training texts give.

    Raises:
        BadInput: nothing is left to tell apart: every text is made of one piece only.
    """
    if kind == "bpe":
        return Subwords(texts, specials=specials, most=8000 if most is None else most)
    cut, between = (words, " ") if kind == "words" else (list, "")
    vocabulary = Pieces(texts, cut=cut, between=between, specials=specials, least=least, most=most)
    if len(vocabulary.pieces) < 2:
        raise BadInput(
            f"the training split has {len(vocabulary.pieces)} different {kind} that occur {least} times or more; "
            "at least 2 are needed: more text, or a smaller data.least"
        )
    return vocabulary
