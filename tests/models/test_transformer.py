"""The Transformer of one sequence: shapes and counts, causality, padding, dropout, lowering, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, transformer
from models.inputs import Padded
from models.layers import direct_attention
from tests.lowering import lowered

IMAGE = Shapes(inputs=(8, 4, 1), vocabulary=None, outputs=3, per_position=False)
SEQUENCE = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=False)
CAUSAL = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=True, causal=True)
TOKENS = Shapes(inputs=(6,), vocabulary=7, outputs=7, per_position=True, causal=True)
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


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "alibi", "none"])
def test_no_output_depends_on_a_later_input(positions):
    model, variables, x = _made(CAUSAL, positions=positions)
    jacobian = jax.jit(jax.jacobian(lambda x: _logits(model, variables, x)[0].sum(-1)))(x)[:, 0]
    influence = jnp.abs(jacobian).sum(-1)  # [output, input]
    assert float(jnp.triu(influence, 1).max()) == 0.0
    assert float(jnp.where(jnp.tri(6, dtype=bool), influence, 1).min()) > 0.0


MASK = jnp.arange(6)[None] < jnp.asarray([[6], [3]])
TAGGING = Shapes(inputs=(6,), vocabulary=7, outputs=7, per_position=True)
LABELS = Shapes(inputs=(6,), vocabulary=7, outputs=3, per_position=False)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (TOKENS, {}),
        (SEQUENCE, {"norm_position": "post"}),
        (LABELS, {"pooling": "class_token", "positions": "rotary", "normalisation": "rms"}),
        pytest.param(
            LABELS,
            {"pooling": "first", "positions": "alibi", "segments": 2, "separator": 3, "embedding_norm": True},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            TAGGING,
            {"head": "masked_language_model", "positions": "sinusoidal", "scan_layers": True},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_padding_changes_nothing_bit_for_bit(shapes, options):
    """Whatever stands there: outputs, weights and gradients; and a sequence alone gives what it gives padded."""
    model, variables, x = _made(shapes, **options)
    wide = MASK.reshape(*MASK.shape, *(1,) * (x.ndim - 2))
    other = jnp.where(wide, x, (x + 1) % 7 if shapes.vocabulary else jnp.nan)
    real = MASK[..., None] if shapes.per_position else jnp.ones((), bool)

    def loss(variables, x):
        outputs, kept = model.inspect(variables, Padded(x, MASK), hyperparameters={})
        outputs = jnp.where(real, outputs, 0)
        return (outputs**2).mean(), (outputs, kept)

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, (outputs, kept)), gradients = run(variables, x)
    (_, (same_outputs, same_kept)), same = run(variables, other)
    for ours, reference in zip(*map(jax.tree.leaves, ((same_outputs, same), (outputs, gradients))), strict=True):
        np.testing.assert_array_equal(ours, reference)
    for name, value in kept.items():
        if name.endswith("attention_weights"):
            extra = value.shape[-1] - 6
            np.testing.assert_array_equal(value[..., 1, :, :, 3 + extra :], 0)
            np.testing.assert_array_equal(same_kept[name], value)
    alone = jax.jit(lambda v, x: model.apply(v, x, train=False, rngs={}, hyperparameters={})[0])(variables, x[1:, :3])
    expected = outputs[1:, :3] if shapes.per_position else outputs[1:]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


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


def test_dropout_off_draws_nothing_and_zero_changes_nothing(monkeypatch):
    # Attention by machine code rounds otherwise than by XLA's operations, which dropout of its weights needs.
    monkeypatch.setattr(direct_attention, "fits", lambda *arrays: False)
    model, variables, x = _made(TOKENS)
    still = _logits(model, variables, x)
    np.testing.assert_array_equal(_logits(model, variables, x, train=True), still)  # no stream is given
    assert "random" not in str(jax.make_jaxpr(lambda x: _logits(model, variables, x, train=True))(x))
    rngs = {"dropout": jax.random.key(1)}
    zero = _logits(model, variables, x, train=True, rngs=rngs, dropout_rate=jnp.float32(0))
    np.testing.assert_array_equal(zero, still)
    dropped = _logits(model, variables, x, train=True, rngs=rngs, dropout_rate=jnp.float32(0.5))
    assert not np.allclose(dropped, still)


@pytest.mark.slow
@pytest.mark.parametrize("shapes", [IMAGE, TOKENS])
def test_lanes_together_are_lanes_alone_and_it_lowers_everywhere(shapes):
    model, variables, x = _made(shapes)
    gradient = jax.jit(jax.grad(lambda v, x: (_logits(model, v, x) ** 2).mean()))
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0.9]), variables)
    together = jax.jit(jax.vmap(gradient, (0, None)))(lanes, x)
    alone = gradient(variables, x)
    for ours, reference in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours[0], reference, rtol=1e-3, atol=1e-4)
    exported = lowered(gradient, variables, x)
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_half_precision_lowers_everywhere():
    """The fused kernel of a GPU is chosen where there is one, and does not stand in the way elsewhere."""
    model = build(transformer.Config(width=16, depth=1, heads=2, feedforward=8), TOKENS, compute_dtype="bfloat16")
    x = _inputs(TOKENS)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    gradient = jax.jit(jax.grad(lambda v, x: (_logits(model, v, x) ** 2).mean()))
    platforms = ("cpu", "cuda", "tpu") if jax.default_backend() == "cpu" else (jax.default_backend(),)
    assert lowered(gradient, variables, x, platforms=platforms).platforms == platforms


@pytest.mark.parametrize(
    ("changes", "shapes", "message"),
    [
        ({}, Shapes(inputs=(6,), vocabulary=None, outputs=3, per_position=False), r"shape \(6,\)"),
        ({}, Shapes(inputs=(6, 2), vocabulary=5, outputs=5, per_position=True, causal=True), r"shape \(6, 2\)"),
        ({}, Shapes(inputs=(8, 4, 1), vocabulary=None, outputs=3, per_position=True, causal=True), "every position"),
        ({}, Shapes(inputs=(6,), vocabulary=5, outputs=5, per_position=True, target=6), "model 'encoder_decoder'"),
        ({"patch_size": 3}, IMAGE, "patch_size=3 must divide the image of 8x4; one of 1, 2, 4$"),
        ({"tie_embeddings": True}, SEQUENCE, "tie_embeddings"),
        ({"pooling": "first"}, TOKENS, "leave it at 'mean'"),
        ({"head": "masked_language_model"}, TOKENS, "take head='linear'"),
        ({"segments": 2}, TOKENS, "take segments=0"),
        ({"separator": 2}, LABELS, "take segments=2"),
        ({"segments": 2, "separator": 7}, LABELS, "at most 6"),
        ({"embedding_scale": True}, SEQUENCE, "embedding_scale"),
    ],
)
def test_bad_shapes(changes, shapes, message):
    with pytest.raises(BadInput, match=message) as error:
        build(transformer.Config(**(SMALL | changes)), shapes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"heads": 3},
            "heads=3 must divide width=64; nearest: 2 and 4, or give key_size and value_size$",
        ),
        ({"kv_heads": 3}, "kv_heads=3 must divide heads=4; nearest: 2 and 4$"),
        ({"key_size": 5, "positions": "rotary"}, "key_size=4 or 6"),
        ({"width": 9, "heads": 3, "positions": "sinusoidal"}, "10 would be"),
        ({"feedforward": -1}, "feedforward=-1 must be at least 0"),
        ({"activation": "swish"}, "activation='swish' must be one of .*swiglu"),
        ({"dropout_rate": 1.0}, "dropout_rate"),
    ],
)
def test_bad_configurations(fields, message):
    with pytest.raises(BadInput, match=message):
        transformer.Config(**fields)


def test_sizes_of_heads_that_are_given_need_not_divide():
    transformer.Config(width=10, heads=3, key_size=4, value_size=5)


def test_sequences_longer_than_the_learned_positions():
    model, variables, x = _made(TOKENS)
    longer = jnp.concatenate([x, x], axis=1)
    with pytest.raises(BadInput, match="12 positions is longer than the 6 learned ones; positions=sinusoidal"):
        _logits(model, variables, longer)
    model, variables, _ = _made(TOKENS, positions="alibi")
    assert _logits(model, variables, longer).shape == (2, 12, 7)


def _count(config, shapes):
    model, inputs = build(config, shapes), jax.ShapeDtypeStruct((1, *shapes.inputs), jnp.float32)
    if shapes.vocabulary is not None:
        inputs = jax.ShapeDtypeStruct((1, *shapes.inputs), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)  # nothing is allocated
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


BASE = {"width": 768, "depth": 12, "heads": 12, "feedforward": 3072}


@pytest.mark.parametrize("scan_layers", [False, True])
def test_gpt2_small_has_124_million_parameters(scan_layers) -> None:
    """Radford et al. 2019, as released."""
    config = transformer.Config(**BASE, tie_embeddings=True, scan_layers=scan_layers)
    shapes = Shapes(inputs=(1024,), vocabulary=50_257, outputs=50_257, per_position=True, causal=True)
    assert _count(config, shapes) == 124_439_808


def test_bert_base_has_110_million_parameters() -> None:
    """Devlin et al. 2019, section 3, and as released: 109,482,240 with the pooler and without a task's head."""
    bert = {**BASE, "norm_position": "post", "embedding_norm": True, "segments": 2}
    words = 30_522
    labels = Shapes(inputs=(512,), vocabulary=words, outputs=3, per_position=False)
    assert _count(transformer.Config(**bert, pooling="first"), labels) == 109_482_240 + 3 * (768 + 1)
    masked = Shapes(inputs=(512,), vocabulary=words, outputs=words, per_position=True)
    config = transformer.Config(**bert, head="masked_language_model", tie_embeddings=True)
    pooler = head = 768 * 768 + 768
    assert _count(config, masked) == 109_482_240 - pooler + head + 2 * 768 + words


def test_vit_base_has_86_million_parameters() -> None:
    """Dosovitskiy et al. 2021, table 1 (without the head), and with that of 1000 classes as released."""
    shapes = Shapes(inputs=(224, 224, 3), vocabulary=None, outputs=1000, per_position=False)
    assert _count(transformer.Config(**BASE, patch_size=16, pooling="class_token"), shapes) == 86_567_656
