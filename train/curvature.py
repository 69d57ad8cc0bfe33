"""The curvature of a loss: the extreme eigenvalues of its Hessian H, by the Lanczos process.

From a random direction of norm 1, each iteration multiplies one vector by H, as ``d/de grad L(w + e v)`` at e = 0, a
forward derivative of the gradient (Pearlmutter 1994, section 3), and makes the result orthogonal to the two vectors
before (Lanczos 1950; Golub and Van Loan 2013, algorithm 10.1.1):

    ``beta_j v_{j+1} = H v_j - alpha_j v_j - beta_{j-1} v_{j-1}``,   ``alpha_j = v_j . H v_j``.

The extreme eigenvalues of the tridiagonal matrix T of the alphas and betas approach those of H from within, much faster
than power iteration does with as many products. All vectors of before are not kept: in finite precision they lose
orthogonality, which gives T copies of eigenvalues that it has found, but no other ones (Paige 1980).
"""

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

import models


class Tridiagonal(NamedTuple):
    """T of the Lanczos process.

    Attributes:
        diagonal: the alphas, [iterations].
        beside: the betas, [iterations]; the last one belongs to the vector that would come next.
    """

    diagonal: Any
    beside: Any


class Extremes(NamedTuple):
    """The extreme eigenvalues of a symmetric matrix.

    Attributes:
        top: the largest.
        bottom: the least.
        error: some eigenvalue is no farther from ``top`` than this: the residual of its Ritz vector (Golub and Van Loan
            2013, theorem 8.1.13 and equation 10.1.4), rounding aside.
    """

    top: float
    bottom: float
    error: float


def hessian_product(gradient: Callable[[PyTree], PyTree], params: PyTree) -> Callable[[PyTree], PyTree]:
    """``v -> H v`` at ``params``, for the Hessian of what ``gradient`` is the gradient of.

    Args:
        gradient: ``params -> gradient``, a tree of the same form.
        params: where.
    """

    def product(direction: PyTree) -> PyTree:
        # Products in full 32 bits on an accelerator, too: what is small beside the largest must not drown.
        with models.twice_differentiable(), jax.default_matmul_precision("float32"):
            return jax.jvp(gradient, (params,), (direction,))[1]

    return product


def _dot(a: PyTree, b: PyTree) -> Float[Array, ""]:
    return reduce(operator.add, map(jnp.sum, jax.tree.leaves(jax.tree.map(operator.mul, a, b))))


def _scaled(factor: Any, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def lanczos(product: Callable[[PyTree], PyTree], like: PyTree, key: Key[Array, ""], *, iterations: int) -> Tridiagonal:
    """The Lanczos process of a symmetric matrix, from a random direction.

    Args:
        product: ``v -> A v``, of trees of the same form.
        like: a tree of that form.
        key: of the direction.
        iterations: products.
    """
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    draws = [jax.random.normal(each, leaf.shape, leaf.dtype) for leaf, each in zip(leaves, keys, strict=True)]
    start = structure.unflatten(draws)
    start = _scaled(1 / jnp.sqrt(_dot(start, start)), start)

    def iterate(carry: tuple, _: None) -> tuple[tuple, tuple]:
        vector, before, beta = carry
        rest = jax.tree.map(lambda a, b: a - beta * b, product(vector), before)
        alpha = _dot(vector, rest)
        rest = jax.tree.map(lambda a, b: a - alpha * b, rest, vector)
        beta = jnp.sqrt(_dot(rest, rest))
        following = _scaled(jnp.where(beta > 0, 1 / jnp.where(beta > 0, beta, 1), 0), rest)
        return (following, vector, beta), (alpha, beta)

    zero = jax.tree.map(jnp.zeros_like, start)
    _, found = jax.lax.scan(iterate, (start, zero, jnp.zeros_like(_dot(start, start))), None, length=iterations)
    return Tridiagonal(*found)


def extremes(matrix: Tridiagonal) -> Extremes:
    """The extreme eigenvalues of T, in float64; NaN where T is not finite.

    Where a beta is nothing but rounding, the process has found all eigenvalues that its start has a part of, and what
    follows in T is left out.
    """
    diagonal, beside = (np.asarray(values, np.float64) for values in matrix)
    if not (np.isfinite(diagonal).all() and np.isfinite(beside).all()):
        return Extremes(np.nan, np.nan, np.nan)
    noise = np.finfo(np.float32).eps * max(np.abs(diagonal).max(), beside.max())
    ends = np.flatnonzero(beside <= noise)
    size = int(ends[0]) + 1 if len(ends) else len(diagonal)
    inner = beside[: size - 1]
    values, vectors = np.linalg.eigh(np.diag(diagonal[:size]) + np.diag(inner, 1) + np.diag(inner, -1))
    return Extremes(float(values[-1]), float(values[0]), float(beside[size - 1] * abs(vectors[-1, -1])))
