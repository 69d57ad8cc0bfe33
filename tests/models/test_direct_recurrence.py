"""Machine code for the LSTM, against a loop in float64 and against XLA's operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers import direct_recurrence, engines, native, recurrence

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no machine code on this kind of machine")


@st.composite
def problems(draw):
    """Time, batch, hidden units; whether there are a first state, a mask, and a gradient of the cells."""
    lanes = engines.vector_bytes() // 4
    sizes = draw(st.integers(1, 6)), draw(st.integers(1, 14)), lanes * draw(st.integers(1, 3))
    return (*sizes, *(draw(st.booleans()) for _ in range(3)))


def arrays_of(time, batch, hidden, initial, dropped, with_cells, dtype):
    random = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(random.normal(size=shape), dtype)

    first = (draw(batch, hidden), draw(batch, hidden)) if initial else None
    keep = jnp.asarray(2.0 * random.integers(0, 2, (batch, hidden)), dtype) if dropped else None
    weights = draw(time, batch, 4 * hidden), 0.5 * draw(hidden, 4 * hidden)
    return *weights, first, keep, draw(time, batch, hidden), draw(time, batch, hidden) if with_cells else None


def exact(projected, kernel, first, keep, g, g_cells):
    """The definition in float64, differentiated by jax."""
    hidden = kernel.shape[0]

    def loss(projected, kernel, first):
        h, c = (jnp.zeros((projected.shape[1], hidden)),) * 2 if first is None else first
        total, states = 0.0, []
        for t in range(len(projected)):
            sums = projected[t] + (h if keep is None else h * keep) @ kernel
            i, f, candidate, o = (sums[:, gate * hidden : (gate + 1) * hidden] for gate in range(4))
            c = c / (1 + jnp.exp(-f)) + jnp.tanh(candidate) / (1 + jnp.exp(-i))
            h = jnp.tanh(c) / (1 + jnp.exp(-o))
            states.append(h)
            total += jnp.sum(h * g[t]) + (0.0 if g_cells is None else jnp.sum(c * g_cells[t]))
        return total, jnp.stack(states)

    return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(projected, kernel, first)


def machine(projected, kernel, first, keep, g, g_cells):
    def run(projected, kernel, first):
        if g_cells is None:
            return recurrence.lstm(projected, kernel, first, keep)
        return recurrence.lstm_with_cells(projected, kernel, first, keep)

    def both(projected, kernel, first):
        out, pull = jax.vjp(run, projected, kernel, first)
        return pull(g if g_cells is None else (g, g_cells)), out if g_cells is None else out[0]

    return jax.jit(both)(projected, kernel, first)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(problems())
def test_every_form_equals_the_definition_in_float64(problem):
    check(problem)


@pytest.mark.parametrize("problem", [(3, 7, 16, False, False, False), (4, 5, 48, True, True, True)])
def test_equals_the_definition_in_float64(problem):
    check(problem)


def check(problem):
    arrays = arrays_of(*problem, "float32")
    assert direct_recurrence.fits(*arrays[:2])
    found = machine(*arrays)
    with jax.enable_x64(True):
        expected = exact(*arrays_of(*problem, "float64"))
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=4e-6 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("with_cells", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_the_form_of_other_platforms_is_the_same_function(monkeypatch, dropped, with_cells):
    arrays = arrays_of(3, 5, 16, True, dropped, with_cells, "float32")
    ours = machine(*arrays)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, cpu, default: default(*operands))
    jax.clear_caches()
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(machine(*arrays)), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)


def test_other_arguments_may_be_narrower():
    projected, kernel, first, keep, *slopes = arrays_of(3, 5, 16, True, True, False, "float32")
    narrow = [part.astype(jnp.bfloat16) for part in first]
    wide = tuple(part.astype(jnp.float32) for part in narrow)
    ours = machine(projected, kernel, tuple(narrow), keep.astype(jnp.bfloat16), *slopes)
    theirs = machine(projected, kernel, wide, keep, *slopes)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(mine, other.astype(mine.dtype))
