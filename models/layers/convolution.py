"""Convolution of sequences and images, formulated for the backend it runs on."""

import functools
import itertools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

Padding = Literal["SAME", "VALID", "CAUSAL"] | tuple[tuple[int, int], ...]


class Geometry(NamedTuple):
    """How a kernel moves over its inputs; one entry for each spatial axis.

    Attributes:
        strides: distance between outputs.
        pads: zeros before and after.
        dilation: distance between the inputs that one output sees.
    """

    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]


def convolve(
    x: Float[Array, "batch *size channels"],
    kernel: Float[Array, "*kernel_size channels features"],
    strides: tuple[int, ...] | None = None,
    padding: Padding = "SAME",
    dilation: tuple[int, ...] | None = None,
) -> Float[Array, "batch *out_size features"]:
    """``y[b, t, f] = Σ_ic x[b, s t + d i - p, c] kernel[i, c, f]``, zero outside ``x``; images alike over two axes.

    This is cross-correlation, as every deep learning library means by convolution. On CPU it is
    one product of the matrix of all patches with the kernel (Chellapilla et al. 2006, "High
    Performance Convolutional Neural Networks for Document Processing", section 4), because XLA's
    own convolution is several times slower inside a loop there. Elsewhere it is XLA's own. With a
    kernel of one element it is a plain product everywhere.

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
        return jnp.matmul(
            _shifted(_pad(x, geometry), kernel.shape[:-2], geometry)[0], kernel.reshape(kernel.shape[-2:])
        )
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
    return lax.platform_dependent(x, kernel, cpu=_as_product(geometry), default=_as_primitive(geometry))


def _forward(x: Any, kernel: Any, geometry: Geometry) -> tuple[Any, tuple[Any, Any]]:
    return _primal(x, kernel, geometry), (x, kernel)


def _backward(geometry: Geometry, residuals: tuple[Any, Any], g: Any) -> tuple[Any, Any]:
    # Two separate choices of the backend's form, so that the gradient of the inputs falls away
    # where nothing asks for it (the first layer).
    product, primitive = _as_product(geometry), _as_primitive(geometry)
    return (
        lax.platform_dependent(*residuals, g, cpu=_gradient(product, 0), default=_gradient(primitive, 0)),
        lax.platform_dependent(*residuals, g, cpu=_gradient(product, 1), default=_gradient(primitive, 1)),
    )


_convolve = jax.custom_vjp(_primal, nondiff_argnums=(2,))
_convolve.defvjp(_forward, _backward)


def _gradient(form: Any, argument: int) -> Any:
    """The function from (x, kernel, g) to the gradient of one of the two arguments of ``form``."""

    def gradient(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(form, x, kernel)[1](g)[argument]

    return gradient


def _as_primitive(geometry: Geometry) -> Any:
    """Convolution as XLA's own operation."""
    axes = "HW"[: len(geometry.strides)]
    return functools.partial(
        lax.conv_general_dilated,
        window_strides=geometry.strides,
        padding=geometry.pads,
        rhs_dilation=geometry.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )


def _as_product(geometry: Geometry) -> Any:
    """Convolution as a product of patches and kernel."""

    def convolution(x: Any, kernel: Any) -> Any:
        patches = jnp.concatenate(_shifted(_pad(x, geometry), kernel.shape[:-2], geometry), axis=-1)
        return jnp.matmul(patches, kernel.reshape(-1, kernel.shape[-1]))

    return convolution


def _pad(x: Any, geometry: Geometry) -> Any:
    return jnp.pad(x, ((0, 0), *geometry.pads, (0, 0)))


def _shifted(x: Any, kernel_size: tuple[int, ...], geometry: Geometry) -> list[Any]:
    """What lies under each element of the kernel at all its places in the padded ``x``, row by row."""
    moves = list(zip(kernel_size, geometry.strides, geometry.dilation, strict=True))
    reach = [(n - d * (k - 1) - 1) // s * s + 1 for n, (k, s, d) in zip(x.shape[1:-1], moves, strict=True)]
    return [
        x[(slice(None), *(slice(at, at + n, s) for at, n, s in zip(corner, reach, geometry.strides, strict=True)))]
        for corner in itertools.product(*(range(0, d * k, d) for k, _, d in moves))
    ]


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
