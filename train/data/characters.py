"""Characters as tokens.

The vocabulary comes from the training text alone: one symbol for everything unknown, then the
characters that occur often enough there, in the order of their code points. An unknown character
counts as one character predicted, and its bits are those of the unknown symbol: bits per character
is then a lower bound for a model of the raw text, by less than (share of unknown characters) x
(bits to say which one); the record has the numbers of unknown characters.
"""

import numpy as np
from jaxtyping import Int32, Integer, UInt32

UNKNOWN = 0
"""The token of every character that is not in the vocabulary."""


class Vocabulary:
    """The characters that have a token of their own: those that occur ``least`` times or more in ``text``.

    Attributes:
        characters: the characters; the token of the i-th is i + 1.
        size: number of tokens, with the unknown one.
    """

    unit = "character"
    spelled: tuple[str, ...] = ()
    unknown: int | None = UNKNOWN

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

    def decode(self, tokens: Integer[np.ndarray, " characters"]) -> str:
        """The characters of these tokens, with U+FFFD for the unknown."""
        characters = "\N{REPLACEMENT CHARACTER}" + self.characters  # not NumPy's strings, which drop a NUL
        return "".join(characters[token] for token in tokens.tolist())

    def lengths(self, text: str, tokens: Integer[np.ndarray, " characters"]) -> dict[str, np.ndarray]:
        """Nothing: a token is a character."""
        del text, tokens
        return {}


def _code_points(text: str) -> UInt32[np.ndarray, " characters"]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
