"""Studies that make their arms from the data: which families fit is known once the task is there."""

from collections.abc import Sequence
from pathlib import Path

from experiments.study import Study
from models.base import BadInput
from train import config as configuration
from train import data


def adapted(study: Study, overrides: Sequence[tuple[str, str]], data_dir: str | Path | None) -> Study:
    """The study with the arms that fit the data; a study whose arms stand in its file stays as it is.

    Args:
        study: as its file declares it.
        overrides: pairs of path and text; those of the data count here.
        data_dir: where data sets lie.

    Raises:
        BadInput: ``data_dir`` is no folder, the data cannot be had, or fewer than two families fit them.
    """
    if study.adapt is None:
        return study
    mine = [(path, text) for path, text in overrides if path.startswith("data.")]
    chosen = configuration.replace(study.baseline, configuration.parse_overrides(study.baseline, mine))
    directory = None if data_dir is None else Path(data_dir)
    if directory is not None and not directory.is_dir():
        raise BadInput(f"data_dir={str(directory)!r} is not a folder")
    return study.adapt(study, data.load(chosen.data, directory))
