"""Reader of plain text in UTF-8."""

from models.base import BadInput
from train.data.files import File


def text(file: File) -> str:
    """The characters of a text file, as they are: no line end is changed, nothing is normalised.

    Raises:
        BadInput: the file is empty, is not UTF-8, or holds a NUL (it is binary, or UTF-16).
    """
    if not file.content:
        raise BadInput(f"{file.origin} is empty: expected text in UTF-8; get the file again")
    nul = file.content.find(b"\0")
    if nul >= 0:
        raise BadInput(f"{file.origin} is not plain text: byte {nul:,} is NUL; save it as UTF-8")
    try:
        return file.content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = file.content[error.start]
        raise BadInput(
            f"{file.origin} is not UTF-8: byte {error.start:,} is 0x{byte:02x} ({error.reason}); save it as UTF-8"
        ) from None
