"""Machine code for the GRU, against a loop in float64 and against the scan of XLA's operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import flops
from models.layers import direct_recurrence, engines, native, recurrence

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no machine code on this kind of machine")


@st.composite
def problems(draw):
    """Time, batch, hidden units; whether there are a first state and a mask."""
    lanes = engines.vector_bytes() // 4
    sizes = draw(st.integers(1, 6)), draw(st.integers(1, 14)), lanes * draw(st.integers(1, 5))
    return (*sizes, *(draw(st.booleans()) for _ in range(2)))


def arrays_of(time, batch, hidden, initial, dropped, dtype="float32", seed=0):
    """The arguments of ``recurrence.gru``, and a gradient of the states."""
    random = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(random.normal(size=shape), dtype)

    weights = draw(time, batch, 3 * hidden), 0.5 * draw(hidden, 3 * hidden), draw(3 * hidden)
    first, g = draw(batch, hidden), draw(time, batch, hidden)
    keep = jnp.asarray(2.0 * random.integers(0, 2, (batch, hidden)), dtype)
    return *weights, first if initial else None, keep if dropped else None, g


def exact(projected, kernel, bias, first, keep, g):
    """The definition in float64, differentiated by jax."""
    hidden = kernel.shape[0]

    def run(projected, kernel, bias, first):
        h, states = jnp.zeros((projected.shape[1], hidden)) if first is None else first, []
        for x in projected:
            a = (h if keep is None else h * keep) @ kernel + bias[None]
            (x_r, x_u, x_n), (a_r, a_u, a_n) = jnp.split(x, 3, axis=1), jnp.split(a, 3, axis=1)
            u = 1 / (1 + jnp.exp(-x_u - a_u))
            h = (1 - u) * jnp.tanh(x_n + a_n / (1 + jnp.exp(-x_r - a_r))) + u * h
            states.append(h)
        return jnp.stack(states)

    def both(*arguments):
        states, pull = jax.vjp(run, *arguments)
        return states, pull(g)

    return jax.jit(both)(projected, kernel, bias, first)


def both_passes(projected, kernel, bias, first, keep, g):
    """States, and the gradients of all arguments that have one."""

    def run(projected, kernel, bias, first, g):
        states, pull = jax.vjp(lambda *args: recurrence.gru(*args, keep), projected, kernel, bias, first)
        return states, pull(g)

    return jax.jit(run)(projected, kernel, bias, first, g)


def assert_close(ours, theirs, tolerance):
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance * max(1.0, np.abs(other).max()))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(problems())
def test_every_form_equals_the_definition_in_float64(problem):
    check(problem)


@pytest.mark.parametrize("problem", [(3, 7, 16, False, False), (4, 5, 48, True, True), (1, 1, 16, True, False)])
def test_equals_the_definition_in_float64(problem):
    check(problem)


def check(problem):
    arrays = arrays_of(*problem)
    assert direct_recurrence.fits(*arrays[:2])
    found = both_passes(*arrays)
    with jax.enable_x64(True):
        expected = exact(*arrays_of(*problem, "float64"))
    assert_close(found, expected, 4e-6)
    without_gradient = jax.jit(recurrence.gru)(*arrays[:5])
    np.testing.assert_array_equal(without_gradient, found[0])


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_the_scan_and_the_form_of_other_platforms_are_the_same_function(monkeypatch, initial, dropped):
    arrays = arrays_of(5, 7, 16, initial, dropped)
    ours = both_passes(*arrays)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, cpu, default: default(*operands))
    jax.clear_caches()
    elsewhere = both_passes(*arrays)
    np.testing.assert_array_equal(jax.jit(recurrence.gru)(*arrays[:5]), elsewhere[0])
    monkeypatch.undo()
    monkeypatch.setattr(direct_recurrence, "fits", lambda *arrays: False)
    jax.clear_caches()
    scanned = both_passes(*arrays)
    assert_close(ours, scanned, 2e-6)
    assert_close(elsewhere, scanned, 1e-6)


@pytest.mark.parametrize("dropped", [False, True])
def test_lanes_of_vmap_are_solo_runs_bit_for_bit(dropped):
    lanes = [arrays_of(4, 5, 16, True, dropped, seed=seed) for seed in range(3)]
    keep = [lane[4:5] if dropped else () for lane in lanes]

    def run(projected, kernel, bias, first, g, *keep):
        states, gates = direct_recurrence.gru(projected, kernel, bias, first, *keep)
        before = recurrence.previous(states, first)
        bare = direct_recurrence.gru(projected, kernel, bias, first, *keep, with_gates=False)
        return states, gates, bare, direct_recurrence.gru_gradient(g, before, gates, kernel, *keep)

    arguments = [(*lane[:4], lane[5], *more) for lane, more in zip(lanes, keep, strict=True)]
    together = jax.jit(jax.vmap(run))(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *arguments))
    for lane, alone in enumerate(arguments):
        pairs = zip(jax.tree.leaves(together), jax.tree.leaves(jax.jit(run)(*alone)), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_array_equal(ours[lane], theirs)


def test_nan_stays_where_it_is_and_is_seen():
    projected, *others, g = arrays_of(4, 7, 16, True, False)
    states, (dx, *_) = both_passes(projected.at[1, 2, 3].set(jnp.nan), *others, g)
    row = np.arange(7) == 2
    assert np.isfinite(states[0]).all()
    assert np.isnan(states[1, 2, 3])
    assert np.isnan(states[2:, row]).all()
    assert np.isfinite(states[:, ~row]).all()
    assert np.isnan(dx[:2, row]).all()
    assert np.isfinite(dx[:, ~row]).all()


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_large_inputs_stay_finite(size):
    projected, *others = arrays_of(3, 4, 16, False, False)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(both_passes(projected * size, *others)))


def test_other_arguments_may_be_narrower():
    projected, kernel, bias, first, keep, _ = arrays_of(3, 4, 16, True, True)
    first = first.astype(jnp.bfloat16)
    narrow = recurrence.gru(projected, kernel, bias, first, keep.astype(jnp.bfloat16))
    np.testing.assert_array_equal(narrow, recurrence.gru(projected, kernel, bias, first.astype(jnp.float32), keep))


def programs(hidden, dtype):
    """The forward pass and the gradient, as jax has them."""
    arrays = [jnp.zeros(shape, dtype) for shape in ((3, 4, 3 * hidden), (hidden, 3 * hidden), (3 * hidden,))]
    jax.clear_caches()
    gradient = jax.grad(lambda *arrays: jnp.sum(recurrence.gru(*arrays)), (0, 1, 2))
    return jax.make_jaxpr(recurrence.gru)(*arrays), jax.make_jaxpr(gradient)(*arrays)


def test_programs_call_machine_code_where_it_fits(monkeypatch):
    called, call = [], native.call
    monkeypatch.setattr(native, "call", lambda key, *rest: called.append(key[0]) or call(key, *rest))

    def calls(*problem):
        called.clear()
        programs(*problem)
        return {name for name in called if name.startswith("gru")}

    assert calls(16, jnp.float32) == {"gru", "gru_gradient"}
    assert not calls(16, jnp.bfloat16) | calls(17, jnp.float32)
    with jax.enable_x64(True):
        assert not calls(16, jnp.float64)
    monkeypatch.setattr(engines, "llvm", lambda: None)
    assert not calls(16, jnp.float32)
    assert not called


def test_the_operations_of_machine_code_are_counted_as_those_of_the_scan(monkeypatch):
    ours = [flops.of_program(program) for program in programs(16, jnp.float32)]
    monkeypatch.setattr(direct_recurrence, "fits", lambda *arrays: False)
    assert ours == [flops.of_program(program) for program in programs(16, jnp.float32)]
    assert ours == [count * 2.0 * 3 * 4 * 16 * 48 for count in (1, 3)]
