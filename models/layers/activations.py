"""Nonlinearities by name: pointwise ones, and gates."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.base import unknown


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Gaussian error linear unit, exact: ``x Φ(x)``, Φ the standard normal distribution function.

    Source: Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Tanh form of GELU: ``x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2``.

    Source: Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", section 2; the form of GPT-2.
    """
    return jax.nn.gelu(x, approximate=True)


def swiglu(x: Float[Array, "*batch hidden_2"]) -> Float[Array, "*batch hidden"]:
    """``swish(g) v`` with ``swish(g) = g / (1 + exp(-g))``, g the first half of the last axis, v the second.

    Source: Shazeer 2020, "GLU Variants Improve Transformer", equation 5.
    """
    gate, value = jnp.split(x, 2, axis=-1)
    return jax.nn.silu(gate) * value


def geglu(x: Float[Array, "*batch hidden_2"]) -> Float[Array, "*batch hidden"]:
    """``gelu(g) v``, g the first half of the last axis, v the second.

    Source: Shazeer 2020, "GLU Variants Improve Transformer", equation 5.
    """
    gate, value = jnp.split(x, 2, axis=-1)
    return gelu(gate) * value


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}

GATED: dict[str, Callable[[Array], Array]] = {"swiglu": swiglu, "geglu": geglu}
"""Activations that halve the last axis: its first half gates the second."""


def activation(name: str) -> Callable[[Array], Array]:
    """The pointwise function of this name (relu, tanh, gelu, which is exact, or gelu_tanh), or the gated one.

    Raises:
        BadInput: there is none of that name; the message has the nearest.
    """
    functions = _ACTIVATIONS | GATED
    if name not in functions:
        raise unknown("activation", name, functions)
    return functions[name]
