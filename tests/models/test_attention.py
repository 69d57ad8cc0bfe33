"""Attention against PyTorch and against a loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.attention import attention

DRAW = np.random.default_rng(0)
Q, K, V = (DRAW.normal(size=(2, 5, 3, 4)) for _ in range(3))


def loop(causal: bool) -> np.ndarray:
    """Equation 1 of Vaswani et al. 2017, one head and one query at a time."""
    out = np.zeros_like(V)
    for b in range(2):
        for h in range(3):
            for t in range(5):
                seen = t + 1 if causal else 5
                scores = K[b, :seen, h] @ Q[b, t, h] / 2.0
                weights = np.exp(scores - scores.max())
                out[b, t, h] = (weights / weights.sum()) @ V[b, :seen, h]
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("x64", "tolerance"), [(False, 1e-5), (True, 1e-12)])
def test_equals_a_loop_over_queries(causal: bool, x64: bool, tolerance: float) -> None:
    with jax.enable_x64(x64):
        out = attention(jnp.asarray(Q), jnp.asarray(K), jnp.asarray(V), causal=causal)
    np.testing.assert_allclose(out, loop(causal), rtol=tolerance, atol=tolerance)


@pytest.mark.reference
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_equal_pytorch(causal: bool) -> None:
    torch = pytest.importorskip("torch")
    theirs = [torch.from_numpy(x).transpose(1, 2).detach().requires_grad_() for x in (Q, K, V)]
    out = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=causal)
    (out**2).sum().backward()
    with jax.enable_x64(True):
        ours = jax.grad(lambda args: jnp.sum(attention(*args, causal=causal) ** 2))(
            tuple(jnp.asarray(x) for x in (Q, K, V))
        )
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other.grad.transpose(1, 2).numpy(), rtol=1e-9, atol=1e-12)


def test_large_scores_stay_finite() -> None:
    out = attention(jnp.asarray(Q) * 1e3, jnp.asarray(K) * 1e3, jnp.asarray(V), causal=True)
    assert bool(jnp.all(jnp.isfinite(out)))


def test_dropout_is_applied_to_the_weights() -> None:
    out = attention(jnp.asarray(Q), jnp.asarray(K), jnp.asarray(V), causal=False, drop=jnp.zeros_like)
    np.testing.assert_array_equal(out, np.zeros_like(V))
