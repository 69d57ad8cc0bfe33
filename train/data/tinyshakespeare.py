"""Tiny Shakespeare: 1,115,394 characters of the plays (Karpathy 2015, char-rnn).

nanoGPT trains on the first 90 per cent (1,003,854 characters) and validates on the rest. So that
nothing is chosen on what is reported, that rest is halved here: its first 55,770 characters
validate, its last 55,770 test. Validation losses are therefore near, but not those that nanoGPT prints.
"""

import dataclasses
from pathlib import Path

from train.data.files import Remote
from train.data.language import TextConfig, Texts, language_modelling
from train.data.registry import obtain
from train.data.task import Task
from train.data.text import text

FILES = (
    Remote(
        filename="input.txt",
        urls=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        size=1_115_394,
        licence="MIT (the repository); the plays are in the public domain",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TextConfig):
    """Shakespeare's plays, by characters unless ``tokens`` says otherwise."""


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of predicting the next character.

    Raises:
        BadInput: the file is broken, or is nowhere and cannot be downloaded.
    """
    plays = text(obtain(FILES[0], "tinyshakespeare", data_dir))
    return language_modelling("tinyshakespeare", FILES, split(plays), config=config, least=1)


def split(plays: str) -> Texts:
    """The first nine tenths, and the two halves of the last."""
    nine_tenths = int(len(plays) * 0.9)
    middle = nine_tenths + (len(plays) - nine_tenths) // 2
    return Texts(plays[:nine_tenths], plays[nine_tenths:middle], plays[middle:])
