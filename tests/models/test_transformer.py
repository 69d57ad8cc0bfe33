"""The Transformer: against PyTorch's encoder layers, causality, counts, dropout, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from models import BadInput, Shapes, build, transformer

IMAGE = Shapes(inputs=(8, 4, 1), vocabulary=None, outputs=3, per_position=False)
SEQUENCE = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=False)
CAUSAL = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=True)
TOKENS = Shapes(inputs=(6,), vocabulary=7, outputs=7, per_position=True)
SMALL = {"width": 8, "depth": 2, "heads": 2, "feedforward": 12, "patch_size": 2}


def _inputs(shapes, batch=2, dtype="float32"):
    random = np.random.default_rng(0)
    if shapes.vocabulary is None:
        return jnp.asarray(random.normal(size=(batch, *shapes.inputs)), dtype)
    return jnp.asarray(random.integers(0, shapes.vocabulary, (batch, *shapes.inputs)), "int32")


def _made(shapes, dtype="float32", **changes):
    """A model, its inputs, and parameters large enough that nothing is nearly linear."""
    model, x = build(transformer.Config(**(SMALL | changes)), shapes), _inputs(shapes, dtype=dtype)
    random = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5, dtype),
        jax.eval_shape(model.init, jax.random.key(0), x),
    )
    return model, variables, x


def _logits(model, variables, x, train=False, rngs=None, **hyperparameters):
    def apply(variables, x, rngs, hyperparameters):
        return model.apply(variables, x, train=train, rngs=rngs, hyperparameters=hyperparameters)[0]

    return jax.jit(apply)(variables, x, rngs or {}, hyperparameters)


@pytest.mark.parametrize("shapes", [IMAGE, SEQUENCE, CAUSAL, TOKENS])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_shapes_and_parameter_count(shapes, bias, tied):
    if tied and shapes is not TOKENS:
        return
    model, x = build(transformer.Config(**SMALL, use_bias=bias, tie_embeddings=tied), shapes), _inputs(shapes)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    logits = jax.eval_shape(lambda v: _logits(model, v, x), variables)
    time = shapes.inputs[0] if shapes.per_position else None
    assert logits.shape == ((2, time, shapes.outputs) if time else (2, shapes.outputs))
    w, f, b = 8, 12, int(bias)
    block = 4 * w + (w + b) * 3 * w + (w + b) * w + (w + b) * f + (f + b) * w
    positions = 8 if shapes is IMAGE else 6
    start = 7 * w if shapes is TOKENS else (4 + b) * w  # patches of 2 x 2 and features of 4 alike
    head = 0 if tied else (w + (not shapes.per_position)) * shapes.outputs
    expected = start + positions * w + 2 * block + 2 * w + head
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == expected


def _encoder_layer(torch, params, activation, dtype):
    """PyTorch's pre-normalised encoder layer with our parameters; and which gradient is whose."""
    layer = torch.nn.TransformerEncoderLayer(8, 2, 12, 0.0, activation, batch_first=True, norm_first=True, dtype=dtype)
    attention = layer.self_attn
    owners = {
        ("queries_keys_values", "kernel"): attention.in_proj_weight,
        ("queries_keys_values", "bias"): attention.in_proj_bias,
        ("attention_out", "kernel"): attention.out_proj.weight,
        ("attention_out", "bias"): attention.out_proj.bias,
        ("feedforward_in", "kernel"): layer.linear1.weight,
        ("feedforward_in", "bias"): layer.linear1.bias,
        ("feedforward_out", "kernel"): layer.linear2.weight,
        ("feedforward_out", "bias"): layer.linear2.bias,
        ("norm_1", "scale"): layer.norm1.weight,
        ("norm_1", "bias"): layer.norm1.bias,
        ("norm_2", "scale"): layer.norm2.weight,
        ("norm_2", "bias"): layer.norm2.bias,
    }
    with torch.no_grad():
        for (name, kind), parameter in owners.items():
            parameter.copy_(torch.tensor(np.array(params[name][kind]).T))
    return layer, owners


@pytest.mark.reference
@pytest.mark.parametrize(("causal", "activation"), [(False, "gelu"), (True, "relu")])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
def test_a_block_against_pytorch(causal, activation, dtype, tolerance):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    with jax.enable_x64(dtype == "float64"):
        random = np.random.default_rng(0)
        block = transformer.Block(transformer.Config(**SMALL, activation=activation), causal)
        x, cotangent = random.normal(size=(2, 2, 6, 8)).astype(dtype)
        shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), jnp.asarray(x), 0.0, train=False))
        variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5, dtype), shapes)
        apply = jax.jit(lambda v, x: block.apply(v, x, 0.0, train=False))
        y = apply(variables, jnp.asarray(x))
        gradients = jax.jit(jax.grad(lambda v, x: (apply(v, x) * cotangent).sum(), (0, 1)))
        ours, dx = gradients(variables, jnp.asarray(x))

        layer, owners = _encoder_layer(torch, variables["params"], activation, getattr(torch, dtype))
        tx = torch.tensor(x, requires_grad=True)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(6, dtype=tx.dtype) if causal else None
        ty = layer(tx, src_mask=mask, is_causal=causal)
        ty.backward(torch.tensor(cotangent))
        pairs = [(y, ty.detach()), (dx, tx.grad)]
        pairs += [
            (ours["params"][a][b], parameter.grad.T if b == "kernel" else parameter.grad)
            for (a, b), parameter in owners.items()
        ]
        for value, reference in pairs:
            reference = reference.numpy()
            np.testing.assert_allclose(value, reference, rtol=0, atol=tolerance * np.abs(reference).max())


def test_no_output_depends_on_a_later_input():
    model, variables, x = _made(CAUSAL)
    jacobian = jax.jit(jax.jacobian(lambda x: _logits(model, variables, x)[0].sum(-1)))(x)[:, 0]
    influence = jnp.abs(jacobian).sum(-1)  # [output, input]
    assert float(jnp.triu(influence, 1).max()) == 0.0
    assert float(jnp.where(jnp.tri(6, dtype=bool), influence, 1).min()) > 0.0


def test_an_encoder_sees_positions_only_by_their_vectors():
    model, variables, x = _made(SEQUENCE)
    order = jnp.asarray([3, 1, 5, 0, 2, 4])
    assert not np.allclose(_logits(model, variables, x[:, order]), _logits(model, variables, x), rtol=1e-3)
    positions = jnp.zeros_like(variables["params"]["positions"])
    without = {"params": {**variables["params"], "positions": positions}}
    shuffled = _logits(model, without, x[:, order])
    np.testing.assert_allclose(shuffled, _logits(model, without, x), rtol=1e-4, atol=1e-5)


def test_patches_hold_the_pixels_of_their_square():
    images = jnp.arange(2 * 4 * 6 * 2, dtype=jnp.float32).reshape(2, 4, 6, 2)
    cut = transformer.patches(images, 2)
    assert cut.shape == (2, 6, 8)
    for i, j in np.ndindex(2, 3):
        square = images[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        np.testing.assert_array_equal(cut[:, 3 * i + j], square.reshape(2, -1))


def test_tied_logits_are_products_with_the_table():
    """A change of the table alone, at the output, is what an untied head with that kernel gives."""
    model, variables, x = _made(TOKENS, tie_embeddings=True)
    untied = build(transformer.Config(**SMALL), TOKENS)
    table = variables["params"]["tokens"]["embedding"]
    with_head = {"params": {**variables["params"], "logits": {"kernel": table.T}}}
    np.testing.assert_allclose(_logits(model, variables, x), _logits(untied, with_head, x), rtol=1e-5, atol=1e-5)


def test_residual_projections_begin_smaller():
    config = transformer.Config(width=64, depth=2, heads=4, feedforward=64)
    shapes = Shapes(inputs=(4, 64), vocabulary=None, outputs=3, per_position=False)
    block = jax.jit(build(config, shapes).init)(jax.random.key(0), _inputs(shapes))["params"]["block_0"]
    ratio = jnp.std(block["attention_out"]["kernel"]) / jnp.std(block["queries_keys_values"]["kernel"])
    np.testing.assert_allclose(ratio, 1 / 2, rtol=0.1)


def test_dropout_off_draws_nothing_and_zero_changes_nothing():
    model, variables, x = _made(TOKENS)
    still = _logits(model, variables, x)
    np.testing.assert_array_equal(_logits(model, variables, x, train=True), still)  # no stream is given
    assert "random" not in str(jax.make_jaxpr(lambda x: _logits(model, variables, x, train=True))(x))
    rngs = {"dropout": jax.random.key(1)}
    zero = _logits(model, variables, x, train=True, rngs=rngs, dropout_rate=jnp.float32(0))
    np.testing.assert_array_equal(zero, still)
    dropped = _logits(model, variables, x, train=True, rngs=rngs, dropout_rate=jnp.float32(0.5))
    assert not np.allclose(dropped, still)


@pytest.mark.parametrize("shapes", [IMAGE, TOKENS])
def test_lanes_together_are_lanes_alone_and_it_lowers_everywhere(shapes):
    model, variables, x = _made(shapes)
    gradient = jax.jit(jax.grad(lambda v, x: (_logits(model, v, x) ** 2).mean()))
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0.9]), variables)
    together = jax.jit(jax.vmap(gradient, (0, None)))(lanes, x)
    alone = gradient(variables, x)
    for ours, reference in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours[0], reference, rtol=1e-3, atol=1e-4)
    exported = export.export(gradient, platforms=("cpu", "cuda", "tpu"))(variables, x)
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize(
    ("changes", "shapes", "message"),
    [
        ({}, Shapes(inputs=(6,), vocabulary=None, outputs=3, per_position=False), r"shape \(6,\)"),
        ({}, Shapes(inputs=(6, 2), vocabulary=5, outputs=5, per_position=True), r"shape \(6, 2\)"),
        ({}, Shapes(inputs=(8, 4, 1), vocabulary=None, outputs=3, per_position=True), "every position"),
        ({"patch_size": 3}, IMAGE, "patch_size=3 must divide"),
        ({"tie_embeddings": True}, SEQUENCE, "tie_embeddings"),
    ],
)
def test_bad_shapes(changes, shapes, message):
    with pytest.raises(BadInput, match=message):
        build(transformer.Config(**(SMALL | changes)), shapes)


@pytest.mark.parametrize("field", [{"heads": 3}, {"feedforward": 0}, {"activation": "swish"}, {"dropout_rate": 1.0}])
def test_bad_configurations(field):
    with pytest.raises(BadInput, match=next(iter(field))):
        transformer.Config(**field)


def test_gpt2_small_has_124_million_parameters() -> None:
    config = transformer.Config(width=768, depth=12, heads=12, feedforward=3072, tie_embeddings=True)
    shapes = Shapes(inputs=(1024,), vocabulary=50_257, outputs=50_257, per_position=True)
    model = build(config, shapes)
    tokens = jax.ShapeDtypeStruct((1, 1024), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), tokens)  # nothing is allocated
    # Radford et al. 2019, as released.
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 124_439_808
