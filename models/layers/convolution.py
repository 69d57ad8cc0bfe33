"""Two-dimensional convolution, formulated for the backend it runs on."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

Padding = Literal["SAME", "VALID"]


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width channels features"],
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
) -> Float[Array, "batch out_height out_width features"]:
    """``y[b, h, w, f] = Σ_ijc x[b, s h + i - p, s w + j - q, c] kernel[i, j, c, f]``, zero outside ``x``.

    This is cross-correlation, as every deep learning library means by convolution. On CPU it is
    one product of the matrix of all patches with the kernel (Chellapilla et al. 2006, "High
    Performance Convolutional Neural Networks for Document Processing", section 4), because XLA's
    own convolution is several times slower inside a loop there. Elsewhere it is XLA's own.

    Args:
        x: images.
        kernel: filters.
        strides: (vertical, horizontal) distance between outputs, in pixels.
        padding: ``SAME`` pads with zeros so that the output has ``ceil(size / stride)`` pixels, the
            odd zero after; ``VALID`` does not pad.
    """
    return _convolve(x, kernel, strides, padding)


def _primal(x: Any, kernel: Any, strides: tuple[int, int], padding: Padding) -> Any:
    return lax.platform_dependent(x, kernel, cpu=_as_product(strides, padding), default=_as_primitive(strides, padding))


def _forward(x: Any, kernel: Any, strides: tuple[int, int], padding: Padding) -> tuple[Any, tuple[Any, Any]]:
    return _primal(x, kernel, strides, padding), (x, kernel)


def _backward(strides: tuple[int, int], padding: Padding, residuals: tuple[Any, Any], g: Any) -> tuple[Any, Any]:
    # Two separate choices of the backend's form, so that the gradient of the images falls away
    # where nothing asks for it (the first layer).
    product, primitive = _as_product(strides, padding), _as_primitive(strides, padding)
    return (
        lax.platform_dependent(*residuals, g, cpu=_gradient(product, 0), default=_gradient(primitive, 0)),
        lax.platform_dependent(*residuals, g, cpu=_gradient(product, 1), default=_gradient(primitive, 1)),
    )


_convolve = jax.custom_vjp(_primal, nondiff_argnums=(2, 3))
_convolve.defvjp(_forward, _backward)


def _gradient(form: Any, argument: int) -> Any:
    """The function from (x, kernel, g) to the gradient of one of the two arguments of ``form``."""

    def gradient(x: Any, kernel: Any, g: Any) -> Any:
        return jax.vjp(form, x, kernel)[1](g)[argument]

    return gradient


def _as_primitive(strides: tuple[int, int], padding: Padding) -> Any:
    """Convolution as XLA's own operation."""
    return functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _as_product(strides: tuple[int, int], padding: Padding) -> Any:
    """Convolution as a product of patches and kernel."""

    def convolution(x: Any, kernel: Any) -> Any:
        columns = patches(x, kernel.shape[:2], strides, padding)
        return jnp.matmul(columns, kernel.reshape(-1, kernel.shape[-1]))

    return convolution


def patches(
    x: Float[Array, "batch height width channels"],
    kernel_size: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
) -> Float[Array, "batch out_height out_width patch"]:
    """The pixels under the kernel at each of its places, ordered (row, column, channel).

    Args:
        x: images.
        kernel_size: (height, width) of the kernel in pixels.
        strides: (vertical, horizontal) distance between patches, in pixels.
        padding: as for :func:`convolve`.
    """
    pads = lax.padtype_to_pads(x.shape[1:3], kernel_size, strides, padding)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (
        (size - kernel) // stride * stride + 1
        for size, kernel, stride in zip(x.shape[1:3], kernel_size, strides, strict=True)
    )
    shifted = [
        x[:, i : i + rows : strides[0], j : j + columns : strides[1]]
        for i in range(kernel_size[0])
        for j in range(kernel_size[1])
    ]
    return jnp.concatenate(shifted, axis=-1)


class Conv(nn.Module):
    """Convolution of images and a bias for each feature (see :func:`convolve`).

    Attributes:
        features: number of output channels.
        kernel_size: (height, width) of the kernel in pixels.
        strides: (vertical, horizontal) distance between outputs in pixels.
        padding: ``SAME`` (zeros around) or ``VALID`` (none).
        use_bias: whether there is a bias.
        kernel_init: initialiser of ``kernel`` [height, width, channels, features]. The default is
            He's normal (variance 2 / inputs of one output; He et al. 2015, "Delving Deep into
            Rectifiers", equation 10), since a rectifier usually follows.
        bias_init: initialiser of ``bias`` [features].
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch out_height out_width features"]:
        """Convolve the images ``x``."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        y = convolve(x, kernel, self.strides, self.padding)
        if not self.use_bias:
            return y
        bias = self.param("bias", self.bias_init, (self.features,))
        return y + jnp.expand_dims(bias, (0, 1, 2))
