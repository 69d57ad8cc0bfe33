"""Images kept as bytes: a quarter of the memory of standardised numbers, on every device that holds the data."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

from train.data.sampling import ShuffledExamples, Split
from train.data.task import Batch


@dataclasses.dataclass(frozen=True)
class StandardisedExamples(ShuffledExamples):
    """Shuffled examples whose inputs are bytes, standardised as a batch is gathered: ``(x / 255 - mean) / deviation``.

    Attributes:
        mean: of each channel over the training pixels, of 0 to 1.
        deviation: the standard deviation of each channel, or 1 where all its pixels are equal.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def assemble(self, rows: Split) -> Batch:
        """The batch of these rows."""
        batch = super().assemble(rows)
        return batch._replace(inputs=self._standardised(batch.inputs))

    def _standardised(self, pixels: UInt8[Array, "*shape channels"]) -> Float32[Array, "*shape channels"]:
        shape = (1,) * (pixels.ndim - 1) + (-1,)
        mean, deviation = (jnp.asarray(each, jnp.float32).reshape(shape) for each in (self.mean, self.deviation))
        return (pixels.astype(jnp.float32) / 255 - mean) / deviation


@dataclasses.dataclass(frozen=True)
class EachStandardised(ShuffledExamples):
    """Shuffled examples, standardised as a batch is gathered: each by itself, ``(x - mean) / max(deviation, n^-0.5)``.

    Mean and deviation are those of the example's n numbers, all places and channels together; the bound keeps an image
    of one colour from being divided by nothing.
    """

    def assemble(self, rows: Split) -> Batch:
        """The batch of these rows."""
        batch = super().assemble(rows)
        x = batch.inputs.astype(jnp.float32)
        axes = tuple(range(1, x.ndim))
        count = x[0].size
        deviation = jnp.maximum(jnp.std(x, axis=axes, keepdims=True), count**-0.5)
        return batch._replace(inputs=(x - jnp.mean(x, axis=axes, keepdims=True)) / deviation)
