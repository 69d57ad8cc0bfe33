"""A scan over time whose products' gradients are formed after the loop."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from models.layers.dense import matmul
from models.layers.recurrence import wide


def product(x: Any, kernel: Any) -> Any:
    """``x @ kernel`` with the sum in at least 32 bits; a kernel with a batch axis has a matrix for each row of x.

    Args:
        x: [batch, inputs], rounded to the kernel's number format.
        kernel: [inputs, outputs] or [batch, inputs, outputs].
    """
    x = x.astype(kernel.dtype)
    if kernel.ndim == 2:
        return jnp.matmul(x, kernel, preferred_element_type=wide(kernel.dtype))
    return jnp.einsum("bi,bio->bo", x, kernel, preferred_element_type=wide(kernel.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan(
    step: Callable[..., tuple[Any, Any]],
    kernels: Mapping[str, Any],
    constants: Any,
    initial: Any,
    scanned: Any,
) -> Any:
    """``jax.lax.scan`` of a step that multiplies by kernels.

    Automatic differentiation of a scan adds up the gradient of a kernel step by step, one product
    each. Here the reverse scan gives the gradients of the products alone, and each kernel's gradient
    follows as one product over all steps.

    Args:
        step: ``(times, constants, carry, at) -> (carry, out)``, where ``times(name, x)`` is ``x`` times
            the kernel of that name, to be taken once for each name. It must hold no traced array.
        kernels: by name, each [inputs, outputs] or, one for each row of the batch, [batch, inputs, outputs].
        constants: what else is the same at each step, differentiated as usual.
        initial: the carry before the first step.
        scanned: what is read step by step, time first.

    Returns:
        ``(carry, out)``: the last carry, and what the step gave out, time first.
    """

    def body(carry: Any, at: Any) -> tuple[Any, Any]:
        return step(lambda name, x: product(x, kernels[name]), constants, carry, at)

    return jax.lax.scan(body, initial, scanned)


def _forward(step: Any, kernels: Any, constants: Any, initial: Any, scanned: Any) -> tuple[Any, Any]:
    time = jax.tree.leaves(scanned)[0].shape[0]
    batch = jax.tree.leaves(initial)[0].shape[0]
    # Zeros that are added to the products: their gradients are those of the products.
    shifts = {k: jnp.zeros((time, batch, v.shape[-1]), wide(v.dtype)) for k, v in kernels.items()}

    def run(shifts: Any, constants: Any, initial: Any, scanned: Any) -> tuple[Any, Any]:
        def body(carry: Any, at: Any) -> tuple[Any, Any]:
            at, shift = at
            factors = {}

            def times(name: str, x: Any) -> Any:
                factors[name] = x.astype(kernels[name].dtype)
                return product(x, kernels[name]) + shift[name]

            carry, out = step(times, constants, carry, at)
            return carry, (out, factors)

        carry, (out, factors) = jax.lax.scan(body, initial, (scanned, shifts))
        return (carry, out), factors

    result, pull, factors = jax.vjp(run, shifts, constants, initial, scanned, has_aux=True)
    return result, (pull, factors, kernels)


def _backward(step: Any, residuals: Any, g: Any) -> tuple[Any, Any, Any, Any]:
    del step
    pull, factors, kernels = residuals
    products, *others = pull(g)
    gradients = {name: _kernel_gradient(factors[name], products[name], kernels[name]) for name in kernels}
    return gradients, *others


def _kernel_gradient(x: Any, g: Any, kernel: Any) -> Any:
    g = g.astype(kernel.dtype)
    if kernel.ndim == 3:
        return jnp.einsum("tbi,tbo->bio", x, g)
    _, pull = jax.vjp(lambda kernel: matmul(x, kernel), kernel)
    return pull(g)[0]


scan.defvjp(_forward, _backward)
