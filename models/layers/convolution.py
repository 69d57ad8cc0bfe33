"""Convolution of sequences and images, formulated for the backend it runs on."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from models.layers import direct, direct_winograd, engines, native, patches, winograd
from models.layers.partitioning import by_batch, is_partitioned
from models.layers.patches import Geometry

Padding = Literal["SAME", "VALID", "CAUSAL"] | tuple[tuple[int, int], ...]


def convolve(
    x: Float[Array, "batch *size channels"],
    kernel: Float[Array, "*kernel_size channels features"],
    strides: tuple[int, ...] | None = None,
    padding: Padding = "SAME",
    dilation: tuple[int, ...] | None = None,
) -> Float[Array, "batch *out_size features"]:
    """``y[b, t, f] = Σ_ic x[b, s t + d i - p, c] kernel[i, c, f]``, zero outside ``x``; images alike over two axes.

    This is cross-correlation, as every deep learning library means by convolution. XLA's own form is
    several times slower on CPU inside a loop, so there it is one of three others: Winograd's for 3x3 kernels
    that move by one pixel (``layers/direct_winograd.py``), else the direct sum (``layers/direct.py``), both as
    machine code, and where few features do not fill the processor's vectors one product of
    the matrix of all patches with the kernel (``layers/patches.py``; Chellapilla et al. 2006, "High
    Performance Convolutional Neural Networks for Document Processing", section 4). Elsewhere it is
    XLA's own, and on several devices together it is, too. With a kernel of one element it is a plain product
    everywhere.

    Args:
        x: sequences [batch, length, channels] or images [batch, height, width, channels].
        kernel: filters.
        strides: distance between outputs, along each spatial axis; 1 by default.
        padding: ``SAME`` pads with zeros so that the output has ``ceil(size / stride)`` elements, the
            odd zero after; ``VALID`` does not pad; ``CAUSAL`` pads sequences before their first
            element only, so that no output sees what comes after it (van den Oord et al. 2016,
            "WaveNet", section 2.1). Or the zeros before and after, along each axis.
        dilation: distance between the inputs under neighbouring elements of the kernel (Yu and
            Koltun 2016, "Multi-Scale Context Aggregation by Dilated Convolutions", section 2); 1 by
            default.

    Raises:
        ValueError: the numbers of axes do not fit each other, images are to be padded causally, or the
            kernel is larger than the padded inputs.
    """
    geometry = _geometry(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
    if all(size == 1 for size in kernel.shape[:-2]):
        x = jnp.pad(x, ((0, 0), *geometry.pads, (0, 0)))
        x = x[(slice(None), *(slice(None, None, stride) for stride in geometry.strides))]
        return jnp.matmul(x, kernel.reshape(kernel.shape[-2:]))
    if is_partitioned():
        return by_batch(_primitive(geometry, x, kernel))
    return _convolve(x, kernel, geometry)


def _geometry(
    size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    strides: tuple[int, ...] | None,
    padding: Padding,
    dilation: tuple[int, ...] | None,
) -> Geometry:
    axes = len(size)
    strides, dilation = strides or (1,) * axes, dilation or (1,) * axes
    if not len(kernel_size) == len(strides) == len(dilation) == axes:
        raise ValueError(f"kernel {kernel_size}, strides {strides}, dilation {dilation}: inputs have {axes} axes")
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True))
    if padding == "CAUSAL":
        if axes != 1:
            raise ValueError("CAUSAL pads sequences [batch, length, channels]; images have no before and after")
        pads = ((spans[0] - 1, 0),)
    elif isinstance(padding, str):
        pads = tuple(lax.padtype_to_pads(size, spans, strides, padding))
    else:
        pads = padding
    if len(pads) != axes:
        raise ValueError(f"padding {padding}: inputs have {axes} axes")
    if any(n + sum(pad) < span for n, pad, span in zip(size, pads, spans, strict=True)):
        raise ValueError(f"a kernel of {kernel_size}, dilated by {dilation}, does not fit into {size} padded by {pads}")
    return Geometry(tuple(strides), tuple((before, after) for before, after in pads), tuple(dilation))


def _primal(x: Any, kernel: Any, geometry: Geometry) -> Any:
    return lax.platform_dependent(
        x, kernel, cpu=_on_cpu(_value, geometry), default=functools.partial(_primitive, geometry)
    )


def _forward(x: Any, kernel: Any, geometry: Geometry) -> tuple[Any, tuple[Any, Any]]:
    return _primal(x, kernel, geometry), (x, kernel)


def _backward(geometry: Geometry, residuals: tuple[Any, Any], g: Any) -> tuple[Any, Any]:
    # Two separate choices of the backend's form, so that the gradient of the inputs falls away
    # where nothing asks for it (the first layer).
    x, kernel = residuals
    return (
        lax.platform_dependent(x, kernel, g, cpu=_on_cpu(_input_gradient, geometry), default=_gradient(geometry, 0)),
        lax.platform_dependent(x, kernel, g, cpu=_on_cpu(_kernel_gradient, geometry), default=_gradient(geometry, 1)),
    )


_convolve = jax.custom_vjp(_primal, nondiff_argnums=(2,))
_convolve.defvjp(_forward, _backward)


def _primitive(geometry: Geometry, x: Any, kernel: Any) -> Any:
    """Convolution as XLA's own operation."""
    axes = "HW"[: len(geometry.strides)]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=geometry.strides,
        padding=geometry.pads,
        rhs_dilation=geometry.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )


def _gradient(geometry: Geometry, argument: int) -> Any:
    """The function from (x, kernel, g) to the gradient of one of the arguments of XLA's own operation."""

    def gradient(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(functools.partial(_primitive, geometry), x, kernel)[1](g)[argument]

    return gradient


def _on_cpu(form: Any, geometry: Geometry) -> Any:
    """A form for images, in at least 32 bits, as one for the arrays at hand: a sequence is an image of one row."""
    is_sequence = len(geometry.strides) == 1
    if is_sequence:
        geometry = Geometry((1, *geometry.strides), ((0, 0), *geometry.pads), (1, *geometry.dilation))

    def on_images(x: Any, kernel: Any, *g: Any) -> Any:
        arrays = [array.astype(jnp.promote_types(array.dtype, jnp.float32)) for array in (x, kernel, *g)]
        if is_sequence:
            axes = (1, 0, 1)
            arrays = [jnp.expand_dims(array, axis) for array, axis in zip(arrays, axes[: len(arrays)], strict=True)]
        result = form(*arrays, geometry).astype(x.dtype)
        return result.squeeze(0 if form is _kernel_gradient else 1) if is_sequence else result

    return on_images


def _value(x: Any, kernel: Any, geometry: Geometry) -> Any:
    if minimal := _minimal(x, kernel.shape, geometry, channels=32):
        return minimal.value(x, kernel, geometry.pads)
    features = kernel.shape[-1]
    form, extra = _form(features, x.dtype)
    return form.value(x, _widened(kernel, extra), geometry)[..., :features]


def _input_gradient(x: Any, kernel: Any, g: Any, geometry: Geometry) -> Any:
    size = x.shape[1:3]
    if geometry.strides == (1, 1):
        return _value(g, patches.flipped(kernel), patches.backwards(size, g.shape[1:3], kernel.shape[:2], geometry))
    channels = x.shape[-1]
    form, extra = _form(channels, x.dtype)
    return form.input_gradient(g, _widened(kernel, extra, axis=2), size, geometry)[..., :channels]


def _kernel_gradient(x: Any, kernel: Any, g: Any, geometry: Geometry) -> Any:
    if minimal := _minimal(x, kernel.shape, geometry, channels=64):
        return minimal.kernel_gradient(x, g, geometry.pads)
    features = g.shape[-1]
    form, extra = _form(features, x.dtype)
    shape = (*kernel.shape[:-1], features + extra)
    return form.kernel_gradient(x, _widened(g, extra), shape, geometry)[..., :features]


def _form(features: int, dtype: Any) -> tuple[Any, int]:
    """The form for results of so many features, and how many more of zeros fill the processor's vectors for it."""
    if native.fits(features, dtype):
        return direct, 0
    if features >= 64 and native.is_available():
        extra = -features % (engines.vector_bytes() // dtype.itemsize)
        return (direct, extra) if native.fits(features + extra, dtype) else (patches, 0)
    return patches, 0


def _widened(array: Any, extra: int, axis: int = -1) -> Any:
    """The array with so many zeros more along an axis."""
    if not extra:
        return array
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, extra)
    return jnp.pad(array, widths)


def _minimal(x: Any, kernel_shape: tuple[int, ...], geometry: Geometry, channels: int) -> Any:
    """Winograd's form for 3x3 kernels on images of some size, where it was faster; else None.

    As machine code it always was. As operations of XLA's it is with so many channels; with fewer its transformations
    take longer than the multiplications that it saves, and those of the two operands of the kernel's gradient weigh
    twice as much.
    """
    suits = (
        kernel_shape[:2] == (3, 3)
        and geometry.strides == geometry.dilation == (1, 1)
        and min(geometry.out_size(x.shape[1:3], (3, 3))) >= 4
    )
    if suits and all(native.fits(size, x.dtype) for size in kernel_shape[2:]):
        return direct_winograd
    return winograd if suits and min(kernel_shape[2:]) >= channels else None


class Conv(nn.Module):
    """Convolution of sequences or images, and a bias for each feature (see :func:`convolve`).

    Attributes:
        features: number of output channels.
        kernel_size: of each spatial axis: (length,) or (height, width).
        strides: distance between outputs along each axis; None is 1.
        padding: ``SAME`` (zeros around), ``VALID`` (none), ``CAUSAL`` (before a sequence only), or the
            zeros before and after along each axis.
        dilation: distance between the inputs under neighbouring elements of the kernel; None is 1.
        use_bias: whether there is a bias.
        kernel_init: initialiser of ``kernel`` [*kernel_size, channels, features]. The default is
            He's normal (variance 2 / inputs of one output; He et al. 2015, "Delving Deep into
            Rectifiers", equation 10), since a rectifier usually follows.
        bias_init: initialiser of ``bias`` [features].
    """

    features: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "SAME"
    dilation: tuple[int, ...] | None = None
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Float[Array, "batch *size channels"]) -> Float[Array, "batch *out_size features"]:
        """Convolve the sequences or images ``x``."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        y = convolve(x, kernel, self.strides, self.padding, self.dilation)
        if not self.use_bias:
            return y
        bias = self.param("bias", self.bias_init, (self.features,))
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
