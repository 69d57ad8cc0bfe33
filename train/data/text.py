"""Reader of plain text."""

import codecs

from models.base import BadInput
from train.data.files import File


def text(file: File, encoding: str = "utf-8", *, advice: str = "save it as UTF-8") -> str:
    """The characters of a text file, as they are: no line end is changed, nothing is normalised.

    Args:
        file: what was read.
        encoding: a name that Python knows.
        advice: what to do about a file that is not text in this encoding, for the message.

    Raises:
        BadInput: the file is empty, is not in this encoding, or holds a NUL (it is binary, or UTF-16);
            the message has the line of the first wrong byte, and its place, counted from 0.
    """
    name = codecs.lookup(encoding).name.upper()
    if not file.content:
        raise BadInput(f"{file.origin} is empty: expected text in {name}; get the file again")
    nul = -1 if name.startswith(("UTF-16", "UTF-32")) else file.content.find(b"\0")
    if nul >= 0:
        raise BadInput(f"{file.origin} is not plain text: byte {nul:,} is NUL; {advice}")
    try:
        return file.content.decode(encoding)
    except UnicodeDecodeError as error:
        byte, row = file.content[error.start], file.content.count(b"\n", 0, error.start) + 1
        where = "" if name.startswith(("UTF-16", "UTF-32")) else f" in line {row:,}"
        raise BadInput(
            f"{file.origin} is not {name}: byte {error.start:,} is 0x{byte:02x}{where} ({error.reason}); {advice}"
        ) from None
