"""The 100,000,000 bytes of Mahoney's Large Text Compression Benchmark, whole or openly in part.

The standard split is by bytes: the first 90 per cent train, the next 5 validate, the last 5 test. A
part (its first bytes) is split alike; its results cannot be compared with published ones, and the record says so.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Annotated, NamedTuple

from models.base import BadInput, Static
from train.data import zipped
from train.data.files import File, Remote, read, verified
from train.data.language import TextConfig, Texts
from train.data.registry import obtain
from train.data.text import text


@dataclasses.dataclass(frozen=True, kw_only=True)
class LargeTextConfig(TextConfig):
    """What both texts let one choose.

    Attributes:
        first_bytes: use only so many bytes of the beginning, of which a part of the file is enough.
            None: the whole text, nothing less.
    """

    first_bytes: Annotated[int | None, Static(ge=100)] = None


class LargeText(NamedTuple):
    """A text of the benchmark.

    Attributes:
        archive: the zip file as it is published. The text lies in it under the data set's name.
        whole: the text itself: its size and digest.
    """

    archive: Remote
    whole: Remote


def large_text(name: str, *, zip_size: int, zip_sha256: str, sha256: str) -> LargeText:
    """The text ``name`` as it is published, by sizes and digests."""
    licence = "Wikipedia: GFDL and CC BY-SA"
    urls = (f"https://mattmahoney.net/dc/{name}.zip",)
    archive = Remote(filename=f"{name}.zip", urls=urls, sha256=zip_sha256, size=zip_size, licence=licence, archive=True)
    whole = Remote(filename=name, urls=urls, sha256=sha256, size=100_000_000, licence=licence)
    return LargeText(archive, whole)


def content(name: str, published: LargeText, config: LargeTextConfig, data_dir: Path | None) -> File:
    """The bytes that the config asks for.

    They come from ``DATA_DIR/NAME/NAME``, from ``.gz`` or ``.zip`` of it, or from any file there whose
    name begins so; else from the cache or the network.

    Raises:
        BadInput: the file is not the whole text and the config does not call it a part, or it is
            shorter than the part that is asked for, or cannot be had.
    """
    file = _placed(name, data_dir)
    if file is None:
        file = zipped.member(obtain(published.archive, name, data_dir), name)
    size, total = len(file.content), published.whole.size
    if config.first_bytes in (None, total):
        if size < total:
            raise BadInput(
                f"{file.origin} is not {name}: it has {size:,} of {total:,} bytes; place the whole file there, "
                f"or call it a part with --config.data.first_bytes={size}"
            )
        return verified(file, published.whole)
    if size < config.first_bytes:
        raise BadInput(f"first_bytes={config.first_bytes} must be at most {size:,}, the bytes of {file.origin}")
    return File(file.origin, file.content[: config.first_bytes])


def _placed(name: str, data_dir: Path | None) -> File | None:
    """The user's file after gzip or zip, or None."""
    folder = (data_dir or Path()) / name
    if data_dir is None or not folder.is_dir():
        return None
    names = [name, f"{name}.gz", f"{name}.zip", *sorted(path.name for path in folder.glob(f"{name}*"))]
    path = next((folder / candidate for candidate in names if (folder / candidate).is_file()), None)
    if path is None:
        return None
    file = read(path)
    return zipped.member(file, name) if file.content.startswith(b"PK\x03\x04") else file


def split(file: File, *, characters: bool) -> Texts:
    """The first 90 per cent of the bytes, the next 5 and the last 5.

    Args:
        file: the bytes.
        characters: decode them. A boundary inside a character then moves on to the next one, by three
            bytes at the most, and a character that is cut at the very end is left out.

    Raises:
        BadInput: the bytes are not UTF-8.
    """
    size = len(file.content)
    bounds = [0, size * 9 // 10, size * 95 // 100, size]
    if not characters:
        return Texts(*(file.content[start:stop] for start, stop in itertools.pairwise(bounds)))
    bounds[-1] = _whole_characters(file.content)
    text(File(file.origin, file.content[: bounds[-1]]))  # so that a wrong byte is named by its place in the file
    bounds[1:-1] = [_next_character(file.content, bound) for bound in bounds[1:-1]]
    return Texts(*(file.content[start:stop].decode() for start, stop in itertools.pairwise(bounds)))


def _next_character(content: bytes, place: int) -> int:
    """The first place from ``place`` on where a character begins, in valid UTF-8."""
    while place < len(content) and content[place] & 0xC0 == 0x80:
        place += 1
    return place


def _whole_characters(content: bytes) -> int:
    """Bytes of the content without a last character that is cut."""
    for back in range(1, min(4, len(content)) + 1):
        byte = content[-back]
        if byte >= 0xC0:  # the first byte of a character of several
            return len(content) - (back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0)
        if byte < 0x80:
            break
    return len(content)


def notes(name: str, file: File, published: LargeText) -> dict[str, str | int]:
    """What the record says of how much of the text was used."""
    size, total = len(file.content), published.whole.size
    part = "whole" if size == total else f"the first {size:,} of {total:,} bytes: not comparable with published {name}"
    return {"bytes": size, "part": part}
