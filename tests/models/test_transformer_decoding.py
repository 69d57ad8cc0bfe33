"""Reading step by step: the same outputs as the whole sequence at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, encoder_decoder, transformer
from models.inputs import Padded, Pair

TIME = 7
TOKENS = Shapes(inputs=(TIME,), vocabulary=9, outputs=9, per_position=True, causal=True)
TRANSLATION = Shapes(inputs=(5,), vocabulary=9, outputs=9, per_position=True, target=TIME)
SMALL = {"width": 8, "depth": 2, "heads": 2, "feedforward": 12}
RANDOM = np.random.default_rng(0)
X = jnp.asarray(RANDOM.integers(0, 9, (3, TIME)), "int32")
SOURCE = Padded(jnp.asarray(RANDOM.integers(0, 9, (3, 5)), "int32"), jnp.arange(5)[None] < jnp.asarray([[5], [3], [1]]))


def _drawn(model, inputs):
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5, "float32"), shapes)


def _whole(model, variables, inputs):
    return jax.jit(lambda v, x: model.apply(v, x, train=False, rngs={}, hyperparameters={})[0])(variables, inputs)


def _stepwise(model, variables, start, tokens, *, prompt, length):
    """Logits of a prompt of many tokens, then of one token at a time in a scan; and the last carry."""

    def read(variables, tokens):
        def advance(carry, tokens):
            logits, carry = model.advance(variables, tokens, carry, train=False, rngs={}, hyperparameters={})
            return carry, logits

        carry = model.start(variables, start, length=length)
        assert all(leaf.shape[0] == tokens.shape[0] for leaf in jax.tree.leaves(carry))
        carry, first = advance(carry, tokens[:, :prompt])
        carry, rest = jax.lax.scan(advance, carry, jnp.swapaxes(tokens[:, prompt:], 0, 1)[:, :, None])
        return jnp.concatenate([first, jnp.swapaxes(rest[:, :, 0], 0, 1)], axis=1), carry

    return jax.jit(read)(variables, tokens)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"positions": "learned"},
        {"positions": "sinusoidal", "norm_position": "post"},
        {"positions": "rotary", "kv_heads": 1, "qk_norm": True, "scan_layers": True},
        {"positions": "alibi", "normalisation": "rms", "value_size": 3},
        {"positions": "none", "scan_layers": True, "remat": True},
    ],
)
def test_a_decoder_step_by_step(options):
    model = build(transformer.Config(**SMALL, **options), TOKENS)
    variables = _drawn(model, X)
    length = TIME if options["positions"] == "learned" else TIME + 4
    logits, carry = _stepwise(model, variables, 3, X, prompt=3, length=length)
    expected = _whole(model, variables, X)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))
    np.testing.assert_array_equal(carry.position, [TIME] * 3)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"positions": "rotary", "scan_layers": True, "kv_heads": 1, "qk_norm": True}])
def test_a_translation_step_by_step(options):
    model = build(encoder_decoder.Config(**SMALL, **options), TRANSLATION)
    pair = Pair(SOURCE, Padded(X, jnp.ones(X.shape, bool)))
    variables = _drawn(model, pair)
    logits, _ = _stepwise(model, variables, SOURCE, X, prompt=2, length=TIME)
    expected = _whole(model, variables, pair)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi"])
def test_prompts_of_different_length(positions):
    """Each sequence counts its own positions; the padding of a prompt leaves no trace."""
    model = build(transformer.Config(**SMALL, positions=positions), TOKENS)
    variables = _drawn(model, X)
    lengths = np.array([4, 2, 1])

    def read(variables, filler):
        mask = jnp.arange(4)[None] < jnp.asarray(lengths)[:, None]
        prompt = Padded(jnp.where(mask, X[:, :4], filler), mask)
        none = {"train": False, "rngs": {}, "hyperparameters": {}}
        first, carry = model.advance(variables, prompt, model.start(variables, 3, length=TIME), **none)
        after = jnp.stack([X[row, n : n + 3] for row, n in enumerate(lengths)])
        second, carry = model.advance(variables, after, carry, **none)
        return first, second, carry

    first, second, carry = jax.jit(read)(variables, 0)
    expected = _whole(model, variables, X)
    for row, n in enumerate(lengths):
        np.testing.assert_allclose(first[row, :n], expected[row, :n], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(second[row], expected[row, n : n + 3], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(carry.position, lengths + 3)
    other = jax.jit(read)(variables, 5)
    np.testing.assert_array_equal(other[1], second)
    for mine, theirs in zip(jax.tree.leaves(other[2]), jax.tree.leaves(carry), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_half_precision_keeps_its_cache_in_half():
    model = build(transformer.Config(**SMALL), TOKENS, compute_dtype="bfloat16")
    variables = _drawn(model, X)
    logits, carry = _stepwise(model, variables, 3, X, prompt=3, length=TIME)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype.name for leaf in jax.tree.leaves(carry)} == {"int32", "bfloat16"}
    expected = _whole(model, variables, X)
    assert float(jnp.linalg.norm(logits - expected) / jnp.linalg.norm(expected)) < 3e-2


@pytest.mark.slow
def test_what_cannot_be_read_step_by_step():
    encoder = build(transformer.Config(**SMALL), Shapes(inputs=(TIME,), vocabulary=9, outputs=2, per_position=False))
    variables = _drawn(encoder, X)
    with pytest.raises(BadInput, match="only where the task is causal"):
        encoder.start(variables, 3, length=TIME)
    decoder = build(transformer.Config(**SMALL), TOKENS)
    with pytest.raises(BadInput, match="8 positions is longer than the 7 learned"):
        decoder.start(_drawn(decoder, X), 3, length=TIME + 1)
