"""Reader of zip archives, from memory and without unpacking anything to the disk."""

import io
import zipfile
import zlib

from models.base import BadInput, unknown
from train.data.files import File


def member(archive: File, name: str) -> File:
    """The file ``name`` inside a zip archive; its checksum is verified.

    Raises:
        BadInput: the archive is cut, corrupt, encrypted or no zip at all, or has no such file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
            names = [entry for entry in opened.namelist() if not entry.endswith("/")]
            if name not in names:
                raise BadInput(f"{archive.origin}: {unknown('file in this archive', name, names)}")
            return File(f"{archive.origin}:{name}", opened.read(name))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or "it ends too early"
        raise BadInput(f"{archive.origin} cannot be unpacked: {reason}; get the file again") from None
