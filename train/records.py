"""Records: append-only tables that survive a crash, one row a trial and one row an evaluation.

A row is written whole and flushed to the disk before anything relies on it. Where that fails, the file is cut back
to what it was; a line that a crash left unfinished is cut off when the table is opened again, and never read.
Reading needs no Paribus: it is CSV.
"""

import contextlib
import csv
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.base import BadInput
from train import processes


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give an error of the operating system the path of the file, where it has none: one of writing has not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: a reader finds the old content or the new, never a part.

    Of several processes that run together the first one writes, here and in tables; the others leave files alone.

    Raises:
        OSError: the disk is full or the like; the old content stays.
    """
    if not processes.is_first():
        return
    temporary = path.with_name(f".{path.name}.part")
    try:
        with _naming(path), temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def whole_lines(path: Path) -> bytes:
    """The content of a table but for a last line that a crash left unfinished."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def rows_of(path: Path) -> list[dict[str, str]]:
    """All rows of a table that another process may be writing: read only, a last unfinished line left out."""
    if not path.exists():
        return []
    return list(csv.DictReader(io.StringIO(whole_lines(path).decode("utf-8"), newline="")))


class Table:
    """One CSV file.

    Args:
        path: the file; made, with its header, by the first row.
        columns: names of its columns.
        optional: columns that a file which is there already may lack; it gets them, empty, and
            keeps those that it has beyond ``columns``. None: it must have exactly ``columns``.

    Raises:
        BadInput: a file is there with other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, optional: Collection[str] | None = None) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.optional = optional
        if path.exists():
            self._mend()

    def _mend(self) -> None:
        """Cut off what a crash left unfinished, and check that the columns are the expected ones."""
        whole = whole_lines(self.path)
        header = next(csv.reader([whole.split(b"\n", 1)[0].decode(errors="replace")]), [])
        is_ours = tuple(header) == self.columns
        can_widen = self.optional is not None and set(self.columns) - set(self.optional) <= set(header)
        if whole and not is_ours and not can_widen:
            raise BadInput(
                f"{self.path} has other columns than this version writes; choose another --workdir "
                "or move the folder away"
            )
        if len(whole) < self.path.stat().st_size and processes.is_first():
            os.truncate(self.path, len(whole))
        if whole and not is_ours:
            self._widen(header)

    def _widen(self, header: Sequence[str]) -> None:
        """Take the file's columns along; give it those that it lacks."""
        lacking = set(self.columns) - set(header)
        own = [name for name in header if name not in self.columns]
        self.columns = (*self.columns, *own) if lacking else tuple(header)
        if lacking:
            write_atomically(self.path, self._text(self.rows(), header=True))

    def rows(self) -> list[dict[str, str]]:
        """All rows, values as text."""
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def _text(self, rows: Iterable[Mapping[str, Any]], *, header: bool) -> str:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self.columns, restval="", extrasaction="raise", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return buffer.getvalue()

    def admit(self, columns: Iterable[str]) -> None:
        """Give the table these columns, too; rows that are there have them empty."""
        lacking = [name for name in columns if name not in self.columns]
        if lacking:
            rows = self.rows()
            self.columns = (*self.columns, *lacking)
            if self.path.exists():
                write_atomically(self.path, self._text(rows, header=True))

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, on the disk when this returns. Columns that a row lacks stay empty.

        Raises:
            ValueError: a row has a column that the table has not.
            OSError: the disk is full or the like; the table is what it was.
        """
        if not rows or not processes.is_first():
            return
        before = self.path.stat().st_size if self.path.exists() else 0
        content = memoryview(self._text(rows, header=before == 0).encode())
        with _naming(self.path), self.path.open("ab", buffering=0) as file:
            try:
                while content:
                    content = content[file.write(content) :]
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, before)
                raise

    def put(self, rows: Sequence[Mapping[str, Any]], *, key: str) -> None:
        """Add rows in place of those with the same ``key``; after a crash all of them are there, or none."""
        replaced = {str(row[key]) for row in rows}
        kept = [row for row in self.rows() if row[key] not in replaced]
        write_atomically(self.path, self._text([*kept, *rows], header=True))

    def keep(self, condition: Callable[[Mapping[str, str]], bool]) -> None:
        """Drop the rows that do not meet the condition, in one step. Used only when resuming."""
        rows = self.rows()
        kept = [row for row in rows if condition(row)]
        if len(kept) < len(rows):
            write_atomically(self.path, self._text(kept, header=True))
