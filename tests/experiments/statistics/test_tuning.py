"""Expected best validation against brute force over all subsets."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.statistics import expected_best

scores = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8).map(lambda items: np.array(items, np.float64))


@given(scores, st.booleans())
def test_expected_best_is_the_mean_over_all_subsets(values, higher):
    result = expected_best(values, higher_is_better=higher, resamples=20)
    best = max if higher else min
    expected = [np.mean([best(subset) for subset in itertools.combinations(values, int(k))]) for k in result.budgets]
    np.testing.assert_allclose(result.best, expected, atol=1e-9)


def test_a_failed_trial_counts_as_the_worst():
    result = expected_best(np.array([0.5, np.nan, 0.9, np.inf]), higher_is_better=True)
    np.testing.assert_allclose(result.best, expected_best(np.array([0.5, 0.5, 0.9, 0.5]), higher_is_better=True).best)
    assert result.failed == 2
    lower = expected_best(np.array([0.5, np.nan, 0.9]), higher_is_better=False)
    assert lower.best[0] == pytest.approx((0.5 + 0.9 + 0.9) / 3)
    assert np.isnan(expected_best(np.array([np.nan]), higher_is_better=True).best).all()
    assert expected_best(np.zeros(0), higher_is_better=True).budgets.size == 0


def test_large_budgets_do_not_overflow():
    result = expected_best(np.arange(2000.0), higher_is_better=True, resamples=2)
    assert result.best[0] == pytest.approx(999.5)
    assert result.best[-1] == pytest.approx(1999)
    # The largest of k draws without replacement from 1..n has mean k (n + 1) / (k + 1).
    np.testing.assert_allclose(result.best, result.budgets * 2001 / (result.budgets + 1) - 1, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("higher", [True, False])
def test_band_covers_the_expected_best_of_the_distribution(higher):
    generator = np.random.default_rng(0)
    covered = np.zeros(3)
    for _ in range(300):
        result = expected_best(generator.uniform(0, 1, 40), higher_is_better=higher, resamples=300)
        truth = np.array([1, 3, 8]) / np.array([2, 4, 9])
        truth = truth if higher else 1 - truth
        chosen = np.array([1, 3, 8]) - 1
        covered += (result.low[chosen] <= truth) & (truth <= result.high[chosen])
    assert (covered / 300 > 0.87).all()
    assert (result.low <= result.best + 1e-12).all()
