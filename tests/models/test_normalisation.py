"""Layer normalisation against a float64 form and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.normalisation import LayerNorm, normalise

X = np.random.default_rng(0).normal(3, 2, (4, 5, 6))


@pytest.mark.reference
def test_outputs_and_gradients_equal_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X).requires_grad_()
    out = torch.nn.functional.layer_norm(x, (6,), eps=1e-5)
    (out**3).sum().backward()
    with jax.enable_x64(True):
        ours = normalise(jnp.asarray(X))
        gradient = jax.grad(lambda x: jnp.sum(normalise(x) ** 3))(jnp.asarray(X))
    np.testing.assert_allclose(ours, out.detach().numpy(), rtol=1e-10)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_the_gradient_is_that_of_the_plain_form() -> None:
    def plain(x: jax.Array) -> jax.Array:
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)

    x = jnp.asarray(X, jnp.float32)
    np.testing.assert_allclose(normalise(x), plain(x), rtol=1e-5, atol=1e-6)
    ours, theirs = (jax.grad(lambda x, form=form: jnp.sum(jnp.sin(form(x))))(x) for form in (normalise, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_scale_and_bias_apply_to_the_last_axis() -> None:
    variables = {"params": {"scale": jnp.arange(6.0), "bias": jnp.arange(6.0) + 10}}
    x = jnp.asarray(X, jnp.float32)
    expected = normalise(x) * jnp.arange(6.0)[None, None] + (jnp.arange(6.0) + 10)[None, None]
    np.testing.assert_allclose(LayerNorm().apply(variables, x), expected, rtol=1e-6)
