"""Convolution with 3x3 kernels by Winograd's minimal filtering, F(2x2, 3x3).

An output tile of 2x2 comes from an input tile of 4x4 with 16 multiplications instead of 36 for each
pair of channels (Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural
Networks", section 4.1): ``Y = A^T [(G k G^T) * (B^T d B)] A``, and summed over channels the products
are 16 matrix products. It is exact in exact arithmetic; the entries of B are 0 and 1, so that in
floating point its error is no larger than that of a sum of products.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

B_T = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
A_T = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

# Over both axes at once: of 16 points (rows of the transformed tile first) and 9 elements of the kernel.
KERNEL = np.kron(G, G)
INPUTS = np.kron(B_T, B_T)
OUTPUTS = np.kron(A_T, A_T)


def value(x: Any, kernel: Any, pads: tuple[tuple[int, int], ...]) -> Any:
    """Convolution of images with 3x3 kernels, zeros before and after each axis (also negative: cropped)."""
    size = tuple(n + sum(pad) - 2 for n, pad in zip(x.shape[1:3], pads, strict=True))
    products = [v @ u for v, u in zip(_transformed(x, size, pads), kernels(kernel), strict=True)]
    tiles = tuple((n + 1) // 2 for n in size)
    products = [product.reshape(x.shape[0], *tiles, -1) for product in products]
    y = [_combine(row, products) for row in OUTPUTS]  # pixels of even and odd rows and columns
    y = jnp.stack([jnp.stack(y[:2], axis=3), jnp.stack(y[2:], axis=3)], axis=2)
    return y.reshape(x.shape[0], 2 * tiles[0], 2 * tiles[1], -1)[:, : size[0], : size[1]]


def kernel_gradient(x: Any, g: Any, pads: tuple[tuple[int, int], ...]) -> Any:
    """Gradient of the kernel [3, 3, channels, features], given that of the outputs."""
    size, features = g.shape[1:3], g.shape[-1]
    g = jnp.pad(g, ((0, 0), *((0, n % 2) for n in size), (0, 0)))
    pixels = [g[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    spread = [_combine(column, pixels).reshape(-1, features) for column in OUTPUTS.T]
    products = jnp.stack([v.T @ e for v, e in zip(_transformed(x, size, pads), spread, strict=True)])
    return kernels_back(products)


def kernels(kernel: Any) -> Any:
    """G k G^T for each pair of channels: [16, channels, features]."""
    return _apply(KERNEL, kernel.reshape(9, *kernel.shape[2:]))


def kernels_back(points: Any) -> Any:
    """The gradient of a kernel [3, 3, channels, features], given that of :func:`kernels`."""
    return _apply(KERNEL.T, points).reshape(3, 3, *points.shape[1:])


def _transformed(x: Any, size: tuple[int, ...], pads: tuple[tuple[int, int], ...]) -> list[Any]:
    """B^T d B of each tile d: 16 matrices of tiles and channels. Tiles overlap by 2."""
    tiles = [(n + 1) // 2 for n in size]
    widths = [(before, 2 * t + 2 - n - before) for n, t, (before, _) in zip(x.shape[1:3], tiles, pads, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in widths), (0, 0, 0)])
    corners = [x[:, i : i + 2 * tiles[0] : 2, j : j + 2 * tiles[1] : 2] for i in range(4) for j in range(4)]
    return [_combine(row, corners).reshape(-1, x.shape[-1]) for row in INPUTS]


def _apply(matrix: np.ndarray, x: Any) -> Any:
    """The matrix times ``x`` along its first axis."""
    return (jnp.asarray(matrix, x.dtype) @ x.reshape(x.shape[0], -1)).reshape(-1, *x.shape[1:])


def _combine(coefficients: np.ndarray, arrays: list[Any]) -> Any:
    """Sum of arrays with coefficients 0, 1 and -1."""
    total = None
    for coefficient, array in zip(coefficients, arrays, strict=True):
        if coefficient:
            signed = array if coefficient > 0 else -array
            total = signed if total is None else total + signed
    return total
