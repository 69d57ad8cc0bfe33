"""Machine code for layer normalisation against its formulas in float64, and against XLA's operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import direct_normalisation, engines, native, normalisation
from models.layers.derivatives import twice_differentiable
from models.layers.normalisation import LayerNorm

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no machine code on this kind of machine")


def drawn(shape, dtype=np.float32):
    """Inputs, scale, bias and a gradient of the outputs."""
    random = np.random.default_rng(0)
    shapes = (shape, shape[-1:], shape[-1:], shape)
    return [(random.normal(size=size) * 3 + 1).astype(dtype) for size in shapes]


def exact(x, scale, bias, g):
    """Outputs and gradients in float64 by the formulas."""
    x, scale, bias, g = (np.asarray(array, np.float64) for array in (x, scale, bias, g))
    inverse = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    y = (x - x.mean(-1, keepdims=True)) * inverse
    along = g * scale
    dx = (along - along.mean(-1, keepdims=True) - y * (along * y).mean(-1, keepdims=True)) * inverse
    leading = tuple(range(x.ndim - 1))
    return y * scale + bias, dx, (g * y).sum(leading), g.sum(leading)


def of_layer(x, scale, bias, g):
    """Outputs and gradients of the layer."""
    out, pull = jax.vjp(
        lambda x, scale, bias: LayerNorm().apply({"params": {"scale": scale, "bias": bias}}, x), x, scale, bias
    )
    return out, *pull(g)


def check(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("bytes_", [16, 32, 64])
@pytest.mark.parametrize("shape", [(64, 16, 48), (1, 16), (3, 7, 12), (16,), (2, 3, 65, 20), (5, 520)])
def test_equals_the_formulas_in_float64(shape, bytes_, monkeypatch):
    """Features of a whole number of vectors, and fewer; vectors of the sizes that processors have."""
    monkeypatch.setattr(engines, "vector_bytes", lambda: bytes_)
    arrays = drawn(shape)
    assert direct_normalisation.fits(*arrays[:3])
    check(of_layer(*map(jnp.asarray, arrays)), exact(*arrays), 1e-6)


def test_in_64_bits():
    with jax.enable_x64(True):
        arrays = drawn((5, 7, 6), np.float64)
        assert direct_normalisation.fits(*arrays[:3])
        check(of_layer(*map(jnp.asarray, arrays)), exact(*arrays), 1e-13)


def test_what_it_cannot_take_is_left_to_others():
    x, scale, bias, _ = map(jnp.asarray, drawn((4, 8)))
    assert direct_normalisation.fits(x, scale, bias)
    assert not direct_normalisation.fits(x.astype(jnp.bfloat16), scale, bias)
    assert not direct_normalisation.fits(*(array.astype(jnp.bfloat16) for array in (x, scale, bias)))
    assert not direct_normalisation.fits(x[:, :6], scale[:6], bias[:6])
    assert not direct_normalisation.fits(x[:0], scale, bias)
    with twice_differentiable():
        assert not direct_normalisation.fits(x, scale, bias)


def test_lanes_of_a_vmap_are_as_alone():
    arrays = [jnp.stack([jnp.asarray(array), 2 - jnp.asarray(array)]) for array in drawn((3, 5, 16))]
    together = jax.vmap(of_layer)(*arrays)
    for lane in range(2):
        for mine, alone in zip(together, of_layer(*(array[lane] for array in arrays)), strict=True):
            np.testing.assert_array_equal(mine[lane], alone)


def test_long_work_in_parts_is_the_same_for_any_number_of_helpers():
    arrays = drawn((90, 67, 64))
    assert native.parts(90 * 67, direct_normalisation._OPERATIONS * arrays[0].size) > 1
    run = jax.jit(of_layer)
    found = []
    try:
        for cores in (1, 2, 4):
            engines.share(cores)
            found.append(jax.block_until_ready(run(*arrays)))
    finally:
        engines.share(1)
    check(found[0], exact(*arrays), 2e-6)
    for other in found[1:]:
        for mine, first in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(mine, first)


def test_nan_stays_in_its_row():
    x, scale, bias, g = map(jnp.asarray, drawn((6, 16)))
    clean = of_layer(x, scale, bias, g)
    broken = of_layer(x.at[2, 3].set(jnp.nan), scale, bias, g)
    others = jnp.asarray([0, 1, 3, 4, 5])
    for mine, theirs in zip(broken[:2], clean[:2], strict=True):
        assert bool(jnp.isnan(mine[2]).all())
        np.testing.assert_array_equal(mine[others], theirs[others])


def test_the_form_of_other_platforms_is_the_same_function(monkeypatch):
    """What is lowered for them: XLA's operations, with the same gradient."""
    arrays = [jnp.asarray(array) for array in drawn((3, 5, 16))]
    ours = jax.jit(of_layer)(*arrays)
    jax.clear_caches()
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, cpu, default: default(*operands))
    check(jax.jit(of_layer)(*arrays), [np.asarray(array) for array in ours], 2e-6)


def test_can_be_differentiated_twice_where_that_is_asked_for():
    x, scale, bias, _ = map(jnp.asarray, drawn((4, 8)))

    def loss(x):
        return jnp.sum(jnp.sin(normalisation.LayerNorm().apply({"params": {"scale": scale, "bias": bias}}, x)))

    with twice_differentiable():
        second = jax.jvp(jax.grad(loss), (x,), (x,))[1]
    step = 1e-3
    difference = (jax.grad(loss)(x * (1 + step)) - jax.grad(loss)(x * (1 - step))) / (2 * step)
    np.testing.assert_allclose(second, difference, rtol=0, atol=2e-2 * np.abs(difference).max())
