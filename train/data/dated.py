"""Reader of tables of numbers with a date in every row (CSV)."""

import calendar
import csv
import datetime
import io
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from models.base import BadInput, unknown
from train.data.files import File
from train.data.text import text

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})
"""How a missing value may be spelled, in lower case."""

_SEASONS = {"15 minutes": 96, "30 minutes": 48, "1 hour": 24, "1 day": 7, "1 month": 12, "3 months": 4}


class Dated(NamedTuple):
    """The columns of a file that were asked for.

    Attributes:
        columns: their names.
        values: the numbers, rows in order of time.
        dates: of the rows.
        step: from each row to the next, in words: ``1 hour``.
        season: rows after which such data usually repeat themselves: 24 where the step is an hour; 1 for unknown.
        filled: how many missing values were replaced.
    """

    columns: tuple[str, ...]
    values: Float64[np.ndarray, "time channels"]
    dates: tuple[datetime.datetime, ...]
    step: str
    season: int
    filled: int


def dated(
    file: File,
    *,
    date: str = "date",
    columns: Sequence[str] = (),
    date_format: str = "",
    missing: Literal["refuse", "previous"] = "refuse",
) -> Dated:
    """The numbers of a CSV file whose first line names its columns.

    Args:
        file: the file; UTF-8, values separated by commas.
        date: the column of the dates, which must follow each other in equal steps: of time, or of months.
        columns: the columns of numbers; empty for all but the dates.
        date_format: of the dates, as of Python's ``strptime``; empty for ISO 8601.
        missing: refuse missing values, or let the value before take their place.

    Raises:
        BadInput: the file is not of that form. The message names the file and the line.
    """
    lines = _lines(file)
    head = next(lines)[1]
    for name in (date, *columns):
        if name not in head:
            raise BadInput(f"{file.origin}: {unknown('column', name, head)}")
    columns = tuple(columns) or tuple(name for name in head if name != date)
    if not columns or date in columns:
        raise BadInput(f"{file.origin}, line 1: there must be a column of numbers beside the dates in {date!r}")
    places = [head.index(name) for name in columns]
    numbers, dates, rows, filled = [], [], [], 0
    for line, cells in lines:
        where = f"{file.origin}, line {line}"
        dates.append(_date(cells[head.index(date)], date_format, where))
        rows.append(line)
        row = [_number(cells[place], f"{where}, column {head[place]!r}") for place in places]
        for index, value in enumerate(row):
            if value is None:
                if missing == "refuse" or not numbers:
                    otherwise = "take missing=previous" if numbers else "start the file later"
                    raise BadInput(f"{where}: the value of column {columns[index]!r} is missing; {otherwise}")
                row[index] = numbers[-1][index]
                filled += 1
        numbers.append(row)
    if len(numbers) < 2:
        raise BadInput(f"{file.origin} has {len(numbers)} rows below its names; at least 2 are needed")
    step = _step(dates, rows, file.origin)
    season = _SEASONS.get(step, 1)
    return Dated(columns, np.array(numbers, np.float64), tuple(dates), step, season, filled)


def _lines(file: File) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line that is not blank; the first holds the names of the columns."""
    reader = csv.reader(io.StringIO(text(file).removeprefix("\ufeff"), newline=""), strict=True, skipinitialspace=True)
    head: list[str] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            where = f"{file.origin}, line {reader.line_num}"
            if not any(cells):
                continue
            if not head:
                head = cells
                twice = [name for name, count in Counter(head).items() if count > 1 or not name]
                if twice:
                    raise BadInput(f"{where}: every column needs a name of its own; {twice[0]!r} is none")
            elif len(cells) != len(head):
                raise BadInput(f"{where} has {len(cells)} values; the first line names {len(head)} columns")
            yield reader.line_num, cells
    except csv.Error as error:
        raise BadInput(f"{file.origin}, line {reader.line_num} is no line of CSV: {error}") from None
    if not head:
        raise BadInput(f"{file.origin} is blank: expected a line of column names and rows of numbers")


def _number(cell: str, where: str) -> float | None:
    if cell.lower() in MISSING:
        return None
    try:
        value = float(cell)
    except ValueError:
        raise BadInput(f"{where}: {cell!r} is not a number") from None
    if not math.isfinite(value):
        raise BadInput(f"{where}: {cell!r} is not finite")
    return value


def _date(cell: str, form: str, where: str) -> datetime.datetime:
    try:
        return datetime.datetime.strptime(cell, form) if form else datetime.datetime.fromisoformat(cell)
    except ValueError:
        expected = f"of the format {form}" if form else "like 2016-07-01 or 2016-07-01 00:15:00; give date_format"
        raise BadInput(f"{where}: {cell!r} is not a date {expected}") from None


def _step(dates: Sequence[datetime.datetime], rows: Sequence[int], origin: str) -> str:
    """The one step between the dates, in words.

    Raises:
        BadInput: there is no such step. The message names the first line that breaks it.
    """
    try:
        steps = [after - before for before, after in itertools.pairwise(dates)]
    except TypeError:
        raise BadInput(f"{origin}: some dates have a time zone and some have none") from None
    for step, date, row in zip(steps, dates[1:], rows[1:], strict=True):
        if step <= datetime.timedelta():
            fault = "is that of the line before it" if not step else "is earlier than that of the line before it"
            raise BadInput(f"{origin}, line {row}: the date {date} {fault}; each date must be later than the last")
    months = [12 * (b.year - a.year) + b.month - a.month for a, b in itertools.pairwise(dates)]
    if months[0] and _same_day_of_month(dates):
        return _regular(months, rows, origin, lambda count: f"{count} month{'s' if count > 1 else ''}")
    return _regular(steps, rows, origin, _words)


def _same_day_of_month(dates: Sequence[datetime.datetime]) -> bool:
    """Whether all are of one day of the month, or all of its last, at one time of the day."""
    days = {date.day for date in dates}
    last = all(date.day == calendar.monthrange(date.year, date.month)[1] for date in dates)
    return (len(days) == 1 or last) and len({date.time() for date in dates}) == 1


def _regular(steps: Sequence[Any], rows: Sequence[int], origin: str, words: Callable[[Any], str]) -> str:
    """The step that all are, in words; the error names the first line that has another than most."""
    usual = Counter(steps).most_common(1)[0][0]
    for step, row in zip(steps, rows[1:], strict=True):
        if step != usual:
            raise BadInput(
                f"{origin}, line {row}: this row comes {words(step)} after the one before it, most others "
                f"{words(usual)}; the steps must be equal"
            )
    return words(usual)


def _words(step: datetime.timedelta) -> str:
    """A step of time in its largest whole unit."""
    seconds = step.total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % size == 0:
            return f"{seconds / size:.0f} {unit}{'s' if seconds > size else ''}"
    return f"{seconds:g} seconds"
