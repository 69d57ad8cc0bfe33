"""A block with every option against PyTorch's functions; scanned and rematerialised blocks; half the digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import Shapes, build, transformer
from models.layers.transformer_blocks import Block
from models.layers.transformer_stack import context_of
from tests.models.torch_transformer import assert_trees_close

MODERN = {
    "width": 8,
    "depth": 2,
    "heads": 4,
    "kv_heads": 2,
    "key_size": 6,
    "value_size": 3,
    "feedforward": 10,
    "normalisation": "rms",
    "qk_norm": True,
}
TIME = 6


def _drawn(shapes, dtype="float32", seed=1):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5, dtype), shapes)


def _torch_block(torch, p, x, config):
    """The block of these options in PyTorch's functions, causal."""
    f = torch.nn.functional

    def dense(x, name):
        y = x @ p[name]["kernel"]
        return y + p[name]["bias"] if config.use_bias else y

    def rms(x, name):
        return f.rms_norm(x, x.shape[-1:], p[name]["scale"], 1e-5)

    batch, time, _ = x.shape
    parts = [config.heads * 6, config.kv_heads * 6, config.kv_heads * 3]
    q, k, v = dense(rms(x, "norm_1"), "queries_keys_values").split(parts, dim=-1)
    q, k, v = (part.reshape(batch, time, -1, size).transpose(1, 2) for part, size in ((q, 6), (k, 6), (v, 3)))
    q, k = rms(q, "norm_queries"), rms(k, "norm_keys")
    steps = torch.arange(time, dtype=x.dtype)
    bias = torch.zeros(config.heads, time, time, dtype=x.dtype)
    if config.positions == "rotary":
        rates = 10_000.0 ** -(torch.arange(3, dtype=x.dtype) / 3)
        turn = torch.polar(torch.ones(time, 3, dtype=x.dtype), torch.outer(steps, rates))
        q, k = (torch.complex(part[..., :3], part[..., 3:]) * turn for part in (q, k))
        q, k = (torch.cat([part.real, part.imag], -1) for part in (q, k))
    if config.positions == "alibi":
        slopes = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8], dtype=x.dtype)
        bias = slopes[:, None, None] * (steps[None] - steps[:, None])
    bias = bias.masked_fill(torch.ones(time, time, dtype=torch.bool).triu(1), float("-inf"))
    mixed = f.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=True)
    x = x + dense(mixed.transpose(1, 2).reshape(batch, time, -1), "attention_out")
    if not config.feedforward:
        return x
    gate, hidden = dense(rms(x, "norm_2"), "feedforward_in").chunk(2, dim=-1)
    gated = f.silu(gate) if config.activation == "swiglu" else f.gelu(gate)
    return x + dense(gated * hidden, "feedforward_out")


@pytest.mark.reference
@pytest.mark.parametrize(
    ("options", "dtype", "tolerance"),
    [
        ({"positions": "rotary", "activation": "swiglu"}, "float32", 1e-5),
        ({"positions": "alibi", "activation": "geglu", "use_bias": False}, "float64", 1e-10),
        ({"positions": "rotary", "activation": "geglu", "kv_heads": 1}, "float64", 1e-10),
        ({"positions": "alibi", "feedforward": 0}, "float64", 1e-10),
    ],
)
def test_a_block_of_all_options_against_pytorch(options, dtype, tolerance):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    config = transformer.Config(**(MODERN | options))
    with jax.enable_x64(dtype == "float64"):
        block = Block(config, True, False, 4)
        x, cotangent = np.random.default_rng(0).normal(size=(2, 2, TIME, 8)).astype(dtype)
        context = context_of(TIME, 0.0, None, None)
        shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), jnp.asarray(x), context))
        variables = _drawn(shapes, dtype)

        def product(variables, x):
            y = block.apply(variables, x, context)[0]
            return (y * cotangent).sum(), y

        (_, y), (gradients, dx) = jax.jit(jax.value_and_grad(product, (0, 1), has_aux=True))(variables, jnp.asarray(x))
        params = jax.tree.map(lambda leaf: torch.tensor(np.array(leaf), requires_grad=True), variables["params"])
        tx = torch.tensor(x, requires_grad=True)
        ty = _torch_block(torch, params, tx, config)
        ty.backward(torch.tensor(cotangent))
        assert_trees_close((y, dx), (ty.detach().numpy(), tx.grad.numpy()), tolerance)
        reference = jax.tree.map(lambda leaf: leaf.grad.numpy(), params)
        assert_trees_close(gradients["params"], reference, tolerance, floor=0.1)


TOKENS = Shapes(inputs=(TIME,), vocabulary=7, outputs=7, per_position=True, causal=True)


def _logits(model, variables, tokens):
    return jax.jit(lambda v: model.apply(v, tokens, train=False, rngs={}, hyperparameters={})[0])(variables)


def _gradients(model, variables, tokens, rngs):
    def loss(variables):
        train = rngs is not None
        hyperparameters = {"dropout_rate": jnp.float32(0.3)} if train else {}
        logits = model.apply(variables, tokens, train=train, rngs=rngs or {}, hyperparameters=hyperparameters)[0]
        return (logits**2).mean(), logits

    (_, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
    return logits, gradients


def _stacked(tree):
    """``block_0``, ``block_1``, ... as ``blocks``."""
    rest = {name: part for name, part in tree.items() if not name.startswith("block_")}
    blocks = [tree[f"block_{i}"] for i in range(len(tree) - len(rest))]
    return rest | {"blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}


@pytest.mark.slow
def test_scanned_blocks_are_blocks_in_a_row():
    """Also with rematerialisation."""
    config = {**MODERN, "positions": "rotary"}
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 7, (2, TIME)), "int32")
    row = build(transformer.Config(**config), TOKENS)
    scanned = build(transformer.Config(**config, scan_layers=True, remat=True), TOKENS)
    variables = _drawn(jax.eval_shape(row.init, jax.random.key(0), tokens))
    stacked = {"params": _stacked(variables["params"])}
    shapes = jax.eval_shape(scanned.init, jax.random.key(0), tokens)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, stacked)
    logits, gradients = _gradients(row, variables, tokens, None)
    other_logits, other_gradients = _gradients(scanned, stacked, tokens, None)
    np.testing.assert_allclose(other_logits, logits, rtol=1e-5, atol=1e-5)
    assert_trees_close(other_gradients["params"], _stacked(gradients["params"]), 1e-5, floor=1e-2)


@pytest.mark.slow
def test_scanned_blocks_have_draws_of_their_own():
    config = transformer.Config(width=8, depth=2, heads=2, feedforward=8, scan_layers=True)
    tokens = jnp.zeros((2, TIME), jnp.int32)
    model = build(config, TOKENS)
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    kernel = variables["params"]["blocks"]["feedforward_in"]["kernel"]
    assert kernel.shape == (2, 8, 8)
    assert not np.allclose(kernel[0], kernel[1])

    def apply(variables, rate):
        rngs = {"dropout": jax.random.key(0)}
        return model.apply(variables, tokens, train=True, rngs=rngs, hyperparameters={"dropout_rate": rate})[0]

    still, dropped = (jax.jit(apply)(variables, jnp.float32(rate)) for rate in (0, 0.5))
    assert not np.allclose(still, dropped)


@pytest.mark.slow
def test_rematerialised_blocks_give_the_same_gradients_and_dropout():
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 7, (2, TIME)), "int32")
    small = {"width": 8, "depth": 1, "heads": 2, "feedforward": 8}
    kept, again = (build(transformer.Config(**small, remat=remat), TOKENS) for remat in (False, True))
    variables = _drawn(jax.eval_shape(kept.init, jax.random.key(0), tokens))
    rngs = {"dropout": jax.random.key(5)}
    (logits, gradients), (other_logits, others) = (
        _gradients(model, variables, tokens, rngs) for model in (kept, again)
    )
    np.testing.assert_allclose(other_logits, logits, rtol=1e-6, atol=1e-6)
    assert_trees_close(others, gradients, 1e-5)
    names = ("checkpoint", "remat")  # the primitive's, of one or the other version of jax

    def program(model):
        apply = model.apply
        return str(jax.make_jaxpr(lambda v: apply(v, tokens, train=False, rngs={}, hyperparameters={})[0])(variables))

    assert any(name in program(again) for name in names)
    assert not any(name in program(kept) for name in names)


def test_intermediates_have_names_and_cost_nothing_when_not_asked_for():
    config = transformer.Config(**MODERN)
    model = build(config, TOKENS)
    scanned = build(transformer.Config(**MODERN, scan_layers=True), TOKENS)
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 7, (2, TIME)), "int32")
    variables = _drawn(jax.eval_shape(model.init, jax.random.key(0), tokens))
    logits, kept = jax.jit(lambda v: model.inspect(v, tokens, hyperparameters={}))(variables)
    names = {
        f"block_{i}/{name}" for i in range(2) for name in ("attention_weights", "feedforward_activations", "residual")
    }
    assert set(kept) == names | {"embedded"}
    weights = kept["block_1/attention_weights"]
    assert weights.shape == (2, 4, TIME, TIME)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-6)
    assert float(jnp.abs(jnp.triu(weights, 1)).max()) == 0.0
    np.testing.assert_allclose(logits, _logits(model, variables, tokens), rtol=1e-5, atol=1e-5)
    stacked = {"params": _stacked(variables["params"])}
    _, also = jax.jit(lambda v: scanned.inspect(v, tokens, hyperparameters={}))(stacked)
    for name in ("attention_weights", "residual"):
        together = jnp.stack([kept[f"block_{i}/{name}"] for i in range(2)])
        np.testing.assert_allclose(also[f"blocks/{name}"], together, rtol=1e-5, atol=1e-5)

    def apply(v):
        return model.apply(v, tokens, train=False, rngs={}, hyperparameters={})

    assert jax.tree.structure(jax.eval_shape(apply, variables)) == jax.tree.structure((logits, {}))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {**MODERN, "positions": "rotary", "activation": "swiglu"}])
def test_half_precision_stays_near(options):
    config = transformer.Config(**({"width": 16, "heads": 2, "feedforward": 32} | options | {"depth": 1}))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 7, (4, TIME)), "int32")
    full, half = build(config, TOKENS), build(config, TOKENS, compute_dtype="bfloat16")
    variables = _drawn(jax.eval_shape(full.init, jax.random.key(0), tokens))
    logits = _logits(full, variables, tokens)
    rounded, gradients = _gradients(half, variables, tokens, None)
    assert rounded.dtype == jnp.float32
    assert 0 < float(jnp.linalg.norm(rounded - logits) / jnp.linalg.norm(logits)) < 3e-2
    for leaf in jax.tree.leaves(gradients):
        assert leaf.dtype == jnp.float32
        assert bool(jnp.isfinite(leaf).all())
