"""The M1 competition: 1,001 series (Makridakis et al. 1982, "The accuracy of extrapolation methods").

The horizons are the published ones: 6 years, 8 quarters, 18 months.
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
        "m1_data.json",
        urls=("https://doi.org/10.1002/for.3980010202",),
        sha256="4eef4f34577aeeed0db2979ad0c5f8f0d8f0d58b56e0cb5d91bb7fc68efd0b03",
        size=562_304,
    ),
)

PERIODS = {
    "yearly": Period("YEARLY", 181, 6, 1),
    "quarterly": Period("QUARTERLY", 203, 8, 4),
    "monthly": Period("MONTHLY", 617, 18, 12),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ForecastingConfig):
    """Series of one period.

    Attributes:
        period: which.
        subtract_last: see :class:`train.data.forecasting.ForecastingConfig`; most of these series have a trend.
    """

    period: Annotated[Literal["yearly", "quarterly", "monthly"], Static()] = "monthly"
    subtract_last: Annotated[bool, Static()] = True


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of forecasting the series of one period. ``data_dir`` is not needed.

    Raises:
        BadInput: the package's file is absent or broken.
    """
    del data_dir
    return competition("m1", FILES[0], config, PERIODS[config.period])
