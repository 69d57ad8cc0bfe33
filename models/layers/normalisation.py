"""Normalisation: of a layer, by root mean square; by batch, group or layer chosen by name."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from models.base import BadInput, check_divides
from models.layers import direct_normalisation

EPSILON = 1e-5

Kind = Literal["none", "batch", "group", "layer"]
"""What :class:`Norm` can be."""


@jax.custom_vjp
def normalise(x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
    """``(x - mean) / sqrt(variance + 1e-5)`` over the last axis, the variance being the biased one."""
    return _forward(x)[0]


def _forward(x: Any) -> tuple[Any, Any]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + EPSILON)
    y = centred * inverse
    return y, (y, inverse)


def _backward(residuals: Any, g: Any) -> tuple[Any]:
    y, inverse = residuals
    mean = jnp.mean(g, axis=-1, keepdims=True)
    return ((g - mean - y * jnp.mean(g * y, axis=-1, keepdims=True)) * inverse,)


normalise.defvjp(_forward, _backward)


def _plain(x: Any, scale: Any, bias: Any) -> Any:
    """Layer normalisation in XLA's operations."""
    shape = (1,) * (x.ndim - 1) + (x.shape[-1],)
    return _in_single(normalise, x) * scale.reshape(shape) + bias.reshape(shape)


def _direct_forward(x: Any, scale: Any, bias: Any) -> tuple[Any, Any]:
    def elsewhere(x: Any, scale: Any, bias: Any) -> tuple[Any, Any, Any]:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), axis=-1)
        return _plain(x, scale, bias), mean[..., 0], jax.lax.rsqrt(variance + EPSILON)

    here = functools.partial(direct_normalisation.value, epsilon=EPSILON)
    y, mean, inverse = jax.lax.platform_dependent(x, scale, bias, cpu=here, default=elsewhere)
    return y, (x, scale, mean, inverse)


def _direct_backward(residuals: Any, g: Any) -> tuple[Any, Any, Any]:
    def elsewhere(x: Any, scale: Any, mean: Any, inverse: Any, g: Any) -> tuple[Any, Any, Any]:
        y = (x - mean[..., None]) * inverse[..., None]
        leading = tuple(range(x.ndim - 1))
        (dx,) = _backward((y, inverse[..., None]), g * scale.reshape((1,) * (x.ndim - 1) + (-1,)))
        return dx, jnp.sum(g * y, axis=leading), jnp.sum(g, axis=leading)

    return jax.lax.platform_dependent(*residuals, g, cpu=direct_normalisation.gradients, default=elsewhere)


_direct = jax.custom_vjp(lambda *arguments: _direct_forward(*arguments)[0])
_direct.defvjp(_direct_forward, _direct_backward)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis (Ba et al. 2016, equation 4): ``scale * normalised + bias``.

    On a CPU, in 32 or 64 bits, it is machine code (``layers/direct_normalisation.py``).
    """

    @nn.compact
    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        """Normalise the last axis of ``x``."""
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        if direct_normalisation.fits(x, scale, bias):
            return _direct(x, scale, bias)
        return _plain(x, scale, bias)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last axis: ``scale * x / sqrt(mean(x^2) + 1e-5)``.

    Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4, which has no epsilon.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        """Normalise the last axis of ``x``."""
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))

        def rms(x: Array) -> Array:
            return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + EPSILON)

        return _in_single(rms, x) * scale.reshape((1,) * (x.ndim - 1) + (-1,))


def standardise(
    x: Float[Array, "sets positions channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    groups: int,
) -> tuple[Float[Array, "sets positions channels"], Float[Array, "sets groups"], Float[Array, "sets groups"]]:
    """``scale (x - mean) / sqrt(variance + 1e-5) + bias``, the mean and the biased variance.

    Mean and variance are those of one set and one group of channels: over positions and the
    channels of the group. Batch normalisation is one set and a group for each channel; group
    normalisation a set for each example. The gradient is written by hand: it needs two sums over
    the positions, and automatic differentiation would take four. It treats the mean and the
    variance that are returned as constants.

    Args:
        x: what is normalised.
        scale: factor of each channel.
        bias: what is added to each channel.
        groups: number of groups of neighbouring channels; it divides the number of channels.
    """
    return _standardise(x, scale, bias, groups)


def _over_positions(x: Any) -> Any:
    """Sums over positions, [sets, channels].

    Over both axes where there is one set: XLA on CPU sums [1, N, C] over its second axis four times slower.
    """
    return x.sum((0, 1))[None] if x.shape[0] == 1 else x.sum(1)


def _group_mean(sums: Any, positions: int, groups: int) -> Any:
    """From sums over positions [sets, channels] to means over each group [sets, groups]."""
    sets, channels = sums.shape
    return sums.reshape(sets, groups, channels // groups).sum(2) / (positions * (channels // groups))


def _per_channel(values: Any, channels: int) -> Any:
    """From one value a group [sets, groups] to one a channel [sets, 1, channels]."""
    return jnp.repeat(values, channels // values.shape[1], axis=1)[:, None]


def _standardise_forward(x: Any, scale: Any, bias: Any, groups: int) -> tuple[Any, Any]:
    positions, channels = x.shape[1:]
    mean = _group_mean(_over_positions(x), positions, groups)
    centred = x - _per_channel(mean, channels)
    variance = _group_mean(_over_positions(jnp.square(centred)), positions, groups)
    inverse = _per_channel(jax.lax.rsqrt(variance + EPSILON), channels)
    y = centred * (inverse * scale[None, None]) + bias[None, None]
    return (y, mean, variance), (x, mean, inverse, scale)


def _standardise_backward(groups: int, residuals: Any, cotangents: Any) -> tuple[Any, Any, Any]:
    x, mean, inverse, scale = residuals
    positions, channels = x.shape[1:]
    g = cotangents[0]
    h = (x - _per_channel(mean, channels)) * inverse
    bias_sums, scale_sums = _over_positions(g), _over_positions(g * h)
    along_one = _per_channel(_group_mean(bias_sums * scale[None], positions, groups), channels)
    along_h = _per_channel(_group_mean(scale_sums * scale[None], positions, groups), channels)
    return (g * scale[None, None] - along_one - h * along_h) * inverse, scale_sums.sum(0), bias_sums.sum(0)


_standardise = jax.custom_vjp(
    lambda x, scale, bias, groups: _standardise_forward(x, scale, bias, groups)[0], nondiff_argnums=(3,)
)
_standardise.defvjp(_standardise_forward, _standardise_backward)


class Norm(nn.Module):
    """Normalisation by name, with a ``scale`` (from 1) and a ``bias`` (from 0) for each channel.

    * ``none``: the inputs as they are, without parameters.
    * ``batch``: Ioffe and Szegedy 2015, "Batch Normalization", algorithms 1 and 2. Each channel by
      the mean and the biased variance over examples and positions; in evaluation by running
      averages, ``r <- m r + (1 - m) s`` with momentum ``m`` at each training step, of the mean and of
      the unbiased variance (factor n / (n - 1)). The averages are ``mean`` (from 0) and ``var`` (from
      1) in the collection ``batch_stats``. The paper averages over several batches after training;
      running averages are its section 3.1's remark and what everybody does. PyTorch's momentum is 1 - m.
    * ``group``: Wu and He 2018, "Group Normalization", equation 7. Each example by mean and variance
      over the positions and channels of a group.
    * ``layer``: the same with one group (Ba et al. 2016, "Layer Normalization", as Wu and He state it
      for images). On [batch, features] it is layer normalisation over the features.

    Statistics have at least 32 bits, whatever the number format of the inputs.

    Attributes:
        kind: which of them.
        groups: number of groups of ``group``; it must divide the channels.
    """

    kind: Kind
    groups: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *positions channels"], *, train: bool, momentum: float | Float[Array, ""]
    ) -> Float[Array, "batch *positions channels"]:
        """Normalise activations.

        Args:
            x: activations, such as [batch, features] or [batch, height, width, channels].
            train: whether ``batch`` takes the statistics of this batch, and updates the averages.
            momentum: of the running averages of ``batch``, in [0, 1].

        Raises:
            BadInput: groups do not divide the channels, or a training batch has one value a channel.
        """
        if self.kind == "none":
            return x
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        wide = jnp.promote_types(x.dtype, jnp.float32)
        scale, bias, flat = scale.astype(wide), bias.astype(wide), x.astype(wide).reshape(x.shape[0], -1, channels)
        if self.kind == "batch":
            y = self._by_batch(flat.reshape(1, -1, channels), scale, bias, train=train, momentum=momentum)
        else:
            groups = self.groups if self.kind == "group" else 1
            check_divides("norm_groups", groups, "channels", channels)
            y = standardise(flat, scale, bias, groups)[0]
        return y.reshape(x.shape).astype(x.dtype)

    def _by_batch(self, x: Array, scale: Array, bias: Array, *, train: bool, momentum: Any) -> Array:
        count, channels = x.shape[1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        variance = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if not train:
            factor = scale * jax.lax.rsqrt(variance.value.astype(x.dtype) + EPSILON)
            return (x - mean.value.astype(x.dtype)[None, None]) * factor[None, None] + bias[None, None]
        if count == 1:
            raise BadInput("normalisation by batch needs more than one value a channel in training: batch_size >= 2")
        y, batch_mean, batch_variance = standardise(x, scale, bias, channels)
        for average, value in ((mean, batch_mean[0]), (variance, batch_variance[0] * (count / (count - 1)))):
            new = momentum * average.value + (1 - momentum) * jax.lax.stop_gradient(value)
            average.value = new.astype(average.value.dtype)
        return y


def _in_single(function: Callable[[Array], Array], x: Array) -> Array:
    """``function(x)`` computed in at least 32 bits, in the number format of ``x``.

    Sums of many squares lose their digits in 16 bits (Micikevicius et al. 2018, section 3.3).
    """
    return function(x.astype(jnp.promote_types(x.dtype, jnp.float32))).astype(x.dtype)
