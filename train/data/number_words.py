"""Numbers in words, from one language into another, without a download: the package num2words writes them.

    fifty-one -> einundfünfzig

Every number from 0 on is one pair. By the sha256 of the number (in decimal, first four bytes, big-endian),
modulo 10: 8 validates, 9 tests, the others train. So the numbers of the test were never seen, and a model that
translates them has learnt how numbers are made. A translation is right or wrong: the metric is the
share of exact matches.
"""

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Annotated

from models.base import BadInput, Static, unknown
from train.data.files import Packaged, Remote
from train.data.pairs import PairsConfig, SentencePair, translation
from train.data.sentences import tenths
from train.data.task import Task
from train.data.vocabularies import Kind

FILES: tuple[Remote | Packaged, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(PairsConfig):
    """Numbers in words.

    Attributes:
        source: the language to translate from, by its code in num2words.
        target: the language to translate into.
        numbers: how many numbers there are, from 0 on.
    """

    source: Annotated[str, Static()] = "en"
    target: Annotated[str, Static()] = "de"
    numbers: Annotated[int, Static(ge=100, le=1_000_000)] = 10_000
    tokens: Annotated[Kind, Static()] = "characters"
    least: Annotated[int, Static(ge=1)] = 1
    length: Annotated[int, Static(ge=1)] = 120

    def validate(self) -> None:
        """The languages must differ."""
        if self.source == self.target:
            raise BadInput(f"source={self.source} and target={self.target} must be two languages")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of translating a number. ``data_dir`` is not needed.

    Raises:
        BadInput: num2words does not know a language, or not all of the numbers in it.
    """
    del data_dir
    splits: dict[str, list[SentencePair]] = {"train": [], "validation": [], "test": []}
    spelled = [spell(language, config.numbers) for language in (config.source, config.target)]
    for number, pair in enumerate(zip(*spelled, strict=True)):
        splits[tenths(str(number))].append(SentencePair(*pair))
    origin = {
        "source": f"generated: num2words {importlib.metadata.version('num2words')}, {config.source} to {config.target}",
        "licence": "num2words: LGPL; numbers are nobody's",
    }
    return translation("number_words", FILES, splits, config=config, bleu_tokenizer=None, extra=origin)


def spell(language: str, count: int) -> list[str]:
    """The numbers below ``count`` in words of a language.

    Raises:
        BadInput: num2words does not know the language, or one of the numbers in it.
    """
    import num2words  # 0.1 s, which a list of the data sets need not wait for

    if language not in num2words.CONVERTER_CLASSES:
        raise unknown("language of num2words", language, num2words.CONVERTER_CLASSES)
    number = 0
    try:
        result = []
        for number in range(count):
            result.append(num2words.num2words(number, lang=language).strip())
    except (NotImplementedError, OverflowError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BadInput(
            f"num2words cannot spell {number} in language {language!r} ({error}); data.numbers must be at most {number}"
        ) from None
    return result
