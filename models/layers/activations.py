"""Pointwise nonlinearities by name."""

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


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The pointwise function of this name: relu, tanh, gelu (exact) or gelu_tanh.

    Raises:
        BadInput: there is none of that name; the message has the nearest.
    """
    if name not in _ACTIVATIONS:
        raise unknown("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]
