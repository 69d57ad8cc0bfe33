"""A text of one's own: a file, or all files ``*.txt`` below a folder in the order of their paths.

    --config.data.name=text_file --config.data.path=notes.txt

The first part trains, what follows validates, the last part tests; the shares are set by fractions
of the characters. Files of a folder are joined with an empty line between them. Or each split has a path of
its own.
"""

import dataclasses
import difflib
import hashlib
from pathlib import Path
from typing import Annotated

from models.base import BadInput, Static
from train.data.files import File, Packaged, Remote, located, read
from train.data.language import TextConfig, Texts, language_modelling
from train.data.task import Task
from train.data.text import text

FILES: tuple[Remote | Packaged, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TextConfig):
    """Any text.

    Attributes:
        path: a file or a folder; looked for below ``--data_dir``, then as it is given.
        validation_path: the same for the validation split; then ``path`` is for training alone.
        test_path: the same for the test split; both or neither.
        encoding: of all files: utf-8, latin-1, utf-16, ... as Python names them.
        train_fraction: share of the characters that trains, where there is one path for all.
        validation_fraction: share that validates; the rest tests.
    """

    path: Annotated[str, Static()] = ""
    validation_path: Annotated[str, Static()] = ""
    test_path: Annotated[str, Static()] = ""
    encoding: Annotated[str, Static()] = "utf-8"
    train_fraction: Annotated[float, Static(gt=0, lt=1)] = 0.9
    validation_fraction: Annotated[float, Static(gt=0, lt=1)] = 0.05

    def validate(self) -> None:
        """Shares must leave something to test on; an encoding must exist; paths come for both held-out splits."""
        super().validate()
        if self.train_fraction + self.validation_fraction >= 1:
            raise BadInput(
                f"train_fraction={self.train_fraction} and validation_fraction={self.validation_fraction} "
                "must leave a share for the test split: their sum must be less than 1"
            )
        if bool(self.validation_path) != bool(self.test_path):
            raise BadInput("validation_path and test_path must both be given, or neither")
        try:
            "text".encode(self.encoding)
        except (LookupError, ValueError):  # a codec of Python that is no encoding of text is refused alike
            raise BadInput(
                f"encoding={self.encoding!r} must be one that Python knows, such as utf-8, utf-16, latin-1 or cp1252"
            ) from None


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of predicting the next token of the text.

    Raises:
        BadInput: no path is given, nothing is there, a file is empty or not in the encoding, or the
            text is too short.
    """
    if not config.path:
        raise BadInput("text_file needs the path of a file or folder: --config.data.path=PATH")
    if data_dir is not None and not data_dir.is_dir():
        raise BadInput(f"data_dir={str(data_dir)!r} is not a folder")
    paths = [path for path in (config.path, config.validation_path, config.test_path) if path]
    found = [read_texts(located(path, data_dir), config.encoding) for path in paths]
    texts = [joined for joined, _ in found]
    digest = hashlib.sha256(b"".join(hashlib.sha256(file.content).digest() for _, files in found for file in files))
    return language_modelling(
        "text_file",
        FILES,
        Texts(*texts) if len(texts) > 1 else split(texts[0], config),
        config=config,
        least=1,
        notes={
            "source": " ".join(paths),
            "licence": "the owner's",
            "files": sum(len(files) for _, files in found),
            "files_sha256": digest.hexdigest(),
        },
    )


def split(content: str, config: Config) -> Texts:
    """The first part of the characters, what follows, and the rest."""
    train = int(len(content) * config.train_fraction)
    validation = int(len(content) * (config.train_fraction + config.validation_fraction))
    return Texts(content[:train], content[train:validation], content[validation:])


def read_texts(place: Path, encoding: str) -> tuple[str, list[File]]:
    """The text of a file, or of a folder's files, and the files as they were read.

    Raises:
        BadInput: nothing is there, a folder has no file ``*.txt``, or a file is not text in this encoding.
    """
    if place.is_dir():
        paths = sorted((file for file in place.rglob("*.txt") if file.is_file()), key=lambda file: file.parts)
        if not paths:
            raise BadInput(f"the folder {place} has no file *.txt in it or below it: text is read from such files")
    elif place.exists():
        paths = [place]
    else:
        raise _absent(place)
    files = [read(file) for file in paths]
    advice = "save it as UTF-8, or name its encoding with --config.data.encoding=NAME"
    return "\n\n".join(text(file, encoding, advice=advice) for file in files), files


def _absent(place: Path) -> BadInput:
    """What to say of a path that is not there: the last folder of it that is, and the nearest names in it."""
    folder = next((parent for parent in place.parents if parent.is_dir()), Path())
    wanted = place.relative_to(folder).parts[0]
    names = sorted(entry.name for entry in folder.iterdir())
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.4)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return BadInput(f"data.path: {place} does not exist: {folder.resolve()} has no {wanted!r}{hint}")
