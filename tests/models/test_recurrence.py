"""The recurrences, the variants of the LSTM and their scan: against PyTorch, torch loops and plain scans."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import lstm_variants, recurrence, recurrent_layer
from models.layers.scan import scan

TIME, BATCH, FEATURES, HIDDEN = 7, 3, 5, 4
KERNELS = {"vanilla": 1, "relu": 1, "gru": 3, "lstm": 4, "cells": 4}


def weights(cell, dtype, seed=0, initial=False, keep=False):
    draw = np.random.default_rng(seed)
    gates = KERNELS[cell] * HIDDEN
    shapes = {"x": (TIME, BATCH, FEATURES), "W": (FEATURES, gates), "U": (HIDDEN, gates), "b": (gates,), "c": (gates,)}
    if initial:
        shapes |= {"h_0": (BATCH, HIDDEN), "c_0": (BATCH, HIDDEN)}
    w = {name: (draw.normal(size=shape) * 0.5).astype(dtype) for name, shape in shapes.items()}
    return w | ({"keep": (draw.random((BATCH, HIDDEN)) < 0.5).astype(dtype) * 2} if keep else {})


def ours(cell, w):
    projected = w["x"] @ w["W"] + w["b"][None, None]
    initial, keep = w.get("h_0"), w.get("keep")
    if cell in ("vanilla", "relu"):
        return (recurrence.vanilla(projected, w["U"], initial, keep, "relu" if cell == "relu" else "tanh"),)
    if cell == "gru":
        return (recurrence.gru(projected, w["U"], w["c"], initial, keep),)
    initial = None if initial is None else (initial, w["c_0"])
    form = recurrence.lstm_with_cells if cell == "cells" else lambda *args: (recurrence.lstm(*args),)
    return form(projected, w["U"], initial, keep)


def plain(cell, w):
    """The equations of the docstrings, one step after another, differentiated by jax."""

    def step(carry, x):
        h, c = carry
        z, a = x @ w["W"] + w["b"][None], (h * w["keep"] if "keep" in w else h) @ w["U"]
        if cell in ("vanilla", "relu"):
            h = jnp.tanh(z + a) if cell == "vanilla" else jnp.maximum(z + a, 0)
        elif cell == "gru":
            a = a + w["c"][None]
            (zr, zu, zn), (ar, au, an) = jnp.split(z, 3, axis=1), jnp.split(a, 3, axis=1)
            r, u = jax.nn.sigmoid(zr + ar), jax.nn.sigmoid(zu + au)
            h = (1 - u) * jnp.tanh(zn + r * an) + u * h
        else:
            i, f, g, o = jnp.split(z + a, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), (h, c)

    zero = jnp.zeros((BATCH, HIDDEN), w["x"].dtype)
    states = jax.lax.scan(step, (w.get("h_0", zero), w.get("c_0", zero)), w["x"])[1]
    return states if cell == "cells" else states[:1]


def loss(out):
    weight = [(jnp.arange(part.size, dtype=part.dtype) / part.size).reshape(part.shape) for part in out]
    return sum(jnp.sum(jnp.sin(part * w)) for part, w in zip(out, weight, strict=True))


@pytest.mark.parametrize("cell", KERNELS)
@pytest.mark.parametrize(
    ("extra", "dtype", "tolerance"),
    [({}, np.float32, 2e-5), ({}, np.float64, 1e-11), ({"initial": True, "keep": True}, np.float64, 1e-11)],
)
def test_the_fast_form_equals_its_slow_twin(cell, extra, dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        w = {name: jnp.asarray(value) for name, value in weights(cell, dtype, **extra).items()}
        keep = {"keep": w.pop("keep")} if extra else {}
        fast, slow = jax.jit(
            lambda w: [jax.value_and_grad(lambda w, f=form: loss(f(cell, w | keep)))(w) for form in (ours, plain)]
        )(w)
        assert fast[0].dtype == dtype
        if extra:
            assert float(jnp.abs(fast[1]["h_0"]).max()) > 0.01
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=10 * tolerance), fast, slow)


@pytest.mark.parametrize("cell", ["vanilla", "gru", "lstm"])
def test_a_zero_initial_state_and_a_mask_of_ones_change_nothing(cell):
    w = {name: jnp.asarray(value) for name, value in weights(cell, np.float32).items()}
    zero, one = jnp.zeros((BATCH, HIDDEN)), jnp.ones((BATCH, HIDDEN))
    extras = ({}, {"h_0": zero, "c_0": zero}, {"keep": one})
    without, from_zero, kept = jax.jit(lambda w: [ours(cell, w | extra)[0] for extra in extras])(w)
    np.testing.assert_array_equal(from_zero, without)
    np.testing.assert_allclose(kept, without, rtol=1e-6, atol=1e-7)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("cell", "initial"), [*((cell, True) for cell in ("vanilla", "relu", "gru", "lstm")), ("lstm", False)]
)
def test_outputs_and_gradients_equal_pytorch(cell, initial):
    torch = pytest.importorskip("torch")
    w = weights(cell, np.float64, initial=initial)
    module = {
        "vanilla": lambda: torch.nn.RNN(FEATURES, HIDDEN),
        "relu": lambda: torch.nn.RNN(FEATURES, HIDDEN, nonlinearity="relu"),
        "gru": lambda: torch.nn.GRU(FEATURES, HIDDEN),
        "lstm": lambda: torch.nn.LSTM(FEATURES, HIDDEN),
    }[cell]().double()
    mine = {"weight_ih_l0": w["W"].T, "weight_hh_l0": w["U"].T, "bias_ih_l0": w["b"]}
    mine["bias_hh_l0"] = w["c"] if cell == "gru" else np.zeros_like(w["c"])
    with torch.no_grad():
        for name, value in mine.items():
            getattr(module, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
    leaves = {name: torch.from_numpy(w[name])[None].requires_grad_() for name in ("h_0", "c_0") if name in w}
    state = tuple(leaves.values()) if cell == "lstm" else leaves.get("h_0")
    x = torch.from_numpy(w["x"]).requires_grad_()
    out, _ = module(x, state if initial else None)
    scale = torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape)
    torch.sin(out * scale / out.numel()).sum().backward()
    with jax.enable_x64(True):
        arrays = {name: jnp.asarray(value) for name, value in w.items()}
        states, gradients = jax.jit(lambda w: (ours(cell, w)[0], jax.grad(lambda w: loss(ours(cell, w)))(w)))(arrays)
        np.testing.assert_allclose(states, out.detach(), rtol=1e-10, atol=1e-12)
    theirs = {
        "x": x.grad,
        "W": module.weight_ih_l0.grad.T,
        "U": module.weight_hh_l0.grad.T,
        "b": module.bias_ih_l0.grad,
    }
    if cell == "gru":
        theirs["c"] = module.bias_hh_l0.grad
    theirs |= {name: leaf.grad[0] for name, leaf in leaves.items() if leaf.grad is not None}
    for name, value in theirs.items():
        np.testing.assert_allclose(gradients[name], value.numpy(), rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("cell", ["vanilla", "gru", "lstm"])
def test_lanes_of_a_batched_program_are_solo_runs(cell):
    stacked = [{k: jnp.asarray(v) for k, v in weights(cell, np.float32, seed).items()} for seed in range(3)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *stacked)
    gradient = jax.grad(lambda w: loss(ours(cell, w)))
    lanes, solo = jax.jit(jax.vmap(gradient))(together), jax.jit(gradient)
    for lane, w in enumerate(stacked):
        alone = solo(w)
        for name in w:
            np.testing.assert_allclose(lanes[name][lane], alone[name], rtol=1e-3, atol=1e-4)


def test_bfloat16_holds_its_states_in_32_bits():
    w = {k: jnp.asarray(v, jnp.bfloat16) for k, v in weights("cells", np.float32).items()}
    states, cells = jax.eval_shape(lambda w: ours("cells", w), w)
    gradients = jax.eval_shape(jax.grad(lambda w: loss(ours("cells", w))), w)
    assert states.dtype == cells.dtype == jnp.float32
    assert all(leaf.dtype == jnp.bfloat16 for leaf in gradients.values())


def test_recurrent_initialisers():
    kernel = recurrence.recurrent_init("orthogonal", 4)(jax.random.key(0), (6, 24))
    blocks = jnp.split(kernel, 4, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(6), atol=1e-5)
    assert float(jnp.max(jnp.abs(blocks[0] - blocks[1]))) > 0.1
    identity = recurrence.recurrent_init("identity", 2)(jax.random.key(0), (6, 12))
    np.testing.assert_array_equal(identity, np.tile(np.eye(6), 2))
    glorot = recurrence.recurrent_init("glorot", 2)(jax.random.key(0), (50, 100))
    limit = np.sqrt(6 / 100)
    assert float(jnp.abs(glorot).max()) <= limit
    np.testing.assert_allclose(jnp.std(glorot), limit / np.sqrt(3), rtol=0.05)


# --- the variants of the LSTM -----------------------------------------------------------------------------------


def variant_weights(variant, peephole, seed=0):
    draw = np.random.default_rng(seed)
    count, gates = len(lstm_variants.blocks(variant)), len(lstm_variants.gates(variant))
    shapes = {"z": (TIME, BATCH, count * HIDDEN), "recurrent_kernel": (HIDDEN, count * HIDDEN)}
    shapes |= {"h_0": (BATCH, HIDDEN), "c_0": (BATCH, HIDDEN)}
    if peephole:
        shapes["peepholes"] = (gates, HIDDEN)
    if variant == "full_gate_recurrence":
        shapes |= {"gate_kernel": (3 * HIDDEN, 3 * HIDDEN), "gates_0": (BATCH, 3 * HIDDEN)}
    return {name: draw.normal(size=shape) * 0.7 for name, shape in shapes.items()}


def greff(torch, variant, w, keep):
    """Section 2 and 3 of the paper, a step at a time, in PyTorch. Returns h, c."""
    # Weights of the blocks that a variant lacks are not there: rows are found by name.
    lacks = {"no_input_gate": "i", "no_forget_gate": "f", "no_output_gate": "o", "coupled_gates": "f"}.get(variant)
    order = [name for name in "ifzo" if name != lacks]

    def column(name):
        at = order.index(name) * HIDDEN
        return slice(at, at + HIDDEN)

    h, c, out = w["h_0"], w["c_0"], []
    before = list(w["gates_0"].split(HIDDEN, dim=1)) if "gates_0" in w else None
    peepholes = [name for name in order if name != "z"]

    def total(name, x, h, cell):
        a = x[:, column(name)] + (h * keep) @ w["recurrent_kernel"][:, column(name)]
        if name != "z" and "peepholes" in w:
            a = a + w["peepholes"][peepholes.index(name)] * cell
        if name != "z" and before is not None:
            target = "ifo".index(name)
            for source in range(3):
                rows, columns = (slice(k * HIDDEN, (k + 1) * HIDDEN) for k in (source, target))
                a = a + before[source] @ w["gate_kernel"][rows, columns]
        return a

    for x in w["z"]:
        z = total("z", x, h, c)
        z = z if variant == "no_input_activation" else torch.tanh(z)
        i = 1.0 if variant == "no_input_gate" else torch.sigmoid(total("i", x, h, c))
        if variant == "coupled_gates":
            f = 1 - i
        else:
            f = 1.0 if variant == "no_forget_gate" else torch.sigmoid(total("f", x, h, c))
        new = z * i + c * f
        o = 1.0 if variant == "no_output_gate" else torch.sigmoid(total("o", x, h, new))
        h = (new if variant == "no_output_activation" else torch.tanh(new)) * o
        c, before = new, None if before is None else [i, f, o]
        out.append((h, c))
    return tuple(torch.stack(part) for part in zip(*out, strict=True))


@pytest.mark.reference
@pytest.mark.parametrize(
    ("variant", "peephole"),
    [
        *((variant, True) for variant in lstm_variants.VARIANTS),
        ("no_forget_gate", False),
        ("full_gate_recurrence", False),
    ],
)
def test_lstm_variants_and_their_gradients_equal_a_loop_in_pytorch(variant, peephole):
    torch = pytest.importorskip("torch")
    w = variant_weights(variant, peephole)
    keep = (np.random.default_rng(9).random((BATCH, HIDDEN)) < 0.5) * 2.0
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in w.items()}
    h, c = greff(torch, variant, leaves, torch.tensor(keep))
    ramp = np.linspace(-1, 1, h.numel()).reshape(h.shape)
    ((h * torch.tensor(ramp)).sum() + (c * torch.tensor(ramp**2)).sum()).backward()

    def run(w):
        initial = (w["h_0"], w["c_0"], *([w["gates_0"]] if "gates_0" in w else []))
        states, _ = lstm_variants.lstm_variant(w["z"], w, initial, jnp.asarray(keep), variant=variant)
        return (states[0] * ramp).sum() + (states[1] * ramp**2).sum(), states

    with jax.enable_x64(True):
        arrays = jax.tree.map(jnp.asarray, w)
        gradients, states = jax.jit(jax.grad(run, has_aux=True))(arrays)
        np.testing.assert_allclose(states[0], h.detach(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(states[1], c.detach(), rtol=1e-10, atol=1e-12)
        for name, leaf in leaves.items():
            np.testing.assert_allclose(gradients[name], leaf.grad, rtol=1e-9, atol=1e-11, err_msg=name)


def test_the_variant_without_a_change_is_the_lstm():
    w = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variant_weights("none", False))
    initial = (w["h_0"], w["c_0"])
    general, fast = jax.jit(
        lambda w: (
            lstm_variants.lstm_variant(w["z"], w, initial, None, variant="none")[0],
            recurrence.lstm_with_cells(w["z"], w["recurrent_kernel"], initial),
        )
    )(w)
    for a, b in zip(general, fast, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["coupled_gates", "no_output_gate", "full_gate_recurrence"])
def test_gates_are_given_when_asked_for(variant):
    w = jax.tree.map(jnp.asarray, variant_weights(variant, False))
    initial = (w["h_0"], w["c_0"], *([w["gates_0"]] if "gates_0" in w else []))
    _, values = jax.jit(
        lambda w: lstm_variants.lstm_variant(w["z"], w, initial, None, variant=variant, with_gates=True)
    )(w)
    expected = set(lstm_variants.blocks(variant)) | ({"forget_gate"} if variant == "coupled_gates" else set())
    assert set(values) == expected
    if variant == "coupled_gates":
        np.testing.assert_allclose(values["input_gate"] + values["forget_gate"], 1.0, rtol=1e-6)


# --- the scan, reversal, last states ----------------------------------------------------------------------------


def test_a_scan_of_products_equals_its_slow_twin():
    draw = np.random.default_rng(0)
    with jax.enable_x64(True):
        kernels = {"shared": jnp.asarray(draw.normal(size=(4, 4))), "row": jnp.asarray(draw.normal(size=(3, 4, 2)))}
        bias, first = jnp.asarray(draw.normal(size=(1, 4))), jnp.asarray(draw.normal(size=(3, 4)))
        xs = jnp.asarray(draw.normal(size=(6, 3, 4)))

        def step(times, bias, h, x):
            h = jnp.tanh(x + times("shared", h) + bias)
            return h, times("row", h)

        def slow(step, kernels, bias, first, xs):
            def times(name, x):
                return x @ kernels[name] if name == "shared" else jnp.einsum("bi,bio->bo", x, kernels[name])

            return jax.lax.scan(lambda h, x: step(times, bias, h, x), first, xs)

        def total(form, *args):
            carry, ys = form(step, *args)
            return jnp.sin(carry).sum() + (ys**2).sum()

        results = [
            jax.jit(jax.value_and_grad(lambda *args, form=form: total(form, *args), argnums=(0, 1, 2, 3)))(
                kernels, bias, first, xs
            )
            for form in (scan, slow)
        ]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), *results)


def test_the_gradient_of_a_kernel_is_one_product_after_the_loop():
    w = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variant_weights("coupled_gates", True))

    def total(w):
        return lstm_variants.lstm_variant(w["z"], w, (w["h_0"], w["c_0"]), None, variant="coupled_gates")[0][0].sum()

    loops = [e for e in jax.make_jaxpr(jax.grad(total))(w).eqns if e.primitive.name == "scan"]
    assert len(loops) == 2
    for loop in loops:
        assert str(loop.params["jaxpr"]).count("dot_general") == 1


def test_reversal_of_sequences_and_its_gradient():
    lengths = np.array([5, 2, 0])
    x = np.random.default_rng(0).normal(size=(5, 3, 2)).astype("float32")
    expected = x.copy()
    for b, n in enumerate(lengths):
        expected[:n, b] = x[:n, b][::-1]
    np.testing.assert_array_equal(recurrent_layer.reverse(jnp.asarray(x), jnp.asarray(lengths)), expected)
    np.testing.assert_array_equal(recurrent_layer.reverse(jnp.asarray(x), None), x[::-1])
    gradient = jax.grad(lambda y: (recurrent_layer.reverse(y, jnp.asarray(lengths)) * x).sum())(jnp.zeros_like(x))
    np.testing.assert_array_equal(gradient, expected)


def test_the_last_real_state():
    states = jnp.arange(12.0).reshape(4, 3, 1)
    initial = jnp.full((3, 1), -1.0)
    np.testing.assert_array_equal(recurrent_layer.last(states, None, None)[:, 0], [9, 10, 11])
    np.testing.assert_array_equal(recurrent_layer.last(states, jnp.asarray([4, 2, 0]), initial)[:, 0], [9, 4, -1])
    np.testing.assert_array_equal(recurrent_layer.last(states, jnp.asarray([1, 0, 3]), None)[:, 0], [0, 0, 8])
