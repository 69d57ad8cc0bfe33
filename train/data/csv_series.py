"""Any CSV file with a date in every row: one's own time series.

    --config.data.name=csv_series --config.data.path=sales.csv --config.data.horizon=14

The columns are forecast together, each from all. The file is split by time.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from models.base import BadInput, Static
from train.data.dated import dated
from train.data.files import Packaged, Remote, located, read
from train.data.forecasting import ForecastingConfig, Series, forecasting
from train.data.task import Task

FILES: tuple[Remote | Packaged, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ForecastingConfig):
    """A file of one's own.

    Attributes:
        path: the file, below the folder of data sets, or else as it is given.
        date: the column of the dates.
        date_format: of the dates, as of Python's ``strptime``; empty for ISO 8601.
        columns: the columns to forecast; empty for all but the dates.
        missing: refuse missing values, or let the value before take their place.
        horizon: rows to forecast.
        season: rows after which the series roughly repeat themselves; None for the usual one for the
            step between the dates (24 for hours, 7 for days, 12 for months), 1 for none.
        validation_share: share of the rows that is for validation.
        test_share: share of the rows, the newest, that is for testing.
    """

    path: Annotated[str, Static()] = ""
    date: Annotated[str, Static()] = "date"
    date_format: Annotated[str, Static()] = ""
    columns: Annotated[tuple[str, ...], Static()] = ()
    missing: Annotated[Literal["refuse", "previous"], Static()] = "refuse"
    horizon: Annotated[int, Static(ge=1)] = 24
    season: Annotated[int | None, Static(ge=1)] = None
    validation_share: Annotated[float, Static(gt=0, lt=1)] = 0.1
    test_share: Annotated[float, Static(gt=0, lt=1)] = 0.2

    def validate(self) -> None:
        """Something must be left to train on."""
        if self.validation_share + self.test_share >= 1:
            raise BadInput(
                f"validation_share={self.validation_share} and test_share={self.test_share} must leave "
                "rows to train on: their sum must be less than 1"
            )


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of forecasting the columns of the file.

    Raises:
        BadInput: the file cannot be read or is not of the form that :mod:`train.data.dated` reads, or
            the windows do not fit.
    """
    if not config.path:
        raise BadInput("data set 'csv_series' needs a file: give --config.data.path=FILE.csv")
    path = located(config.path, data_dir)
    table = dated(
        read(path),
        date=config.date,
        columns=config.columns,
        date_format=config.date_format,
        missing=config.missing,
    )
    rows = len(table.values)
    test = rows - round(rows * config.test_share)
    validation = test - round(rows * config.validation_share)
    origin = {
        "source": str(path),
        "licence": "the owner's",
        "columns": ", ".join(table.columns),
        "step": table.step,
        "missing_values_filled": table.filled,
    }
    return forecasting(
        "csv_series",
        [Series(table.values, validation=validation, test=test)],
        config=config,
        horizon=config.horizon,
        season=config.season or table.season,
        origin=origin,
    )
