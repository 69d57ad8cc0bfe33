"""Lines of text files, and where a file of the user's own lies."""

from pathlib import Path

from models.base import BadInput
from train.data.files import File, located, read
from train.data.text import text


def lines(file: File) -> list[str]:
    """The lines of a file in UTF-8, without their ends; a byte order mark is no part of the first.

    Raises:
        BadInput: the file is empty or not UTF-8.
    """
    content = text(file).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    parts = content.split("\n")  # not splitlines, which also cuts at characters that stand inside sentences
    if not parts[-1]:
        parts.pop()
    return [part.removesuffix("\r") for part in parts]


def own(path: str, data_dir: Path | None, *, field: str) -> File:
    """A file of the user's own: below the folder of data sets, or else as the path is given.

    Args:
        path: from the configuration.
        data_dir: the user's folder of data sets, or None.
        field: name of the configuration's field, for messages.

    Raises:
        BadInput: no path is given, or the file is in neither place or cannot be read.
    """
    if not path:
        raise BadInput(f"data.{field} must name a file: --config.data.{field}=FILE")
    place = located(path, data_dir)
    if not place.exists():
        raise BadInput(f"data.{field}={path!r} is not there: looked for {place}")
    return read(place)
