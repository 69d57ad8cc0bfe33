"""Masked words and classes as tokens: shares by counting, what is asked by hand, and a model that can learn both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from train.data import masked_language as masked
from train.data import sentences, sotu_era
from train.data.sentences import SentencesConfig, Text

SPECIAL = masked.SpecialTokens(first_word=2, words=12, classes=3)
TEXTS = [[2 + (row + place) % 10 for place in range(3 + row % 5)] for row in range(40)]
LABELS = [row % 3 for row in range(6)]
ARRAYS = masked.arrays_of(TEXTS, LABELS, length=6, special=SPECIAL)
SAMPLER = masked.MaskedThenAsked(5, SPECIAL)


def drawn(step, size=4000, sampler=SAMPLER):
    indices = sampler.draw((), ARRAYS, jax.random.key(3), step, batch_size=size)
    return np.asarray(indices), jax.tree.map(np.asarray, sampler.gather(ARRAYS, indices))


def test_the_special_tokens_follow_the_words():
    assert (SPECIAL.ask, SPECIAL.mask, SPECIAL.first_class, SPECIAL.size) == (12, 13, 14, 17)
    assert ARRAYS["tokens"][5].tolist() == [12, *TEXTS[5][:6], 0, 0, 0][:7]
    assert ARRAYS["real"].sum() == sum(1 + min(6, len(text)) for text in TEXTS)
    assert ARRAYS["labels"].tolist() == [14, 15, 16, 14, 15, 16]


def test_words_are_masked_in_the_published_shares():
    indices, batch = drawn(4)
    rows, (inputs, real) = indices % 40, batch.inputs
    original = ARRAYS["tokens"][rows]
    asked = batch.weights > 0
    np.testing.assert_array_equal(batch.targets[asked], original[asked])
    np.testing.assert_array_equal(inputs[~asked], original[~asked])
    assert not asked[~real].any()
    assert not asked[:, 0].any()
    assert asked.any(axis=1).all()
    # The least of n uniform numbers is above 0.15 with probability 0.85^n: then one word is chosen nonetheless.
    words = real.sum(1) - 1
    assert asked.sum() == pytest.approx(np.sum(0.15 * words + 0.85**words), rel=0.05)
    assert np.mean(inputs[asked] == SPECIAL.mask) == pytest.approx(0.8, abs=0.03)
    # A tenth are random words, of which a tenth again are the word itself.
    assert np.mean(inputs[asked] == original[asked]) == pytest.approx(0.1 + 0.1 / 10, abs=0.03)
    assert set(rows) == set(range(40))


def test_then_the_class_of_labelled_texts_is_asked_for():
    indices, batch = drawn(5)
    assert set(indices) == set(range(6))
    np.testing.assert_array_equal(batch.weights, np.eye(7)[np.zeros(len(indices), int)])
    np.testing.assert_array_equal(batch.targets[:, 0], 14 + indices % 3)
    np.testing.assert_array_equal(batch.inputs.values, ARRAYS["tokens"][indices])


def test_the_labelled_texts_come_in_one_order_whatever_was_before():
    alone = masked.MaskedThenAsked(0, SPECIAL)
    np.testing.assert_array_equal(drawn(5 + 3)[0], drawn(3, sampler=alone)[0])


def test_an_evaluation_asks_for_each_class_once():
    assert SAMPLER.evaluation_size(ARRAYS) == 6
    batch = SAMPLER.evaluation_batch(ARRAYS, jnp.arange(4, 9))
    np.testing.assert_array_equal(batch.weights.sum(1), [1, 1, 0, 0, 0])
    assert batch.targets[:2, 0].tolist() == [15, 16]


def test_the_task_reads_all_texts_and_the_labels_of_some():
    texts = {
        split: [Text(f"a{row} b c{row % 4}".split(), row % 2) for row in range(count)]
        for split, count in (("train", 30), ("validation", 5), ("test", 7))
    }
    config = sotu_era.Config(label_tokens=True, masked_steps=4, train_examples=10, least=1)
    task = sentences.classification("made", (), texts, classes=("no", "yes"), config=config)
    assert task.train.arrays["tokens"].shape == (30, 4)
    assert task.train.arrays["labels"].shape == (10,)
    assert task.shapes.vocabulary == task.shapes.outputs == 2 + 35 + 2 + 2
    assert (task.facts["train_texts"], task.facts["train_examples"]) == (30, 10)
    row = jax.tree.map(
        lambda leaf: np.asarray(leaf[0]), task.sampler.evaluation_batch(task.validation.arrays, jnp.arange(1))
    )
    assert task.show(row) == "[CLASS] a0 b c0 -> no"


@pytest.mark.parametrize("fields", [{"masked_steps": 3}, {"label_tokens": True, "vectors": "x.txt"}])
def test_fields_that_need_each_other(fields):
    with pytest.raises(BadInput, match="label_tokens=true"):
        SentencesConfig(**fields)
