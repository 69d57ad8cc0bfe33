"""Recurrences over time: vanilla, GRU and LSTM, each with a gradient formulated for speed.

All take the input projections of every step at once (one product, outside the loop over time) and
scan over time with one product a step. The reverse scan gives the gradients of the gates; those of
the recurrent kernel follow from them as one product over all steps, instead of one a step.

Each begins at ``initial`` (zero where it is None), and each takes ``keep`` [batch, hidden], which
multiplies the previous state in the recurrent product and nowhere else: the mask of recurrent
dropout, one for the whole sequence, scaled (Gal and Ghahramani 2016, equation 7, tied weights). It
is a constant: no gradient is formed for it.

Arrays are time-major inside: ``[time, batch, ...]``. States are held and returned in at least 32
bits, for they are sums over time; where inputs are narrower (bfloat16), a state is rounded to their
format only as it enters a product.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.layers import direct_recurrence
from models.layers.dense import matmul

Sequence = Float[Array, "time batch hidden"]
State = Float[Array, "batch hidden"]


def wide(dtype: Any) -> Any:
    """The number format of a state whose inputs have this one: at least 32 bits."""
    return jnp.promote_types(dtype, jnp.float32)


def previous(states: Any, initial: Any) -> Any:
    """The states one step earlier: ``[initial, states[0], ..., states[-2]]``; None is a zero state."""
    first = jnp.zeros_like(states[0]) if initial is None else initial
    return jnp.concatenate([first[None].astype(states.dtype), states[:-1]])


def _product(h: Any, kernel: Any) -> Any:
    """``h @ kernel``, the state rounded to the kernel's format, the sum in at least 32 bits."""
    return jnp.matmul(h.astype(kernel.dtype), kernel, preferred_element_type=wide(kernel.dtype))


def _kept(h: Any, keep: Any) -> Any:
    return h if keep is None else h * keep.astype(h.dtype)


def kernel_gradient(hidden: Any, gates: Any, kernel: Any) -> Any:
    """The gradient of a recurrent kernel: the sum over time and batch of hidden^T gates."""
    _, pull = jax.vjp(lambda kernel: matmul(hidden.astype(kernel.dtype), kernel), kernel)
    return pull(gates.astype(kernel.dtype))[0]


def _zero(projected: Any, kernel: Any) -> Any:
    return jnp.zeros((projected.shape[1], kernel.shape[0]), wide(projected.dtype))


def _cotangent(gradient: Any, initial: Any) -> Any:
    return None if initial is None else gradient.astype(initial.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def vanilla(
    projected: Float[Array, "time batch hidden"],
    kernel: Float[Array, "hidden hidden"],
    initial: State | None = None,
    keep: State | None = None,
    activation: Literal["tanh", "relu"] = "tanh",
) -> Float[Array, "time batch hidden"]:
    """The simple recurrent network (Elman 1990): ``h_t = tanh(z_t + h_{t-1} U)``, or relu for tanh.

    Args:
        projected: ``z``, the input's contribution with its bias.
        kernel: ``U``.
        initial: ``h_0``; zero where it is None.
        keep: factor of ``h_{t-1}`` in the product.
        activation: tanh, or relu (Le, Jaitly and Hinton 2015).
    """
    return _vanilla_forward(projected, kernel, initial, keep, activation)[0]


def _vanilla_forward(projected: Any, kernel: Any, initial: Any, keep: Any, activation: Any) -> tuple[Any, Any]:
    squash = jnp.tanh if activation == "tanh" else jax.nn.relu

    def step(h: Any, z: Any) -> tuple[Any, Any]:
        h = squash(z + _product(_kept(h, keep), kernel))
        return h, h

    first = _zero(projected, kernel) if initial is None else initial.astype(wide(projected.dtype))
    states = jax.lax.scan(step, first, projected)[1]
    # Of the inputs only the number format is needed, which an array of no elements carries.
    return states, (states, kernel, initial, keep, projected[:0])


def _vanilla_backward(activation: Any, residuals: Any, g: Any) -> tuple[Any, Any, Any, None]:
    states, kernel, initial, keep, empty = residuals
    transposed = kernel.T

    def step(dh: Any, at: Any) -> tuple[Any, Any]:
        g, h = at
        slope = 1 - h * h if activation == "tanh" else (h > 0).astype(h.dtype)
        dz = (dh + g) * slope
        return _kept(_product(dz, transposed), keep), dz.astype(empty.dtype)

    first, dz = jax.lax.scan(step, jnp.zeros_like(g[0]), (g, states), reverse=True)
    dkernel = kernel_gradient(_kept(previous(states, initial), _in_time(keep)), dz, kernel)
    return dz, dkernel, _cotangent(first, initial), None


def _in_time(keep: Any) -> Any:
    return None if keep is None else keep[None]


vanilla.defvjp(_vanilla_forward, _vanilla_backward)


@jax.custom_vjp
def gru(
    projected: Float[Array, "time batch gates"],
    kernel: Float[Array, "hidden gates"],
    bias: Float[Array, " gates"],
    initial: State | None = None,
    keep: State | None = None,
) -> Float[Array, "time batch hidden"]:
    """The gated recurrent unit (Cho et al. 2014), reset gate after the recurrent product as in cuDNN and PyTorch.

    With (x_r, x_u, x_n) the projected input, (a_r, a_u, a_n) = h_{t-1} U + b:
    ``r = sigmoid(x_r + a_r)``, ``u = sigmoid(x_u + a_u)``, ``n = tanh(x_n + r a_n)``,
    ``h_t = (1 - u) n + u h_{t-1}``. Cho et al. have r before the product, and u for 1 - u.

    Args:
        projected: the input's contribution with its bias; gates in the order reset, update, new.
        kernel: ``U``.
        bias: ``b``.
        initial: ``h_0``; zero where it is None.
        keep: factor of ``h_{t-1}`` in the product.
    """
    return _gru_residuals(projected, kernel, bias, initial, keep, with_gates=False)[0]


def gru_step(h: Any, x: Any, a: Any) -> tuple[Any, Any]:
    """One step of :func:`gru` from ``a``: the new state, and (reset gate, update gate, candidate, a_n)."""
    (x_r, x_u, x_n), (a_r, a_u, a_n) = jnp.split(x, 3, axis=-1), jnp.split(a, 3, axis=-1)
    r, u = jax.nn.sigmoid(x_r + a_r), jax.nn.sigmoid(x_u + a_u)
    n = jnp.tanh(x_n + r * a_n)
    return n + u * (h - n), (r, u, n, a_n)


def gru_with_gates(projected: Any, kernel: Any, bias: Any, initial: Any, keep: Any) -> tuple[Any, list[Any]]:
    """The states of :func:`gru`, and its reset gates, update gates, candidates and a_n."""

    def step(h: Any, x: Any) -> tuple[Any, Any]:
        h, gates = gru_step(h, x, _product(_kept(h, keep), kernel) + bias[None])
        return h, (h, *gates)

    first = _zero(projected, kernel) if initial is None else initial.astype(wide(projected.dtype))
    states, *gates = jax.lax.scan(step, first, projected)[1]
    return states, gates


def _gru_residuals(
    projected: Any, kernel: Any, bias: Any, initial: Any, keep: Any, *, with_gates: bool
) -> tuple[Any, Any]:
    """The states, and the gates: one array [time, batch, 4 hidden] or a list of four; unless wanted, perhaps none."""
    if not direct_recurrence.fits(projected, kernel):
        return gru_with_gates(projected, kernel, bias, initial, keep)
    first = _zero(projected, kernel) if initial is None else initial
    others = [array.astype(projected.dtype) for array in (bias, first, keep) if array is not None]
    here = functools.partial(direct_recurrence.gru, with_gates=with_gates)
    elsewhere = functools.partial(_gru_side_by_side, with_gates=with_gates)
    states, *gates = jax.lax.platform_dependent(projected, kernel, *others, cpu=here, default=elsewhere)
    return states, gates[0] if with_gates else None


def _gru_side_by_side(projected: Any, kernel: Any, bias: Any, h: Any, keep: Any = None, *, with_gates: bool) -> Any:
    """The same as :func:`models.layers.direct_recurrence.gru`."""
    states, gates = gru_with_gates(projected, kernel, bias, h, keep)
    return (states, jnp.concatenate(gates, axis=-1)) if with_gates else (states,)


def _gru_forward(projected: Any, kernel: Any, bias: Any, initial: Any, keep: Any) -> tuple[Any, Any]:
    states, gates = _gru_residuals(projected, kernel, bias, initial, keep, with_gates=True)
    return states, (states, gates, kernel, initial, keep, projected[:0])


def _gru_backward(residuals: Any, g: Any) -> tuple[Any, Any, Any, Any, None]:
    states, gates, kernel, initial, keep, empty = residuals
    before = previous(states, initial)
    operands = (g, before, gates, kernel, *([] if keep is None else [keep.astype(g.dtype)]))
    here, elsewhere = direct_recurrence.gru_gradient, functools.partial(_gru_gates_backward, dtype=empty.dtype)
    if isinstance(gates, list):
        da, dx, first = elsewhere(*operands)
    else:
        da, dx, first = jax.lax.platform_dependent(*operands, cpu=here, default=elsewhere)
    dkernel = kernel_gradient(_kept(before, _in_time(keep)), da, kernel)
    return dx, dkernel, jnp.sum(da, axis=(0, 1)), _cotangent(first, initial), None


def _gru_gates_backward(
    g: Any, before: Any, gates: Any, kernel: Any, keep: Any = None, *, dtype: Any
) -> tuple[Any, Any, Any]:
    """The same as :func:`models.layers.direct_recurrence.gru_gradient`, the gates also in a list."""
    gates = gates if isinstance(gates, list) else jnp.split(gates, 4, axis=-1)
    transposed = kernel.T

    def step(dh: Any, at: Any) -> tuple[Any, Any]:
        g, h, r, u, n, a_n = at
        dh = dh + g
        dn = dh * (1 - u) * (1 - n * n)
        du = dh * (h - n) * u * (1 - u)
        dr = dn * a_n * r * (1 - r)
        da = jnp.concatenate([dr, du, dn * r], axis=-1)
        dh = _kept(_product(da, transposed), keep) + dh * u
        return dh, (da.astype(dtype), dn.astype(dtype))

    first, (da, dn) = jax.lax.scan(step, jnp.zeros_like(g[0]), (g, before, *gates), reverse=True)
    return da, jnp.concatenate([da[..., : 2 * kernel.shape[0]], dn], axis=-1), first


gru.defvjp(_gru_forward, _gru_backward)


@jax.custom_vjp
def lstm(
    projected: Float[Array, "time batch gates"],
    kernel: Float[Array, "hidden gates"],
    initial: tuple[State, State] | None = None,
    keep: State | None = None,
) -> Float[Array, "time batch hidden"]:
    """Long short-term memory with a forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    With (i, f, g, o) = z_t + h_{t-1} U: ``c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)``,
    ``h_t = sigmoid(o) tanh(c_t)``.

    Args:
        projected: ``z``, the input's contribution with its bias; gates in the order input, forget,
            candidate, output, as in PyTorch.
        kernel: ``U``.
        initial: ``(h_0, c_0)``; zero where it is None.
        keep: factor of ``h_{t-1}`` in the product.
    """
    return _lstm_values(projected, kernel, initial, keep, with_gates=False)[0]


@jax.custom_vjp
def lstm_with_cells(
    projected: Float[Array, "time batch gates"],
    kernel: Float[Array, "hidden gates"],
    initial: tuple[State, State] | None = None,
    keep: State | None = None,
) -> tuple[Float[Array, "time batch hidden"], Float[Array, "time batch hidden"]]:
    """:func:`lstm`, which gives the cells ``c`` beside the states ``h``.

    A function of its own, so that the gradient of :func:`lstm` has no gradient of cells to add.
    """
    return _lstm_values(projected, kernel, initial, keep, with_gates=False)[:2]


def lstm_step(c: Any, sums: Any) -> tuple[Any, Any]:
    """One step of :func:`lstm` from the sums ``(i, f, g, o)``: the new ``(h, c)``, and the gates in that order."""
    i, f, g, o = jnp.split(sums, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * c + i * g
    return (o * jnp.tanh(c), c), (i, f, g, o)


def lstm_with_gates(projected: Any, kernel: Any, initial: Any, keep: Any) -> tuple[Any, Any, list[Any]]:
    """The states and cells of :func:`lstm`, and its gates in the order input, forget, candidate, output."""

    def step(carry: Any, z: Any) -> tuple[Any, Any]:
        h, c = carry
        carry, gates = lstm_step(c, z + _product(_kept(h, keep), kernel))
        return carry, (*carry, *gates)

    zero = _zero(projected, kernel)
    first = (zero, zero) if initial is None else tuple(part.astype(zero.dtype) for part in initial)
    states, cells, *gates = jax.lax.scan(step, first, projected)[1]
    return states, cells, gates


def _lstm_values(projected: Any, kernel: Any, initial: Any, keep: Any, *, with_gates: bool) -> tuple[Any, ...]:
    """States, cells and, at least where they are wanted, gates: one array or a list of four."""
    if not direct_recurrence.fits(projected, kernel):
        return lstm_with_gates(projected, kernel, initial, keep)
    first = (_zero(projected, kernel),) * 2 if initial is None else initial
    others = [array.astype(projected.dtype) for array in (*first, keep) if array is not None]
    here = functools.partial(direct_recurrence.lstm, with_gates=with_gates)
    elsewhere = functools.partial(_lstm_side_by_side, with_gates=with_gates)
    return jax.lax.platform_dependent(projected, kernel, *others, cpu=here, default=elsewhere)


def _lstm_residuals(projected: Any, kernel: Any, initial: Any, keep: Any) -> tuple[Any, ...]:
    found = _lstm_values(projected, kernel, initial, keep, with_gates=True)
    return *found, kernel, initial, keep, projected[:0]


def _lstm_side_by_side(projected: Any, kernel: Any, h: Any, c: Any, keep: Any = None, *, with_gates: bool) -> Any:
    """The same as :func:`models.layers.direct_recurrence.lstm`."""
    states, cells, gates = lstm_with_gates(projected, kernel, (h, c), keep)
    return (states, cells, jnp.concatenate(gates, axis=-1)) if with_gates else (states, cells)


def _lstm_forward(projected: Any, kernel: Any, initial: Any, keep: Any) -> tuple[Any, Any]:
    residuals = _lstm_residuals(projected, kernel, initial, keep)
    return residuals[0], residuals


def _lstm_with_cells_forward(projected: Any, kernel: Any, initial: Any, keep: Any) -> tuple[Any, Any]:
    residuals = _lstm_residuals(projected, kernel, initial, keep)
    return residuals[:2], residuals


def _lstm_backward(residuals: Any, g: Any) -> tuple[Any, Any, Any, None]:
    return _lstm_with_cells_backward(residuals, (g, None))


def _lstm_with_cells_backward(residuals: Any, g: Any) -> tuple[Any, Any, Any, None]:
    """The gradient; that of the cells is None where no cell was given out."""
    states, cells, gates, kernel, initial, keep, empty = residuals
    h_0, c_0 = (None, None) if initial is None else initial
    if isinstance(gates, list):
        dz, first = _lstm_gates_backward(g, cells, gates, kernel, c_0, keep, empty.dtype)
    else:
        g, g_cells = g
        others = [array.astype(g.dtype) for array in (g_cells, keep) if array is not None]
        before = jnp.zeros_like(cells[0]) if c_0 is None else c_0.astype(g.dtype)
        here = functools.partial(direct_recurrence.lstm_gradient, with_cells=g_cells is not None)
        elsewhere = functools.partial(_lstm_gates_backward_elsewhere, with_cells=g_cells is not None)
        operands = (g, cells, gates, kernel, before, *others)
        dz, *first = jax.lax.platform_dependent(*operands, cpu=here, default=elsewhere)
    dkernel = kernel_gradient(_kept(previous(states, h_0), _in_time(keep)), dz, kernel)
    dinitial = None if initial is None else tuple(map(_cotangent, first, initial))
    return dz, dkernel, dinitial, None


def _lstm_gates_backward_elsewhere(
    g: Any, cells: Any, gates: Any, kernel: Any, c_0: Any, *others: Any, with_cells: bool
) -> tuple[Any, Any, Any]:
    """The same as :func:`models.layers.direct_recurrence.lstm_gradient`."""
    g_cells = others[0] if with_cells else None
    keep = others[-1] if len(others) > with_cells else None
    parts = jnp.split(gates, 4, axis=-1)
    dz, first = _lstm_gates_backward((g, g_cells), cells, parts, kernel, c_0, keep, gates.dtype)
    return dz, *first


def _lstm_gates_backward(
    g: Any, cells: Any, gates: Any, kernel: Any, c_0: Any, keep: Any, dtype: Any
) -> tuple[Any, tuple[Any, Any]]:
    """Gradients of the sums at the gates, and of the first state and cell."""
    zero = jnp.zeros_like(cells[0])
    transposed = kernel.T

    def step(carry: Any, at: Any) -> tuple[Any, Any]:
        dh, dc = carry
        (grad, grad_c), c, c_before, i, f, g, o = at
        dh = dh + grad
        dc = dc if grad_c is None else dc + grad_c
        squashed = jnp.tanh(c)
        do = dh * squashed * o * (1 - o)
        dc = dc + dh * o * (1 - squashed * squashed)
        di, df, dg = dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g)
        dz = jnp.concatenate([di, df, dg, do], axis=-1)
        return (_kept(_product(dz, transposed), keep), dc * f), dz.astype(dtype)

    scanned = (g, cells, previous(cells, c_0), *gates)
    first, dz = jax.lax.scan(step, (zero, zero), scanned, reverse=True)
    return dz, first


lstm.defvjp(_lstm_forward, _lstm_backward)
lstm_with_cells.defvjp(_lstm_with_cells_forward, _lstm_with_cells_backward)


def recurrent_init(name: Literal["orthogonal", "identity", "glorot"], gates: int) -> Callable[..., Array]:
    """An initialiser for a recurrent kernel [hidden, gates * hidden], one square block for each gate.

    Args:
        name: orthogonal blocks keep the norm of what they carry (Saxe et al. 2014); identity is that
            of Le, Jaitly and Hinton 2015; glorot is uniform in ±sqrt(6 / (2 hidden)) (Glorot and
            Bengio 2010, equation 16).
        gates: number of blocks.
    """
    draw: dict[str, Callable[..., Array]] = {
        "orthogonal": jax.nn.initializers.orthogonal(),
        "identity": lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype),
        "glorot": jax.nn.initializers.glorot_uniform(),
    }

    def init(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        hidden = shape[0]
        keys = jax.random.split(key, gates)
        return jnp.concatenate([draw[name](key, (hidden, hidden), dtype) for key in keys], axis=1)

    return init
