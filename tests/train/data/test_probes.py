"""Generated tasks against what their papers say of them, in closed form or by a plain loop."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from train import objectives
from train.data import (
    adding_problem,
    associative_recall,
    copy_memory,
    copying,
    fresh,
    generated,
    induction,
    modular_arithmetic,
    parity,
)
from train.data.task import Batch, FinalEvaluation, Task


@functools.cache
def loaded(module, **changes) -> Task:
    return module.load(module.Config(**changes), None)


def test_arrays(task: Task):
    return task.test.open(FinalEvaluation())


test_arrays.__test__ = False


def rows(parts, place):
    return jax.tree.map(lambda array: array[place], parts)


# The adding problem.


def test_adding_problem_has_the_published_error_of_a_constant():
    arrays = loaded(adding_problem, length=50, evaluation_examples=20_000).validation.arrays
    values, markers = arrays["inputs"][..., 0], arrays["inputs"][..., 1]
    assert np.all((values >= 0) & (values < 1))
    assert np.all(markers[:, :25].sum(1) == 1)
    assert np.all(markers[:, 25:].sum(1) == 1)
    np.testing.assert_array_equal(arrays["targets"], (values * markers).sum(1))
    squared = np.square(arrays["targets"].astype(np.float64) - 1)
    # The variance of (s - 1)^2 for a sum s of two uniform numbers: E (s-1)^4 = 1/15.
    assert abs(squared.mean() - 1 / 6) < 5 * math.sqrt((1 / 15 - 1 / 36) / 20_000)
    places = markers[:, :25].argmax(1)
    assert set(places) == set(range(25))


def test_adding_problem_of_1997():
    config = adding_problem.Config(form="original", length=40, evaluation_examples=4000)
    arrays = adding_problem.load(config, None).validation.arrays
    (values, markers), mask = np.moveaxis(arrays["inputs"].values, -1, 0), arrays["inputs"].mask
    sizes = mask.sum(1)
    assert set(sizes) == set(range(40, 45))
    for row in range(4000):
        marked = markers[row, : sizes[row]]
        assert marked[0] == -1
        assert marked[-1] == -1
        places = [place for place in range(1, sizes[row] - 1) if marked[place]]
        assert len(places) in (1, 2)  # where the first pair was marked its number is 0 and its marker -1
        expected = 0.5 + sum(values[row, place] for place in places) / 4
        assert arrays["targets"][row] == pytest.approx(expected, abs=1e-6)
        assert len(places) == 2 or values[row, 0] == 0
        assert len(places) == 1 or min(places) < 10
        assert max(places) < 20
    squared = np.square(arrays["targets"].astype(np.float64) - 0.5)
    assert abs(squared.mean() - adding_problem.baseline(config)) < 4 * squared.std() / math.sqrt(4000)
    with pytest.raises(BadInput, match="length=19 must be at least 20"):
        adding_problem.Config(form="original", length=19)


# Copy memory.


def test_copy_memory_is_the_published_sequence():
    task = loaded(copy_memory, delay=30)
    assert task.facts["memoryless_loss"] == pytest.approx(10 * math.log(8) / 50)
    arrays = task.validation.arrays
    for inputs, targets in zip(arrays["inputs"], arrays["targets"], strict=True):
        symbols = list(inputs[:10])
        assert set(symbols) <= set(range(8))
        assert list(inputs[10:]) == [8] * 29 + [9] + [8] * 10
        assert list(targets) == [8] * 40 + symbols
    assert len(np.unique(arrays["inputs"][:, :10])) == 8


def test_copy_memory_baseline_is_the_loss_of_the_memoryless_network():
    task = loaded(copy_memory, delay=30)
    logits = np.full((50, 10), -1e9, np.float32)
    logits[:40, 8], logits[40:, :8] = 0, 0
    batch = task.sampler.evaluation_batch(task.validation.arrays, jnp.arange(100))
    loss = task.objective.loss(jnp.broadcast_to(logits, (100, 50, 10)), batch)
    assert float(loss) == pytest.approx(task.facts["memoryless_loss"], rel=1e-5)


# Modular arithmetic.

EXPRESSIONS = {
    "add": "x + y",
    "subtract": "x - y",
    "multiply": "x * y",
    "x2_y2": "x**2 + y**2",
    "x2_xy_y2": "x**2 + x*y + y**2",
    "x2_xy_y2_x": "x**2 + x*y + y**2 + x",
    "x3_xy": "x**3 + x*y",
    "x3_xy2_y": "x**3 + x*y**2 + y",
}


@pytest.mark.parametrize("operation", EXPRESSIONS)
def test_every_polynomial_against_python(operation):
    table = modular_arithmetic.table(operation, 11).tolist()
    assert table == [[x, y, eval(EXPRESSIONS[operation]) % 11] for x in range(11) for y in range(11)]


def test_division_undoes_multiplication():
    table = modular_arithmetic.table("divide", 97)
    assert len(table) == 97 * 96
    assert np.all(table[:, 2] * table[:, 1] % 97 == table[:, 0])
    mixed = modular_arithmetic.table("divide_or_subtract", 97)
    odd = mixed[:, 1] % 2 == 1
    np.testing.assert_array_equal(mixed[odd], table[odd])
    np.testing.assert_array_equal(mixed[~odd, 2], (mixed[~odd, 0] - mixed[~odd, 1]) % 97)
    with pytest.raises(BadInput, match="modulus=96 must be a prime"):
        modular_arithmetic.Config(operation="divide", modulus=96)


def test_s5_is_a_group():
    products = modular_arithmetic.table("s5", 2)[:, 2].reshape(120, 120)
    everything = np.arange(120)
    np.testing.assert_array_equal(products[0], everything)  # the first in lexicographic order is the identity
    np.testing.assert_array_equal(products[:, 0], everything)
    assert all(np.array_equal(np.sort(line), everything) for line in (*products, *products.T))
    generator = np.random.default_rng(0)
    for a, b, c in generator.integers(0, 120, (200, 3)):
        assert products[products[a, b], c] == products[a, products[b, c]]
    assert np.any(products != products.T)
    inverse = products.argmin(1)
    conjugate = modular_arithmetic.table("s5_conjugate", 2)[:, 2].reshape(120, 120)
    aba = modular_arithmetic.table("s5_aba", 2)[:, 2].reshape(120, 120)
    for a, b in generator.integers(0, 120, (200, 2)):
        assert conjugate[a, b] == products[products[a, b], inverse[a]]
        assert aba[a, b] == products[products[a, b], a]


def test_equations_are_split_without_leak_and_fractions_are_nested():
    parts = {}
    for fraction in (0.3, 0.5):
        task = loaded(modular_arithmetic, modulus=23, train_fraction=fraction)
        splits = (task.train.arrays, task.validation.arrays, test_arrays(task))
        parts[fraction] = [{tuple(row) for row in arrays["inputs"][:, [0, 2]].tolist()} for arrays in splits]
        assert sum(map(len, parts[fraction])) == len(set.union(*parts[fraction])) == 23 * 23
        assert abs(len(parts[fraction][1]) - len(parts[fraction][2])) <= 1
        inputs, targets = task.train.arrays["inputs"], task.train.arrays["targets"]
        np.testing.assert_array_equal(targets[:, 3], (inputs[:, 0] + inputs[:, 2]) % 23)
        assert np.all(inputs[:, 1] == 23)
        assert np.all(inputs[:, 3] == 24)
        np.testing.assert_array_equal(task.train.arrays["weights"], np.tile([0, 0, 0, 1], (len(inputs), 1)))
        mirrored = sum((b, a) in parts[fraction][0] for part in parts[fraction][1:] for a, b in part)
        assert task.facts["held_out_mirrored_in_train"] == mirrored > 0
    assert parts[0.3][0] < parts[0.5][0]
    assert parts[0.5][2] < parts[0.3][2]


# Associative recall.


@pytest.mark.parametrize("random_fill", [True, False])
def test_recall_asks_every_key_once_and_leaks_nothing(random_fill):
    size, length, pairs = 32, 40, 5
    task = loaded(
        associative_recall,
        train_examples=300,
        evaluation_examples=200,
        vocabulary=size,
        length=length,
        pairs=pairs,
        random_fill=random_fill,
    )
    splits = [task.train.arrays, task.validation.arrays, test_arrays(task)]
    for arrays in splits:
        for inputs, targets, weights in zip(arrays["inputs"], arrays["targets"], arrays["weights"], strict=True):
            keys, values = list(inputs[: 2 * pairs : 2]), list(inputs[1 : 2 * pairs : 2])
            assert len(set(keys)) == len(set(values)) == pairs
            assert set(keys) <= set(range(1, size // 2))
            assert set(values) <= set(range(size // 2, size))
            asked = np.flatnonzero(weights)
            assert sorted(inputs[asked]) == sorted(keys)
            assert np.all(asked >= 2 * pairs)
            assert np.all(asked % 2 == 0)
            answers = dict(zip(keys, values, strict=True))
            assert [answers[key] for key in inputs[asked]] == list(targets[asked])
            rest = np.setdiff1d(np.arange(2 * pairs, length), asked)
            assert random_fill or not inputs[rest].any()
    whole = np.concatenate([arrays["inputs"] for arrays in splits])
    assert len(np.unique(whole, axis=0)) == len(whole)


def test_recall_places_follow_the_power_law():
    task = loaded(
        associative_recall, train_examples=1, evaluation_examples=20_000, vocabulary=16, length=20, pairs=1, power=0.3
    )
    places = (task.validation.arrays["weights"].argmax(1) - 2) // 2
    chances = np.arange(1, 10) ** (0.3 - 1)
    expected = 20_000 * chances / chances.sum()
    counts = np.bincount(places, minlength=9)
    assert np.sum((counts - expected) ** 2 / expected) < 26.1  # chi-squared, 8 degrees of freedom, p = 0.001


@pytest.mark.slow
def test_distinct_numbers_are_every_choice_equally_often():
    words = jax.random.bits(jax.random.key(0), (24_000, 2), "uint32")
    chosen = np.asarray(jax.jit(jax.vmap(lambda row: fresh.distinct(row, 4)))(words))
    counts = np.bincount(chosen[:, 0] * 4 + chosen[:, 1], minlength=16).reshape(4, 4)
    assert np.all(np.diagonal(counts) == 0)
    others = counts[~np.eye(4, dtype=bool)]
    assert np.sum((others - 2000) ** 2 / 2000) < 31.3  # 11 degrees of freedom, p = 0.001
    all_of_them = jax.vmap(lambda row: fresh.distinct(row, 7))(jax.random.bits(jax.random.key(1), (50, 7), "uint32"))
    np.testing.assert_array_equal(np.sort(all_of_them, axis=1), np.tile(np.arange(7), (50, 1)))


# Induction, copying, parity.


def test_induction_by_trigger():
    task = loaded(induction, vocabulary=8, length=12, test_length=30)
    for arrays, length in ((task.validation.arrays, 12), (test_arrays(task), 30)):
        for inputs, targets, weights in zip(arrays["inputs"], arrays["targets"], arrays["weights"], strict=True):
            assert len(inputs) == length
            first, last = np.flatnonzero(inputs == 7)
            assert last == length - 1
            assert targets[-1] == inputs[first + 1] != 7
            np.testing.assert_array_equal(np.flatnonzero(weights), [last])
    firsts = (task.validation.arrays["inputs"] == 7).argmax(1)
    assert set(firsts) == set(range(10))


def test_induction_by_repetition_asks_what_was_seen():
    arrays = loaded(induction, form="repeated", vocabulary=9, length=20, period=6).validation.arrays
    for inputs, targets, weights in zip(arrays["inputs"], arrays["targets"], arrays["weights"], strict=True):
        for place in range(20):
            seen = [earlier for earlier in range(place) if inputs[earlier] == inputs[place]]
            assert bool(weights[place]) == bool(seen)
            assert not seen or targets[place] == inputs[seen[-1] + 1]
    with pytest.raises(BadInput, match="period=10 must be at most vocabulary=9"):
        induction.Config(form="repeated", vocabulary=9, period=10)


def test_copying_says_the_string_again():
    task = loaded(copying, alphabet=5, shortest=3, longest=6, test_shortest=7, test_longest=9)
    sizes = []
    for arrays, bounds in ((task.validation.arrays, (3, 6)), (test_arrays(task), (7, 9))):
        sizes = set()
        for row in range(300):
            inputs, targets, weights = (rows(arrays[part], row) for part in ("inputs", "targets", "weights"))
            read = inputs.values[inputs.mask].tolist()
            size = len(read) // 2 - 1
            sizes.add(size)
            string = read[1 : size + 1]
            assert read == [5, *string, 6, *string]
            assert set(string) <= set(range(5))
            assert targets[weights > 0].tolist() == [*string, 7]
            assert not np.any(weights[len(read) :])
            assert not np.any(inputs.values[len(read) :])
        assert sizes == set(range(bounds[0], bounds[1] + 1))
    with pytest.raises(BadInput, match="shortest=9 must be at most longest=8"):
        copying.Config(shortest=9, longest=8)


@pytest.mark.parametrize(("modulus", "answers"), [(2, "running"), (5, "running"), (2, "final")])
def test_parity_of_lengths_never_seen(modulus, answers):
    task = loaded(parity, modulus=modulus, answers=answers, longest=6, test_longest=11)
    for arrays, lengths in ((task.validation.arrays, range(1, 7)), (test_arrays(task), range(7, 12))):
        seen = set()
        for row in range(300):
            inputs, targets = rows(arrays["inputs"], row), arrays["targets"][row]
            digits = inputs.values[inputs.mask].tolist()
            seen.add(len(digits))
            sums = [sum(digits[: place + 1]) % modulus for place in range(len(digits))]
            if answers == "final":
                assert targets == sums[-1]
                continue
            assert targets[: len(digits)].tolist() == sums
            start = 0 if lengths[0] == 1 else 6
            np.testing.assert_array_equal(np.flatnonzero(arrays["weights"][row]), np.arange(start, len(digits)))
        assert seen == set(lengths)


# What all that are generated share.


@pytest.mark.parametrize("module", [copy_memory, associative_recall], ids=lambda module: module.__name__)
def test_a_task_is_a_function_of_its_seed_and_smaller_sets_are_nested(module):
    small, again, large, other = (
        loaded(module, train_examples=size, evaluation_examples=20, data_seed=seed)
        for size, seed in ((50, 0), (50, 0), (1100, 0), (50, 1))
    )
    fingerprints = [task.facts["fingerprint"] for task in (small, again, large, other)]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3
    for part in ("inputs", "targets", "weights"):
        np.testing.assert_array_equal(small.train.arrays[part], large.train.arrays[part][:50])
        np.testing.assert_array_equal(small.validation.arrays[part], large.validation.arrays[part])


def test_fresh_examples_are_those_of_the_finite_split_by_name():
    finite, endless = (loaded(copy_memory, train_examples=size, evaluation_examples=5) for size in (30, None))
    indices = np.array([7, 0, 29, 7], np.int32)
    batch = jax.jit(endless.sampler.gather)(dict(endless.train.arrays), indices)
    np.testing.assert_array_equal(batch.inputs, finite.train.arrays["inputs"][indices])
    np.testing.assert_array_equal(batch.targets, finite.train.arrays["targets"][indices])


def test_seeds_of_splits_and_of_tasks_differ():
    seeds = {int(generated.seed(number, split)) for number in range(50) for split in ("train", "validation", "test")}
    assert len(seeds) == 150


@pytest.mark.slow
def test_lanes_draw_fresh_examples_as_each_draws_alone():
    task = loaded(adding_problem, length=8, evaluation_examples=5)
    arrays = dict(task.train.arrays)

    def batch(key, step):
        indices = task.sampler.draw((), arrays, key, step, batch_size=4)
        return task.sampler.gather(arrays, indices)

    keys = jax.random.split(jax.random.key(3), 3)
    solo = jax.jit(batch)
    alone = [solo(key, 5) for key in keys]
    together = jax.jit(jax.vmap(batch, in_axes=(0, None)))
    in_turn = jax.jit(lambda keys, step: jax.lax.map(lambda key: batch(key, step), keys))
    for order in ([0, 1, 2], [2, 0, 1]):
        for program in (together, in_turn):
            result = program(keys[np.array(order)], 5)
            for place, lane in enumerate(order):
                np.testing.assert_array_equal(result.inputs[place], alone[lane].inputs)
                np.testing.assert_array_equal(result.targets[place], alone[lane].targets)
    assert not np.array_equal(alone[0].inputs, alone[1].inputs)
    assert not np.array_equal(solo(keys[0], 6).inputs, alone[0].inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "changes", "shown"),
    [
        (adding_problem, {"length": 30, "form": "original"}, r"3\d steps; .* -> -?\d\.\d{3}$"),
        (copying, {"alphabet": 3, "shortest": 2, "longest": 4}, r"^\^([abc]{2,4})\|\1 -> \1\$$"),
        (parity, {"longest": 4, "test_longest": 5, "answers": "final"}, r"^[01 ]+ -> [01]$"),
        (modular_arithmetic, {"operation": "s5"}, r"^[0-4]{5} s5 [0-4]{5} = [0-4]{5}$"),
        (modular_arithmetic, {"operation": "divide", "modulus": 5}, r"^\d / \d = \d \(mod 5\)$"),
    ],
)
def test_examples_are_shown_as_their_tokens_mean(module, changes, shown):
    task = loaded(module, **changes)
    batch = jax.device_get(task.sampler.gather(dict(task.train.arrays), jnp.arange(2, dtype=jnp.int32)))
    assert re.search(shown, task.show(rows(batch, 1)))


def test_string_accuracy_against_a_loop():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 3, (40, 4)).astype(np.int32)
    weights = (generator.random((40, 4)) < 0.5).astype(np.float32)
    weights[5] = 0  # padding: no string at all
    logits = generator.normal(size=(40, 4, 3)).astype(np.float32) + 2 * np.eye(3, dtype=np.float32)[targets]
    right, strings = 0, 0
    for row in range(40):
        asked = [place for place in range(4) if weights[row, place]]
        strings += bool(asked)
        right += bool(asked) and all(logits[row, place].argmax() == targets[row, place] for place in asked)
    batch = Batch(None, jnp.asarray(targets), jnp.asarray(weights))
    objective = objectives.answers()
    metrics = objective.finish(jax.device_get(objective.sums(jnp.asarray(logits), batch)))
    assert metrics["string_accuracy"] == pytest.approx(right / strings)
    assert 0 < right < strings < 40
    correct = (logits.argmax(-1) == targets)[weights > 0]
    assert metrics["accuracy"] == pytest.approx(correct.mean())
