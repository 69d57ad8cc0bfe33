"""Pooling of images."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def max_pool(
    x: Float[Array, "batch height width channels"], window: int = 2
) -> Float[Array, "batch out_height out_width channels"]:
    """The maximum of each window; windows are square and do not overlap.

    Rows and columns that do not fill a window are left out. The gradient goes to the first maximum
    of a window, rows before columns, which is also what XLA's ``reduce_window`` and PyTorch do. It
    is written by hand since XLA's scatter is slow on CPU and automatic differentiation of a maximum
    shares the gradient among equals.

    Args:
        x: images.
        window: side of the window, and distance between windows, in pixels.
    """
    return _max_pool(x, window)


def _primal(x: Any, window: int) -> Any:
    return _windows(x, window).max(axis=(2, 4))


def _windows(x: Any, window: int) -> Any:
    """``x`` as [batch, out_height, window, out_width, window, channels], without what fills no window."""
    batch, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x[:, : rows * window, : columns * window]
    return x.reshape(batch, rows, window, columns, window, channels)


def _forward(x: Any, window: int) -> tuple[Any, Any]:
    return _primal(x, window), x


def _backward(window: int, x: Any, g: Any) -> tuple[Any]:
    # Equality with the maximum needs one rounding of x. XLA on CPU may fuse x in here and round its
    # multiply-adds in two ways: another form of this gradient lost its way so behind a sum of products, and
    # a barrier did not help. A matrix product, bias and rectifier before this leave nothing to round twice.
    # Comparing elements with each other instead would be proof against it, but cost a sixth of a CNN's step.
    windows = _windows(x, window)
    y = windows.max(axis=(2, 4))
    taken = jnp.zeros(y.shape, bool)
    rows = []
    for i in range(window):
        row = []
        for j in range(window):
            is_maximum = windows[:, :, i, :, j] == y
            row.append(jnp.where(is_maximum & ~taken, g, jnp.zeros((), g.dtype)))
            taken |= is_maximum
        rows.append(jnp.stack(row, axis=3))
    gradient = jnp.stack(rows, axis=2)
    batch, height, width, channels = x.shape
    covered = (height // window * window, width // window * window)
    gradient = gradient.reshape(batch, *covered, channels)
    return (jnp.pad(gradient, ((0, 0), (0, height - covered[0]), (0, width - covered[1]), (0, 0))),)


_max_pool = jax.custom_vjp(_primal, nondiff_argnums=(1,))
_max_pool.defvjp(_forward, _backward)
