"""Beam search against the enumeration of all hypotheses, and a plain one in Python."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, encoder_decoder
from models.beam_search import Beam, beam_search
from models.generation import Sampling, generate
from models.inputs import Padded, Pair
from tests.models.markov import MODEL, Counter, Markov, log_softmax, make_model

PROMPT = [[1], [0], [2]]


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly():
    """Programs here run once, on little data: their compilation takes most of the time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def run(chain, *, model=MODEL, prompt=PROMPT, steps=4, end=None, pad=0, beams=4, alpha=0.0):
    beam = Beam(beams=beams, length_penalty=alpha)
    prompt = prompt if isinstance(prompt, Padded) else jnp.asarray(prompt)
    return beam_search(model, chain.variables, prompt, steps=steps, beam=beam, end=end, pad=pad)


def as_list(found, row):
    """The hypotheses of a row as (score, tokens)."""
    triples = zip(*(np.asarray(part[row]) for part in found), strict=True)
    return [(score, tuple(tokens[:length].tolist())) for tokens, length, score in triples if score > -np.inf]


def agree(found, expected, rtol=1e-5):
    """The same hypotheses with the same scores in the same order, but for those that are equally good."""
    np.testing.assert_allclose([score for score, _ in found], [score for score, _ in expected], rtol=rtol)
    assert (np.diff([score for score, _ in found]) <= 0).all()
    scores = {tokens: score for score, tokens in expected}
    assert {tokens for _, tokens in found} == set(scores)
    np.testing.assert_allclose([score for score, _ in found], [scores[tokens] for _, tokens in found], rtol=rtol)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(("end", "number"), [(None, 27), (2, 15)])
def test_a_beam_of_all_hypotheses_finds_them_all_in_order(end, number, bits):
    with jax.enable_x64(bits == 64):
        chain = Markov(3)
        for alpha in (0.0, 0.6, 2.0):
            found = run(chain, end=end, alpha=alpha, beams=27, steps=3)
            for row, prompt in enumerate(PROMPT):
                expected = chain.hypotheses(prompt, 3, end, alpha)
                assert len(expected) == number
                agree(as_list(found, row), expected, rtol=1e-5 if bits == 32 else 1e-12)
            is_there = np.arange(27)[None] < number
            np.testing.assert_array_equal(np.asarray(found.lengths) > 0, np.broadcast_to(is_there, (3, 27)))


def plain_beam_search(chain, prompt, steps, end, beams, alpha):
    """The same search as it is told: never ending early, one hypothesis at a time."""

    def penalised(score, tokens):
        return score / ((5 + len(tokens)) / 6) ** alpha

    alive, ended = [(0.0, ())], []
    for _ in range(steps):
        longer = []
        for score, tokens in alive:
            logs = chain.after([*prompt, *tokens])
            longer += [(score + logs[token], (*tokens, token)) for token in range(len(logs))]
        ended += [(penalised(*item), item[1]) for item in longer if item[1][-1] == end]
        alive = sorted((item for item in longer if item[1][-1] != end), reverse=True)[:beams]
    return sorted(ended + [(penalised(*item), item[1]) for item in alive], reverse=True)[:beams]


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("end", [None, 3])
def test_a_narrow_beam(beams, end):
    """Hypotheses change places in the beam, and what each carries goes with it."""
    for seed, alpha in ((0, 0.0), (1, 0.7), (2, 0.0)):
        chain = Markov(5, seed=seed, sharpness=1.0)
        found = run(chain, prompt=[[token] for token in range(5)], steps=6, end=end, beams=beams, alpha=alpha)
        for row in range(5):
            agree(as_list(found, row), plain_beam_search(chain, [row], 6, end, beams, alpha))


def test_the_best_of_a_beam_need_not_be_greedy():
    """Token 1 is the likelier first, and nothing good follows it."""
    chain = Markov(3)
    chain.logits[:] = 0
    chain.logits[0, 0] = np.log([0.1, 0.5, 0.4])
    chain.logits[0, 2] = np.log([0.01, 0.01, 0.98])
    found = run(chain, prompt=[[0]], steps=2, beams=3)
    assert found.tokens[0, 0].tolist() == [2, 2]
    np.testing.assert_allclose(np.exp(found.scores[0, 0]), 0.4 * 0.98, rtol=1e-5)


def test_one_beam_is_greedy():
    chain = Markov(6)
    prompt = [[token] for token in range(6)]
    greedy = generate(
        MODEL,
        chain.variables,
        jnp.asarray(prompt),
        steps=6,
        key=jax.random.key(0),
        sampling=Sampling(method="greedy"),
    )
    found = run(chain, prompt=prompt, steps=6, beams=1)
    np.testing.assert_array_equal(found.tokens[:, 0], greedy.tokens)
    np.testing.assert_allclose(found.scores[:, 0], greedy.scores, rtol=1e-6)


def test_prompts_of_different_length():
    chain = Markov(4)
    tokens = jnp.asarray([[1, 2, 3], [2, 0, 0], [3, 1, 0]])
    mask = jnp.arange(3)[None] < jnp.asarray([3, 1, 2])[:, None]
    found = run(chain, prompt=Padded(tokens, mask), end=0, beams=3, alpha=0.6)
    for row, length in enumerate([3, 1, 2]):
        expected = plain_beam_search(chain, tokens[row, :length].tolist(), 4, 0, 3, 0.6)
        agree(as_list(found, row), expected)


def test_the_pad_token_follows_the_end():
    chain = Markov(4)
    found = run(chain, end=1, pad=3, beams=100, steps=3)
    for tokens, length in zip(found.tokens.reshape(-1, 3), found.lengths.reshape(-1), strict=True):
        assert (np.asarray(tokens[length:]) == 3).all()
    assert set(np.asarray(found.lengths).ravel().tolist()) == {0, 1, 2, 3}


def test_the_program_ends_when_nothing_better_can_come():
    chain, counter = Markov(4), Counter()
    chain.logits[:, :, 3] += 100
    found = run(chain, model=make_model(counter), end=3, beams=1, steps=9)
    assert found.lengths.tolist() == [[1]] * 3
    jax.effects_barrier()
    assert counter.run == 1


def test_one_compilation_serves_every_penalty():
    chain, counter = Markov(4), Counter()
    model = make_model(counter)
    short = run(chain, model=model, steps=8, end=1, beams=3).lengths
    assert run(chain, model=model, steps=8, end=1, beams=3, alpha=20.0).lengths.sum() > short.sum()
    assert counter.traced == 1


@pytest.mark.slow
def test_a_translation():
    """The carries of a real model go with their hypotheses, and its encoded source stays where it is."""
    shapes = Shapes(inputs=(4,), vocabulary=5, outputs=4, per_position=True, target=4)
    config = encoder_decoder.Config(width=16, heads=2, feedforward=32, depth=1, share_embeddings=False)
    model = build(config, shapes)
    tokens = jax.random.randint(jax.random.key(3), (2, 4), 0, 5)
    source = Padded(tokens, jnp.arange(4)[None] < jnp.asarray([4, 2])[:, None])
    begin = jnp.zeros((2, 1), jnp.int32)
    variables = jax.jit(model.init)(jax.random.key(2), Pair(source, Padded(begin, begin == 0)))
    variables = jax.tree.map(lambda leaf: 2 * leaf, variables)
    found = beam_search(model, variables, begin, source=source, steps=3, beam=Beam(beams=64))

    everything = np.asarray(list(itertools.product(range(4), repeat=3)))
    targets = jnp.asarray(np.concatenate([np.zeros((64, 1), np.int64), everything[:, :2]], axis=1), jnp.int32)

    @jax.jit
    def apply(row):
        repeated = Padded(*(jnp.repeat(part[row][None], 64, axis=0) for part in source))
        pair = Pair(repeated, Padded(targets, jnp.ones(targets.shape, bool)))
        return model.apply(variables, pair, train=False, rngs={}, hyperparameters={})[0]

    for row in range(2):
        logs = log_softmax(np.asarray(apply(row), np.float64))
        scores = np.take_along_axis(logs, everything[..., None], axis=-1)[..., 0].sum(axis=1)
        by_tokens = dict(zip(map(tuple, everything.tolist()), scores, strict=True))
        expected = sorted(((score, tokens) for tokens, score in by_tokens.items()), reverse=True)
        agree(as_list(found, row), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"beams": 0}, "beams=0 must be at least 1"),
        ({"length_penalty": -0.5}, "length_penalty=-0.5 must be at least 0"),
    ],
)
def test_bad_beam(field, message):
    with pytest.raises(BadInput) as error:
        Beam(**field)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"steps": 13}, "13 positions are more than the model's 12"),
        ({"end": 4}, "end=4 is not a token; they go from 0 to 3"),
        ({"prompt": np.zeros((2, 0), np.int32)}, "the prompt is empty"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(BadInput, match=message) as error:
        run(Markov(4), **changes)
    assert "\n" not in str(error.value)
