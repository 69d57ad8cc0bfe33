"""Embeddings: rows, and the table of projections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from models.layers.embeddings import Embedding

TABLE = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
VARIABLES = {"params": {"embedding": TABLE}}
LAYER = Embedding(5, 3, nn.initializers.normal(1.0))


def test_rows():
    np.testing.assert_array_equal(LAYER.apply(VARIABLES, jnp.asarray([[4, 0]])), TABLE[jnp.asarray([[4, 0]])])


def test_logits_are_inner_products():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3)), jnp.float32)
    expected = np.asarray(x) @ np.asarray(TABLE).T
    np.testing.assert_allclose(LAYER.apply(VARIABLES, x, method="attend"), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (2, 2), (3, 4)])
def test_projection_is_the_same_by_table_and_by_sequence(shape):
    """Fewer tokens than rows project the sequence, more project the table; both with their gradients."""
    random = np.random.default_rng(2)
    tokens = jnp.asarray(random.integers(0, 5, shape))
    kernel, weights = (jnp.asarray(random.normal(size=s), jnp.float32) for s in ((3, 4), (*shape, 4)))

    def fast(table, kernel):
        y = LAYER.apply({"params": {"embedding": table}}, tokens, kernel, method="project")
        return (y * weights).sum()

    def slow(table, kernel):
        one_hot = jax.nn.one_hot(tokens, 5)
        return (one_hot @ table @ kernel * weights).sum()

    for ours, reference in zip(*(jax.grad(f, (0, 1))(TABLE, kernel) for f in (fast, slow)), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fast(TABLE, kernel), slow(TABLE, kernel), rtol=1e-5)
