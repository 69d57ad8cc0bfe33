"""Windows of time series: what a model sees, what follows, and the forecasts that need no model.

A split holds the rows of all its series one behind the other, and where its windows lie; a batch
gathers its windows from there, so no window is ever stored. See :mod:`train.data.forecasting`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from train.data.sampling import ShuffledExamples, Split, Take, on_device
from train.data.task import Batch
from train.objectives import Rescalable


@dataclasses.dataclass(frozen=True)
class ForecastWindows(ShuffledExamples):
    """Goes through the windows of a split in an order that is new in every epoch.

    A split is ``values`` float32 [rows, channels], standardised; for each window its ``origins`` (the
    row that is to be forecast first) and its ``series``, int32 [windows]; for each series ``first``,
    int32 [series], its first row here, and ``location``, ``scale`` and ``error_scale``, float32
    [series, channels], as in :class:`train.objectives.Rescalable`.

    Inputs are the ``context`` rows before the origin, [batch, context, channels]; where the series
    begins later than that, its first row stands for those before it. Targets are the ``horizon`` rows
    from the origin on, flattened with the channels last, [batch, horizon * channels].

    Attributes:
        context: rows that a model sees.
        horizon: rows that it forecasts.
        subtract_last: inputs and targets are relative to the last row of the inputs (as in NLinear; Zeng et
            al. 2023, "Are Transformers Effective for Time Series Forecasting?", section 4.2).
    """

    context: int
    horizon: int
    subtract_last: bool

    def train_size(self, arrays: Split) -> int:
        """Number of windows of the split."""
        return arrays["origins"].shape[0]

    def assemble(self, rows: Split) -> Batch:
        """The windows of these rows, each of weight 1 where they say nothing else."""
        inputs, targets = rows["inputs"], rows["targets"]
        location, scale, error_scale = (rows[name][:, None] for name in ("location", "scale", "error_scale"))
        if self.subtract_last:
            last = inputs[:, -1:]
            inputs, targets, location = inputs - last, targets - last, location + last * scale
        rescalable = Rescalable(
            *(self._flat(jnp.broadcast_to(part, targets.shape)) for part in (targets, location, scale, error_scale))
        )
        return Batch(inputs, rescalable, rows.get("weights", jnp.ones(inputs.shape[:1], jnp.float32)))

    def _rows(self, arrays: Split, indices: Any, take: Take) -> Split:
        window = _window(arrays, indices, take)
        before = window.origins[:, None] + np.arange(-self.context, 0, dtype=np.int32)[None]
        after = window.origins[:, None] + np.arange(self.horizon, dtype=np.int32)[None]
        return {
            "inputs": take(arrays["values"], before.clip(window.first[:, None])),
            "targets": take(arrays["values"], after),
            **{name: take(arrays[name], window.series) for name in ("location", "scale", "error_scale")},
        }

    def naive(self, arrays: Split, indices: Int[Array, " batch"]) -> Float[Array, "batch outputs"]:
        """The forecast that everything stays as it was in the last row."""
        return self.seasonal_naive(arrays, indices, season=1)

    def seasonal_naive(
        self, arrays: Split, indices: Int[Array, " batch"], *, season: int
    ) -> Float[Array, "batch outputs"]:
        """The forecast that the last season repeats itself, on the scale of the targets.

        A row that lies before the beginning of the series is replaced by the last row before the origin.
        """
        window = _window(arrays, indices, on_device)
        steps = jnp.arange(self.horizon, dtype=jnp.int32) % season - season
        places = window.origins[:, None] + steps[None]
        last = window.origins[:, None] - 1
        forecasts = on_device(arrays["values"], jnp.where(places < window.first[:, None], last, places))
        return self._flat(forecasts - on_device(arrays["values"], last) if self.subtract_last else forecasts)

    @staticmethod
    def _flat(rows: Float[Array, "batch time channels"]) -> Float[Array, "batch outputs"]:
        return rows.reshape(rows.shape[0], -1)


class _Window(NamedTuple):
    origins: Any
    series: Any
    first: Any


def _window(arrays: Split, indices: Any, take: Take) -> _Window:
    origins, series = (take(arrays[name], indices) for name in ("origins", "series"))
    return _Window(origins, series, take(arrays["first"], series))
