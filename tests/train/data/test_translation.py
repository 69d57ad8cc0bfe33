"""Pairs of sentences: what the builder makes of them, the readers, and how decoded outputs are scored."""

import csv
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models import seq2seq
from models.base import BadInput
from models.beam_search import Beam, beam_search
from models.generation import Sampling, generate
from train import objectives
from train.checkpoints import Checkpoints
from train.config import Trial, replace, traced_paths
from train.data import pairs
from train.data.pairs import BEGIN, END, PAD, PairsConfig, Score, SentencePair, split_by_digest, until_end
from train.data.task import Batch, FinalEvaluation
from train.data.vocabularies import Pieces, Subwords, fitted, words
from train.folder import Files, metric_names
from train.loop import Watch, run_population
from train.population import Population

TINY = seq2seq.Config(width=6, embedding=5, bidirectional=False, attention="dot")


def drawn(seed, size, *, letters="abcd", longest=7):
    """The translation of a text of letters is their capitals, backwards."""
    generator = np.random.default_rng(seed)
    result = []
    for length in generator.integers(1, longest + 1, size):
        text = [letters[index] for index in generator.integers(0, len(letters), length)]
        result.append(SentencePair(" ".join(text), " ".join(reversed(text)).upper()))
    return result


def made(splits=None, *, bleu_tokenizer="13a", **options):
    splits = splits or {"train": drawn(0, 43), "validation": drawn(1, 11), "test": drawn(2, 9)}
    config = PairsConfig(**{"least": 1, **options})
    return pairs.translation("made", (), splits, config=config, bleu_tokenizer=bleu_tokenizer)


# What a model reads and predicts


def test_the_target_is_read_shifted_by_one():
    task = made(shared_vocabulary=False)
    arrays = task.train.arrays
    source, target = arrays["inputs"]
    for row in range(len(arrays["targets"])):
        read, predicted = target.values[row][target.mask[row]], arrays["targets"][row][arrays["weights"][row] > 0]
        assert read[0] == BEGIN
        assert predicted[-1] == END
        np.testing.assert_array_equal(read[1:], predicted[:-1])
        assert len(read) == source.mask[row].sum() + 1
        assert not arrays["targets"][row][arrays["weights"][row] == 0].any()
        assert not target.values[row][~target.mask[row]].any()
    assert task.shapes.vocabulary == task.shapes.outputs == 4 + 4
    assert made(shared_vocabulary=True).shapes.outputs == 4 + 8
    assert task.shapes.inputs == (source.values.shape[1],)
    assert task.shapes.target == target.values.shape[1] == 8
    one = jax.tree.map(lambda leaf: leaf[0], arrays["inputs"])
    shown = task.show(Batch(one, arrays["targets"][0], None)).split(" -> ")
    assert SentencePair(*shown) in drawn(0, 43)


def test_training_knows_nothing_of_the_other_splits():
    train = drawn(0, 43)
    for tokens in ("words", "characters", "bpe"):
        one = made({"train": train, "validation": drawn(1, 11), "test": drawn(2, 9)}, tokens=tokens)
        other = {"train": train, "validation": drawn(3, 5, letters="xyz"), "test": drawn(4, 5, longest=30)}
        other = made(other, tokens=tokens)
        assert jax.tree.all(jax.tree.map(np.array_equal, one.train.arrays, other.train.arrays))
        assert one.shapes == other.shapes
        assert one.sampler == other.sampler
        assert one.facts["fingerprint"] != other.facts["fingerprint"]
        if tokens == "words":
            assert other.facts["validation_tokens_unknown"] == other.facts["validation_tokens"] - 5
        assert other.facts["test_targets_cut"] > 0


def test_subsets_are_nested_and_fitted_alone():
    ten, twenty = (made(train_examples=count, buckets=1) for count in (10, 20))

    def shown(task):
        return [
            task.show(Batch(jax.tree.map(lambda leaf, row=row: leaf[row], task.train.arrays["inputs"]), None, None))
            for row in range(task.facts["train_examples"])
        ]

    assert len(shown(ten)) == 10
    rest = shown(twenty)
    for pair in shown(ten):
        rest.remove(pair)
    assert len(rest) == 10


def test_long_training_pairs_are_left_out_and_long_evaluated_ones_cut():
    splits = {
        "train": [*drawn(0, 20, longest=4), SentencePair("a b c d a", "A")],
        "validation": [SentencePair("a b c d a", "A"), SentencePair("a", "A B C D A B")],
        "test": drawn(2, 9, longest=4),
    }
    task = made(splits, length=4)
    assert task.facts["train_examples"] == 20
    assert task.facts["train_examples_available"] == 21
    assert (task.facts["validation_sources_cut"], task.facts["validation_targets_cut"]) == (1, 1)
    assert list(task.validation.references) == ["A", "A B C D A B"]
    with pytest.raises(BadInput, match="no training pair has at most length=1 tokens"):
        made({**splits, "train": [SentencePair("a b", "A B")] * 3}, length=1)


def test_bad_requests():
    splits = {"train": drawn(0, 5), "validation": drawn(1, 5), "test": drawn(2, 5)}
    with pytest.raises(BadInput, match="train_examples=6 must be at most 5"):
        made(splits, train_examples=6)
    with pytest.raises(BadInput, match="the validation split of made is empty"):
        made({**splits, "validation": []})
    with pytest.raises(BadInput, match="has 1 different words"):
        made({**splits, "train": [SentencePair("a", "a")] * 3})
    with pytest.raises(BadInput, match="vocabulary=255 must be at least 256"):
        made(splits, tokens="bpe", vocabulary=255)
    with pytest.raises(BadInput, match="unknown BLEU tokenizer '13b'; did you mean '13a'"):
        made(splits, bleu_tokenizer="13b")


# Vocabularies


def test_words():
    assert words("It's a well-known T-shirt, isn't it?") == [
        "It's",
        "a",
        "well-known",
        "T-shirt",
        ",",
        "isn't",
        "it",
        "?",
    ]


@pytest.mark.parametrize("kind", ["words", "characters", "bpe"])
def test_decoding_undoes_encoding(kind):
    texts = ["Ein Mann, der läuft.", "zwei  Männer", "ein Mann", "Ein Mann"]
    vocabulary = fitted(kind, texts, specials=4, least=1, most=None)
    for text in texts:
        tokens = vocabulary.encode(text)
        assert min(tokens) >= 4
        assert max(tokens) < vocabulary.size
        assert vocabulary.decode([BEGIN, *tokens, PAD, PAD]) == vocabulary.normalised(text)
    assert fitted(kind, texts, specials=4, least=1, most=None).encode(texts[0]) == vocabulary.encode(texts[0])
    if kind != "words":
        assert vocabulary.normalised(texts[1]) == texts[1]
    if kind == "bpe":
        assert isinstance(vocabulary, Subwords)
        assert vocabulary.decode(vocabulary.encode("日本")) == "日本"
        assert len(vocabulary.encode("Ein Mann")) < len("Ein Mann")
    else:
        assert isinstance(vocabulary, Pieces)
        assert vocabulary.decode([3, 4]).startswith("\N{REPLACEMENT CHARACTER}")


def test_the_most_frequent_pieces_are_kept():
    vocabulary = Pieces(["b a b c a b d"], cut=str.split, between=" ", specials=2, least=1, most=3)
    assert vocabulary.pieces == ["b", "a", "c"]
    assert vocabulary.encode("d c b a") == [1, 4, 2, 3]


# Splits


def test_no_sentence_is_in_two_splits():
    generator = np.random.default_rng(0)
    found = [SentencePair(f"s{a}", f"t{b}") for a, b in generator.integers(0, 700, (600, 2))]
    splits = split_by_digest(found)
    assert sorted(itertools.chain(*splits.values())) == sorted(found)
    for one, other in itertools.combinations(splits.values(), 2):
        assert {pair.source for pair in one} & {pair.source for pair in other} == set()
        assert {pair.target for pair in one} & {pair.target for pair in other} == set()
    assert all(splits.values())
    again = split_by_digest(found[::-1])
    assert {name: sorted(part) for name, part in again.items()} == {name: sorted(part) for name, part in splits.items()}


# The objective


@pytest.mark.slow
def test_every_token_weighs_the_same_in_every_batch():
    """Batches of different length together have the gradient of the mean over all tokens."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(8, 6, 5)).astype(np.float32)
    targets = generator.integers(0, 5, (8, 6)).astype(np.int32)
    weights = (np.arange(6) < generator.integers(1, 7, 8)[:, None]).astype(np.float32)
    weights = weights[np.argsort(weights.sum(1))]
    objective = objectives.translation(float(weights.sum()) / 8)

    def loss(logits, part):
        return objective.loss(logits[part], Batch(None, jnp.asarray(targets[part]), jnp.asarray(weights[part])))

    parts = [slice(start, start + 2) for start in range(0, 8, 2)]
    value, gradient = jax.value_and_grad(lambda x: sum(loss(x, part) for part in parts) / 4)(jnp.asarray(logits))
    wide = logits.astype(np.float64)
    probabilities = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    expected = (probabilities - np.eye(5)[targets]) * weights[..., None] / weights.sum()
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
    picked = np.take_along_axis(probabilities, targets[..., None], -1)[..., 0]
    assert float(value) == pytest.approx(-(np.log(picked) * weights).sum() / weights.sum(), rel=1e-6)
    # and the metrics are those means, whatever the batches
    sums = [
        objective.sums(jnp.asarray(logits[p]), Batch(None, jnp.asarray(targets[p]), jnp.asarray(weights[p])))
        for p in (slice(0, 3), slice(3, 8))
    ]
    metrics = objective.finish({name: sum(np.asarray(part[name], np.float64) for part in sums) for name in sums[0]})
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(np.exp(float(value)), rel=1e-5)
    right = (wide.argmax(-1) == targets) * weights
    assert metrics["token_accuracy"] == pytest.approx(right.sum() / weights.sum(), rel=1e-6)


# Scores


def test_scores_are_those_of_sacrebleu_and_a_loop():
    sacrebleu = pytest.importorskip("sacrebleu")
    references = ["A man runs in the park.", "Two dogs, in the snow, are playing.", "A boy", "The girl reads a book"]
    guesses = ["A man runs in a park.", "Two dogs in the snow, are playing", "A boy", "the girl reads a book"]
    vocabulary = fitted("words", references + guesses, specials=4, least=1, most=None)
    rows = [[*vocabulary.encode(guess), END, *vocabulary.encode("dogs")] for guess in guesses]
    tokens = np.zeros((4, 20), np.int32)
    for row, line in zip(tokens, rows, strict=True):
        row[: len(line)] = line
    texts = [" ".join(words(guess)) for guess in guesses]
    for lower_case in (False, True):
        score = Score(vocabulary, "13a", lower_case=lower_case)
        found = score(tokens, references)
        assert tuple(sorted(found)) == tuple(sorted(score.metrics)) == ("bleu", "exact_match")
        expected = sacrebleu.corpus_bleu(texts, [references], lowercase=lower_case).score
        assert 20 < expected < 100
        assert found["bleu"] == pytest.approx(expected, abs=1e-9)
        assert found["exact_match"] == 0.25
        assert f"case:{'lc' if lower_case else 'mixed'}|eff:no|tok:13a" in score.signature
        assert sacrebleu.__version__ in score.signature
    alone = Score(vocabulary, None, lower_case=False)
    assert alone(tokens, references) == {"exact_match": 0.25}
    assert (alone.metrics, alone.signature) == (("exact_match",), "")


def test_until_end():
    assert until_end([5, 6, END, 7, END]) == [5, 6]
    assert until_end([5, 6]) == [5, 6]


# The final evaluation decodes


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """Three lanes, one of which diverges; decoded in batches of 4, which divides neither 11 nor 9."""
    task = made(buckets=2)
    changes = {"model": TINY, "training.steps": 40, "training.evaluate_every": 40, "optimizer.learning_rate": 1.0}
    config = replace(base, changes)
    wild = replace(config, {"optimizer.learning_rate": 3e38})
    trials = (*(Trial(arm="arm", seed=seed, config=config) for seed in (0, 1)), Trial(arm="wild", seed=0, config=wild))
    folder = tmp_path_factory.mktemp("translation")
    files = Files(folder, trials, [task])
    population = Population(trials, traced_paths([trial.config for trial in trials]), task)
    run_population(population, files, Watch(lambda _: None, lambda: False))
    checkpoints = Checkpoints(files.checkpoints(population))
    states = checkpoints.restore(population.init()).states
    checkpoints.close()
    return task, config, population, files, states


def decoded_alone(trained, arrays, lane):
    """Greedy translations of every source on its own, without padding."""
    task, config, _, _, states = trained
    model = models.build(config.model, task.shapes)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[lane]), states.params)
    # One compilation for all lengths: a decoder is told by its mask alone.
    options = {"steps": task.shapes.target, "key": jax.random.key(0), "sampling": Sampling(method="greedy"), "end": END}
    prompt = jnp.full((1, 1), BEGIN, jnp.int32)
    values, mask = arrays["inputs"].source
    rows = [
        generate(
            model,
            {"params": params},
            prompt,
            source=models.inputs.Padded(jnp.asarray(value[None]), jnp.asarray(real[None])),
            **options,
        ).tokens[0]
        for value, real in zip(values, mask, strict=True)
    ]
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_is_recorded_is_what_each_lane_decodes_alone(trained, split):
    task, _, population, files, states = trained
    capability = FinalEvaluation()
    arrays = task.validation.arrays if split == "validation" else task.test.open(capability)
    references = task.validation.references if split == "validation" else task.test.open_references(capability)
    tokens = population.decode(population.place(states), arrays["inputs"].source)
    rows = {row["trial"]: row for row in files.trials.rows()}
    for lane, name in enumerate(("arm-s0", "arm-s1")):
        alone = decoded_alone(trained, arrays, lane)
        np.testing.assert_array_equal(tokens[lane], alone)
        expected = task.decoding.score(alone, references)
        assert float(rows[name][f"{split}_bleu"]) == expected["bleu"]
        assert float(rows[name][f"{split}_exact_match"]) == expected["exact_match"]
        assert float(rows[name][f"{split}_token_accuracy"]) > 0.2
    assert len(references) == tokens.shape[1]
    assert rows["wild-s0"]["status"] == "diverged"
    assert rows["wild-s0"][f"{split}_bleu"] == ""


def test_references_are_in_the_order_of_the_arrays():
    task = made(buckets=3)
    references = [*task.validation.references]
    for row, reference in enumerate(references):
        one = jax.tree.map(lambda leaf, row=row: leaf[row], task.validation.arrays["inputs"])
        shown = task.show(Batch(one, None, None)).split(" -> ")[1]
        assert shown == reference
    assert sorted(references) == sorted(pair.target for pair in drawn(1, 11))
    with pytest.raises(TypeError, match="opened by the final evaluation alone"):
        task.test.open_references(None)


@pytest.mark.slow
def test_metrics_of_sentences_are_those_of_a_loop(trained):
    """Loss and token accuracy of validation against one sentence at a time, each real token once."""
    task, config, _, files, states = trained
    model = models.build(config.model, task.shapes)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), states.params)
    apply = jax.jit(lambda inputs: model.apply({"params": params}, inputs, train=False, rngs={}, hyperparameters={})[0])
    arrays = task.validation.arrays
    loss, right, count = 0.0, 0, 0
    for row in range(11):
        inputs = jax.tree.map(lambda leaf, row=row: jnp.asarray(leaf[row : row + 1]), arrays["inputs"])
        logits = np.asarray(apply(inputs)[0], np.float64)
        for place, target in enumerate(arrays["targets"][row]):
            if arrays["weights"][row, place]:
                loss += np.log(np.exp(logits[place]).sum()) - logits[place, target]
                right += int(logits[place].argmax() == target)
                count += 1
    found = files.trials.rows()[0]
    assert count == sum(len(pair.target.split()) + 1 for pair in drawn(1, 11))
    assert float(found["validation_loss"]) == pytest.approx(loss / count, rel=1e-5)
    assert float(found["validation_token_accuracy"]) == pytest.approx(right / count, abs=1e-9)


@pytest.mark.slow
def test_decoding_compiles_once_for_both_splits(trained):
    *_, population, _, _ = trained
    assert [name for name in population._programs if name.startswith("decode")] == ["decode"]


@pytest.mark.slow
def test_columns_of_decoded_metrics_are_in_the_final_table_alone(trained):
    task, _, _, files, _ = trained
    with files.curves.path.open(newline="") as file:
        assert "validation_bleu" not in next(csv.reader(file))
    assert metric_names([task]) == ["loss", "perplexity", "token_accuracy"]
    assert metric_names([task], final=True) == ["loss", "perplexity", "token_accuracy", "bleu", "exact_match"]
    assert files.trials.rows()[0]["data_bleu_signature"] == task.facts["bleu_signature"]


@pytest.mark.slow
def test_beams_decode_as_beam_search_does(trained):
    task, config, _, _, states = trained
    beams = made(buckets=2, beams=3, length_penalty=0.7)
    trials = tuple(Trial(arm="arm", seed=seed, config=config) for seed in (0, 1))
    population = Population(trials, traced_paths([config]), beams)
    states = jax.tree.map(lambda leaf: leaf[:2], states)
    source = beams.validation.arrays["inputs"].source
    found = population.decode(population.place(states), source)
    model = models.build(config.model, beams.shapes)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[1]), states.params)
    expected = beam_search(
        model,
        {"params": params},
        jnp.full((11, 1), BEGIN, jnp.int32),
        source=jax.tree.map(jnp.asarray, source),
        steps=beams.shapes.target,
        beam=Beam(beams=3, length_penalty=0.7),
        end=END,
    )
    np.testing.assert_array_equal(found[1], expected.tokens[:, 0])
    assert task.shapes == beams.shapes
