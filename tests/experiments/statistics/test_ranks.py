"""The probability of superiority against scipy, its own equation and simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.statistics import superiority

values = st.floats(-1, 1, allow_nan=False, width=32)
samples = st.lists(values, min_size=1, max_size=9).map(lambda items: np.array(items, np.float64))


def test_superiority_is_scipys_mann_whitney_statistic():
    generator = np.random.default_rng(2)
    for _ in range(20):
        first, second = generator.integers(0, 8, 9).astype(float), generator.integers(0, 8, 7).astype(float)
        expected = stats.mannwhitneyu(first, second).statistic / 63
        assert superiority(first, second).probability == pytest.approx(expected)


def test_superiority_counts_a_diverged_run_as_worst():
    arm, baseline = np.array([np.nan, 3.0]), np.array([1.0, 2.0])
    assert superiority(arm, baseline).probability == 0.5
    assert superiority(np.array([np.nan]), np.array([np.nan])).probability == 0.5


def test_superiority_of_no_runs_is_unknown():
    assert np.isnan(superiority(np.zeros(0), np.ones(3)).probability)


@given(samples, samples)
def test_superiority_interval_holds_the_estimate_and_mirrors(first, second):
    probability, (low, high) = superiority(first, second)
    assert 0 <= low <= probability <= high <= 1
    assert high > low
    mirrored = superiority(second, first)
    assert mirrored.probability == pytest.approx(1 - probability)
    np.testing.assert_allclose(mirrored.interval, [1 - high, 1 - low], atol=1e-7)


def test_superiority_interval_solves_its_equation():
    generator = np.random.default_rng(4)
    first, second = generator.normal(0.5, 1, 8), generator.normal(0, 1, 6)
    estimate, interval = superiority(first, second)
    for p in interval:
        inner = 1 + 6 * ((1 - p) / (2 - p) + p / (1 + p))
        assert abs(estimate - p) == pytest.approx(1.959964 * np.sqrt(p * (1 - p) * inner / 48), rel=1e-5)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_superiority_interval_covers_the_truth(shift):
    generator = np.random.default_rng(9)
    truth, studies = stats.norm.cdf(shift / 2**0.5), 500
    covered = 0
    for _ in range(studies):
        low, high = superiority(generator.normal(shift, 1, 8), generator.normal(0, 1, 8)).interval
        covered += low <= truth <= high
    assert covered / studies > 0.92
