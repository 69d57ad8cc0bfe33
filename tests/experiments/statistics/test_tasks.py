"""Summaries over tasks against scipy, brute force and published numbers; how often their intervals cover."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.statistics import critical_difference, improvement_probability, performance_profile, summarise


def scores_of(runs=5, tasks=8, seed=0):
    return np.random.default_rng(seed).normal(0.6, 0.3, (runs, tasks))


def test_summaries_are_those_of_scipy_and_numpy():
    scores = scores_of()
    result = summarise(scores)
    assert result.interquartile_mean.value == pytest.approx(stats.trim_mean(scores.ravel(), 0.25))
    assert result.mean.value == pytest.approx(scores.mean())
    assert result.median.value == pytest.approx(np.median(scores.mean(axis=0)))
    assert result.optimality_gap.value == pytest.approx(np.mean(1 - np.minimum(scores, 1)))
    assert result.failed == 0


def test_bootstrap_keeps_each_run_in_its_task():
    # Within a task nothing varies, so no resample can change anything, however much tasks differ.
    scores = np.tile(np.arange(6.0) / 5, (4, 1))
    result = summarise(scores)
    for estimate in (result.interquartile_mean, result.mean, result.median, result.optimality_gap):
        assert estimate.interval == pytest.approx((estimate.value, estimate.value))


def test_bootstrap_interval_is_that_of_all_resamples():
    scores = np.array([[0.1, 0.4], [0.9, 0.5], [0.3, 0.7]])
    means = [
        np.mean([scores[list(first), 0], scores[list(second), 1]])
        for first in itertools.product(range(3), repeat=3)
        for second in itertools.product(range(3), repeat=3)
    ]
    expected = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose(summarise(scores, resamples=40_000).mean.interval, expected, atol=0.015)


def test_a_failed_run_is_the_worst_and_counted():
    scores = scores_of()
    lost = scores.copy()
    lost[2, 3] = np.nan
    filled = scores.copy()
    filled[2, 3] = min(0, np.delete(scores.ravel(), 2 * 8 + 3).min())
    result = summarise(lost)
    assert result.failed == 1
    assert result.mean.value == pytest.approx(filled.mean())
    assert result.interquartile_mean.value == pytest.approx(stats.trim_mean(filled.ravel(), 0.25))
    assert summarise(np.full((3, 2), np.nan)).mean.value == 0


def test_performance_profile_is_the_share_above_each_threshold():
    scores, thresholds = scores_of(), np.linspace(-0.5, 1.5, 9)
    profile = performance_profile(scores, thresholds)
    np.testing.assert_allclose(profile.share, [np.mean(scores > threshold) for threshold in thresholds])
    assert (profile.low <= profile.share).all()
    assert (profile.share <= profile.high).all()
    assert (np.diff(profile.share) <= 0).all()


def test_improvement_is_the_mean_of_mann_whitney_over_tasks():
    arm, baseline = np.round(scores_of(seed=1), 1), np.round(scores_of(runs=4, seed=2), 1)
    expected = np.mean([stats.mannwhitneyu(arm[:, j], baseline[:, j]).statistic / 20 for j in range(8)])
    estimate, (low, high) = improvement_probability(arm, baseline)
    assert estimate == pytest.approx(expected)
    assert low < estimate < high
    mirrored = improvement_probability(baseline, arm)
    assert mirrored.value == pytest.approx(1 - estimate)


def test_improvement_counts_failures_as_losses():
    arm, baseline = np.array([[0.9], [np.nan]]), np.array([[0.1], [np.nan]])
    # Wins against both but for a tie of the two failures and a loss: (2 + 0 + 0.5) / 4.
    assert improvement_probability(arm, baseline).value == pytest.approx((2 + 0.5) / 4)


@pytest.mark.slow
def test_intervals_of_ten_runs_cover():
    """Percentile intervals are known to be short for few runs: of ten runs they cover in about 92%."""
    generator = np.random.default_rng(3)
    covered = np.zeros(2)
    for _ in range(600):
        scores = generator.normal(np.linspace(0.3, 0.7, 6), 0.1, (10, 6))
        result = summarise(scores, resamples=500)
        covered += [
            result.mean.interval.low <= 0.5 <= result.mean.interval.high,
            result.interquartile_mean.interval.low <= 0.5 <= result.interquartile_mean.interval.high,
        ]
    assert (covered / 600 > 0.89).all()
    assert (covered / 600 < 0.98).all()


def test_critical_difference_of_demsars_example():
    # Demšar (2006), section 3.2.2: four classifiers on 14 data sets, 5%: 2.569 sqrt(4 5 / (6 14)) = 1.25.
    scores = np.random.default_rng(0).normal(0, 1, (14, 4))
    assert critical_difference(scores).critical_difference == pytest.approx(1.25, abs=0.005)


@given(st.integers(0, 10_000), st.booleans())
def test_friedman_is_scipys(seed, ties):
    scores = np.random.default_rng(seed).normal(0, 1, (7, 4))
    scores = np.round(scores) if ties else scores
    result, expected = critical_difference(scores), stats.friedmanchisquare(*scores.T)
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(("arms", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_nemenyi_quantiles_are_those_of_demsars_table_five(arms, quantile):
    scores = np.random.default_rng(0).normal(0, 1, (12, arms))
    expected = quantile * np.sqrt(arms * (arms + 1) / (6 * 12))
    assert critical_difference(scores).critical_difference == pytest.approx(expected, rel=5e-4)


def test_groups_overlap_where_neighbours_are_alike_and_ends_are_not():
    generator = np.random.default_rng(5)
    scores = generator.normal([0, 0.9, 1.8, 6], 1, (40, 4))
    result = critical_difference(scores)
    ranks, groups = result.average_ranks, result.groups
    assert list(np.argsort(ranks)) == [3, 2, 1, 0]
    for first, second in itertools.combinations(range(4), 2):
        together = any({first, second} <= set(group) for group in groups)
        assert together == (abs(ranks[first] - ranks[second]) < result.critical_difference)
    assert not any(3 in group for group in groups)


def test_arms_that_are_all_alike_form_one_group():
    assert critical_difference(np.ones((5, 3))).groups == ((0, 1, 2),)
    assert np.isnan(critical_difference(np.ones((5, 3))).p_value)


def test_a_failed_arm_ranks_last_in_its_task():
    scores = np.array([[0.5, np.nan, 0.4], [0.1, 0.3, 0.2]])
    np.testing.assert_allclose(critical_difference(scores).average_ranks, [2, 2, 2])


@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_too_little_for_ranks(shape):
    with pytest.raises(ValueError, match="at least 2 tasks and 2 arms"):
        critical_difference(np.ones(shape))
