"""Pooling: maxima and averages over windows of images and sequences, over all of one, and over time."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from models.layers import direct_pooling, native

Pads = tuple[tuple[int, int], ...]
"""Padding before and after, along each spatial axis."""


class _Windows(NamedTuple):
    """Where windows lie on images: size and distance in pixels, and padding before and after, along each axis."""

    size: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads

    @property
    def is_tiling(self) -> bool:
        """Whether windows lie side by side, without padding."""
        return self.size == self.stride and not any(map(any, self.pads))

    def count(self, size: tuple[int, ...]) -> list[int]:
        """The number of windows along each axis of images of this size."""
        axes = zip(size, self.pads, self.size, self.stride, strict=True)
        return [(length + sum(pad) - side) // stride + 1 for length, pad, side, stride in axes]


def _windows(x: Any, window: int, stride: int | None, pads: Pads | None) -> tuple[Any, _Windows]:
    """Images and the windows on them; a sequence is an image of one row, on which windows are one pixel high."""
    size = x.shape[1:-1]
    stride, pads = stride or window, pads or ((0, 0),) * len(size)
    if len(size) not in (1, 2) or len(pads) != len(size):
        raise ValueError(
            f"padding {pads}: inputs of shape {x.shape} are to have one or two axes between batch and channels"
        )
    if len(size) == 1:
        x, windows = x[:, None], _Windows((1, window), (1, stride), ((0, 0), *pads))
    else:
        windows = _Windows((window, window), (stride, stride), pads)
    if min(windows.count(x.shape[1:3])) < 1 or max(map(max, pads)) >= window:
        raise ValueError(f"windows of {window} with padding {pads} do not fit inputs of {size}")
    return x, windows


def max_pool(
    x: Float[Array, "batch *size channels"], window: int = 2, stride: int | None = None, pads: Pads | None = None
) -> Float[Array, "batch *out_size channels"]:
    """The maximum of each window, ``(size + padding - window) // stride + 1`` windows along an axis.

    What no window covers at the end of an axis is left out. Padding is minus infinity. The gradient
    goes to the first maximum of a window, rows before columns, which is also what XLA's
    ``reduce_window`` and PyTorch do. It is written by hand since XLA's scatter is slow on CPU and
    automatic differentiation of a maximum shares the gradient among equals.

    Args:
        x: images [batch, height, width, channels] or sequences [batch, time, channels].
        window: side of the window in pixels, or its length in positions.
        stride: distance between windows; None is the window's side.
        pads: added before and after, along each axis; None for nothing.

    Raises:
        ValueError: there is no window, or one of padding alone.
    """
    images, windows = _windows(x, window, stride, pads)
    pooled = _max_pool(images, windows)
    return pooled if x.ndim == 4 else pooled[:, 0]


def average_pool(
    x: Float[Array, "batch *size channels"], window: int = 2, stride: int | None = None, pads: Pads | None = None
) -> Float[Array, "batch *out_size channels"]:
    """The mean of each window's pixels; padding is not counted. Arguments as for :func:`max_pool`.

    LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", section II.B, whose
    subsampling also has a trained factor and bias for each map.

    Raises:
        ValueError: there is no window, or one of padding alone.
    """
    images, windows = _windows(x, window, stride, pads)
    count = math.prod(windows.size)
    if any(map(any, windows.pads)):
        count = _sum_pool(jnp.ones((1, *images.shape[1:3], 1), x.dtype), windows)
    mean = _sum_pool(images, windows) / count
    return mean if x.ndim == 4 else mean[:, 0]


def global_average_pool(x: Float[Array, "batch *size channels"]) -> Float[Array, "batch channels"]:
    """The mean of each channel (Lin et al. 2014, "Network in Network", section 3.2), in at least 32 bits."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)), dtype=jnp.promote_types(x.dtype, jnp.float32)).astype(x.dtype)


def max_over_time(
    x: Float[Array, "batch time features"], mask: Bool[Array, "batch time"] | None = None
) -> Float[Array, "batch features"]:
    """The maximum of each feature over the positions where the mask is true.

    Collobert et al. 2011, "Natural Language Processing (Almost) from Scratch", section 3.2.2. The
    gradient goes to the first maximum.

    Args:
        x: features of each position.
        mask: positions that count, at least one in each row; None for all.
    """
    counted = x if mask is None else jnp.where(mask[:, :, None], x, -math.inf)
    return _over_time(counted) if direct_pooling.fits_over_time(counted) else _first_maximum(counted)


def _first_maximum(x: Any) -> Any:
    first = jnp.argmax(x, axis=1)
    chosen = jnp.arange(x.shape[1])[None, :, None] == first[:, None]
    return jnp.where(chosen, x, jnp.zeros((), x.dtype)).sum(1)


@jax.custom_vjp
def _over_time(x: Any) -> Any:
    return lax.platform_dependent(x, cpu=direct_pooling.over_time, default=_first_maximum)


def _over_time_forward(x: Any) -> tuple[Any, Any]:
    return _over_time(x), x


def _over_time_backward(x: Any, g: Any) -> tuple[Any]:
    def portable(x: Any, g: Any) -> Any:
        return jax.vjp(_first_maximum, x)[1](g)[0]

    return (lax.platform_dependent(x, g, cpu=direct_pooling.over_time_gradient, default=portable),)


_over_time.defvjp(_over_time_forward, _over_time_backward)


def _tiles(x: Any, windows: _Windows) -> Any:
    """Images as [batch, rows, height, columns, width, channels], without what fills no window of height x width."""
    batch, _, _, channels = x.shape
    (rows, columns), (height, width) = windows.count(x.shape[1:3]), windows.size
    return x[:, : rows * height, : columns * width].reshape(batch, rows, height, columns, width, channels)


def _from_tiles(tiles: Any, shape: tuple[int, ...]) -> Any:
    """The transpose of :func:`_tiles`: images of this shape, zero where there is no window."""
    _, rows, height, columns, width, channels = tiles.shape
    image = tiles.reshape(-1, rows * height, columns * width, channels)
    return jnp.pad(image, ((0, 0), (0, shape[1] - rows * height), (0, shape[2] - columns * width), (0, 0)))


def _elements(x: Any, windows: _Windows, fill: float) -> list[Any]:
    """The elements of all windows: one array [batch, rows, columns, channels] for each place in a window."""
    (height, width), (down, right), pads = windows
    if windows.is_tiling:
        tiles = _tiles(x, windows)
        return [tiles[:, :, i, :, j] for i in range(height) for j in range(width)]
    rows, columns = windows.count(x.shape[1:3])
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    last = ((rows - 1) * down + 1, (columns - 1) * right + 1)
    return [x[:, i : i + last[0] : down, j : j + last[1] : right] for i in range(height) for j in range(width)]


def _assemble(parts: list[Any], windows: _Windows, size: tuple[int, int]) -> Any:
    """The transpose of :func:`_elements`: an image that sums at each pixel what its places in windows hold.

    Pixels of equal position modulo the stride lie at the same places of their windows: each such
    phase is a sum of a few arrays, and the image interleaves the phases.
    """
    (height, width), (down, right), pads = windows
    batch, rows, columns, channels = parts[0].shape
    # Earlier windows, along each axis, that cover a pixel as well.
    above, before = (height - 1) // down, (width - 1) // right
    nothing = jnp.zeros((batch, rows + above, columns + before, channels), parts[0].dtype)

    def phase(i: int, j: int) -> Any:
        terms = [
            jnp.pad(parts[(i + a * down) * width + j + b * right], ((0, 0), (a, above - a), (b, before - b), (0, 0)))
            for a in range(above + 1)
            for b in range(before + 1)
            if i + a * down < height and j + b * right < width
        ]
        return sum(terms, start=nothing)

    grid = jnp.stack([jnp.stack([phase(i, j) for j in range(right)], axis=3) for i in range(down)], axis=2)
    covered = [(rows + above) * down, (columns + before) * right]
    image = grid.reshape(batch, *covered, channels)
    # From the image with padding, of which windows may cover less or more, to the image without.
    margins = [(pad[0], pad[0] + length) for pad, length in zip(pads, size, strict=True)]
    missing = [max(0, stop - length) for (_, stop), length in zip(margins, covered, strict=True)]
    image = jnp.pad(image, ((0, 0), *((0, extra) for extra in missing), (0, 0)))
    return image[:, slice(*margins[0]), slice(*margins[1])]


def _max_primal(x: Any, windows: _Windows) -> Any:
    portable = functools.partial(_max, windows)
    if not _is_direct(x, windows):
        return portable(x)
    return lax.platform_dependent(x, cpu=lambda x: direct_pooling.value(x, windows.size), default=portable)


def _is_direct(x: Any, windows: _Windows) -> bool:
    """Whether there is machine code for it on CPU."""
    return windows.is_tiling and native.fits(x.shape[-1], x.dtype)


def _max(windows: _Windows, x: Any) -> Any:
    if windows.is_tiling:
        return _tiles(x, windows).max(axis=(2, 4))
    return functools.reduce(jnp.maximum, _elements(x, windows, -math.inf))


def _max_forward(x: Any, windows: _Windows) -> tuple[Any, Any]:
    return _max_primal(x, windows), x


def _max_backward(windows: _Windows, x: Any, g: Any) -> tuple[Any]:
    portable = functools.partial(_max_gradient, windows)
    if not _is_direct(x, windows):
        return (portable(x, g),)
    return (
        lax.platform_dependent(x, g, cpu=lambda x, g: direct_pooling.gradient(x, g, windows.size), default=portable),
    )


def _max_gradient(windows: _Windows, x: Any, g: Any) -> Any:
    # The elements of a window are compared with each other, not with its maximum: where XLA fuses what
    # computes x into several loops, it may round the multiply-adds of each in its own way, and no
    # element would equal the maximum. For the same reason all elements of a tile share one formula.
    place = _place_of_maximum(_elements(x, windows, -math.inf))
    zero, (height, width) = jnp.zeros((), g.dtype), windows.size
    if windows.is_tiling:
        places = jnp.arange(height * width, dtype=place.dtype).reshape(1, 1, height, 1, width, 1)
        tiles = jnp.where(place[:, :, None, :, None] == places, g[:, :, None, :, None], zero)
        return _from_tiles(tiles, x.shape)
    parts = [jnp.where(place == number, g, zero) for number in range(height * width)]
    return _assemble(parts, windows, x.shape[1:3])


def _place_of_maximum(elements: list[Any]) -> Any:
    """The number of the first largest of some arrays, at each of their elements: a tournament."""
    dtype = jnp.uint8 if len(elements) <= 256 else jnp.int32
    contenders = [(element, jnp.asarray(number, dtype)) for number, element in enumerate(elements)]
    while len(contenders) > 1:
        pairs = zip(contenders[::2], contenders[1::2], strict=False)
        winners = [(jnp.maximum(a, b), jnp.where(b > a, j, i)) for (a, i), (b, j) in pairs]
        contenders = winners + contenders[len(winners) * 2 :]
    place = contenders[0][1]
    return jnp.broadcast_to(place, elements[0].shape)


_max_pool = jax.custom_vjp(_max_primal, nondiff_argnums=(1,))
_max_pool.defvjp(_max_forward, _max_backward)


def _sum_primal(x: Any, windows: _Windows) -> Any:
    return _tiles(x, windows).sum((2, 4)) if windows.is_tiling else sum(_elements(x, windows, 0.0))


def _sum_forward(x: Any, windows: _Windows) -> tuple[Any, Any]:
    return _sum_primal(x, windows), x.shape


def _sum_backward(windows: _Windows, shape: Any, g: Any) -> tuple[Any]:
    height, width = windows.size
    if windows.is_tiling:
        tiles = jnp.broadcast_to(g[:, :, None, :, None], (*g.shape[:2], height, g.shape[2], width, g.shape[3]))
        return (_from_tiles(tiles, shape),)
    return (_assemble([g] * (height * width), windows, shape[1:3]),)


_sum_pool = jax.custom_vjp(_sum_primal, nondiff_argnums=(1,))
_sum_pool.defvjp(_sum_forward, _sum_backward)
