"""Tasks of forecasting time series: how a series is cut into windows, and the task itself.

A series is cut by time: the training rows, then those for validation, then those for testing. A window
of a split forecasts rows of that split only; what it sees may reach back into the split before, as it
would at that time. Training windows see ``context`` rows of their series; a series too short for that
gives its newest window only. Evaluations take every window whose rows to forecast fit.

Mean and standard deviation of a series' channels are taken over the training rows that are used and
nothing else. A model sees and predicts standardised values, and ``mse`` and ``mae`` are of those.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from models.base import BadInput, Configuration, Shapes, Static
from train.data.facts import fingerprint, repeated_windows
from train.data.task import Batch, Task, Test, Train, Validation


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForecastingConfig(Configuration):
    """What every forecasting task lets one choose.

    Attributes:
        context: rows that a model sees; None for twice the horizon.
        subtract_last: inputs and targets are relative to the last row that is seen, so that forecasting
            0 is the naive forecast.
        train_examples: use only the newest so many training windows, one of each series in turn (each
            smaller number is a subset of every larger one); None for all.
    """

    context: Annotated[int | None, Static(ge=1)] = None
    subtract_last: Annotated[bool, Static()] = False
    train_examples: Annotated[int | None, Static(ge=1)] = None


class Series(NamedTuple):
    """A series and how it is split.

    Attributes:
        values: rows in order of time.
        validation: the first row of the validation split.
        test: the first row of the test split.
    """

    values: Float64[np.ndarray, "time channels"]
    validation: int
    test: int


class _Part(NamedTuple):
    """The rows of one series that a split holds, counted in that series: windows forecast from ``begin`` on."""

    first: int
    begin: int
    end: int


def forecasting(
    name: str,
    series: Sequence[Series],
    *,
    config: ForecastingConfig,
    horizon: int,
    season: int,
    origin: Mapping[str, str | int | float],
) -> Task:
    """The task of forecasting the next ``horizon`` rows of each series.

    Args:
        name: of the data set.
        series: all of the same channels.
        config: how much of them is used.
        horizon: rows to forecast.
        season: rows after which the series roughly repeat themselves; 1 for none.
        origin: facts on where the data come from: ``source`` and ``licence`` at least.

    Raises:
        BadInput: the rows do not suffice for what the config asks, or no series ever changes.
    """
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.series_sampling import ForecastWindows

    context = config.context or 2 * horizon
    windows = _training_windows(series, context, horizon, config.train_examples)
    counts = np.bincount(windows[:, 0], minlength=len(series))
    used = [
        min(one.validation, max(int(count), 1) + context + horizon - 1)
        for one, count in zip(series, counts, strict=True)
    ]
    scaling = _scaling(series, used)
    lookback = max(context, season)
    parts = {
        "train": [_Part(one.validation - rows, 0, one.validation) for one, rows in zip(series, used, strict=True)],
        "validation": [_Part(max(0, one.validation - lookback), one.validation, one.test) for one in series],
        "test": [_Part(max(0, one.test - lookback), one.test, len(one.values)) for one in series],
    }
    splits, placed = {}, {}
    for split, cut in parts.items():
        pasts = [one.values[: one.test if split == "test" else one.validation] for one in series]
        placed[split] = windows if split == "train" else _evaluation_windows(cut, horizon, split)
        splits[split] = _arrays(series, cut, placed[split], scaling) | {
            "error_scale": _error_scales(pasts, season, scaling)
        }
    sampler = ForecastWindows(context=context, horizon=horizon, subtract_last=config.subtract_last)
    seasonal = {"seasonal naive": functools.partial(sampler.seasonal_naive, season=season)} if season > 1 else {}
    channels = series[0].values.shape[1]
    return Task(
        name=name,
        shapes=Shapes(inputs=(context, channels), vocabulary=None, outputs=horizon * channels, per_position=False),
        objective=objectives.forecasting(),
        sampler=sampler,
        train=Train(splits["train"]),
        validation=Validation(splits["validation"]),
        test=Test(splits["test"]),
        facts={
            **origin,
            **{f"{split}_examples": len(arrays["origins"]) for split, arrays in splits.items()},
            **{
                f"{split}_rows": sum(part.end - part.begin for part in parts[split]) for split in ("validation", "test")
            },
            "train_rows": sum(used),
            "series": len(series),
            "series_without_training_window": int(np.sum(counts == 0)),
            "series_without_mase": int(np.sum(~splits["test"]["error_scale"].any(axis=1))),
            "channels": channels,
            "context": context,
            "horizon": horizon,
            "season": season,
            **repeated_windows([one.values for one in series], placed, context),
            "fingerprint": fingerprint(splits),
        },
        show=functools.partial(_show, channels=channels),
        untrained={"naive": sampler.naive, **seasonal},
    )


def _training_windows(
    series: Sequence[Series], context: int, horizon: int, limit: int | None
) -> Int64[np.ndarray, "windows 2"]:
    """The series of each training window and its first row to forecast, newest first, the series in turn."""
    rows = []
    for number, one in enumerate(series):
        newest = one.validation - horizon
        oldest = min(newest, context)
        if newest >= 1:
            origins = np.arange(newest, oldest - 1, -1)
            rows.append(np.stack([newest - origins, np.full(origins.size, number), origins], axis=1))
    if not rows:
        longest = max((one.validation for one in series), default=0)
        raise BadInput(
            f"horizon={horizon} needs a series with at least {horizon + 1} rows for training; the longest has {longest}"
        )
    table = np.concatenate(rows)
    table = table[np.lexsort((table[:, 1], table[:, 0]))][:, 1:]
    if limit is not None and limit > len(table):
        raise BadInput(f"train_examples={limit} must be at most {len(table)}, the number of training windows")
    return table[:limit]


def _evaluation_windows(parts: Sequence[_Part], horizon: int, split: str) -> Int64[np.ndarray, "windows 2"]:
    """The series of each window of a split and its first row to forecast, in order."""
    shortest = min(part.end - part.begin for part in parts)
    if shortest < horizon:
        raise BadInput(f"horizon={horizon} must be at most {shortest}, the rows of the {split} split")
    origins = [np.arange(part.begin, part.end - horizon + 1) for part in parts]
    return np.concatenate([np.stack([np.full(one.size, i), one], axis=1) for i, one in enumerate(origins)])


def _scaling(series: Sequence[Series], used: Sequence[int]) -> Float64[np.ndarray, "2 series channels"]:
    """Mean and standard deviation of each series over its newest training rows, so many of each; 1 for no deviation."""
    rows = [one.values[one.validation - count : one.validation] for one, count in zip(series, used, strict=True)]
    means = np.stack([part.mean(axis=0) for part in rows])
    deviations = np.stack([part.std(axis=0) for part in rows])
    constant = deviations <= 1e-12 * np.abs(means)  # rounding of the mean leaves a deviation of about 1e-16
    return np.stack([means, np.where(constant, 1, deviations)])


def _arrays(
    series: Sequence[Series],
    parts: Sequence[_Part],
    windows: Int64[np.ndarray, "windows 2"],
    scaling: Float64[np.ndarray, "2 series channels"],
) -> dict[str, np.ndarray]:
    """The arrays of a split (see ``ForecastWindows``) but for its ``error_scale``."""
    location, scale = scaling
    values = [
        (one.values[p.first : p.end] - location[i]) / scale[i]
        for i, (one, p) in enumerate(zip(series, parts, strict=True))
    ]
    first = np.cumsum([0, *map(len, values)])[:-1]
    moved = first - np.array([part.first for part in parts])
    return {
        "values": np.concatenate(values).astype(np.float32),
        "origins": (windows[:, 1] + moved[windows[:, 0]]).astype(np.int32),
        "series": windows[:, 0].astype(np.int32),
        "first": first.astype(np.int32),
        "location": location.astype(np.float32),
        "scale": scale.astype(np.float32),
    }


def _error_scales(
    pasts: Sequence[np.ndarray], season: int, scaling: Float64[np.ndarray, "2 series channels"]
) -> np.ndarray:
    """Mean absolute error of the seasonal naive forecast over the past of each series, standardised; 0 for none.

    Where there is no more than a season of it, the naive forecast takes its place.
    """

    def error(past: np.ndarray) -> np.ndarray:
        lag = season if len(past) > season else 1
        return np.abs(past[lag:] - past[:-lag]).mean(axis=0) if len(past) > 1 else np.zeros(past.shape[1])

    errors = np.stack([error(past) for past in pasts]) / scaling[1]
    if not errors.any():
        raise BadInput("the training rows of every series are constant: there is nothing to forecast")
    return errors.astype(np.float32)


def _show(example: Batch, *, channels: int) -> str:
    """The end of what is seen of the first channel, and the beginning of what follows, in its own units."""
    location, scale = (float(part[0]) for part in example.targets[1:3])
    seen, following = (
        ", ".join(f"{value * scale + location:.4g}" for value in part)
        for part in (example.inputs[-6:, 0], example.targets.values[::channels][:6])
    )
    return f"... {seen} -> {following} ..."
