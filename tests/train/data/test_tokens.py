"""Tokenisations against plain ones: nothing is lost, lengths add up, and byte pairs are merged as the paper says."""

import collections
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from train.data import tokens
from train.data.tokens import BytePairs, Bytes, Words

VERSE = "To be, or not to be: that is the question;\nwhether 'tis nobler in the mind — to suffer\n\n  the slings…\n"


@given(st.text())
@example("")
@example("é½\U0001f600")
def test_bytes_are_those_of_utf8(text):
    made = Bytes()
    encoded = made.encode(text)
    assert encoded.tobytes() == text.encode()
    assert made.decode(encoded) == text
    lengths = made.lengths(text, encoded)
    assert int(lengths["characters"].sum()) == len(text)
    np.testing.assert_array_equal(encoded, made.encode(text.encode()))


def plain_words(text):
    """The words of a text with ``<eos>``, by reading it as a file is read."""
    return [word for line in re.findall("[^\n]*\n|[^\n]+", text) for word in [*line.split(), "<eos>"]]


@given(train=st.text("ab \n\t", min_size=1), other=st.text("abc \n\t\u3000"), least=st.integers(1, 3))
@example(train="a <unk> <eos> b b", other="<unk> b", least=1)
def test_words_against_plain_ones(train, other, least):
    counts = collections.Counter(plain_words(train))
    known = sorted((w for w in counts if counts[w] >= least and w[0] != "<"), key=lambda word: (-counts[word], word))
    made = Words(train, least=least, most=None)
    assert made.words == ("<unk>", "<eos>", *known)
    expected = [word if word in made.words else "<unk>" for word in plain_words(other)]
    encoded = made.encode(other)
    assert encoded.dtype == np.int32
    assert [made.words[token] for token in encoded] == expected
    # What the tokens spell is the text with one space between words.
    spelled = "".join(" ".join(line.split()) + "\n" for line in re.findall("[^\n]*\n|[^\n]+", other))
    lengths = made.lengths(other, encoded)
    assert int(lengths["characters"].sum()) == len(spelled)
    assert int(lengths["bytes"].sum()) == len(spelled.encode())
    assert all(array.shape == encoded.shape for array in lengths.values())
    if "<unk>" not in expected:
        assert made.decode(encoded) == spelled


def test_a_vocabulary_of_words_can_be_cut_to_the_commonest():
    made = Words("a a a b b c c d", least=1, most=4)
    assert made.words == ("<unk>", "<eos>", "a", "b")  # b before c, by alphabet
    assert made.encode("c a").tolist() == [0, 2, 1]


@pytest.fixture(scope="module")
def pairs():
    return BytePairs(VERSE * 3, size=300)


@settings(max_examples=50)
@given(st.text() | st.text("to be\n\t "))
@example("")
@example("é½\U0001f600 \x1c\x85\u3000 to\r\n\0")
def test_byte_pairs_lose_nothing_of_any_text(pairs, text):
    encoded = pairs.encode(text)
    assert encoded.dtype == np.int32
    assert pairs.decode(encoded) == text
    lengths = pairs.lengths(text, encoded)
    assert int(lengths["characters"].sum()) == len(text)
    assert int(lengths["bytes"].sum()) == len(text.encode())


@settings(max_examples=50)
@given(st.text(), st.integers(1, 5))
@example(" a  b \n\n c\u3000 \x1cd\n", 1)
def test_pieces_are_cut_where_no_token_crosses(pairs, text, size):
    pieces = list(tokens._pieces(text, size=size))
    assert "".join(pieces) == text
    apart = np.concatenate([np.zeros(0, np.int32), *map(pairs.encode, pieces)])
    np.testing.assert_array_equal(apart, pairs.encode(text))


def plain_merges(text, size):
    """Byte-pair encoding as Sennrich et al. 2016 write it, algorithm 1, over words with the space before them."""
    symbols = tokens._byte_symbols()
    spellings = [bytes([symbols[symbol]]) for symbol in sorted(symbols)]
    number = {spelling: token for token, spelling in enumerate(spellings)}
    counts = collections.Counter(re.findall(" ?[a-z]+|\n", text))
    words = {word: [number[bytes([byte])] for byte in word.encode()] for word in counts}
    while len(spellings) < size:
        found = collections.Counter()
        for word, parts in words.items():
            for pair in itertools.pairwise(parts):
                found[pair] += counts[word]
        best = min(found, key=lambda pair: (-found[pair], pair), default=None)  # ties: the lowest tokens
        if best is None or found[best] < 2:
            break
        for word, parts in words.items():
            merged, place = [], 0
            while place < len(parts):
                if tuple(parts[place : place + 2]) == best:
                    merged, place = [*merged, len(spellings)], place + 2
                else:
                    merged, place = [*merged, parts[place]], place + 1
            words[word] = merged
        spellings.append(spellings[best[0]] + spellings[best[1]])
    return spellings


@pytest.mark.parametrize("size", [256, 257, 290, 2000])
def test_byte_pairs_are_merged_as_the_paper_says(size):
    text = re.sub("[^a-z \n]", "", VERSE.lower()).replace("  ", " ").replace("\n ", "\n").replace(" \n", "\n") * 2
    made = BytePairs(text, size=size)
    assert made._spellings == plain_merges(text, size)
    assert made.size == len(made._spellings) <= size


def test_the_same_text_gives_the_same_merges_in_another_process_with_another_number_of_threads(pairs):
    program = (
        "import sys; from train.data.tokens import BytePairs; "
        "sys.stdout.write(repr(BytePairs(sys.stdin.buffer.read().decode() * 3, size=300)._spellings))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        input=VERSE.encode(),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "RAYON_NUM_THREADS": "1"},
    )
    assert told.stdout.decode() == repr(pairs._spellings)
