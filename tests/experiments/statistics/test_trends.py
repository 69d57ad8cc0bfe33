"""Trends and interactions against least squares and brute force."""

import itertools

import numpy as np
import pytest

from experiments.statistics import interaction, mean_interval, trend


def rising(seeds=8, slope=0.01, noise=0.01, seed=0):
    generator = np.random.default_rng(seed)
    return 0.8 + slope * np.arange(4) + generator.normal(0, noise, (seeds, 4)) + generator.normal(0, 0.05, (seeds, 1))


def test_slope_is_the_least_squares_line_of_each_seed():
    values, positions = rising(), np.array([0.0, 0.1, 0.2, 0.5])
    slopes = np.polyfit(positions, values.T, 1)[0]
    result = trend(values, positions)
    assert result.slope.mean == pytest.approx(slopes.mean())
    np.testing.assert_allclose(result.slope.interval, mean_interval(slopes))
    signs = np.array(list(itertools.product([1, -1], repeat=8)))
    assert result.p_value == pytest.approx(np.mean(signs @ slopes >= slopes.sum() - 1e-9))
    np.testing.assert_allclose(trend(values).slope.mean, np.polyfit(range(4), values.T, 1)[0].mean())


def test_a_falling_trend_is_not_a_rising_one():
    assert trend(rising()).p_value < 0.05
    assert trend(-rising()).p_value > 0.95


def test_steps_that_go_one_way_beyond_doubt():
    values = rising(slope=0.05)
    assert (trend(values).rises, trend(values).falls) == ((0, 1, 2), ())
    values[:, 2] -= 0.2
    assert (trend(values).rises, trend(values).falls) == ((0, 2), (1,))
    step = values[:, 1] - values[:, 0]
    shifted = values.copy()
    shifted[:, 1] -= mean_interval(step, confidence=1 - 0.05 / 3).low - 1e-9
    assert 0 in trend(shifted).rises
    shifted[:, 1] -= 2e-9
    assert 0 not in trend(shifted).rises


def test_a_seed_with_a_failed_arm_is_counted():
    values = rising()
    values[3, 1] = np.nan
    values[5, 2] = -np.inf
    result = trend(values)
    assert (result.slope.n, result.slope.lost) == (6, 2)


def test_ties_of_float32_metrics_are_ties():
    # Two seeds rise and two fall by the same number of examples: exactly even, but for rounding.
    counts = np.array([[270, 280], [281, 291], [290, 280], [289, 279]], np.float32)
    values = (counts / np.float32(300)).astype(np.float64)
    # Sums of four signs that are at least zero: 6 + 4 + 1 of 16.
    assert trend(values).p_value == pytest.approx(11 / 16)


@pytest.mark.parametrize("positions", [[1.0, 1.0, 1.0, 1.0], []])
def test_a_trend_needs_positions_that_differ(positions):
    with pytest.raises(ValueError, match="different positions"):
        trend(rising()[:, : len(positions)], np.array(positions))


def test_false_positives_of_the_trend_stay_below_the_level():
    generator = np.random.default_rng(4)
    found = sum(trend(generator.standard_t(3, (8, 4))).p_value < 0.05 for _ in range(1000))
    assert found / 1000 < 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5


def test_interaction_is_what_two_changes_do_beyond_each_alone():
    generator = np.random.default_rng(5)
    base, first, second, both = generator.normal(0.8, 0.05, (1, 7)) + generator.normal(
        [[0.0], [0.1], [0.2], [0.5]], 0.01, (4, 7)
    )
    result = interaction(base, first, second, both)
    contrast = both - second - first + base
    assert result.contrast.mean == pytest.approx(contrast.mean())
    np.testing.assert_allclose(result.contrast.interval, mean_interval(contrast))
    assert result.p_value == 2 / 2**7
    added = interaction(base, first, second, first + second - base)
    assert added.contrast.mean == pytest.approx(0)
    assert added.p_value == 1
    lost = interaction(base, np.append(first[:-1], np.nan), second, both)
    assert (lost.contrast.n, lost.contrast.lost) == (6, 1)
