"""Machine code for attention, and its vector functions, against float64 and against XLA's operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers import attention, direct_attention, engines, native, vector_functions

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no machine code on this kind of machine")


def machine_function(name, x):
    """A vector function of an array whose size divides into vectors."""

    def write(body, operands, results):
        with body.loop(x.size, body.lanes) as at:
            value = getattr(vector_functions, name)(body, body.load(operands[0], (at, 1)))
            body.store(value, results[0], (at, 1))

    return np.asarray(native.call(("test", name, x.shape), write, (jnp.asarray(x),), (x.shape,))[0])


@pytest.mark.parametrize(
    ("name", "reference", "span"),
    [
        ("exp", np.exp, 87),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), 80),
        ("tanh", np.tanh, 20),
    ],
)
def test_a_vector_function_is_exact_to_three_units_in_the_last_place(name, reference, span):
    small = np.geomspace(1e-30, 1, 4096)
    x = np.concatenate([np.linspace(-span, span, 2**16), small, -small]).astype(np.float32)
    expected = reference(x.astype(np.float64))
    error = np.abs(machine_function(name, x) - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert error.max() <= 3


@pytest.mark.parametrize(("name", "at_infinity", "below"), [("exp", np.inf, 0), ("sigmoid", 1, 0), ("tanh", 1, -1)])
def test_vector_functions_at_the_ends_of_the_numbers(name, at_infinity, below):
    x = np.tile(np.asarray([np.inf, -np.inf, np.nan, 1e30, -1e30, 0.0, -0.0, 100.0], np.float32), 2)
    found = machine_function(name, x)
    limit = 2e38 if at_infinity == np.inf else at_infinity  # the exponential ends at the greatest of its numbers
    assert np.all(found[[0, 3, 7]] >= limit)
    np.testing.assert_allclose(found[[1, 4]], below, atol=2e-38)
    assert np.isnan(found[2])
    assert found[5] == found[6] == {"exp": 1, "sigmoid": 0.5, "tanh": 0}[name]


@st.composite
def problems(draw):
    lanes = engines.vector_bytes() // 4
    batch, heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    queries, keys = draw(st.integers(4, 3 * lanes + 1)), draw(st.integers(4, 25))
    key, value = (draw(st.integers(4, 3 * lanes + 1)) for _ in range(2))
    lengths = draw(st.none() | st.lists(st.integers(0, keys), min_size=batch, max_size=batch))
    return (batch, queries, heads, key), (batch, keys, heads, key), (batch, keys, heads, value), lengths


def exact(queries, keys, values, lengths, causal, g):
    """Outputs and gradients in float64 by the formulas, one sequence and head at a time."""
    queries, keys, values, g = (np.asarray(array, np.float64) for array in (queries, keys, values, g))
    out = np.zeros(g.shape)
    gradients = [np.zeros_like(array) for array in (queries, keys, values)]
    for n, h in np.ndindex(queries.shape[0], queries.shape[2]):
        q, k, v, slope = queries[n, :, h], keys[n, :, h], values[n, :, h], g[n, :, h]
        visible = np.ones((len(q), len(k)), bool) if not causal else np.tri(len(q), len(k), dtype=bool)
        if lengths is not None:
            visible &= np.arange(len(k)) < lengths[n]
        scores = np.where(visible, q @ k.T / np.sqrt(q.shape[1]), -np.inf)
        weights = np.where(visible, np.exp(scores - np.max(scores, 1, keepdims=True, initial=-1e300)), 0)
        weights = weights / np.maximum(weights.sum(1, keepdims=True), 1e-300)
        out[n, :, h] = weights @ v
        through = weights * (slope @ v.T - np.sum(slope @ v.T * weights, 1, keepdims=True)) / np.sqrt(q.shape[1])
        gradients[0][n, :, h], gradients[1][n, :, h] = through @ k, through.T @ q
        gradients[2][n, :, h] = weights.T @ slope
    return out, *gradients


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(problems(), st.booleans())
def test_every_form_equals_the_formulas_in_float64(problem, causal):
    check(problem, causal)


@pytest.mark.parametrize("bytes_", [16, 32, 64])
@pytest.mark.parametrize(("key", "value"), [(8, 24), (12, 12), (5, 37)])
@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_formulas_in_float64(key, value, causal, bytes_, monkeypatch):
    """Heads of a whole number of vectors, and others; vectors of the sizes that processors have."""
    monkeypatch.setattr(engines, "vector_bytes", lambda: bytes_)
    check(((3, 19, 2, key), (3, 11, 2, key), (3, 11, 2, value), [11, 2, 0]), causal)


@pytest.mark.parametrize("lengths", [None, [19, 2, 0]])
@pytest.mark.parametrize("causal", [False, True])
def test_of_one_array_is_that_of_its_parts_bit_for_bit(causal, lengths):
    heads = direct_attention.Heads(3, 12, 20)
    random = np.random.default_rng(0)
    joined = jnp.asarray(random.normal(size=(3, 19, 3 * 44)), jnp.float32)
    g = jnp.asarray(random.normal(size=(3, 19, 3, 20)), jnp.float32)
    mask = None if lengths is None else jnp.arange(19)[None] < jnp.asarray(lengths)[:, None]

    def apart(joined):
        ends = [3 * 12, 2 * 3 * 12]
        parts = (each.reshape(3, 19, 3, -1) for each in jnp.split(joined, ends, axis=-1))
        return attention.attention(*parts, causal=causal, mask=mask)

    assert attention.takes_joined(joined, heads)
    out, pull = jax.vjp(lambda x: attention.joined_attention(x, heads, causal=causal, mask=mask), joined)
    expected, expected_pull = jax.vjp(apart, joined)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(pull(g)[0], expected_pull(g)[0])


def test_what_is_too_short_is_left_to_others():
    fitting = [jnp.ones((2, 4, 2, 4))] * 3
    assert direct_attention.fits(*fitting)
    for shape in ((2, 3, 2, 4), (2, 4, 2, 3), (2, 0, 2, 4), (2, 4, 2, 0)):
        assert not direct_attention.fits(*[jnp.ones(shape)] * 3)


def check(problem, causal):
    *shapes, lengths = problem
    random = np.random.default_rng(0)
    arrays = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    g = random.normal(size=(*shapes[0][:3], shapes[2][3])).astype(np.float32)
    assert direct_attention.fits(*arrays)
    mask = None if lengths is None else jnp.arange(shapes[1][1])[None] < jnp.asarray(lengths)[:, None]
    out, pull = jax.vjp(lambda *a: attention.attention(*a, causal=causal, mask=mask), *map(jnp.asarray, arrays))
    found = out, *pull(jnp.asarray(g))
    for ours, theirs in zip(found, exact(*arrays, lengths, causal, g), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6 * max(1.0, np.abs(theirs).max()))


def test_scores_of_any_size_stay_finite_and_nan_is_seen():
    lanes = engines.vector_bytes() // 4
    random = np.random.default_rng(0)
    arrays = [jnp.asarray(random.normal(size=(1, lanes, 1, lanes)), jnp.float32) for _ in range(3)]
    out = attention.attention(arrays[0] * 1e4, *arrays[1:], causal=True)
    assert bool(jnp.isfinite(out).all())
    broken = attention.attention(arrays[0].at[0, 2].set(jnp.nan), *arrays[1:], causal=True)
    assert bool(jnp.isnan(broken[0, 2]).all())
    assert bool(jnp.isfinite(broken[0, 3:]).all())


def test_the_form_of_other_platforms_is_the_same_function(monkeypatch):
    """What is lowered for them: XLA's operations, with a gradient of their own."""
    random = np.random.default_rng(0)
    arrays = [jnp.asarray(random.normal(size=(2, 16, 2, 16)), jnp.float32) for _ in range(3)]
    real, heads = jnp.asarray([16.0, 5.0]), direct_attention.Heads(2, 16, 16)

    def run(*arrays):
        out, pull = jax.vjp(lambda *a: attention._direct(*a, real, True), *arrays)
        joined = jnp.concatenate([array.reshape(2, 16, -1) for array in arrays], axis=-1)
        other, pull_other = jax.vjp(lambda a: attention._joined(a, real, heads, True), joined)
        return out, *pull(jnp.cos(out)), other, *pull_other(jnp.cos(other))

    ours = jax.jit(run)(*arrays)
    jax.clear_caches()
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, cpu, default: default(*operands))
    for mine, other in zip(ours, jax.jit(run)(*arrays), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=3e-6)
