"""The tourism competition: 1,311 series of tourism demand (Athanasopoulos et al. 2011, section 3).

The horizons are the published ones: 4 years, 8 quarters, 24 months.
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
        "tcomp_data.json",
        urls=("https://doi.org/10.1016/j.ijforecast.2010.04.009",),
        sha256="5f1404d70c5e3b6c1d4bc34c72c938f2a304204f76673f7c0f122934d4c919a2",
        size=992_792,
    ),
)

PERIODS = {
    "yearly": Period("YEARLY", 518, 4, 1),
    "quarterly": Period("QUARTERLY", 427, 8, 4),
    "monthly": Period("MONTHLY", 366, 24, 12),
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
    return competition("tourism", FILES[0], config, PERIODS[config.period])
