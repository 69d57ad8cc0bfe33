"""Tasks: each file that defines a `Config` is a data set, with `load(config, data_dir) -> Task`."""

from pathlib import Path

from models.base import Configuration, plugin
from train.data.task import Task

__all__ = ["load"]


def load(config: Configuration, data_dir: Path | None) -> Task:
    """The task that a data set's configuration describes.

    Args:
        config: the ``Config`` of a data set.
        data_dir: where the user keeps data sets, or None.

    Raises:
        BadInput: the data cannot be had or are damaged.
    """
    return plugin("train.data", config.name, kind="data set").load(config, data_dir)
