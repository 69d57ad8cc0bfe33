"""Recurrences over time: vanilla, GRU and LSTM, each with a gradient formulated for speed.

All take the input projections of every step at once (one product, outside the loop over time) and
scan over time with one product a step. The reverse scan gives the gradients of the gates; those of
the recurrent kernel follow from them as one product over all steps, instead of one a step.

Arrays are time-major inside: ``[time, batch, ...]``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.layers.dense import matmul

Sequence = Float[Array, "time batch hidden"]


def _previous(states: Any, initial: Any) -> Any:
    """The states one step earlier: ``[initial, states[0], ..., states[-2]]``."""
    return jnp.concatenate([initial[None], states[:-1]])


def _kernel_gradient(hidden: Any, gates: Any, kernel: Any) -> Any:
    """The gradient of a recurrent kernel: the sum over time and batch of hidden^T gates."""
    _, pull = jax.vjp(lambda kernel: matmul(hidden, kernel), kernel)
    return pull(gates)[0]


@jax.custom_vjp
def vanilla(
    projected: Float[Array, "time batch hidden"], kernel: Float[Array, "hidden hidden"]
) -> Float[Array, "time batch hidden"]:
    """The simple recurrent network (Elman 1990): ``h_t = tanh(z_t + h_{t-1} U)``, from ``h_0 = 0``.

    Args:
        projected: ``z``, the input's contribution with its bias.
        kernel: ``U``.
    """
    return _vanilla_forward(projected, kernel)[0]


def _vanilla_forward(projected: Any, kernel: Any) -> tuple[Any, Any]:
    def step(h: Any, z: Any) -> tuple[Any, Any]:
        h = jnp.tanh(z + h @ kernel)
        return h, h

    states = jax.lax.scan(step, jnp.zeros_like(projected[0]), projected)[1]
    return states, (states, kernel)


def _vanilla_backward(residuals: Any, g: Any) -> tuple[Any, Any]:
    states, kernel = residuals
    transposed = kernel.T

    def step(dh: Any, at: Any) -> tuple[Any, Any]:
        g, h = at
        dz = (dh + g) * (1 - h * h)
        return dz @ transposed, dz

    _, dz = jax.lax.scan(step, jnp.zeros_like(g[0]), (g, states), reverse=True)
    return dz, _kernel_gradient(_previous(states, jnp.zeros_like(states[0])), dz, kernel)


vanilla.defvjp(_vanilla_forward, _vanilla_backward)


@jax.custom_vjp
def gru(
    projected: Float[Array, "time batch gates"],
    kernel: Float[Array, "hidden gates"],
    bias: Float[Array, " gates"],
) -> Float[Array, "time batch hidden"]:
    """The gated recurrent unit (Cho et al. 2014), reset gate after the recurrent product as in cuDNN and PyTorch.

    With (x_r, x_u, x_n) the projected input, (a_r, a_u, a_n) = h_{t-1} U + b:
    ``r = sigmoid(x_r + a_r)``, ``u = sigmoid(x_u + a_u)``, ``n = tanh(x_n + r a_n)``,
    ``h_t = (1 - u) n + u h_{t-1}``, from ``h_0 = 0``.

    Args:
        projected: the input's contribution with its bias; gates in the order reset, update, new.
        kernel: ``U``.
        bias: ``b``.
    """
    return _gru_forward(projected, kernel, bias)[0]


def _gru_forward(projected: Any, kernel: Any, bias: Any) -> tuple[Any, Any]:
    def step(h: Any, x: Any) -> tuple[Any, Any]:
        a = h @ kernel + bias[None]
        (x_r, x_u, x_n), (a_r, a_u, a_n) = jnp.split(x, 3, axis=-1), jnp.split(a, 3, axis=-1)
        r, u = jax.nn.sigmoid(x_r + a_r), jax.nn.sigmoid(x_u + a_u)
        n = jnp.tanh(x_n + r * a_n)
        h = n + u * (h - n)
        return h, (h, r, u, n, a_n)

    initial = jnp.zeros((projected.shape[1], kernel.shape[0]), projected.dtype)
    states, *gates = jax.lax.scan(step, initial, projected)[1]
    return states, (states, gates, kernel)


def _gru_backward(residuals: Any, g: Any) -> tuple[Any, Any, Any]:
    states, gates, kernel = residuals
    before = _previous(states, jnp.zeros_like(states[0]))
    transposed = kernel.T

    def step(dh: Any, at: Any) -> tuple[Any, Any]:
        g, h, r, u, n, a_n = at
        dh = dh + g
        dn = dh * (1 - u) * (1 - n * n)
        du = dh * (h - n) * u * (1 - u)
        dr = dn * a_n * r * (1 - r)
        da = jnp.concatenate([dr, du, dn * r], axis=-1)
        return da @ transposed + dh * u, (da, dn)

    _, (da, dn) = jax.lax.scan(step, jnp.zeros_like(g[0]), (g, before, *gates), reverse=True)
    dx = jnp.concatenate([da[..., : 2 * kernel.shape[0]], dn], axis=-1)
    return dx, _kernel_gradient(before, da, kernel), jnp.sum(da, axis=(0, 1))


gru.defvjp(_gru_forward, _gru_backward)


@jax.custom_vjp
def lstm(
    projected: Float[Array, "time batch gates"], kernel: Float[Array, "hidden gates"]
) -> Float[Array, "time batch hidden"]:
    """Long short-term memory with a forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    With (i, f, g, o) = z_t + h_{t-1} U: ``c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)``,
    ``h_t = sigmoid(o) tanh(c_t)``, from ``h_0 = c_0 = 0``.

    Args:
        projected: ``z``, the input's contribution with its bias; gates in the order input, forget,
            candidate, output, as in PyTorch.
        kernel: ``U``.
    """
    return _lstm_forward(projected, kernel)[0]


def _lstm_forward(projected: Any, kernel: Any) -> tuple[Any, Any]:
    def step(carry: Any, z: Any) -> tuple[Any, Any]:
        h, c = carry
        i, f, g, o = jnp.split(z + h @ kernel, 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, i, f, g, o)

    zero = jnp.zeros((projected.shape[1], kernel.shape[0]), projected.dtype)
    states, cells, *gates = jax.lax.scan(step, (zero, zero), projected)[1]
    return states, (states, cells, gates, kernel)


def _lstm_backward(residuals: Any, g: Any) -> tuple[Any, Any]:
    states, cells, gates, kernel = residuals
    zero = jnp.zeros_like(states[0])
    transposed = kernel.T

    def step(carry: Any, at: Any) -> tuple[Any, Any]:
        dh, dc = carry
        grad, c, c_before, i, f, g, o = at
        dh = dh + grad
        squashed = jnp.tanh(c)
        do = dh * squashed * o * (1 - o)
        dc = dc + dh * o * (1 - squashed * squashed)
        di, df, dg = dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g)
        dz = jnp.concatenate([di, df, dg, do], axis=-1)
        return (dz @ transposed, dc * f), dz

    scanned = (g, cells, _previous(cells, zero), *gates)
    _, dz = jax.lax.scan(step, (zero, zero), scanned, reverse=True)
    return dz, _kernel_gradient(_previous(states, zero), dz, kernel)


lstm.defvjp(_lstm_forward, _lstm_backward)

GATES: dict[str, int] = {"vanilla": 1, "gru": 3, "lstm": 4}
"""Gates of each cell: the width of its projections, in units of the hidden size."""


def orthogonal_blocks(gates: int) -> Callable[..., Array]:
    """An initialiser for a recurrent kernel [hidden, gates * hidden]: each gate's block orthogonal.

    Orthogonal blocks keep the norm of what they carry (Saxe et al. 2014).
    """

    def init(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        hidden = shape[0]
        keys = jax.random.split(key, gates)
        block = jax.nn.initializers.orthogonal()
        return jnp.concatenate([block(key, (hidden, hidden), dtype) for key in keys], axis=1)

    return init
