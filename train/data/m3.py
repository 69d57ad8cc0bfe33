"""The M3 competition: 3,003 series of business and economics (Makridakis and Hibon 2000).

The horizons are the published ones: 6 years, 8 quarters, 18 months, and 8 steps of the others.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from models.base import Static
from train.data.competitions import Period, competition, packaged
from train.data.forecasting import ForecastingConfig
from train.data.task import Task

FILES = (
    packaged(
        "m3_data.json",
        urls=("https://forecasters.org/resources/time-series-data/m3-competition/",),
        sha256="8244026f84af16bbbbfeab226d6c3571882ba3a313b990c1b7985351f2e3f0fd",
        size=1_843_467,
    ),
)

PERIODS = {
    "yearly": Period("YEARLY", 645, 6, 1),
    "quarterly": Period("QUARTERLY", 756, 8, 4),
    "monthly": Period("MONTHLY", 1428, 18, 12),
    "other": Period("OTHER", 174, 8, 1),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ForecastingConfig):
    """Series of one period.

    Attributes:
        period: which.
        subtract_last: see :class:`train.data.forecasting.ForecastingConfig`; most of these series have a trend.
    """

    period: Annotated[Literal["yearly", "quarterly", "monthly", "other"], Static()] = "monthly"
    subtract_last: Annotated[bool, Static()] = True


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of forecasting the series of one period. ``data_dir`` is not needed.

    Raises:
        BadInput: the package's file is absent or broken.
    """
    del data_dir
    return competition("m3", FILES[0], config, PERIODS[config.period])
