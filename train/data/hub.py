"""Tables of the Hugging Face hub, or of a local copy of one, through the optional package ``datasets``.

A local copy is a folder that ``save_to_disk`` wrote, or a folder of parquet, json, jsonl or csv files whose
names begin with their split (``train-00000-of-00001.parquet``, ``test.csv``). Nothing is imported, and no
network touched, before a table is asked for.
"""

import importlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.base import BadInput, unknown

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""Under which names each split is usually published."""

KINDS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}

Tables = Mapping[str, Any]
"""A ``datasets.Dataset`` by the name of its split."""


def package() -> Any:
    """The package ``datasets``.

    Raises:
        BadInput: it is not installed.
    """
    try:
        found = importlib.import_module("datasets")
    except ImportError:
        raise BadInput(
            "data sets of Hugging Face need the package 'datasets': pip install 'paribus[hf]', or pip install datasets"
        ) from None
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own: nothing is said twice
    return found


def tables(dataset: str, subset: str | None, revision: str | None, data_dir: Path | None) -> tuple[Tables, str]:
    """The splits of a data set, and where they come from.

    Args:
        dataset: a folder (``./x``, ``~/x``, ``/x``, or ``x`` inside ``data_dir``), else a name on the hub.
        subset: one of several configurations, on the hub.
        revision: branch, tag or commit, on the hub.
        data_dir: the user's folder of data sets, or None.

    Raises:
        BadInput: the package is absent, the folder holds no tables, or the hub cannot be reached or has no such set.
    """
    if not dataset:
        raise BadInput("name a data set: --config.data.name=hf:NAME, or hf:FOLDER for a local copy")
    folder = _folder(dataset, data_dir)
    if folder is None:
        return _from_hub(dataset, subset, revision), f"hf:{dataset}" + (f"@{revision}" if revision else "")
    if not folder.is_dir():
        raise BadInput(f"data.dataset={dataset!r} is not a folder; a name on the hub has no ./ or ~ or / before it")
    for name, value in (("subset", subset), ("revision", revision)):
        if value is not None:
            raise BadInput(f"data.{name}={value!r} is for data sets on the hub, and {folder} is a local copy")
    return _from_folder(folder), str(folder)


def column(tables: Tables, split: str, name: str, *, field: str) -> list[Any]:
    """The values of a column, none of them missing.

    Raises:
        BadInput: there is no such column, or a row has no value; the message names the row, counted from 0.
    """
    table = tables[split]
    if name not in table.column_names:
        raise BadInput(f"data.{field}: {unknown(f'column of the split {split!r}', name, table.column_names)}")
    values = list(table[name])
    for row, value in enumerate(values):
        if value is None:
            raise BadInput(f"split {split!r}, row {row}: the column {name!r} has no value; every row needs one")
    return values


def split_name(tables: Tables, split: str, given: str | None) -> str | None:
    """The name under which a split is there: the given one, else the usual ones; None where there is none.

    Raises:
        BadInput: the given name is not there.
    """
    if given is not None:
        if given not in tables:
            raise BadInput(f"data.{split}_split: {unknown('split', given, tables)}")
        return given
    return next((name for name in SPLITS[split] if name in tables), None)


def _folder(dataset: str, data_dir: Path | None) -> Path | None:
    """Where a local copy lies; None for a name on the hub. A name alone is never a folder of the working directory."""
    if dataset.startswith((".", "~", "/")):
        return Path(dataset).expanduser()
    places = () if data_dir is None else (data_dir / "hf" / dataset, data_dir / dataset)
    return next((place for place in places if place.is_dir()), None)


def _from_hub(dataset: str, subset: str | None, revision: str | None) -> Tables:
    datasets = package()
    try:
        return dict(datasets.load_dataset(dataset, subset, revision=revision))
    except Exception as error:  # whatever the hub, the network and the builder raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BadInput(
            f"the data set {dataset!r} could not be had from the Hugging Face hub ({reason}); check the name and the "
            "network, or give a folder with a local copy: --config.data.name=hf:FOLDER"
        ) from None


def _from_folder(folder: Path) -> Tables:
    datasets = package()
    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        try:
            found = datasets.load_from_disk(str(folder))
        except Exception as error:  # whatever a damaged copy makes Arrow raise
            raise BadInput(f"{folder} cannot be read: {' '.join(str(error).split())[:300]}; save it again") from None
        return dict(found) if isinstance(found, dict) else {"train": found}
    files = [file for file in sorted(folder.rglob("*")) if file.suffix in KINDS and not file.name.startswith(".")]
    if not files:
        raise BadInput(f"{folder} holds no tables; expected what save_to_disk writes, or {', '.join(KINDS)} files")
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_split_of(file), []).append(file)
    return {
        split: datasets.concatenate_datasets([_table(datasets, file) for file in members])
        for split, members in groups.items()
    }


def _split_of(file: Path) -> str:
    """The split that a file's name begins with; that of other names is the training split."""
    stem = file.stem.lower()
    matches = (split for split, names in SPLITS.items() for name in names if stem.startswith(name))
    return next(matches, "train")


def _table(datasets: Any, file: Path) -> Any:
    """The rows of one file."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if not file.stat().st_size:
            raise BadInput(f"{file} is empty; expected a table")
        if KINDS[file.suffix] == "parquet":
            table = pyarrow.parquet.read_table(file)
        elif KINDS[file.suffix] == "csv":
            table = pyarrow.csv.read_csv(file, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))
        else:
            table = pa.Table.from_pylist(_rows(file))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {' '.join(str(error).split())[:300]}") from None
    if not table.num_rows:
        raise BadInput(f"{file} has no rows")
    return datasets.Dataset(datasets.table.InMemoryTable(table))


def _rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON file: a list of them, or one a line."""
    text = file.read_text(encoding="utf-8").strip()
    rows = []
    if text.startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"{file}, line {error.lineno}: {error.msg}") from None
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise BadInput(f"{file}, line {number}: {error.msg}; expected one JSON object a line") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise BadInput(f"{file}, row {number} is no JSON object")
    return rows
