"""Decoding against NumPy in 64 bits: which tokens stay, how often each is drawn, what a prompt's padding does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import models
from models import BadInput, Shapes, encoder_decoder, rnn, seq2seq, tcn, transformer
from models.generation import Sampling, generate, truncate
from models.inputs import Padded, Pair
from tests.models.markov import MODEL, POSITIONS, Counter, Markov, log_softmax, make_model

KEY = jax.random.key(7)
GREEDY = Sampling(method="greedy")


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly():
    """Programs here run once, on little data: their compilation takes most of the time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def truncated(logits, top_k, top_p):
    """The distribution that top-k, then top-p leave, one token at a time."""
    probabilities = np.exp(log_softmax(np.asarray(logits, np.float64)))
    order = sorted(range(len(probabilities)), key=lambda token: (-probabilities[token], token))[:top_k]
    whole = sum(probabilities[token] for token in order)
    result, reached = np.zeros(len(probabilities)), 0.0
    for token in order:
        result[token] = probabilities[token]
        reached += probabilities[token] / whole
        if reached >= top_p:
            break
    return result / result.sum()


@pytest.mark.parametrize("top_k", [1, 2, 7, 20, 1000])
@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.8, 0.999, 1.0])
def test_truncation(top_k, top_p):
    logits = np.random.default_rng(1).normal(size=(3, 20)).astype(np.float32) * 3
    logits[1] = np.round(logits[1])  # ties
    result = jax.nn.softmax(jax.jit(truncate)(jnp.asarray(logits), top_k=top_k, top_p=top_p))
    expected = np.stack([truncated(row, top_k, top_p) for row in logits])
    np.testing.assert_array_equal(np.asarray(result) > 0, expected > 0)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_truncation_at_one_keeps_tokens_beyond_the_precision_of_the_sum():
    logits = jnp.asarray([0.0, -30.0, -60.0, -80.0])
    np.testing.assert_array_equal(truncate(logits, top_k=4, top_p=1.0), logits)
    np.testing.assert_array_equal(truncate(logits, top_k=4, top_p=0.5), [0.0, -np.inf, -np.inf, -np.inf])


@pytest.mark.parametrize(
    "strengths",
    [
        {},
        {"temperature": 0.4},
        {"temperature": 3.0},
        {"top_k": 3},
        {"top_p": 0.7},
        {"top_p": 0.9, "top_k": 4},
        {"top_p": 0.6, "top_k": 4, "temperature": 1.7},
    ],
    ids=str,
)
def test_frequencies(strengths):
    """20,000 draws of two tokens: the second depends on the first, which is grouped by."""
    chain, rows = Markov(6, sharpness=1.0), 20_000
    prompt = jnp.full((rows, 1), 2)
    drawn = generate(MODEL, chain.variables, prompt, steps=2, key=KEY, sampling=Sampling(**strengths))
    tokens = np.asarray(drawn.tokens)

    def check(draws, logits):
        temperature = strengths.get("temperature", 1.0)
        expected = truncated(logits / temperature, strengths.get("top_k", 6), strengths.get("top_p", 1.0))
        counts = np.bincount(draws, minlength=6)
        assert counts[expected == 0].sum() == 0
        expected = expected * len(draws)
        order = np.argsort(expected)[::-1]
        common = int((expected >= 10).sum())
        if common < 2:
            return 0
        bins = np.arange(6).clip(max=common - 1)  # rare ones share the last bin
        counts, expected = (np.bincount(bins, values[order]) for values in (counts, expected))
        assert stats.chisquare(counts, expected).pvalue > 1e-3
        return 1

    checked = check(tokens[:, 0], chain.logits[0, 2])
    checked += sum(check(tokens[tokens[:, 0] == first, 1], chain.logits[2, first]) for first in np.unique(tokens[:, 0]))
    assert checked >= 2


def test_one_compilation_serves_every_strength():
    chain, counter = Markov(6), Counter()
    model, prompt = make_model(counter), jnp.ones((4, 2), jnp.int32)

    def run(**strengths):
        return generate(model, chain.variables, prompt, steps=5, key=KEY, sampling=Sampling(**strengths))

    cold = run(temperature=0.1, top_k=2)
    assert counter.traced == 2  # the prompt at once, and the step
    hot = run(temperature=5.0, top_k=5)
    run(top_p=0.2)
    run(top_k=3, top_p=0.7, temperature=0.9)
    assert counter.traced == 2
    assert not np.array_equal(cold.tokens, hot.tokens)
    run()  # nothing is truncated, and nothing sorted: the other program
    assert counter.traced == 4
    run(temperature=0.5)
    assert counter.traced == 4


def test_what_is_off_changes_nothing():
    """The program that sorts and the one that does not draw the same tokens where nothing is left out."""
    chain = Markov(6)
    runs = [
        generate(MODEL, chain.variables, jnp.ones((50, 1), jnp.int32), steps=5, key=KEY, sampling=sampling)
        for sampling in (Sampling(), Sampling(top_k=6), Sampling(top_k=10**12))
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(runs[0].tokens, run.tokens)


def test_extreme_strengths_are_greedy():
    chain = Markov(6)
    prompt = jnp.asarray([[1], [4], [5]])

    def run(sampling):
        return generate(MODEL, chain.variables, prompt, steps=6, key=KEY, sampling=sampling).tokens

    for sampling in (Sampling(temperature=1e-30), Sampling(top_k=1), Sampling(top_p=1e-30)):
        np.testing.assert_array_equal(run(sampling), run(GREEDY))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("end", [None, 0])
def test_greedy(end, bits):
    with jax.enable_x64(bits == 64):
        chain = Markov(5, seed=3)
        prompts = [[token, other] for token in range(5) for other in range(5)]
        run = generate(
            MODEL,
            chain.variables,
            jnp.asarray(prompts),
            steps=7,
            key=jax.random.key(0),
            sampling=GREEDY,
            end=end,
            pad=3,
        )
        ended = 0
        for prompt, tokens, length, score in zip(prompts, *map(np.asarray, run), strict=True):
            expected = []
            while len(expected) < 7 and (end is None or end not in expected):
                expected.append(int(np.argmax(chain.after(prompt + expected))))
            ended += len(expected) < 7
            assert length == len(expected)
            assert tokens.tolist() == expected + [3] * (7 - len(expected))
            np.testing.assert_allclose(score, chain.score(prompt, expected), rtol=1e-5 if bits == 32 else 1e-12)
        assert (0 < ended < 25) == (end is not None)


def test_sampled_sequences_end_too():
    chain = Markov(4, sharpness=0.3)
    prompt = jnp.ones((500, 1), jnp.int32)
    arguments = {"steps": 8, "key": KEY, "sampling": Sampling(temperature=0.8)}
    free = generate(MODEL, chain.variables, prompt, **arguments)
    run = generate(MODEL, chain.variables, prompt, end=2, **arguments)
    for loose, tokens, length, score in zip(free.tokens.tolist(), *map(np.asarray, run), strict=True):
        stops = loose.index(2) + 1 if 2 in loose else 8
        assert tokens.tolist() == loose[:stops] + [0] * (8 - stops)
        assert length == stops
        np.testing.assert_allclose(score, chain.score([1], loose[:stops]), rtol=1e-5)
    assert 100 < (np.asarray(run.lengths) < 8).sum() < 500


def test_the_program_ends_when_every_row_has():
    chain, counter = Markov(4), Counter()
    chain.logits[:, :, 3] += 100  # the end, at once
    prompt = jnp.ones((3, 1), jnp.int32)
    run = generate(make_model(counter), chain.variables, prompt, steps=9, key=KEY, sampling=GREEDY, end=3)
    assert run.lengths.tolist() == [1, 1, 1]
    jax.effects_barrier()
    assert counter.run == 1


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(top_p=0.9)], ids=["greedy", "sample"])
def test_prompts_of_different_length(sampling):
    """A row goes on as it would were all prompts cut to the length of its own."""
    chain = Markov(6)
    tokens = np.random.default_rng(2).integers(0, 6, (4, 3))
    lengths = [3, 1, 3, 1]
    mask = np.arange(3) < np.array(lengths)[:, None]

    def run(prompt):
        arguments = {"steps": 6, "key": KEY, "sampling": sampling, "end": 5}
        return generate(MODEL, chain.variables, prompt, **arguments)

    padded = run(Padded(jnp.asarray(tokens), jnp.asarray(mask)))
    other = run(Padded(jnp.asarray(np.where(mask, tokens, 5)), jnp.asarray(mask)))
    jax.tree.map(np.testing.assert_array_equal, padded, other)
    for row, length in enumerate(lengths):
        alone = run(jnp.asarray(tokens[:, :length]))
        jax.tree.map(lambda a, b, row=row: np.testing.assert_array_equal(a[row], b[row]), padded, alone)


def test_a_row_does_not_depend_on_its_neighbours():
    chain = Markov(6)
    arguments = {"steps": 6, "key": KEY, "sampling": Sampling()}
    two = generate(MODEL, chain.variables, jnp.asarray([[1], [2]]), **arguments)
    three = generate(MODEL, chain.variables, jnp.asarray([[1], [5], [2]]), **arguments)
    np.testing.assert_array_equal(two.tokens[0], three.tokens[0])
    same = generate(MODEL, chain.variables, jnp.full((40, 1), 3), **arguments)
    assert len(np.unique(same.tokens, axis=0)) > 10  # rows draw apart


def test_hyperparameters_reach_the_model():
    chain = Markov(6)
    prompt = jnp.ones((8, 1), jnp.int32)
    arguments = {"steps": 6, "key": KEY, "sampling": Sampling(top_p=0.9)}
    sharper = generate(MODEL, chain.variables, prompt, hyperparameters={"sharpness": 2.0}, **arguments)
    colder = generate(MODEL, chain.variables, prompt, steps=6, key=KEY, sampling=Sampling(top_p=0.9, temperature=0.5))
    np.testing.assert_array_equal(sharper.tokens, colder.tokens)


def test_inside_other_programs():
    chain = Markov(6)
    prompt = Padded(jnp.ones((2, 3), jnp.int32), jnp.asarray([[True, True, False], [True, True, True]]))

    def run(key, prompt):
        return generate(MODEL, chain.variables, prompt, steps=4, key=key, sampling=Sampling(top_k=3), end=0)

    keys = jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(run, in_axes=(0, None)))(keys, prompt)
    for lane, key in enumerate(keys):
        jax.tree.map(lambda a, b, lane=lane: np.testing.assert_array_equal(a[lane], b), together, run(key, prompt))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"top_k": 0}, "top_k=0 must be at least 1"),
        ({"top_k": 1.5}, "top_k=1.5 must be an integer or none"),
        ({"top_p": 0.0}, "top_p=0.0 must be greater than 0"),
        ({"top_p": 1.1}, "top_p=1.1 must be at most 1"),
        ({"temperature": 0.0}, "temperature=0.0 must be greater than 0"),
        ({"temperature": -1.0}, "temperature=-1.0 must be greater than 0"),
        ({"method": "beam"}, "method='beam' must be one of greedy, sample"),
    ],
)
def test_bad_sampling(field, message):
    with pytest.raises(BadInput) as error:
        Sampling(**field)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("prompt", "changes", "message"),
    [
        (jnp.ones((2, 1), jnp.int32), {"steps": 0}, "steps=0 must be at least 1"),
        (jnp.ones((2, 0), jnp.int32), {}, "the prompt is empty"),
        (Padded(jnp.ones((2, 3), jnp.int32), jnp.asarray([[True] * 3, [False] * 3])), {}, "prompt of row 1 is empty"),
        (jnp.ones((2, 1), jnp.int32), {"steps": POSITIONS + 1}, "13 positions are more than the model's 12"),
        (jnp.ones((2, 1), jnp.int32), {"end": 6}, "end=6 is not a token; they go from 0 to 5"),
        (jnp.ones((2, 1), jnp.int32), {"pad": -1}, "pad=-1 is not a token; they go from 0 to 5"),
    ],
)
def test_bad_input(prompt, changes, message):
    chain = Markov(6)
    with pytest.raises(BadInput, match=message) as error:
        generate(MODEL, chain.variables, prompt, **{"steps": 2, "key": KEY, "sampling": GREEDY} | changes)
    assert "\n" not in str(error.value)


def test_all_positions_can_be_used():
    chain = Markov(6)
    prompt = jnp.ones((1, 1), jnp.int32)
    run = generate(MODEL, chain.variables, prompt, steps=POSITIONS, key=KEY, sampling=GREEDY)
    assert run.tokens.shape == (1, POSITIONS)


TEXT = Shapes(inputs=(9,), vocabulary=7, outputs=7, per_position=True, causal=True)
TRANSLATION = Shapes(inputs=(4,), vocabulary=5, outputs=7, per_position=True, target=9)
SMALL = {
    "rnn": (rnn.Config(width=16, embedding=8, depth=2), TEXT),
    "tcn": (tcn.Config(width=16, depth=2), TEXT),
    "transformer": (transformer.Config(width=16, heads=2, feedforward=32), TEXT),
    "seq2seq": (seq2seq.Config(width=16, embedding=8), TRANSLATION),
    "encoder_decoder": (
        encoder_decoder.Config(width=16, heads=2, feedforward=32, depth=1, share_embeddings=False),
        TRANSLATION,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", SMALL)
def test_greedy_is_the_argmax_of_the_whole_sequence(family, dtype):
    """What is generated, read at once by ``apply``: each token is the most likely after those before it."""
    model = models.build(*SMALL[family], compute_dtype=dtype)
    length = jnp.asarray([3, 1, 2, 3, 1])
    prompt = jax.random.randint(jax.random.key(1), (5, 3), 0, 7)
    source = None
    if family in ("seq2seq", "encoder_decoder"):
        tokens = jax.random.randint(jax.random.key(3), (5, 4), 0, 5)
        source = Padded(tokens, jnp.arange(4)[None] < jnp.asarray([4, 1, 2, 3, 4])[:, None])

    def inputs(targets):
        return targets if source is None else Pair(source, Padded(targets, jnp.ones(targets.shape, bool)))

    variables = jax.jit(model.init)(jax.random.key(2), inputs(jnp.zeros((5, 9), jnp.int32)))
    variables = jax.tree.map(lambda leaf: 2 * leaf, variables)  # far from uniform

    @jax.jit
    def apply(targets):
        return model.apply(variables, inputs(targets), train=False, rngs={}, hyperparameters={})[0]

    padded = Padded(prompt, jnp.arange(3)[None] < length[:, None])
    prompts = [(prompt, [3] * 5), (padded, length.tolist())]
    for given, lengths in prompts if dtype == "float32" else prompts[:1]:
        run = generate(model, variables, given, source=source, steps=6, key=KEY, sampling=GREEDY)
        sequences = jnp.zeros((5, 9), jnp.int32)
        for row, begin in enumerate(lengths):
            sequence = jnp.concatenate([prompt[row, :begin], run.tokens[row]])
            sequences = sequences.at[row, : begin + 6].set(sequence)
        logits = np.asarray(apply(sequences), np.float32)
        for row, begin in enumerate(lengths):
            part = logits[row, begin - 1 : begin + 5]
            chosen = np.take_along_axis(part, np.asarray(run.tokens[row])[:, None], axis=-1)[:, 0]
            # Equal logits may come apart by rounding.
            assert (chosen >= part.max(axis=-1) - (1e-5 if dtype == "float32" else 0.05) * np.abs(part).max()).all()
            expected = np.take_along_axis(log_softmax(part), np.asarray(run.tokens[row])[:, None], axis=-1).sum()
            np.testing.assert_allclose(run.scores[row], expected, rtol=1e-4 if dtype == "float32" else 0.05)
