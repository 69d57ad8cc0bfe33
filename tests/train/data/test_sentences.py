"""Labelled texts: what the builder makes of them, the readers, pretrained vectors, F1 and confusion."""

import csv
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models import text_cnn
from models.base import BadInput
from models.inputs import Padded
from train import objectives
from train.config import replace, traced_paths
from train.cost import cost
from train.data import glove, sentences
from train.data.sentences import SentencesConfig, Text, classification
from train.data.task import Batch, FinalEvaluation
from train.folder import Files
from train.loop import Watch, run_population
from train.population import Population
from train.step import with_initial

CLASSES = ("bad", "good")
TINY = text_cnn.Config(kernel_sizes=(2, 3), channels=4, embedding=5, dropout_rate=0.0)


def drawn(seed, size, *, words="abcdefgh", longest=9):
    """Texts of letters; the class is whether there are more of the first half of the alphabet."""
    generator = np.random.default_rng(seed)
    result = []
    for length in generator.integers(1, longest + 1, size):
        text = [words[index] for index in generator.integers(0, len(words), length)]
        result.append(Text(text, int(sum(word < "e" for word in text) * 2 > length)))
    return result


def made(splits=None, **options):
    splits = splits or {"train": drawn(0, 41), "validation": drawn(1, 23), "test": drawn(2, 17)}
    return classification("made", (), splits, classes=CLASSES, config=SentencesConfig(**options))


def texts_of(arrays, vocabulary_size=None):
    values, mask = arrays["inputs"]
    return [tuple(row[real].tolist()) for row, real in zip(values, mask, strict=True)]


# The builder


def test_inputs_are_the_tokens_of_the_vocabulary_and_padding_is_nothing():
    splits = {
        "train": [Text(["a", "b", "a", "c"], 0), Text(["b", "a", "d"], 1)],
        "validation": [Text(["d", "a", "zebra"], 1)],
        "test": [Text(["a", "b", "c", "d", "a", "b", "c", "d"], 0)],
    }
    task = made(splits, buckets=1)
    # a occurs three times, b twice; c and d once each: unknown
    assert task.shapes.vocabulary == 4
    assert sorted(texts_of(task.train.arrays)) == [(2, 3, 2, 1), (3, 2, 1)]
    assert texts_of(task.validation.arrays) == [(1, 2, 1)]
    # no longer than the longest training text
    assert texts_of(task.test.open(FinalEvaluation())) == [(2, 3, 1, 1)]
    assert task.facts["test_examples_cut"] == 1
    assert (task.facts["train_words"], task.facts["train_words_unknown"]) == (7, 2)
    assert not task.train.arrays["inputs"].values[~task.train.arrays["inputs"].mask].any()


def test_training_knows_nothing_of_the_other_splits():
    train = drawn(0, 41)
    one = made({"train": train, "validation": drawn(1, 23), "test": drawn(2, 17)})
    other = made({"train": train, "validation": drawn(3, 9, words="xyz"), "test": drawn(4, 9, longest=30)})
    assert jax.tree.all(jax.tree.map(np.array_equal, one.train.arrays, other.train.arrays))
    assert one.shapes == other.shapes
    assert one.sampler == other.sampler
    assert one.facts["fingerprint"] != other.facts["fingerprint"]


def test_nor_of_training_texts_that_are_not_used():
    many = drawn(0, 41)
    count = 20
    kept = sorted(many, key=lambda text: sentences.by_digest(" ".join(text.words)))[:count]
    rest = {"validation": drawn(1, 23), "test": drawn(2, 17)}
    limited, alone = made({"train": many, **rest}, train_examples=count), made({"train": kept, **rest})
    assert jax.tree.all(jax.tree.map(np.array_equal, limited.train.arrays, alone.train.arrays))
    assert limited.shapes == alone.shapes


@pytest.mark.parametrize("label_tokens", [False, True])
def test_as_many_texts_are_evaluated_as_were_asked_for(label_tokens):
    splits = {"train": drawn(0, 41), "validation": drawn(1, 23), "test": drawn(2, 17)}
    kept = {
        split: texts
        if split == "train"
        else sorted(texts, key=lambda text: sentences.by_digest(" ".join(text.words)))[:9]
        for split, texts in splits.items()
    }
    limited = made(splits, evaluation_examples=9, label_tokens=label_tokens)
    alone = made(kept, label_tokens=label_tokens)
    ours, theirs = (
        [dict(task.train.arrays), dict(task.validation.arrays), dict(task.test.open(FinalEvaluation()))]
        for task in (limited, alone)
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))
    assert limited.facts["validation_examples"] == limited.facts["test_examples"] == 9


def test_subsets_are_nested():
    def words(count):
        task = made(train_examples=count, least=1, buckets=2)
        shown = [
            task.show(Batch(jax.tree.map(lambda leaf, row=row: leaf[row], task.train.arrays["inputs"]), target, None))
            for row, target in enumerate(task.train.arrays["targets"])
        ]
        return sorted(shown)

    ten, twenty = words(10), words(20)
    assert len(ten) == 10
    for text in ten:
        twenty.remove(text)
    assert len(twenty) == 10


def test_bad_requests():
    splits = {"train": drawn(0, 5), "validation": drawn(1, 5), "test": drawn(2, 5)}
    with pytest.raises(BadInput, match="train_examples=6 must be at most 5"):
        made(splits, train_examples=6)
    with pytest.raises(BadInput, match="evaluation_examples=6 must be at most 5, the validation texts"):
        made(splits, evaluation_examples=6)
    with pytest.raises(BadInput, match="the test split of made is empty"):
        made({**splits, "test": []})
    with pytest.raises(BadInput, match="has 1 different words that occur 1 times"):
        made({**splits, "train": [Text(["only"] * 4, 0), Text(["only"], 1)]}, least=1)


# Metrics: every sentence once


def run(task, config, folder, seeds=(0, 1)):
    from train.config import Trial

    trials = tuple(Trial(arm="arm", seed=seed, config=config) for seed in seeds)
    folder.mkdir(exist_ok=True)
    files = Files(folder, trials, [task])
    population = Population(trials, traced_paths([config]), task)
    run_population(population, files, Watch(lambda _: None, lambda: False))
    return population, files


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """A text CNN in two lanes on texts in three widths; evaluated in batches of 4, which divides neither split."""
    task = made(least=1, buckets=3)
    assert task.sampler.buckets == 3
    config = replace(base, {"model": TINY, "training.steps": 20, "training.evaluate_every": 20})
    folder = tmp_path_factory.mktemp("sentences")
    population, files = run(task, config, folder)
    return task, config, folder, population, files


def alone(config, task, arrays, params):
    """Logits of every sentence, computed one by one and without padding; float64 from there on."""
    model = models.build(config.model, task.shapes)

    @jax.jit
    def apply(values):
        inputs = Padded(values, jnp.ones(values.shape, bool))
        return model.apply({"params": params}, inputs, train=False, rngs={}, hyperparameters={})[0]

    values, mask = arrays["inputs"]
    logits = [apply(jnp.asarray(row[real][None]))[0] for row, real in zip(values, mask, strict=True)]
    return np.array(logits, np.float64)


def f1_by_hand(true, predicted, classes):
    """Macro F1 from precision and recall of each class that occurs; what is undefined is 0."""
    scores = []
    for each in range(classes):
        tp = sum(t == each and p == each for t, p in zip(true, predicted, strict=True))
        fp = sum(t != each and p == each for t, p in zip(true, predicted, strict=True))
        fn = sum(t == each and p != each for t, p in zip(true, predicted, strict=True))
        if tp + fp + fn == 0:
            continue
        precision = tp / (tp + fp) if tp + fp else 0.0
        recall = tp / (tp + fn) if tp + fn else 0.0
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return sum(scores) / len(scores)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["validation", "test"])
def test_metrics_are_those_of_a_loop_over_sentences(trained, split):
    task, config, _, _, files = trained
    arrays = task.validation.arrays if split == "validation" else task.test.open(FinalEvaluation())
    row = files.trials.rows()[0]
    params = final_params(trained, lane=0)
    logits = alone(config, task, arrays, params)
    targets = arrays["targets"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(targets)), targets]
    predicted = logits.argmax(1)
    assert float(row[f"{split}_loss"]) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(row[f"{split}_accuracy"]) == pytest.approx((predicted == targets).mean(), abs=1e-9)
    assert float(row[f"{split}_macro_f1"]) == pytest.approx(f1_by_hand(targets, predicted, 2), abs=1e-9)


def final_params(trained, lane):
    """The parameters at the end, out of the last checkpoint."""
    from train.checkpoints import Checkpoints

    _, _, _, population, files = trained
    checkpoints = Checkpoints(files.checkpoints(population))
    states = checkpoints.restore(population.init()).states
    checkpoints.close()
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[lane]), states.params)


@pytest.mark.slow
def test_confusion_goes_to_a_file(trained):
    task, config, folder, _, _ = trained
    arrays = task.test.open(FinalEvaluation())
    predicted = alone(config, task, arrays, final_params(trained, lane=1)).argmax(1)
    expected = {}
    for true, guess in zip(arrays["targets"].tolist(), predicted.tolist(), strict=True):
        expected[true, guess] = expected.get((true, guess), 0) + 1
    with (folder / "confusion.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["trial"] == "arm-s1"]
    assert list(rows[0]) == ["trial", "true", "predicted", "true_name", "predicted_name", "count"]
    for row in rows:
        assert [task.classes[int(row[side])] for side in ("true", "predicted")] == [
            row["true_name"],
            row["predicted_name"],
        ]
    assert {(int(row["true"]), int(row["predicted"])): int(row["count"]) for row in rows} == expected


@pytest.mark.slow
def test_batches_of_similar_length_train_as_wide_ones_do(trained):
    """A step on a narrow batch is the step on the same batch padded to the greatest width."""
    task, _, _, population, _ = trained
    sampler, arrays = task.sampler, dict(task.train.arrays)
    key = jax.random.key(0)
    find = functools.partial(sampler.order, arrays, key, batch_size=4)
    draw = jax.jit(functools.partial(sampler.draw, arrays=arrays, key=key, batch_size=4))
    state = jax.tree.map(lambda leaf: leaf[0], population.init())
    train = jax.jit(population.step.train)
    widths = set()
    for step in range(6):
        order = find(step)
        bucket = int(sampler.bucket(order, arrays, step, batch_size=4))
        indices = draw(order, step=step)
        batch = sampler.gather(arrays, indices)
        after = [
            train(state, {}, each, {"dropout": key}, jnp.int32(step)).params
            for each in (batch, sampler.narrowed(batch, bucket))
        ]
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6), *after)
        widths.add(bucket)
    assert len(widths) > 1


@pytest.mark.slow
def test_operations_are_the_mean_over_the_widths(trained):
    task, config, _, _, _ = trained
    ends = task.train.arrays["ends"]
    shares = np.diff(ends, prepend=0) / ends[-1]
    wide = cost(config, made(least=1, buckets=1)).flops_per_step
    assert 0.3 * wide < cost(config, task).flops_per_step < wide * (shares[-1] + (1 - shares[-1]) * 0.95)


@pytest.mark.parametrize("classes", [3, 130])
def test_macro_f1_and_confusion_of_many_batches(classes):
    generator = np.random.default_rng(classes)
    targets = generator.integers(0, classes - 1, 60).astype(np.int32)  # one class never occurs
    logits = generator.normal(size=(60, classes)).astype(np.float32)
    logits[:, -1] -= 99
    logits[np.arange(60), targets] += generator.integers(0, 2, 60) * 9
    weights = (generator.random(60) < 0.7).astype(np.float32)
    objective = objectives.classification()
    sums = [
        objective.sums(jnp.asarray(logits[part]), Batch(None, jnp.asarray(targets[part]), jnp.asarray(weights[part])))
        for part in (slice(0, 25), slice(25, 60))
    ]
    total = {name: sum(np.asarray(part[name], np.float64) for part in sums) for name in sums[0]}
    real = weights == 1
    predicted = logits.argmax(1)[real]
    metrics = objective.finish(total)
    assert metrics["macro_f1"] == pytest.approx(f1_by_hand(targets[real], predicted, classes), abs=1e-12)
    assert ("confusion" in total) == (classes <= objectives.MOST_CONFUSED)
    if "confusion" in total:
        expected = np.zeros((classes, classes))
        np.add.at(expected, (targets[real], predicted), 1)
        np.testing.assert_array_equal(total["confusion"], expected)


@pytest.mark.reference
def test_macro_f1_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(5)
    true, predicted = generator.integers(0, 4, 50), generator.integers(1, 6, 50)
    matrix = np.zeros((7, 7))
    np.add.at(matrix, (true, predicted), 1)
    found = objectives.macro_f1(matrix.sum(1), matrix.sum(0), np.diagonal(matrix))
    assert found == pytest.approx(metrics.f1_score(true, predicted, average="macro", zero_division=0), abs=1e-12)


# Pretrained vectors


def vectors_file(tmp_path, text):
    path = tmp_path / "vectors.txt"
    path.write_bytes(text.encode())
    return str(path)


def test_vectors_are_read_by_word(tmp_path):
    path = vectors_file(tmp_path, "b 1 2 -3\n. . 4 5 6\nzebra x y z\na 7e-1 8 9\nb 0 0 0\n")
    found = glove.read(path, ["a", "never", "b", ". ."])
    nan = math.nan
    np.testing.assert_array_equal(found, np.float32([[0.7, 8, 9], [nan, nan, nan], [1, 2, -3], [4, 5, 6]]))
    headed = vectors_file(tmp_path, "2 3\r\na 1 2 3\r\nb 4 5 6\r\n")
    np.testing.assert_array_equal(glove.read(headed, ["b"]), np.float32([[4, 5, 6]]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has none of the 2 words of the training split, such as a, b"),
        ("x 1 2\n", "has none of the 2 words"),
        ("a 1 2 3\nb 1 2\n", "row 2: expected a word and 3 finite numbers"),
        ("a 1 2 3\nb 1 2 3 4\n", "row 2: expected|none"),
        ("a 1 2 three\n", "row 1: expected a word and 3 finite numbers"),
        ("a 1 nan 2\n", "row 1: expected a word and 3 finite numbers"),
        ("a\nb\n", "row 1: expected a word and its numbers"),
    ],
)
def test_broken_vectors(tmp_path, content, message):
    if content.endswith("3 4\n"):  # a word with a space inside looks just like this: it is another word
        assert np.isnan(glove.read(vectors_file(tmp_path, content), ["a", "b"])[1]).all()
        return
    with pytest.raises(BadInput, match=message):
        glove.read(vectors_file(tmp_path, content), ["a", "b"])


def test_absent_vectors():
    with pytest.raises(BadInput, match=r"data\.vectors='nowhere\.txt' cannot be read: No such file"):
        made(vectors="nowhere.txt")


@pytest.mark.slow
def test_models_begin_from_the_vectors(base, tmp_path):
    path = vectors_file(tmp_path, "a 1 2 3 4 5\nc 6 7 8 9 10\n")
    plain, task = made(), made(vectors=path)
    assert task.facts["vectors_found"] == 2
    config = replace(base, {"model": TINY})
    from train.config import Trial

    trial = Trial(arm="arm", seed=3, config=config)
    own, given = (
        jax.tree.map(lambda leaf: leaf[0], Population([trial], (), each).init().params) for each in (plain, task)
    )
    table = np.array(given["tokens"]["embedding"])
    vocabulary = sentences.vocabulary_of([text.words for text in drawn(0, 41)], SentencesConfig())
    known = {vocabulary.encode("a")[0]: [1, 2, 3, 4, 5], vocabulary.encode("c")[0]: [6, 7, 8, 9, 10]}
    for token, vector in known.items():
        np.testing.assert_array_equal(table[token], vector)
    others = [token for token in range(len(table)) if token not in known]
    np.testing.assert_array_equal(table[others], own["tokens"]["embedding"][np.array(others)])
    own["tokens"]["embedding"] = given["tokens"]["embedding"]
    assert jax.tree.all(jax.tree.map(np.array_equal, own, given))
    with pytest.raises(BadInput, match=r"initial values of shape \(10, 5\) do not fit .* \(10, 6\); make the model's"):
        cost(replace(config, {"model.embedding": 6}), task)


def test_initial_values_are_for_one_parameter():
    params = {"a": jnp.zeros(2), "b": {"a": jnp.zeros(2)}}
    changed = with_initial(params, {"^a$": np.array([1, np.nan], np.float32)})
    assert changed["a"].tolist() == [1, 0]
    assert changed["b"]["a"].tolist() == [0, 0]
    with pytest.raises(BadInput, match=r"for one parameter, 'a\$', and the model has 2 of that name; .* a, b/a"):
        with_initial(params, {"a$": np.ones(2, np.float32)})
    with pytest.raises(BadInput, match="the model has 0 of that name"):
        with_initial(params, {"tokens": np.ones(2, np.float32)})
