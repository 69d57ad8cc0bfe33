"""Means and intervals against scipy, a numerical inversion and simulations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from experiments.statistics import mean_interval, paired_difference, sign_flip_p_value, spread, superiority


def pairs(n, *, effect=0.0, seed=0):
    generator = np.random.default_rng(seed)
    baseline = generator.normal(0.9, 0.02, n)
    return baseline + generator.normal(effect, 0.01, n), baseline


@given(st.integers(2, 12), st.floats(-3, 3))
def test_symmetric_values_have_scipys_t_interval(n, centre):
    half = np.random.default_rng(n).normal(0, 1, (n + 1) // 2)
    values = centre + np.concatenate([half, -half])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    np.testing.assert_allclose(mean_interval(values, confidence=0.9), [*expected], rtol=1e-9, atol=1e-12)


def halls_interval(values):
    """The interval of Hall (1992), by inverting his transformation numerically instead of in closed form."""
    n = values.size
    skewness = stats.moment(values, 3) / values.std(ddof=1) ** 3

    def transformed(t):
        return t + skewness * (t**2 / 3 + 1 / 6) / n**0.5 + skewness**2 * t**3 / (27 * n)

    ends = [optimize.brentq(lambda t, q=q: transformed(t) - stats.t.ppf(q, n - 1), -1e4, 1e4) for q in (0.025, 0.975)]
    return [values.mean() - end * stats.sem(values) for end in reversed(ends)]


@pytest.mark.parametrize("n", [3, 4, 8, 20])
@pytest.mark.parametrize("side", [1, -1])
def test_skewed_values_have_the_outer_ends_of_students_and_halls_intervals(n, side):
    generator = np.random.default_rng(n)
    for _ in range(20):
        values = side * generator.exponential(1, n)
        student, hall = stats.ttest_1samp(values, 0).confidence_interval(), halls_interval(values)
        expected = [min(student.low, hall[0]), max(student.high, hall[1])]
        np.testing.assert_allclose(mean_interval(values), expected, rtol=1e-6)


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=9), st.floats(0.01, 100), st.floats(-10, 10))
def test_interval_moves_and_stretches_with_the_values(items, scale, shift):
    values = np.array(items)
    low, high = mean_interval(values)
    np.testing.assert_allclose(
        mean_interval(scale * values + shift),
        [scale * low + shift, scale * high + shift],
        rtol=1e-4,
        atol=1e-9 * scale + 1e-12,
    )
    np.testing.assert_allclose(mean_interval(-values), [-high, -low], rtol=1e-9, atol=1e-15)
    student = stats.t.ppf(0.975, values.size - 1) * values.std(ddof=1) / values.size**0.5
    assert low <= values.mean() - student * (1 - 1e-12)
    assert high >= values.mean() + student * (1 - 1e-12)


def test_mean_and_deviation_are_those_of_the_differences():
    arm, baseline = pairs(8, effect=0.01)
    result = paired_difference(arm, baseline)
    np.testing.assert_allclose(result.mean, np.mean(arm - baseline), rtol=1e-12)
    np.testing.assert_allclose(result.sd, np.std(arm - baseline, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(result.interval, mean_interval(arm - baseline), rtol=1e-12)
    assert (result.n, result.lost) == (8, 0)


def test_spread_of_one_two_three_has_the_textbook_interval():
    result = spread(np.array([1.0, 2.0, 3.0]))
    assert (result.mean, result.sd, result.minimum, result.maximum) == (2, 1, 1, 3)
    # t(0.975, 2 degrees of freedom) = 4.302653 (tables), standard error 1/sqrt(3).
    np.testing.assert_allclose(result.interval, [2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5], rtol=1e-6)


def test_one_value_has_a_mean_and_no_interval():
    result = spread(np.array([0.5]))
    assert result.n == 1
    assert result.mean == 0.5
    assert np.isnan([result.sd, *result.interval]).all()


def test_no_value_at_all():
    result = spread(np.zeros(0))
    assert result.n == 0
    assert np.isnan([result.mean, result.minimum, *result.interval]).all()


def test_a_diverged_trial_leaves_its_pair_out_and_is_counted():
    arm, baseline = np.array([1.0, np.nan, 3.0, 5.0]), np.array([0.0, 1.0, np.inf, 2.0])
    result = paired_difference(arm, baseline)
    assert (result.n, result.lost, result.mean) == (2, 2, 2.0)
    assert sign_flip_p_value(arm, baseline) == 0.5


def test_identical_arms():
    same = np.full(8, 0.9)
    result = paired_difference(same, same)
    assert (result.mean, result.sd, *result.interval) == (0, 0, 0, 0)
    assert sign_flip_p_value(same, same) == 1.0
    assert superiority(same, same).probability == 0.5


@settings(max_examples=30)
@given(st.integers(2, 12))
def test_interval_covers_zero_as_often_as_it_says(n):
    generator = np.random.default_rng(n)
    differences = generator.normal(0, 1, (400, n))
    covered = sum(low <= 0 <= high for low, high in (spread(row).interval for row in differences))
    assert 0.90 < covered / 400 < 0.99
