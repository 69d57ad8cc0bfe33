"""Reading a study's tables, and copies of them for programs that read Parquet."""

import importlib.util
import io
from pathlib import Path

import pandas as pd

from experiments.plan import Plan
from models.base import BadInput
from train.config import digest
from train.records import whole_lines, write_atomically
from train.untrained import data_digest

_TEXTS = ("trial", "arm", "config_hash", "data_hash", "code_version", "status")


def read(path: Path) -> pd.DataFrame:
    """The whole rows of a table. Names stay text: a hash may look like a number, an arm be called ``none``."""
    names = dict.fromkeys(_TEXTS, str)
    return pd.read_csv(io.BytesIO(whole_lines(path)), dtype=names, keep_default_na=False, na_values=["", "nan"])


def records(plan: Plan, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the plan's trials in ``trials.csv`` and ``curves.csv``.

    Raises:
        BadInput: there are no records, or they are damaged.
    """
    path = folder / "trials.csv"
    if not path.exists():
        raise BadInput(f"{path} does not exist: there is nothing to report on; run without --report_only first")
    wanted = pd.DataFrame(
        [(trial.id, digest(trial.config)) for trial in plan.trials], columns=["trial", "config_hash"], dtype=str
    )
    try:
        trials = wanted.merge(read(path), on=["trial", "config_hash"])
        path = folder / "curves.csv"
        if path.exists():
            return trials, wanted.merge(read(path), on=["trial", "config_hash"])
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is damaged ({reason}); move its folder away and run again") from None
    # Where every trial crashed before its first evaluation there are no curves.
    return trials, pd.DataFrame(columns=["trial", "arm", "seed", "step", plan.study.metric.curve])


def untrained(plan: Plan, folder: Path) -> pd.DataFrame | None:
    """The rows of ``untrained.csv`` for the data of each arm; None where no data set has any.

    Raises:
        BadInput: the file is damaged.
    """
    path = folder / "untrained.csv"
    if not path.exists():
        return None
    wanted = pd.DataFrame(
        [(arm, data_digest(config)) for arm, config in plan.configs.items()], columns=["arm", "data_hash"], dtype=str
    )
    try:
        return wanted.merge(read(path), on="data_hash")
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is damaged ({reason}); move its folder away and run again") from None


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
        mixed = [str(name) for name in table if table[name].dtype == object]
        # Text and numbers may stand in one column; a Parquet column has one type.
        texts = pd.read_csv(io.BytesIO(whole_lines(path)), dtype=str, keep_default_na=False, na_values=[""])
        buffer = io.BytesIO()
        table.assign(**{name: texts[name] for name in mixed}).to_parquet(buffer, index=False)
        write_atomically(path.with_suffix(".parquet"), buffer.getvalue())
