"""Dense against PyTorch and float64 NumPy; its CPU gradient against plain differentiation."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.dense import Dense, matmul


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("leading", [(5,), (3, 4), (2, 3, 2), ()])
def test_value_and_gradients_match_numpy(leading):
    with jax.enable_x64(True):
        x, kernel, g = draw(0, *leading, 7), draw(1, 7, 3), draw(2, *leading, 3)
        y, backward = jax.vjp(jax.jit(matmul), x, kernel)
        x_gradient, kernel_gradient = backward(g)
        rows, columns = np.asarray(x).reshape(-1, 7), np.asarray(g).reshape(-1, 3)
        expected = sum(np.outer(row, column) for row, column in zip(rows, columns, strict=True))
        np.testing.assert_allclose(y, np.asarray(x) @ np.asarray(kernel), rtol=1e-12)
        np.testing.assert_allclose(kernel_gradient, expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(x_gradient, np.asarray(g) @ np.asarray(kernel).T, rtol=1e-12, atol=1e-14)


def loss(product, x, kernel):
    return jnp.sum(jnp.sin(product(x, kernel)))


def test_gradient_matches_plain_form_under_vmap_over_kernels():
    x, kernels = draw(0, 6, 5), draw(1, 4, 5, 3)
    fast, plain = (
        jax.jit(jax.vmap(jax.grad(lambda x, k, form=form: loss(form, x, k), argnums=(0, 1)), in_axes=(None, 0)))
        for form in (matmul, jnp.matmul)
    )
    for ours, theirs in zip(fast(x, kernels), plain(x, kernels), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_gradient_matches_plain_form_in_loop_within_map():
    x, kernels = draw(0, 6, 5), draw(1, 2, 5, 3)

    def train(form, kernel):
        return jax.lax.fori_loop(0, 3, lambda _, k: k - 0.1 * jax.grad(lambda k: loss(form, x, k))(k), kernel)

    fast, plain = (jax.jit(lambda ks, f=form: jax.lax.map(lambda k: train(f, k), ks)) for form in (matmul, jnp.matmul))
    np.testing.assert_allclose(fast(kernels), plain(kernels), rtol=1e-5, atol=1e-6)


def test_gradient_keeps_half_precision():
    x, kernel = draw(0, 4, 3).astype(jnp.bfloat16), draw(1, 3, 2).astype(jnp.bfloat16)
    gradients = jax.grad(lambda x, k: matmul(x, k).astype(jnp.float32).sum(), argnums=(0, 1))(x, kernel)
    assert [gradient.dtype for gradient in gradients] == [jnp.bfloat16, jnp.bfloat16]


@pytest.mark.parametrize(("platform", "transposes_first"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_each_backend_gets_its_own_gradient(platform, transposes_first):
    gradient = jax.jit(jax.grad(lambda k, x: matmul(x, k).sum()))
    program = jax.export.export(gradient, platforms=[platform])(draw(0, 3, 2), draw(1, 4, 3)).mlir_module()
    assert ("optimization_barrier" in program) == transposes_first


def test_parameters_and_bias():
    x = draw(0, 4, 6)
    variables = Dense(3, bias_init=jax.nn.initializers.ones).init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": (6, 3), "bias": (3,)}
    without = Dense(3, use_bias=False)
    assert set(without.init(jax.random.key(0), x)["params"]) == {"kernel"}
    kernel_only = {"params": {"kernel": variables["params"]["kernel"]}}
    np.testing.assert_allclose(Dense(3).apply(variables, x) - without.apply(kernel_only, x), 1.0, rtol=1e-5)


@pytest.mark.reference
def test_matches_torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        x, g = draw(0, 2, 5, 7), draw(1, 2, 5, 3)
        init = Dense(3, bias_init=jax.nn.initializers.normal(1.0)).init
        variables = jax.jit(init)(jax.random.key(0), x)
        y, backward = jax.vjp(jax.jit(Dense(3).apply), variables, x)
        gradient, x_gradient = backward(g)
        kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    tensors = [torch.tensor(np.asarray(array), requires_grad=True) for array in (x, kernel.T, bias)]
    reference = torch.nn.functional.linear(*tensors)
    reference.backward(torch.tensor(np.asarray(g)))
    ours = (y, x_gradient, np.asarray(gradient["params"]["kernel"]).T, gradient["params"]["bias"])
    for array, tensor in zip(ours, (reference.detach(), *(t.grad for t in tensors)), strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-10, atol=1e-12)
