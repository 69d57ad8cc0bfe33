"""What a text is cut into: characters, bytes, words, or pairs of bytes merged again and again.

Whatever is fitted, is fitted to the training text that is used, and to nothing else. Losses of
different tokens cannot be compared, but bits per character (or byte) of the underlying text can: each
tokeniser says how many characters and bytes each of its tokens spells.
"""

import collections
import itertools
import re
from collections.abc import Iterator
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Integer, UInt8

from train.data.characters import UNKNOWN

Kind = Literal["characters", "bytes", "words", "bpe"]
"""The tokenisations that there are."""

Tokens = Integer[np.ndarray, " tokens"]


@runtime_checkable
class Tokeniser(Protocol):
    """A fitted tokenisation.

    Attributes:
        unit: what a token is; names the metric ``bits_per_<unit>``.
        spelled: what else bits are counted by, as ``character``; :meth:`lengths` has an array for each.
        unknown: the token of whatever is not in the vocabulary; None where nothing can be.
        size: number of different tokens.
    """

    unit: str
    spelled: tuple[str, ...]
    unknown: int | None
    size: int

    def encode(self, text: Any) -> Tokens:
        """The tokens of a text (of bytes in UTF-8, where the tokens are bytes)."""
        ...

    def decode(self, tokens: Tokens) -> str:
        """The text of some tokens, as well as they tell."""
        ...

    def lengths(self, text: Any, tokens: Tokens) -> dict[str, np.ndarray]:
        """How many ``characters`` and ``bytes`` each of the tokens of ``text`` spells, unsigned integers."""
        ...


class Bytes:
    """The bytes of the text in UTF-8: 256 tokens, and nothing is fitted."""

    unit = "byte"
    spelled: tuple[str, ...] = ("character",)
    unknown: int | None = None
    size = 256

    def encode(self, text: str | bytes) -> UInt8[np.ndarray, " bytes"]:
        """The bytes."""
        return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)

    def decode(self, tokens: Tokens) -> str:
        """The characters that these bytes spell, with U+FFFD for those that are cut."""
        return tokens.astype(np.uint8).tobytes().decode("utf-8", errors="replace")

    def lengths(self, text: str | bytes, tokens: Tokens) -> dict[str, np.ndarray]:
        """A character is counted where its first byte is."""
        del text
        return {"characters": begins_character(tokens).astype(np.uint8)}


def begins_character(tokens: Tokens) -> np.ndarray:
    """Whether each of these bytes is the first one of a character of UTF-8."""
    return (tokens & 0xC0) != 0x80


UNKNOWN_WORD, END_OF_LINE = "<unk>", "<eos>"


class Words:
    """What white space separates, and ``<eos>`` at each line's end, as in the published Penn Treebank and WikiText.

    A word that the vocabulary lacks becomes ``<unk>``: its bits are those of that symbol, so bits per
    character are a lower bound. A token spells its word and the one space before it, ``<eos>`` the
    line's end: runs of white space count as one.

    Args:
        text: what the vocabulary is taken from.
        least: how often a word must occur there to have its own token.
        most: tokens at the most, the commonest words first; None for all.

    Attributes:
        words: by token: ``<unk>``, ``<eos>``, then words from the commonest on (ties by alphabet).
    """

    unit = "word"
    spelled: tuple[str, ...] = ("character", "byte")
    unknown: int | None = UNKNOWN

    def __init__(self, text: str, *, least: int, most: int | None) -> None:
        counts = collections.Counter(itertools.chain.from_iterable(map(str.split, _lines(text))))
        for symbol in (UNKNOWN_WORD, END_OF_LINE):
            counts.pop(symbol, None)
        known = sorted((-count, word) for word, count in counts.items() if count >= least)
        known = known[: None if most is None else most - 2]
        self.words = (UNKNOWN_WORD, END_OF_LINE, *(word for _, word in known))
        self.size = len(self.words)
        self._tokens = {word: token for token, word in enumerate(self.words)}

    def encode(self, text: str) -> Int32[np.ndarray, " tokens"]:
        """The token of each word and each line's end."""

        def tokens() -> Iterator[int]:
            for line in _lines(text):
                for word in line.split():
                    yield self._tokens.get(word, UNKNOWN)
                yield 1

        return np.fromiter(tokens(), np.int32)

    def decode(self, tokens: Tokens) -> str:
        """The words, one space between them, and line ends."""
        return re.sub(f" ?{END_OF_LINE} ?", "\n", " ".join(self.words[token] for token in tokens.tolist()))

    def lengths(self, text: str, tokens: Tokens) -> dict[str, np.ndarray]:
        """What each word spells, with the space before it; one for a line's end."""
        del tokens
        characters, spelled = [], []
        for line in _lines(text):
            for place, word in enumerate(line.split()):
                characters.append(len(word) + (place > 0))
                spelled.append(len(word.encode()) + (place > 0))
            characters.append(1)
            spelled.append(1)
        return {"characters": _small(characters), "bytes": _small(spelled)}


def _lines(text: str) -> list[str]:
    """The lines, without an empty one behind the last line end."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def _small(lengths: Any) -> np.ndarray:
    """Lengths in the smallest unsigned type that holds them."""
    lengths = np.asarray(lengths, np.int64)
    return lengths.astype(np.min_scalar_type(int(lengths.max(initial=0))))


def _byte_symbols() -> dict[str, int]:
    """The byte that each symbol of byte-level BPE stands for.

    Radford et al. 2019 (GPT-2, published code): the bytes that are printable in Latin-1 stand for themselves, the
    others, in order, for the characters from U+0100 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(256 + rank): byte for rank, byte in enumerate(others)}


class BytePairs:
    """Byte-level byte-pair encoding (Sennrich et al. 2016, section 3.2; on bytes: Radford et al. 2019, section 2.2).

    The first 256 tokens are the bytes, so that nothing is unknown and every text can be decoded. Then
    the commonest pair of neighbouring tokens becomes a token, over and over, within the pieces that
    GPT-2's pattern cuts a text into (words with the space before them, numbers, punctuation). Pairs
    that occur once are not merged: a short text gives fewer tokens than it was asked for. The
    merges are learnt anew at each start, which takes seconds and gives the same merges every time.

    Args:
        text: what the merges are learnt from.
        size: tokens at the most, at least 256.
    """

    unit = "token"
    spelled: tuple[str, ...] = ("character", "byte")
    unknown: int | None = None

    def __init__(self, text: str, *, size: int) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        self._model = Tokenizer(models.BPE())
        self._model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        self._model.train_from_iterator(_pieces(text), trainer=trainer)
        self.size = self._model.get_vocab_size()
        symbols = _byte_symbols()
        names = {token: name for name, token in self._model.get_vocab().items()}
        self._spellings = [bytes(symbols[symbol] for symbol in names[token]) for token in range(self.size)]

    def encode(self, text: str) -> Int32[np.ndarray, " tokens"]:
        """The tokens, piece by piece."""
        parts = [np.zeros(0, np.int32)]
        pieces = _pieces(text)
        while batch := list(itertools.islice(pieces, 64)):  # so that what the library builds of a text stays small
            parts += [np.asarray(piece.ids, np.int32) for piece in self._model.encode_batch_fast(batch)]
        return np.concatenate(parts)

    def decode(self, tokens: Tokens) -> str:
        """The characters that these tokens spell, with U+FFFD for those that are cut."""
        return b"".join(self._spellings[token] for token in tokens.tolist()).decode("utf-8", errors="replace")

    def lengths(self, text: str, tokens: Tokens) -> dict[str, np.ndarray]:
        """What each token spells; a character is counted where its first byte is."""
        del text
        begun = [int(begins_character(np.frombuffer(spelling, np.uint8)).sum()) for spelling in self._spellings]
        return {"characters": _small(begun)[tokens], "bytes": _small([len(s) for s in self._spellings])[tokens]}


# GPT-2's pattern never joins a character to white space behind it: a cut here changes no token. ASCII alone,
# since languages differ on what else is white space.
_CUT = re.compile(r"(?<=\S)[ \n]")


def _pieces(text: str, *, size: int = 2**16) -> Iterator[str]:
    """The text in pieces of ``size`` characters or a little more, cut where no token can cross."""
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + size)
        stop = cut.start() if cut else len(text)
        yield text[start:stop]
        start = stop
