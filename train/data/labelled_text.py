"""Labelled texts of one's own: a table (CSV, or TSV where the name ends in .tsv) of texts and labels.

    --config.data.name=labelled_text --config.data.path=reviews.tsv

The first row names the columns. Without files for validation and for the test, eight tenths of the texts train, one
validates, one tests, by the sha256 of the text: equal texts are never in two splits, and a text that is
added later moves no other.
"""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from models.base import BadInput, Static, unknown
from train.data.files import File, Packaged, Remote
from train.data.lines import own
from train.data.sentences import SentencesConfig, Text, classification, tenths
from train.data.task import Task
from train.data.text import text
from train.data.vocabularies import words

FILES: tuple[Remote | Packaged, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SentencesConfig):
    """A table of one's own.

    Attributes:
        path: the table, below the folder of data sets, or else as it is given.
        validation_path: the texts that validate, where they are in a table of their own.
        test_path: the texts that test, likewise.
        text_column: name of the column of texts.
        label_column: name of the column of labels; each different label is a class.
        lower_case: capitals make no difference.
    """

    path: Annotated[str, Static()] = ""
    validation_path: Annotated[str, Static()] = ""
    test_path: Annotated[str, Static()] = ""
    text_column: Annotated[str, Static()] = "text"
    label_column: Annotated[str, Static()] = "label"
    lower_case: Annotated[bool, Static()] = True

    def validate(self) -> None:
        """Either both held-out splits have a table, or none has."""
        super().validate()
        if bool(self.validation_path) != bool(self.test_path):
            raise BadInput("validation_path and test_path go together: give both tables, or none")


class Row(NamedTuple):
    """A row of the table, and where it stands, for messages."""

    text: str
    label: str
    place: str


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of telling the label of a text.

    Raises:
        BadInput: a table is absent or not of the form, there are fewer than two labels, or a held-out text
            has a label that no training text has.
    """
    rows = {"train": table(own(config.path, data_dir, field="path"), config)}
    if config.test_path:
        rows["validation"] = table(own(config.validation_path, data_dir, field="validation_path"), config)
        rows["test"] = table(own(config.test_path, data_dir, field="test_path"), config)
    else:
        rows = split(rows["train"])
    classes = sorted({row.label for row in rows["train"]})
    if len(classes) < 2:
        raise BadInput(f"{config.path}: the training texts have {len(classes)} different labels; at least 2 are needed")
    splits = {name: [_labelled(row, classes, config) for row in part] for name, part in rows.items()}
    origin = {"source": config.path, "licence": "the owner's"}
    return classification("labelled_text", FILES, splits, classes=classes, config=config, extra=origin)


def table(file: File, config: Config) -> list[Row]:
    """The rows of a table.

    Raises:
        BadInput: it lacks a column, or a row has another number of values, no text or no label.
    """
    delimiter = "\t" if file.origin.removesuffix(".gz").endswith(".tsv") else ","
    content = text(file).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    # In TSV a quotation mark is a character like any other.
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    result = []
    try:
        header = next(reader, [])
        for column in (config.text_column, config.label_column):
            if column not in header:
                raise unknown(f"column of {file.origin}", column, header)
        for values in reader:
            place = f"{file.origin}, row {reader.line_num}"
            if not values:
                continue
            if len(values) != len(header):
                raise BadInput(f"{place}: expected {len(header)} values as in the first row, found {len(values)}")
            found = dict(zip(header, values, strict=True))
            result.append(Row(found[config.text_column], found[config.label_column].strip(), place))
    except csv.Error as error:
        raise BadInput(f"{file.origin}, row {reader.line_num}: {error}") from None
    for row in result:
        if not row.label:
            raise BadInput(f"{row.place}: the label is missing")
        if not words(row.text):
            raise BadInput(f"{row.place}: the text has no words")
    return result


def split(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by split, by the sha256 of their texts (see :func:`train.data.sentences.tenths`)."""
    result: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        result[tenths(row.text)].append(row)
    return result


def _labelled(row: Row, classes: Sequence[str], config: Config) -> Text:
    if row.label not in classes:
        raise BadInput(f"{row.place}: {unknown('label', row.label, classes)} in the training texts")
    return Text(words(row.text.lower() if config.lower_case else row.text), classes.index(row.label))
