"""Reader of word vectors in GloVe's text format (Pennington et al. 2014; nlp.stanford.edu/projects/glove).

A line is a word and its numbers, separated by one space. A first line of two integers (how many words,
how many numbers), as word2vec and fastText write it, is passed over.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from models.base import BadInput


def read(path: str, words: Sequence[str]) -> Float32[np.ndarray, "words features"]:
    """The vectors of these words; NaN for those that the file lacks. A word's first line counts.

    The file is read line by line, and only the lines of these words are turned into numbers.

    Raises:
        BadInput: the file cannot be read, a line that is wanted is not of the format, or it has none of the words.
    """
    numbers = {word.encode(): number for number, word in enumerate(words)}
    found: dict[int, np.ndarray] = {}
    features = 0
    try:
        with Path(path).expanduser().open("rb") as file:
            for row, line in enumerate(file, 1):
                parts = line.rstrip(b"\r\n").rstrip(b" ").split(b" ")
                if row == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
                    continue
                features = features or len(parts) - 1
                if features < 1:
                    raise BadInput(f"{path}, row {row}: expected a word and its numbers, separated by spaces")
                # A few words of the published files hold spaces themselves.
                number = numbers.get(b" ".join(parts[: max(1, len(parts) - features)]))
                if number is not None and number not in found:
                    found[number] = _numbers(parts, features, path, row)
    except OSError as error:
        raise BadInput(f"data.vectors={path!r} cannot be read: {error.strerror}") from None
    if not found:
        raise BadInput(
            f"{path} has none of the {len(words):,} words of the training split, such as {', '.join(words[:3])}; "
            "expected text: a word and its numbers in every line"
        )
    vectors = np.full((len(words), features), np.nan, np.float32)
    vectors[list(found)] = list(found.values())
    return vectors


def _numbers(parts: Sequence[bytes], features: int, path: str, row: int) -> Float32[np.ndarray, " features"]:
    try:
        vector = np.array([float(part) for part in parts[-features:]], np.float32)
    except ValueError:
        vector = np.full(features, np.nan, np.float32)
    if len(parts) <= features or not np.all(np.isfinite(vector)):
        raise BadInput(
            f"{path}, row {row}: expected a word and {features} finite numbers, as in the first row, found "
            f"{len(parts) - 1} values behind {parts[0].decode(errors='replace')!r}"
        )
    return vector
