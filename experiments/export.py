"""Weights of a study's trials, each in a file of its own that needs no Paribus to be read."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from models.base import BadInput
from train import devices, weights
from train.weights import Weights, Which


def export(folder: str | Path, which: Which = "last") -> dict[Path, Weights]:
    """Write ``FOLDER/weights/TRIAL.safetensors`` for each trial that has a checkpoint; see :mod:`train.weights`.

    Args:
        folder: of a study, e.g. ``runs/architectures``.
        which: ``last``, or ``best``: the checkpoint of those that were kept in which the trial's score is least.

    Returns:
        what was written, by file.

    Raises:
        BadInput: there are no checkpoints, or none that can be read.
    """
    place = Path(folder)
    if not place.is_dir():
        raise BadInput(f"export={str(folder)!r} is not a folder; name that of a study, e.g. runs/architectures")
    devices.prepare()
    found = weights.of_folder(place / "checkpoints", which)
    if not found:
        kept = "with a score; keep some with --config.execution.keep_best=1" if which == "best" else "to take them from"
        raise BadInput(f"export={str(folder)!r} has no checkpoints {kept}")
    (place / "weights").mkdir(exist_ok=True)
    written = {place / "weights" / f"{name}.safetensors": each for name, each in found.items()}
    for path, each in written.items():
        weights.write(path, each)
    return written


def show(written: dict[Path, Weights], console: Console) -> None:
    """Print a row for each file."""
    first = next(iter(written))
    table = Table("file", box=box.SIMPLE_HEAD)
    for column in ("step", written[first].facts["metric"]):
        table.add_column(column, justify="right")
    for path, each in written.items():
        score = each.facts["score"]
        table.add_row(path.name, str(each.facts["step"]), "" if score is None else f"{score:.6g}")
    console.print(table)
    console.print(f"Weights: {first.parent}", highlight=False, markup=False, soft_wrap=True)
