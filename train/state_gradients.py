"""How far a recurrent network's state reaches: the norm of dh_T/dh_t against the lag T - t.

h_t is all that the network carries from step t to the next: the hidden states of every layer, with an LSTM's cells. Its
Jacobian is a product, ``dh_T/dh_t = J_T ... J_(t+1)`` with ``J_s = dh_s/dh_(s-1)`` (Bengio et al. 1994; Pascanu et
al. 2013, equation 5), formed from the last step backwards. The size of the product is kept apart as a logarithm, for
that of hundreds of factors leaves the range of 32 bits. The norm is the spectral one, the largest singular value.

A network whose only recurrent kernel W is square is the simple one, ``h_t = f(z_t + h_(t-1) W)`` with a slope of f
that is at most 1 (tanh, relu). Then ``|dh_T/dh_t| <= sigma_max(W)^(T - t)`` (Pascanu et al. 2013, section 2.1).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

import models
from models.base import BadInput
from models.inputs import Padded, Pair
from train.parameters import path_name

EXAMPLES = 8
"""Sequences of the batch that are measured, at the most: the work is that of as many states as one has numbers."""


def lags(length: int) -> tuple[int, ...]:
    """The lags that are measured in a sequence of so many steps: the powers of two."""
    return tuple(2**power for power in range(length.bit_length()))


def measure(
    params: PyTree, inputs: Any, start: Callable[..., Any], advance: Callable[..., Any]
) -> dict[str, Float[Array, ""]]:
    """The columns, decimal logarithms all of them.

    ``state_gradient/lag_k``: of the norm, the mean over the sequences; ``state_gradient_rate``: that of the longest lag
    over that lag, the change per step; for the simple network ``state_gradient_bound/lag_k`` and
    ``state_gradient_excess``, the most by which the norm of any sequence at any lag is above its bound (below 0 where
    none is).

    Args:
        params: of the network.
        inputs: sequences [batch, time, ...].
        start: ``(batch, length) -> carry``.
        advance: ``(inputs [batch, 1, ...], carry) -> carry``.

    Raises:
        BadInput: the network carries something else than states, or the sequences differ in length.
    """
    if isinstance(inputs, Padded | Pair):
        raise BadInput("diagnostics.state_gradients=true needs sequences of one length, and this task's are padded")
    inputs = inputs[:EXAMPLES]
    wanted = lags(inputs.shape[1])
    with models.twice_differentiable(), jax.default_matmul_precision("float32"):
        norms = log_norms(inputs, start, advance) / math.log(10)
        found = {f"state_gradient/lag_{lag}": jnp.mean(norms[i]) for i, lag in enumerate(wanted)}
        found["state_gradient_rate"] = found[f"state_gradient/lag_{wanted[-1]}"] / wanted[-1]
        sigma = _largest_singular_value(params)
        if sigma is not None:
            bounds = jnp.log10(sigma) * jnp.asarray(wanted)
            found |= {f"state_gradient_bound/lag_{lag}": bounds[i] for i, lag in enumerate(wanted)}
            found["state_gradient_excess"] = jnp.max(norms - bounds[:, None])
    return found


def _largest_singular_value(params: PyTree) -> Float[Array, ""] | None:
    """sigma_max of the only recurrent kernel, where there is one and it is square."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = [leaf for path, leaf in leaves if path_name(path).endswith("recurrent_kernel")]
    if len(kernels) != 1 or kernels[0].shape[0] != kernels[0].shape[1]:
        return None
    return jnp.linalg.norm(kernels[0].astype(jnp.float32), ord=2)


def log_norms(inputs: Array, start: Callable[..., Any], advance: Callable[..., Any]) -> Float[Array, "lags batch"]:
    """The natural logarithm of the norm of dh_T/dh_t at each of :func:`lags`, for each sequence."""
    batch, length = inputs.shape[:2]
    first = start(batch, length)
    leaves, structure = jax.tree.flatten(first)
    if not all(leaf.ndim == 2 and jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise BadInput("diagnostics.state_gradients=true needs a recurrent network, whose state does not grow")
    ends = [sum(leaf.shape[1] for leaf in leaves[: i + 1]) for i in range(len(leaves))]
    steps = jnp.swapaxes(inputs, 0, 1)[:, :, None]

    def flat(carry: Any) -> Float[Array, "batch size"]:
        return jnp.concatenate(jax.tree.leaves(carry), axis=-1)

    def follow(state: Array, at: Array) -> Array:
        return flat(advance(at, structure.unflatten(jnp.split(state, ends[:-1], axis=-1))))

    def emit(state: Array, at: Array) -> tuple[Array, Array]:
        return follow(state, at), state

    _, before = jax.lax.scan(emit, flat(first), steps)  # h_0, ..., h_(T-1)

    def back(lag: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        product, size = carry
        place = length - 1 - lag
        _, pull = jax.vjp(lambda state: follow(state, steps[place]), before[place])
        product = jax.vmap(lambda row: pull(row)[0])(product)
        scale = jnp.sqrt(jnp.sum(jnp.square(product), axis=(0, 2)))
        return product / jnp.where(scale > 0, scale, 1)[None, :, None], size + jnp.log(scale)

    def reach(carry: tuple[Any, Array, Array], lag: Array) -> tuple[tuple[Any, Array, Array], Array]:
        done, product, size = carry
        product, size = jax.lax.fori_loop(done, lag, back, (product, size))
        # One after another: batched factorisations deadlock in jaxlib's CPU thread pool.
        norm = jax.lax.map(lambda one: jnp.linalg.norm(one, ord=2), jnp.swapaxes(product, 0, 1))
        return (lag, product, size), size + jnp.log(norm)

    size = ends[-1]
    identity = jnp.broadcast_to(jnp.eye(size, dtype=before.dtype)[:, None], (size, batch, size))
    begin = (jnp.int32(0), identity, jnp.zeros(batch, before.dtype))
    return jax.lax.scan(reach, begin, jnp.asarray(lags(length), jnp.int32))[1]
