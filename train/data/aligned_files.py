"""Two aligned text files of one's own: line n of the one is the translation of line n of the other.

    --config.data.name=aligned_files --config.data.source=talks.en --config.data.target=talks.de

Without files for validation and for the test, eight tenths of the pairs train, one validates, one tests (see
:func:`train.data.pairs.split_by_digest`): no sentence is in two splits.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

from models.base import BadInput, Static
from train.data.files import Packaged, Remote
from train.data.lines import lines, own
from train.data.pairs import BleuTokenizer, PairsConfig, SentencePair, split_by_digest, translation
from train.data.task import Task

FILES: tuple[Remote | Packaged, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(PairsConfig):
    """Two files of one's own.

    Attributes:
        source: the file to translate from, below the folder of data sets, or else as it is given.
        target: the file of the translations.
        validation_source: the sources that validate, where they are in a file of their own.
        validation_target: their translations.
        test_source: the sources that test, likewise.
        test_target: their translations.
        bleu_tokenizer: how sacrebleu cuts words; ``char`` or ``zh`` for languages without spaces.
    """

    source: Annotated[str, Static()] = ""
    target: Annotated[str, Static()] = ""
    validation_source: Annotated[str, Static()] = ""
    validation_target: Annotated[str, Static()] = ""
    test_source: Annotated[str, Static()] = ""
    test_target: Annotated[str, Static()] = ""
    bleu_tokenizer: Annotated[BleuTokenizer, Static()] = "13a"

    def validate(self) -> None:
        """Either all four files of the held-out splits are given, or none."""
        given = [bool(getattr(self, f"{split}_{side}")) for split in ("validation", "test") for side in _SIDES]
        if any(given) and not all(given):
            raise BadInput(
                "validation_source, validation_target, test_source and test_target go together: give all, or none"
            )


_SIDES = ("source", "target")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of translating a line.

    Raises:
        BadInput: a file is absent, the files have different numbers of lines, or a line is empty.
    """
    train = aligned(config, data_dir, "")
    if config.test_source:
        splits = {"train": train}
        splits |= {split: aligned(config, data_dir, f"{split}_") for split in ("validation", "test")}
    else:
        splits = split_by_digest(train)
    origin = {"source": f"{config.source} {config.target}", "licence": "the owner's"}
    return translation(
        "aligned_files", FILES, splits, config=config, bleu_tokenizer=config.bleu_tokenizer, extra=origin
    )


def aligned(config: Config, data_dir: Path | None, prefix: str) -> list[SentencePair]:
    """The pairs of two files, whose configuration fields begin with ``prefix``.

    Raises:
        BadInput: a file is absent, their numbers of lines differ, or a line is empty.
    """
    files = [own(getattr(config, prefix + side), data_dir, field=prefix + side) for side in _SIDES]
    texts = [lines(file) for file in files]
    if len(texts[0]) != len(texts[1]):
        raise BadInput(
            f"{files[0].origin} has {len(texts[0]):,} lines and {files[1].origin} {len(texts[1]):,}: line n of the one "
            "must be the translation of line n of the other"
        )
    for file, content in zip(files, texts, strict=True):
        for row, line in enumerate(content, 1):
            if not line.strip():
                raise BadInput(f"{file.origin}, row {row}: the line is empty; remove it from both files")
    return [SentencePair(source.strip(), target.strip()) for source, target in zip(*texts, strict=True)]
