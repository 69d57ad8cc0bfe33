"""Linear forecasts of series: one linear map over time, the same for every channel."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from models.base import BadInput, Configuration, Shapes, Static
from models.inputs import Padded, filled
from models.layers.dense import Dense
from models.layers.recording import record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """LTSF-Linear (Zeng et al. 2023, "Are Transformers Effective for Time Series Forecasting?", section 4).

    The channels share their weights, and none sees another. NLinear is this model on data with
    ``subtract_last=true``.

    Attributes:
        decomposition: ``none``: Linear. ``moving_average``: DLinear, which maps the moving average of the inputs and
            what remains of them each by weights of its own, and adds both.
        kernel_size: rows of the moving average, odd; the first and the last row are repeated beyond the ends.
    """

    decomposition: Annotated[Literal["none", "moving_average"], Static()] = "none"
    kernel_size: Annotated[int, Static(ge=1)] = 25

    def validate(self) -> None:
        """A moving average has a middle."""
        if self.kernel_size % 2 == 0:
            raise BadInput(f"kernel_size={self.kernel_size} must be odd, so that the average has a middle")


def moving_average(x: Float[Array, "batch time channels"], size: int) -> Float[Array, "batch time channels"]:
    """The mean of the ``size`` rows around each row; the first and the last row stand for those beyond the ends."""
    padded = jnp.pad(x, ((0, 0), (size // 2, size // 2), (0, 0)), mode="edge")
    sums = jax.lax.reduce_window(padded, 0.0, jax.lax.add, (1, size, 1), (1, 1, 1), "VALID")
    return sums / size


class LTSFLinear(nn.Module):
    """``forecast[h, c] = sum_t W[t, h] x[t, c] + b[h]``; with decomposition the sum of two such maps.

    Weights and biases begin uniform between -1/sqrt(time) and 1/sqrt(time), as in the authors' program. Intermediates,
    with decomposition: what each part adds to the forecast, ``trend_forecast`` and ``remainder_forecast`` [batch,
    horizon, channels].
    """

    config: Config
    horizon: int

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time channels"] | Padded,
        *,
        train: bool,
        hyperparameters: Mapping[str, Any],
    ) -> Float[Array, "batch outputs"]:
        """The forecast of all channels, flattened with the channels last: [batch, horizon * channels]."""
        del train, hyperparameters
        x = filled(inputs)
        if self.config.decomposition == "none":
            forecast = self._map("linear", x)
        else:
            average = moving_average(x, self.config.kernel_size)
            parts = {"trend": self._map("trend", average), "remainder": self._map("remainder", x - average)}
            for name, part in parts.items():
                record(self, f"{name}_forecast", lambda part=part: part)
            forecast = parts["trend"] + parts["remainder"]
        return forecast.reshape(forecast.shape[0], -1)

    def _map(self, name: str, x: Float[Array, "batch time channels"]) -> Float[Array, "batch horizon channels"]:
        bound = 1 / math.sqrt(x.shape[1])

        def uniform(key: Any, shape: Any, dtype: Any = jnp.float32) -> Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        dense = Dense(self.horizon, kernel_init=uniform, bias_init=uniform, name=name)
        return jnp.swapaxes(dense(jnp.swapaxes(x, 1, 2)), 1, 2)


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The model for a task that forecasts so many rows of all channels of a series.

    Raises:
        BadInput: the inputs are no series of real numbers, or the outputs are not as many for every channel.
    """
    if shapes.vocabulary is not None or len(shapes.inputs) != 2 or shapes.per_position:
        raise BadInput(
            "model 'ltsf_linear' forecasts series (time, channels) of real numbers, all at once; this task has "
            f"inputs of shape {shapes.inputs}{' of tokens' if shapes.vocabulary else ''}"
        )
    channels = shapes.inputs[1]
    if shapes.outputs % channels:
        raise BadInput(
            f"model 'ltsf_linear' forecasts every channel, and {shapes.outputs} outputs are not as many for each of "
            f"{channels} channels; mlp gives any number of outputs"
        )
    return LTSFLinear(config, shapes.outputs // channels)
