"""Reading a study's tables, and copies of them for programs that read Parquet."""

import importlib.util
import io
from pathlib import Path

import pandas as pd

from models.base import BadInput
from train.records import whole_lines, write_atomically

_TEXTS = ("trial", "arm", "config_hash", "data_hash", "code_version", "status")


def read(path: Path) -> pd.DataFrame:
    """The whole rows of a table. Names stay text: a hash may look like a number, an arm be called ``none``."""
    names = dict.fromkeys(_TEXTS, str)
    return pd.read_csv(io.BytesIO(whole_lines(path)), dtype=names, keep_default_na=False, na_values=["", "nan"])


def check_parquet() -> None:
    """Make sure, before anything runs, that Parquet can be written.

    Raises:
        BadInput: the library for it is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise BadInput("--parquet needs pyarrow: pip install -e '.[parquet]'")


def write_parquet(folder: Path) -> None:
    """Write ``trials.parquet`` and ``curves.parquet`` beside the CSV files, with all of their rows.

    A column of numbers or of truth values keeps its type; any other is text, as it stands in the CSV file.
    """
    for path in (folder / "trials.csv", folder / "curves.csv"):
        if not path.exists():
            continue
        table = read(path)
        mixed = table.select_dtypes(include="object").columns
        # Text and numbers may stand in one column; a Parquet column has one type.
        texts = pd.read_csv(io.BytesIO(whole_lines(path)), dtype=str, keep_default_na=False, na_values=[""])
        buffer = io.BytesIO()
        table.assign(**{name: texts[name] for name in mixed}).to_parquet(buffer, index=False)
        write_atomically(path.with_suffix(".parquet"), buffer.getvalue())
