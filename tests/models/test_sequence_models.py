"""What the recurrent network and the Transformer have in common: shapes, causality, parameters, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models import BadInput, Shapes, rnn, transformer

TOKENS = Shapes(inputs=(6,), vocabulary=9, outputs=9, per_position=True)
IMAGES = Shapes(inputs=(8, 8, 1), vocabulary=None, outputs=3, per_position=False)
SERIES = Shapes(inputs=(6, 2), vocabulary=None, outputs=3, per_position=False)
SENTENCES = Shapes(inputs=(6,), vocabulary=9, outputs=2, per_position=False)
CONFIGS = {
    "vanilla": rnn.Config(cell="vanilla", width=5, depth=2, embedding=4),
    "gru": rnn.Config(cell="gru", width=5, depth=1, embedding=4),
    "lstm": rnn.Config(cell="lstm", width=5, depth=2, embedding=4),
    "transformer": transformer.Config(width=8, depth=2, heads=2, feedforward=12, patch_size=4),
}


def inputs_for(shapes: Shapes, batch: int = 2) -> jax.Array:
    if shapes.vocabulary is None:
        return jax.random.normal(jax.random.key(1), (batch, *shapes.inputs))
    return jax.random.randint(jax.random.key(1), (batch, *shapes.inputs), 0, shapes.vocabulary)


def built(name: str, shapes: Shapes):
    model = models.build(CONFIGS[name], shapes)
    inputs = inputs_for(shapes)
    return model, model.init(jax.random.key(0), inputs), inputs


def logits_of(model, variables, inputs, **options):
    settings = {"train": False, "rngs": {}, "hyperparameters": {}} | options
    return model.apply(variables, inputs, **settings)[0]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shapes", [TOKENS, IMAGES, SERIES, SENTENCES])
def test_logits_have_the_shape_that_the_task_declares(name: str, shapes: Shapes) -> None:
    model, variables, inputs = built(name, shapes)
    out = logits_of(model, variables, inputs)
    assert out.shape == ((2, 6, shapes.outputs) if shapes.per_position else (2, shapes.outputs))
    assert bool(jnp.all(jnp.isfinite(out)))


@pytest.mark.parametrize("name", CONFIGS)
def test_language_models_are_causal(name: str) -> None:
    """Changing token s changes no logit before s, bit for bit, and changes those from s on."""
    model, variables, inputs = built(name, TOKENS)
    before = logits_of(model, variables, inputs)
    for position in range(6):
        changed = inputs.at[:, position].set((inputs[:, position] + 1) % 9)
        after = logits_of(model, variables, changed)
        np.testing.assert_array_equal(after[:, :position], before[:, :position])
        assert bool(jnp.any(after[:, position] != before[:, position]))


def test_gradients_prove_the_transformer_causal() -> None:
    model, variables, inputs = built("transformer", TOKENS)

    def at(table: jax.Array, step: int) -> jax.Array:
        params = variables["params"] | {"positions": table}
        return jnp.sum(logits_of(model, {"params": params}, inputs)[:, step])

    for step in range(6):
        gradient = jax.grad(at)(variables["params"]["positions"], step)
        assert not bool(jnp.any(gradient[step + 1 :]))
        assert bool(jnp.all(jnp.any(gradient[: step + 1] != 0, axis=1)))


def test_without_positions_an_encoder_does_not_see_order() -> None:
    model, variables, inputs = built("transformer", SENTENCES)
    params = variables["params"] | {"positions": jnp.zeros_like(variables["params"]["positions"])}
    ordered, reversed_ = (logits_of(model, {"params": params}, x) for x in (inputs, inputs[:, ::-1]))
    np.testing.assert_allclose(ordered, reversed_, rtol=1e-4, atol=1e-5)


def count(config, shapes: Shapes) -> int:
    model = models.build(config, shapes)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs_for(shapes))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameter_counts_have_their_closed_forms() -> None:
    width, features, vocabulary = 5, 4, 9
    head = width * vocabulary + vocabulary
    for cell, gates, extra in (("vanilla", 1, 0), ("gru", 3, 3 * width), ("lstm", 4, 0)):
        layer = gates * width * (features + width + 1) + extra
        config = rnn.Config(cell=cell, width=width, depth=1, embedding=features)
        assert count(config, TOKENS) == vocabulary * features + layer + head
    w, f, depth = 8, 12, 2
    block = w * 3 * w + 3 * w + w * w + w + w * f + f + f * w + w + 4 * w
    assert count(CONFIGS["transformer"], TOKENS) == 9 * w + 6 * w + depth * block + 2 * w + 9 * w
    tied = transformer.Config(width=8, depth=2, heads=2, feedforward=12, tie_embeddings=True)
    assert count(tied, TOKENS) == count(CONFIGS["transformer"], TOKENS) - 9 * w


def test_gpt2_small_has_124_million_parameters() -> None:
    gpt2 = transformer.Config(width=768, depth=12, heads=12, feedforward=3072, tie_embeddings=True)
    shapes = Shapes(inputs=(1024,), vocabulary=50257, outputs=50257, per_position=True)
    assert count(gpt2, shapes) == 124_439_808  # Radford et al. 2019, as released


def test_the_forget_gate_begins_open() -> None:
    _, variables, _ = built("lstm", TOKENS)
    bias = variables["params"]["layer_0"]["bias"]
    np.testing.assert_array_equal(bias, np.repeat([0.0, 1.0, 0.0, 0.0], 5))


@pytest.mark.parametrize("name", CONFIGS)
def test_dropout_draws_nothing_when_off_and_changes_outputs_when_on(name: str) -> None:
    model, variables, inputs = built(name, TOKENS)
    rngs = {"dropout": jax.random.key(2)}
    quiet = jax.make_jaxpr(lambda: logits_of(model, variables, inputs, train=True, rngs=rngs))()
    assert "random_bits" not in str(quiet)
    off = logits_of(model, variables, inputs)
    rate = lambda value: logits_of(  # noqa: E731
        model, variables, inputs, train=True, rngs=rngs, hyperparameters={"dropout_rate": jnp.float32(value)}
    )
    np.testing.assert_allclose(jax.jit(rate)(0.0), off, rtol=1e-5, atol=1e-6)
    assert bool(jnp.any(rate(0.5) != off))


@pytest.mark.reference
def test_a_block_equals_pytorchs_encoder_layer() -> None:
    torch = pytest.importorskip("torch")
    config = transformer.Config(width=8, depth=1, heads=2, feedforward=12, activation="gelu")
    block = transformer.Block(config, causal=False)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, 5, 8))
    with jax.enable_x64(True):
        shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), jnp.asarray(x), 0.0, train=False))["params"]
        params = jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) * 0.3), shapes)
        out, gradient = jax.value_and_grad(
            lambda p: jnp.sum(block.apply({"params": p}, jnp.asarray(x), 0.0, train=False) ** 2)
        )(params)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=True).double()
    pairs = {
        "self_attn.in_proj_weight": ("queries_keys_values", "kernel"),
        "self_attn.in_proj_bias": ("queries_keys_values", "bias"),
        "self_attn.out_proj.weight": ("attention_out", "kernel"),
        "self_attn.out_proj.bias": ("attention_out", "bias"),
        "linear1.weight": ("feedforward_in", "kernel"),
        "linear1.bias": ("feedforward_in", "bias"),
        "linear2.weight": ("feedforward_out", "kernel"),
        "linear2.bias": ("feedforward_out", "bias"),
        "norm1.weight": ("norm_1", "scale"),
        "norm1.bias": ("norm_1", "bias"),
        "norm2.weight": ("norm_2", "scale"),
        "norm2.bias": ("norm_2", "bias"),
    }
    theirs = dict(layer.named_parameters())
    assert set(pairs) == set(theirs)
    with torch.no_grad():
        for name, (module, leaf) in pairs.items():
            theirs[name].copy_(torch.from_numpy(np.array(params[module][leaf]).T.copy()))
    total = (layer(torch.from_numpy(x)) ** 2).sum()
    total.backward()
    np.testing.assert_allclose(out, total.item(), rtol=1e-10)
    for name, (module, leaf) in pairs.items():
        np.testing.assert_allclose(gradient[module][leaf].T, theirs[name].grad.numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: transformer.Config(width=10, heads=4), "must divide width=10"),
        (
            lambda: models.build(transformer.Config(patch_size=3), IMAGES),
            "must divide the image of 8x8; one of 1, 2, 4, 8",
        ),
        (lambda: models.build(transformer.Config(tie_embeddings=True), IMAGES), "language modelling"),
        (lambda: rnn.Config(cell="LSTM"), "one of vanilla, gru, lstm"),
        (lambda: rnn.Config(width=0), "at least 1"),
        (lambda: rnn.Config(dropout_rate=1.0), "less than 1"),
    ],
)
def test_bad_input_is_one_line(make, hint: str) -> None:
    with pytest.raises(BadInput) as caught:
        make()
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
