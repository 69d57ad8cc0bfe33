"""Sentences of the Tatoeba project with their translations, in the form that manythings.org/anki gives out.

Place the file ``deu.txt`` (or another language's) out of ``deu-eng.zip`` in ``DATA_DIR/tatoeba``. A line is an English
sentence, a tab, its translation, and mostly a tab and who wrote them. The files grow with time, so no digest
can be published: the record has that of what was read. Many sentences have several translations; no sentence, of
either language, is in two splits (see :func:`train.data.pairs.split_by_digest`).
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated, Literal

from models.base import BadInput, Static
from train.data.files import File, Packaged, Remote
from train.data.lines import lines, own
from train.data.pairs import BleuTokenizer, PairsConfig, SentencePair, split_by_digest, translation
from train.data.task import Task

FILES: tuple[Remote | Packaged, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(PairsConfig):
    """Sentences of Tatoeba, or any file of tab-separated pairs.

    Attributes:
        path: the file, below the folder of data sets, or else as it is given.
        direction: from the first column to the second, or from the second to the first.
        bleu_tokenizer: how sacrebleu cuts words; ``char`` or ``zh`` for languages without spaces.
    """

    path: Annotated[str, Static()] = "tatoeba/deu.txt"
    direction: Annotated[Literal["first_to_second", "second_to_first"], Static()] = "first_to_second"
    bleu_tokenizer: Annotated[BleuTokenizer, Static()] = "13a"


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of translating a sentence.

    Raises:
        BadInput: the file is absent or not of the form.
    """
    file = own(config.path, data_dir, field="path")
    found = pairs(file)
    if config.direction == "second_to_first":
        found = [SentencePair(pair.target, pair.source) for pair in found]
    origin = {
        "source": f"https://www.manythings.org/anki/ ({config.path})",
        "licence": "CC BY 2.0 FR (Tatoeba)",
        "file_sha256": hashlib.sha256(file.content).hexdigest(),
    }
    return translation(
        "tatoeba",
        FILES,
        split_by_digest(found),
        config=config,
        bleu_tokenizer=config.bleu_tokenizer,
        extra=origin,
    )


def pairs(file: File) -> list[SentencePair]:
    """The pairs of a file, the first column as the source. What stands behind the second column is passed over.

    Raises:
        BadInput: a line has no two sentences.
    """
    result = []
    for row, line in enumerate(lines(file), 1):
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) < 2 or not all(parts[:2]):
            raise BadInput(
                f"{file.origin}, row {row}: expected a sentence, a tab and its translation, found {line[:40]!r}"
            )
        result.append(SentencePair(parts[0], parts[1]))
    return result
