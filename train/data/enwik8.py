"""enwik8: the first 100,000,000 bytes of the English Wikipedia of 3 March 2006, as XML (Mahoney, Hutter Prize).

By default the tokens are bytes, and ``bits_per_byte`` is what papers call its "bpc"; there are 205
different bytes, but the vocabulary has all 256, since nothing may be fitted to the held-out text. The
split is the standard one (Mahoney; Graves 2013; Al-Rfou et al. 2019): 90, 5 and 5 million bytes.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

from models.base import BadInput, Static
from train.data import large_text
from train.data.language import language_modelling
from train.data.task import Task
from train.data.tokens import Kind

_PUBLISHED = large_text.large_text(
    "enwik8",
    zip_size=36_445_475,
    zip_sha256="547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
    sha256="2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
)
FILES = (_PUBLISHED.archive,)

_BEGINNING = b"<mediawiki "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(large_text.LargeTextConfig):
    """Wikipedia as XML, by bytes unless ``tokens`` says otherwise."""

    tokens: Annotated[Kind, Static()] = "bytes"


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of predicting the next byte.

    Raises:
        BadInput: the file is broken, is only a part that is not called one, or cannot be had.
    """
    file = large_text.content("enwik8", _PUBLISHED, config, data_dir)
    if not file.content.startswith(_BEGINNING):
        raise BadInput(
            f"{file.origin} is not enwik8: its first bytes are {file.content[: len(_BEGINNING)]!r}, not {_BEGINNING!r}"
        )
    return language_modelling(
        "enwik8",
        FILES,
        large_text.split(file, characters=config.tokens != "bytes"),
        config=config,
        least=1,
        notes=large_text.notes("enwik8", file, _PUBLISHED),
    )
