"""The recurrences against PyTorch's modules and against plain scans."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import recurrence

TIME, BATCH, FEATURES, HIDDEN = 7, 3, 5, 4
KERNELS = {"vanilla": 1, "gru": 3, "lstm": 4}


def weights(cell: str, dtype: type, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    gates = KERNELS[cell] * HIDDEN
    shapes = {"x": (TIME, BATCH, FEATURES), "W": (FEATURES, gates), "U": (HIDDEN, gates), "b": (gates,), "c": (gates,)}
    return {name: (draw.normal(size=shape) * 0.5).astype(dtype) for name, shape in shapes.items()}


def ours(cell: str, w: dict) -> jax.Array:
    projected = w["x"] @ w["W"] + w["b"][None, None]
    if cell == "vanilla":
        return recurrence.vanilla(projected, w["U"])
    return recurrence.gru(projected, w["U"], w["c"]) if cell == "gru" else recurrence.lstm(projected, w["U"])


def plain(cell: str, w: dict) -> jax.Array:
    """The equations of the docstrings, one step after another, differentiated by jax."""

    def step(carry: tuple, x: jax.Array) -> tuple:
        h, c = carry
        z, a = x @ w["W"] + w["b"][None], h @ w["U"]
        if cell == "vanilla":
            h = jnp.tanh(z + a)
        elif cell == "gru":
            a = a + w["c"][None]
            (zr, zu, zn), (ar, au, an) = jnp.split(z, 3, axis=1), jnp.split(a, 3, axis=1)
            r, u = jax.nn.sigmoid(zr + ar), jax.nn.sigmoid(zu + au)
            h = (1 - u) * jnp.tanh(zn + r * an) + u * h
        else:
            i, f, g, o = jnp.split(z + a, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((BATCH, HIDDEN), w["x"].dtype)
    return jax.lax.scan(step, (zero, zero), w["x"])[1]


def loss(form, cell: str, w: dict) -> jax.Array:
    out = form(cell, w)
    return jnp.sum(jnp.sin(out * (jnp.arange(out.size, dtype=out.dtype) / out.size).reshape(out.shape)))


@pytest.mark.parametrize("cell", KERNELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-11)])
def test_the_fast_form_equals_its_slow_twin(cell: str, dtype: type, tolerance: float) -> None:
    with jax.enable_x64(dtype == np.float64):
        w = {name: jnp.asarray(value) for name, value in weights(cell, dtype).items()}
        fast = jax.value_and_grad(lambda w: loss(ours, cell, w))(w)
        slow = jax.value_and_grad(lambda w: loss(plain, cell, w))(w)
        assert fast[0].dtype == dtype
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=10 * tolerance), fast, slow)


@pytest.mark.reference
@pytest.mark.parametrize("cell", KERNELS)
def test_outputs_and_gradients_equal_pytorch(cell: str) -> None:
    torch = pytest.importorskip("torch")
    w = weights(cell, np.float64)
    kind = {"vanilla": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    module = kind(FEATURES, HIDDEN).double()
    mine = {"weight_ih_l0": w["W"].T, "weight_hh_l0": w["U"].T, "bias_ih_l0": w["b"]}
    mine["bias_hh_l0"] = w["c"] if cell == "gru" else np.zeros_like(w["c"])
    with torch.no_grad():
        for name, value in mine.items():
            getattr(module, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
    x = torch.from_numpy(w["x"]).requires_grad_()
    out, _ = module(x)
    scale = torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape)
    torch.sin(out * scale / out.numel()).sum().backward()
    with jax.enable_x64(True):
        arrays = {name: jnp.asarray(value) for name, value in w.items()}
        np.testing.assert_allclose(ours(cell, arrays), out.detach().numpy(), rtol=1e-10, atol=1e-12)
        gradients = jax.grad(lambda w: loss(ours, cell, w))(arrays)
    theirs = {
        "x": x.grad,
        "W": module.weight_ih_l0.grad.T,
        "U": module.weight_hh_l0.grad.T,
        "b": module.bias_ih_l0.grad,
    }
    if cell == "gru":
        theirs["c"] = module.bias_hh_l0.grad
    for name, value in theirs.items():
        np.testing.assert_allclose(gradients[name], value.numpy(), rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("cell", KERNELS)
def test_lanes_of_a_batched_program_are_solo_runs(cell: str) -> None:
    stacked = [{k: jnp.asarray(v) for k, v in weights(cell, np.float32, seed).items()} for seed in range(3)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *stacked)
    lanes = jax.vmap(jax.grad(lambda w: loss(ours, cell, w)))(together)
    for lane, w in enumerate(stacked):
        solo = jax.grad(lambda w: loss(ours, cell, w))(w)
        for name in w:
            np.testing.assert_allclose(lanes[name][lane], solo[name], rtol=1e-3, atol=1e-4)


def test_orthogonal_blocks_are_orthogonal_and_differ() -> None:
    kernel = recurrence.orthogonal_blocks(4)(jax.random.key(0), (6, 24))
    blocks = jnp.split(kernel, 4, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(6), atol=1e-5)
    assert float(jnp.max(jnp.abs(blocks[0] - blocks[1]))) > 0.1
