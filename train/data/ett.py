"""Electricity transformer temperature: ETTh1, ETTh2 (hourly), ETTm1, ETTm2 (every 15 minutes).

Oil temperature and six loads of a transformer from July 2016 on (Zhou et al. 2021, "Informer", section 5.1
and appendix D). As published: months of 30 days, the first 12 for training, the next 4 for
validation, the next 4 for testing (what is left is not used); standardised by the training split; all seven
columns are forecast from all seven, every window is evaluated, errors are of the standardised values.

ETTh1 is downloaded where it is absent. The other three are published beside it: place them by hand as
``DATA_DIR/ett/ETTh2.csv`` and so on. Their form is checked, their digests are not known here.
"""

import dataclasses
import datetime
from pathlib import Path
from typing import Annotated, Literal

from models.base import BadInput, Static
from train.data.dated import dated
from train.data.files import File, Remote, read
from train.data.forecasting import ForecastingConfig, Series, forecasting
from train.data.registry import obtain
from train.data.task import Task

_URL = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small"
FILES = (
    Remote(
        filename="ETTh1.csv",
        urls=(f"{_URL}/ETTh1.csv",),
        sha256="f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
        size=2_589_657,
        licence="CC BY-ND 4.0",
    ),
)

_COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
_MONTH = 30 * 24  # hours
_FIRST = datetime.datetime(2016, 7, 1)
_ROWS = 17_420  # hours


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ForecastingConfig):
    """Transformer temperatures.

    Attributes:
        series: which transformer, and how finely.
        horizon: rows to forecast; 96, 192, 336 and 720 are usual.
        context: rows that a model sees.
    """

    series: Annotated[Literal["ETTh1", "ETTh2", "ETTm1", "ETTm2"], Static()] = "ETTh1"
    horizon: Annotated[int, Static(ge=1)] = 96
    context: Annotated[int | None, Static(ge=1)] = 96


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of forecasting seven columns.

    Raises:
        BadInput: the file is broken, or is nowhere and cannot be had, or the windows do not fit.
    """
    hourly = config.series.startswith("ETTh")
    table = dated(_file(config.series, data_dir))
    rows = _ROWS if hourly else 4 * _ROWS
    found = (table.columns, len(table.values), table.step, table.dates[0])
    if found != (_COLUMNS, rows, "1 hour" if hourly else "15 minutes", _FIRST):
        raise BadInput(
            f"{config.series}.csv is not the published file: expected {rows:,} rows of {', '.join(_COLUMNS)} from "
            f"{_FIRST} on, found {found[1]:,} of {', '.join(found[0])} from {found[3]} on, {found[2]} apart; "
            f"get it from {_URL}"
        )
    month = _MONTH if hourly else 4 * _MONTH
    series = Series(table.values[: 20 * month], validation=12 * month, test=16 * month)
    origin = {"source": f"{_URL}/{config.series}.csv", "licence": FILES[0].licence, "series_name": config.series}
    return forecasting("ett", [series], config=config, horizon=config.horizon, season=table.season, origin=origin)


def _file(name: str, data_dir: Path | None) -> File:
    if name == "ETTh1":
        return obtain(FILES[0], "ett", data_dir)
    if data_dir is not None and (data_dir / "ett" / f"{name}.csv").is_file():
        return read(data_dir / "ett" / f"{name}.csv")
    place = "DATA_DIR/ett" if data_dir is None else data_dir / "ett"
    raise BadInput(f"{name}.csv is not there: get it from {_URL}/{name}.csv, place it in {place} and give --data_dir")
