"""Convolution of images as matrix products of patches, in blocks of the batch that stay in a core's cache.

The matrix of all patches (Chellapilla et al. 2006, "High Performance Convolutional Neural Networks
for Document Processing", section 4) has every pixel once for each element of the kernel, and writing it
takes longer than the product. Here, where rows are not skipped, only the pixels of a row are
gathered (``kernel_width`` times the memory), one product forms what each row adds to each of the
``kernel_height`` rows of outputs, and these are summed. All three functions do as many operations as
the direct sum.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

BLOCK_BYTES = 1_600_000
"""Patches and products of a block of the batch: about as much as the second-level cache holds."""


class Geometry(NamedTuple):
    """How a kernel moves over its inputs; one entry for each spatial axis.

    Attributes:
        strides: distance between outputs.
        pads: zeros before and after; less than zero crops.
        dilation: distance between the inputs that one output sees.
    """

    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    def along(self, axis: int) -> tuple[int, tuple[int, int], int]:
        """Stride, zeros before and after, and dilation along one axis."""
        return self.strides[axis], self.pads[axis], self.dilation[axis]

    def out_size(self, size: tuple[int, ...], kernel_size: tuple[int, ...]) -> tuple[int, ...]:
        """Elements of the output along each axis."""
        return tuple(
            (n + sum(pad) - d * (k - 1) - 1) // s + 1 for n, k, s, pad, d in zip(size, kernel_size, *self, strict=True)
        )


def value(x: Any, kernel: Any, geometry: Geometry) -> Any:
    """Convolution of images [batch, height, width, channels]."""
    (kernel_height, _, _, features), rows = kernel.shape, geometry.out_size(x.shape[1:3], kernel.shape[:2])[0]
    (stride, _), (pad, _), (dilation, _) = geometry

    def of_block(x: Any) -> Any:
        if stride > 1 or kernel_height == 1:
            return jnp.matmul(_patches(x, kernel.shape, geometry), kernel.reshape(-1, features))
        columns = _columns(x, kernel.shape, geometry)
        products = jnp.matmul(columns, kernel.swapaxes(0, 1).swapaxes(1, 2).reshape(columns.shape[-1], -1))
        products = _pad(products.reshape(*columns.shape[:3], kernel_height, features), 1, *pad)
        return sum(products[:, i * dilation : i * dilation + rows, :, i] for i in range(kernel_height))

    return _map(of_block, x, _bytes(x, kernel.shape, geometry))


def kernel_gradient(x: Any, g: Any, kernel_shape: tuple[int, ...], geometry: Geometry) -> Any:
    """Gradient of the kernel, given that of the outputs."""
    kernel_height, kernel_width, channels, features = kernel_shape
    (stride, _), ((before, _), _), (dilation, _) = geometry

    def of_block(x: Any, g: Any) -> Any:
        if stride > 1 or kernel_height == 1:
            return _transposed_product(_patches(x, kernel_shape, geometry), g).reshape(kernel_shape)
        # Row h of the inputs meets row h + before - i dilation of the outputs.
        height, reach = x.shape[1], dilation * (kernel_height - 1)
        g = _pad(g, 1, reach - before, height - g.shape[1] + before)
        starts = [dilation * i for i in reversed(range(kernel_height))]
        rows = jnp.concatenate([g[:, start : start + height] for start in starts], axis=-1)
        product = _transposed_product(_columns(x, kernel_shape, geometry), rows)
        return product.reshape(kernel_width, channels, kernel_height, features).transpose(2, 0, 1, 3)

    return _sum(of_block, x, g, jnp.zeros(kernel_shape, x.dtype), _bytes(x, kernel_shape, geometry))


def input_gradient(g: Any, kernel: Any, size: tuple[int, ...], geometry: Geometry) -> Any:
    """Gradient of the images, whose height and width are ``size``, given that of the outputs."""
    if geometry.strides == (1, 1):
        return value(g, flipped(kernel), backwards(size, g.shape[1:3], kernel.shape[:2], geometry))
    kernel_height, kernel_width, channels, features = kernel.shape
    weights = kernel.reshape(-1, features).T
    bytes_of_one = g.dtype.itemsize * math.prod(g.shape[1:3]) * 2 * weights.size // features

    def of_block(g: Any) -> Any:
        products = jnp.matmul(g, weights).reshape(*g.shape[:3], kernel_height, kernel_width * channels)
        rows = _interleave(products, 1, size[0], 0, geometry)
        rows = rows.reshape(*rows.shape[:3], kernel_width, channels)
        return _interleave(rows, 2, size[1], 1, geometry)

    return _map(of_block, g, bytes_of_one)


def flipped(kernel: Any) -> Any:
    """The kernel that takes gradients of outputs to gradients of inputs."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def backwards(
    size: tuple[int, ...], out_size: tuple[int, ...], kernel_size: tuple[int, ...], geometry: Geometry
) -> Geometry:
    """The geometry of the flipped kernel over the gradient of outputs, where the stride is 1."""
    spans = [d * (k - 1) for k, d in zip(kernel_size, geometry.dilation, strict=True)]
    lows = [span - before for span, (before, _) in zip(spans, geometry.pads, strict=True)]
    pads = tuple((low, n - out - low + span) for n, out, low, span in zip(size, out_size, lows, spans, strict=True))
    return geometry._replace(pads=pads)


def _columns(x: Any, kernel_shape: tuple[int, ...], geometry: Geometry) -> Any:
    """The pixels of its row under the kernel at each place: [batch, height, out_width, column and channel]."""
    return jnp.concatenate(_shifted(x, 2, kernel_shape[1], 1, geometry), axis=-1)


def _patches(x: Any, kernel_shape: tuple[int, ...], geometry: Geometry) -> Any:
    """All pixels under the kernel at each place: [batch, out_height, out_width, row, column and channel]."""
    rows = _shifted(x, 1, kernel_shape[0], 0, geometry)
    return jnp.concatenate([p for row in rows for p in _shifted(row, 2, kernel_shape[1], 1, geometry)], axis=-1)


def _shifted(x: Any, axis: int, taps: int, spatial: int, geometry: Geometry) -> list[Any]:
    """What lies under each element of the kernel along one axis, at all its places."""
    stride, pad, dilation = geometry.along(spatial)
    x = _pad(x, axis, *pad)
    count = (x.shape[axis] - dilation * (taps - 1) - 1) // stride + 1
    starts = [i * dilation for i in range(taps)]
    return [lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis) for start in starts]


def _interleave(products: Any, axis: int, size: int, spatial: int, geometry: Geometry) -> Any:
    """Sums, for each place of the input, what the outputs that see it add to it.

    Args:
        products: what each output adds, with the element of the kernel as the last axis but one.
        axis: the spatial axis that becomes that of the input.
        size: its length then.
        spatial: the number of that axis in the geometry.
        geometry: of the convolution.
    """
    stride, (before, _), dilation = geometry.along(spatial)
    count = math.ceil(size / stride)
    phases = []
    for phase in range(stride):  # places that are equal modulo the stride are seen by the same elements
        places = [divmod(i * dilation - before - phase, stride) for i in range(products.shape[-2])]
        seen = [
            _pad(products[..., i, :], axis, low, count - products.shape[axis] - low)
            for i, (low, remainder) in enumerate(places)
            if not remainder
        ]
        unseen = jnp.zeros((*products.shape[:axis], count, *products.shape[axis + 1 : -2], products.shape[-1]))
        phases.append(sum(seen) if seen else unseen.astype(products.dtype))
    stacked = jnp.stack(phases, axis=axis + 1)
    merged = stacked.reshape(*stacked.shape[:axis], count * stride, *stacked.shape[axis + 2 :])
    return lax.slice_in_dim(merged, 0, size, axis=axis)


def _pad(x: Any, axis: int, before: int, after: int) -> Any:
    """Zeros before and after along one axis; less than none crops."""
    if not before and not after:
        return x
    widths = [(before, after, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), widths)


def _transposed_product(a: Any, b: Any) -> Any:
    """Sum over all but the last axis of the outer products of ``a`` and ``b``."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


def _bytes(x: Any, kernel_shape: tuple[int, ...], geometry: Geometry) -> int:
    """Memory for the patches and products of one image."""
    kernel_height, kernel_width, channels, features = kernel_shape
    rows, columns = geometry.out_size(x.shape[1:3], kernel_shape[:2])
    if geometry.strides[0] > 1:
        return x.dtype.itemsize * rows * columns * (kernel_height * kernel_width * channels + features)
    return x.dtype.itemsize * x.shape[1] * columns * (kernel_width * channels + kernel_height * features)


def _block(batch: int, bytes_of_one: int) -> int:
    """The most examples, a divisor of the batch, that are not more than a block; all where there is no good one."""
    most = max(1, BLOCK_BYTES // max(bytes_of_one, 1))
    block = max(n for n in range(1, min(most, batch) + 1) if batch % n == 0)
    return block if 4 * block >= most else batch


def _map(function: Callable[[Any], Any], x: Any, bytes_of_one: int) -> Any:
    """``function`` of the batch ``x``, block by block."""
    block = _block(len(x), bytes_of_one)
    if block == len(x):
        return function(x)
    y = lax.map(function, x.reshape(-1, block, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def _sum(function: Callable[[Any, Any], Any], x: Any, g: Any, zero: Any, bytes_of_one: int) -> Any:
    """Sum of ``function`` over the blocks of the batches ``x`` and ``g``."""
    block = _block(len(x), bytes_of_one)
    if block == len(x):
        return function(x, g)
    blocks = x.reshape(-1, block, *x.shape[1:]), g.reshape(-1, block, *g.shape[1:])
    return lax.scan(lambda total, pair: (total + function(*pair), None), zero, blocks)[0]
