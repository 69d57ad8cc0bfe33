"""Windows, standardisation, splits and forecasts without training, against plain loops and published figures."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from train import untrained
from train.data.forecasting import ForecastingConfig, Series, forecasting
from train.data.sampling import ShuffledExamples
from train.data.series_sampling import ForecastWindows
from train.data.task import FinalEvaluation

GENERATOR = np.random.default_rng(0)
ORIGIN = {"source": "made for tests", "licence": "none"}


class Config(ForecastingConfig):
    """A configuration of no file."""


def walk(rows, channels=2):
    return GENERATOR.normal(size=(rows, channels)).cumsum(axis=0) + 50


def made(series, *, horizon=3, season=4, **config):
    return forecasting("made", series, config=Config(**config), horizon=horizon, season=season, origin=ORIGIN)


RAGGED = [Series(walk(40), 25, 33), Series(walk(11), 4, 8), Series(walk(12), 3, 7), Series(walk(20), 9, 14)]


def batches(task, arrays, indices):
    return jax.device_get(jax.jit(task.sampler.gather)(dict(arrays), jnp.asarray(indices, jnp.int32)))


def plain_window(one, origin, *, context, horizon, rows, subtract_last):
    """Inputs and targets of the window that forecasts from row ``origin`` on, from the definition, in float64."""
    location, scale = one.values[rows].mean(axis=0), one.values[rows].std(axis=0)
    standard = (one.values - location) / scale
    inputs = np.stack([standard[max(place, 0)] for place in range(origin - context, origin)])
    targets = standard[origin : origin + horizon]
    shift = inputs[-1] if subtract_last else 0.0
    return inputs - shift, (targets - shift).ravel()


@pytest.mark.parametrize("subtract_last", [False, True])
@pytest.mark.parametrize("context", [1, 5, 9])
def test_every_window_is_the_one_that_a_loop_cuts(context, subtract_last):
    task = made(RAGGED, context=context, subtract_last=subtract_last)
    splits = {
        "train": (task.train.arrays, [(one, 0, one.validation) for one in RAGGED]),
        "validation": (task.validation.arrays, [(one, one.validation, one.test) for one in RAGGED]),
        "test": (task.test.open(FinalEvaluation()), [(one, one.test, len(one.values)) for one in RAGGED]),
    }
    for split, (arrays, parts) in splits.items():
        expected = []
        for one, begin, end in parts:
            newest = end - 3
            oldest = begin if split != "train" else max(min(context, newest), 1)
            for origin in range(oldest, newest + 1):
                rows = slice(0, one.validation)
                window = functools.partial(plain_window, one, origin, context=context, horizon=3, rows=rows)
                expected.append(window(subtract_last=subtract_last))
        assert task.facts[f"{split}_examples"] == len(expected)
        batch = batches(task, arrays, range(len(expected)))
        if split == "train":  # newest first, the series in turn: another order
            key = lambda pair: tuple(np.round(np.concatenate([pair[0].ravel(), pair[1]]), 3) + 0.0)  # noqa: E731
            found = sorted(zip(batch.inputs, batch.targets.values, strict=True), key=key)
            expected = sorted(expected, key=key)
        else:
            found = list(zip(batch.inputs, batch.targets.values, strict=True))
        for (inputs, targets), (wanted_inputs, wanted_targets) in zip(found, expected, strict=True):
            np.testing.assert_allclose(inputs, wanted_inputs, atol=2e-5)
            np.testing.assert_allclose(targets, wanted_targets, atol=2e-5)


@pytest.mark.parametrize("subtract_last", [False, True])
def test_targets_lead_back_to_their_own_units(subtract_last):
    task = made(RAGGED, context=5, subtract_last=subtract_last)
    batch = batches(task, task.validation.arrays, range(task.facts["validation_examples"]))
    values = batch.targets.values * batch.targets.scale + batch.targets.location
    expected = [
        one.values[origin : origin + 3].ravel() for one in RAGGED for origin in range(one.validation, one.test - 2)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_the_error_scale_is_the_seasonal_naive_error_over_the_past():
    task = made(RAGGED, context=5)
    for split, arrays in (("validation", task.validation.arrays), ("test", task.test.open(FinalEvaluation()))):
        for number, one in enumerate(RAGGED):
            past = one.values[: one.test if split == "test" else one.validation]
            lag = 4 if len(past) > 4 else 1
            expected = np.mean([np.abs(past[row] - past[row - lag]) for row in range(lag, len(past))], axis=0)
            found = arrays["error_scale"][number] * arrays["scale"][number]
            np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("subtract_last", [False, True])
def test_forecasts_without_training(subtract_last):
    """On the series' own scale: all stays as it is, or as it was a season before."""
    task = made(RAGGED, context=2, subtract_last=subtract_last)
    arrays = dict(task.test.open(FinalEvaluation()))
    positions = jnp.arange(task.facts["test_examples"], dtype=jnp.int32)
    targets = batches(task, arrays, positions).targets
    assert list(task.untrained) == ["naive", "seasonal naive"]
    outputs = {name: predict(arrays, positions) for name, predict in task.untrained.items()}
    found = {name: np.asarray(output) * targets.scale + targets.location for name, output in outputs.items()}
    row = 0
    for one in RAGGED:
        for origin in range(one.test, len(one.values) - 2):
            np.testing.assert_allclose(found["naive"][row], np.tile(one.values[origin - 1], 3), rtol=1e-5)
            seasonal = np.concatenate([one.values[origin - 4 + step % 4] for step in range(3)])
            np.testing.assert_allclose(found["seasonal naive"][row], seasonal, rtol=1e-5)
            row += 1


def test_a_season_longer_than_the_series_falls_back_to_the_last_row():
    task = made([Series(walk(30), 20, 25)], season=100, context=2)
    arrays, positions = dict(task.validation.arrays), jnp.arange(3, dtype=jnp.int32)
    one, other = (predict(arrays, positions) for predict in task.untrained.values())
    np.testing.assert_array_equal(one, other)
    assert list(made([Series(walk(30), 20, 25)], season=1).untrained) == ["naive"]


def test_measured_without_training_as_in_a_loop():
    task = made(RAGGED, context=5)
    metrics = untrained.measure(task, task.untrained["naive"], task.validation.arrays, batch_size=4)
    errors, relative = [], []
    for one in RAGGED:
        past = one.values[: one.validation]
        lag = 4 if len(past) > 4 else 1
        usual = np.abs(past[lag:] - past[:-lag]).mean(axis=0)
        for origin in range(one.validation, one.test - 2):
            actual, forecast = one.values[origin : origin + 3], one.values[origin - 1]
            errors.append(np.abs(actual - forecast) / usual)
            relative.append(200 * np.abs(actual - forecast) / (np.abs(actual) + np.abs(forecast)))
    assert metrics["mase"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert metrics["smape"] == pytest.approx(np.mean(relative), rel=1e-4)


def test_training_knows_nothing_of_the_other_splits():
    changed = [one._replace(values=one.values.copy()) for one in RAGGED]
    for one in changed:
        one.values[one.validation :] *= -7
    first, second = made(RAGGED, context=5), made(changed, context=5)
    for name, array in first.train.arrays.items():
        np.testing.assert_array_equal(array, second.train.arrays[name], err_msg=name)
    for name in ("location", "scale"):
        np.testing.assert_array_equal(first.validation.arrays[name], second.validation.arrays[name])
    assert first.facts["fingerprint"] != second.facts["fingerprint"]


def test_validation_knows_nothing_of_the_test_split():
    changed = [
        one._replace(values=np.concatenate([one.values[: one.test], 9 * one.values[one.test :]])) for one in RAGGED
    ]
    first, second = made(RAGGED, context=5), made(changed, context=5)
    for name, array in first.validation.arrays.items():
        np.testing.assert_array_equal(array, second.validation.arrays[name], err_msg=name)


def windows_of(task):
    """Each training window in its own units, as a set."""
    batch = batches(task, task.train.arrays, range(task.facts["train_examples"]))
    return [tuple(row) for row in np.round(batch.targets.values * batch.targets.scale + batch.targets.location, 2)]


def test_subsets_are_nested_and_standardised_by_what_they_use():
    every = [windows_of(made(RAGGED, context=5, train_examples=count)) for count in (1, 4, 9, 20)]
    for smaller, larger in itertools.pairwise(every):
        assert larger[: len(smaller)] == smaller
    assert windows_of(made(RAGGED, context=5))[:20] == every[-1]
    few = made([RAGGED[0]], context=5, train_examples=2).train.arrays
    used = RAGGED[0].values[25 - 9 : 25]  # two windows of 5 + 3 rows, one row apart
    assert len(few["values"]) == 9
    np.testing.assert_allclose(few["location"][0], used.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(few["scale"][0], used.std(axis=0), rtol=1e-6)
    with pytest.raises(BadInput, match="train_examples=999 must be at most"):
        made(RAGGED, context=5, train_examples=999)


@pytest.mark.parametrize("batch_size", [1, 4, 6, 30])
def test_an_evaluation_sees_every_window_once(batch_size):
    task = made([RAGGED[0]], context=2)
    arrays = dict(task.validation.arrays)
    size = task.sampler.evaluation_size(arrays)
    weights = [
        np.asarray(task.sampler.evaluation_batch(arrays, jnp.arange(first, first + batch_size)).weights)
        for first in range(0, size, batch_size)
    ]
    assert size == 33 - 25 - 3 + 1
    assert np.concatenate(weights).sum() == size


def test_targets_of_several_numbers_pass_shuffled_examples():
    arrays = {"inputs": walk(7)[:, None].astype(np.float32), "targets": walk(7, 6).astype(np.float32)}
    batch = ShuffledExamples().evaluation_batch(arrays, jnp.asarray([6, 7]))
    np.testing.assert_array_equal(batch.targets[0], arrays["targets"][6])
    assert batch.weights.tolist() == [1, 0]


def test_an_order_is_a_permutation_of_the_windows():
    task = made(RAGGED, context=5)
    arrays, size = dict(task.train.arrays), task.facts["train_examples"]
    order = task.sampler.order(arrays, jax.random.key(0), 0, batch_size=size)
    assert sorted(np.asarray(order).tolist()) == list(range(size))
    with pytest.raises(BadInput, match=f"batch_size=99 must be at most {size}"):
        task.sampler.check(arrays, batch_size=99)


@pytest.mark.parametrize(
    ("series", "settings", "words"),
    [
        ([Series(walk(30), 20, 25)], {"horizon": 6}, "horizon=6 must be at most 5, the rows of the validation split"),
        (
            [Series(walk(30), 2, 25)],
            {"horizon": 2},
            "needs a series with at least 3 rows for training; the longest has 2",
        ),
        ([Series(np.ones((30, 2)), 20, 25)], {}, "every series are constant"),
    ],
)
def test_rows_that_do_not_suffice(series, settings, words):
    with pytest.raises(BadInput, match=words):
        made(series, **settings)


def test_a_constant_channel_is_left_as_it_is():
    values = walk(30)
    values[:, 1] = 0.1
    task = made([Series(values, 20, 25)], context=4)
    assert task.train.arrays["scale"][0, 1] == 1
    batch = batches(task, task.train.arrays, range(5))
    np.testing.assert_allclose(batch.inputs[..., 1], 0, atol=1e-6)


def test_the_windows_of_a_split_are_not_stored():
    task = made([Series(walk(4000), 3000, 3500)], context=500, horizon=100)
    assert sum(array.nbytes for array in task.train.arrays.values()) < 100_000
    assert isinstance(task.sampler, ForecastWindows)


# Published figures ---------------------------------------------------------------------------------------------


def test_windows_that_were_seen_in_an_earlier_split_are_counted():
    """Against a loop over the rows themselves; two of the series are copies, one repeats itself, one has -0."""
    walked = walk(40)
    periodic = np.tile(np.arange(4.0)[:, None] * [1.0, -1.0], (12, 1))
    series = [Series(walked, 20, 30), Series(walked.copy(), 25, 34), Series(periodic, 24, 36), Series(-periodic, 6, 20)]
    for context in (1, 3, 6):
        task = made(series, context=context)
        seen = {}
        for split, parts in {
            "train": [(0, one.validation) for one in series],
            "validation": [(one.validation, one.test) for one in series],
            "test": [(one.test, len(one.values)) for one in series],
        }.items():
            seen[split] = []
            for one, (begin, end) in zip(series, parts, strict=True):
                oldest = begin if split != "train" else max(min(context, end - 3), 1)
                for origin in range(oldest, end - 2):
                    rows = one.values[max(0, origin - context) : origin]
                    seen[split].append(tuple(map(tuple, rows.tolist())))
        for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
            expected = sum(window in set(seen[earlier]) for window in seen[later])
            assert task.facts[f"{later}_examples_in_{earlier}"] == expected
            assert 0 < expected < len(seen[later])
