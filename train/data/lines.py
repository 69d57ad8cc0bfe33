"""Lines of text files, and where a file of the user's own lies."""

from pathlib import Path

from models.base import BadInput
from train.data.files import File, read
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
    """A file of the user's own: as the path is given, or else below the folder of data sets.

    Args:
        path: from the configuration.
        data_dir: the user's folder of data sets, or None.
        field: name of the configuration's field, for messages.

    Raises:
        BadInput: no path is given, or the file is in neither place or cannot be read.
    """
    if not path:
        raise BadInput(f"data.{field} must name a file: --config.data.{field}=FILE")
    given = Path(path).expanduser()
    places = [given, *([] if data_dir is None or given.is_absolute() else [data_dir / given])]
    for place in places:
        if place.exists():
            return read(place)
    raise BadInput(f"data.{field}={path!r} is not there: looked for {' and '.join(str(place) for place in places)}")
