"""Statistics against scipy, closed forms, brute force and simulated studies."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments import statistics
from experiments.statistics import (
    EXACT_PAIRS,
    MONTE_CARLO_FLIPS,
    holm,
    paired_difference,
    pairs_needed,
    sign_flip_p_value,
    smallest_p_value,
    spread,
    superiority,
)

values = st.floats(-1, 1, allow_nan=False, width=32)
samples = st.lists(values, min_size=1, max_size=9).map(lambda items: np.array(items, np.float64))
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(lambda items: np.array(items, np.float64))


def pairs(n, *, effect=0.0, seed=0):
    generator = np.random.default_rng(seed)
    baseline = generator.normal(0.9, 0.02, n)
    return baseline + generator.normal(effect, 0.01, n), baseline


def test_paired_difference_is_scipys_paired_t_interval():
    arm, baseline = pairs(8, effect=0.01)
    result = paired_difference(arm, baseline)
    expected = stats.ttest_rel(arm, baseline).confidence_interval(0.95)
    np.testing.assert_allclose(result.interval, [expected.low, expected.high], rtol=1e-12)
    np.testing.assert_allclose(result.mean, np.mean(arm - baseline), rtol=1e-12)
    np.testing.assert_allclose(result.sd, np.std(arm - baseline, ddof=1), rtol=1e-12)
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


def brute_force(differences):
    signs = np.array(list(itertools.product([1, -1], repeat=differences.size)))
    sums = np.abs(signs @ differences)
    return np.mean(sums >= abs(differences.sum()) - 1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11])
@pytest.mark.parametrize("effect", [0.0, 0.005, 0.03])
def test_sign_flip_is_the_share_of_all_flips(n, effect):
    arm, baseline = pairs(n, effect=effect, seed=n)
    # Rounded to a grid and centred, so that ties abound and float32's rounding does not matter.
    arm, baseline = np.round(arm, 2), np.round(baseline, 2)
    assert sign_flip_p_value(arm, baseline) == pytest.approx(brute_force(arm - baseline), abs=1e-12)


def test_sign_flip_is_scipys_permutation_test():
    arm, baseline = pairs(9, effect=0.004, seed=3)
    expected = stats.permutation_test(
        (arm, baseline), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip_p_value(arm, baseline) == pytest.approx(expected, abs=1e-12)


def test_float32_rounding_breaks_no_tie():
    # Accuracies over 300 examples; in exact arithmetic the p-value is that of the integer counts.
    generator = np.random.default_rng(5)
    for _ in range(30):
        first, second = generator.integers(270, 300, (2, 8))
        measured = [np.float32(counts / np.float32(300)).astype(np.float64) for counts in (first, second)]
        assert sign_flip_p_value(*measured) == pytest.approx(brute_force((first - second).astype(float)), abs=1e-12)


def test_more_pairs_than_can_be_enumerated_are_sampled_always_the_same_way():
    arm, baseline = pairs(EXACT_PAIRS + 2, effect=0.003, seed=1)
    sampled = sign_flip_p_value(arm, baseline)
    assert sampled == sign_flip_p_value(arm, baseline)
    # The sums are nearly normal for so many pairs.
    differences = arm - baseline
    normal = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum()))
    assert sampled == pytest.approx(normal, rel=0.1)
    assert sign_flip_p_value(arm + 1, baseline) == 1 / (MONTE_CARLO_FLIPS + 1) == smallest_p_value(arm.size)


def test_sampled_and_enumerated_p_values_agree(monkeypatch):
    arm, baseline = pairs(14, effect=0.004, seed=8)
    exact = sign_flip_p_value(arm, baseline)
    monkeypatch.setattr(statistics, "EXACT_PAIRS", 5)
    # Standard error below 0.0016 with 100,000 flips.
    assert sign_flip_p_value(arm, baseline) == pytest.approx(exact, abs=0.006)


@given(samples, st.randoms(use_true_random=False))
def test_sign_flip_stays_within_its_bounds_and_ignores_direction(differences, random):
    zeros = np.zeros(differences.size)
    p = sign_flip_p_value(differences, zeros)
    assert 2 / 2**differences.size <= p <= 1 or differences.size == 1
    assert sign_flip_p_value(zeros, differences) == p
    order = random.sample(range(differences.size), differences.size)
    assert sign_flip_p_value(differences[order], zeros) == p


def test_identical_arms():
    same = np.full(8, 0.9)
    result = paired_difference(same, same)
    assert (result.mean, result.sd, *result.interval) == (0, 0, 0, 0)
    assert sign_flip_p_value(same, same) == 1.0
    assert superiority(same, same).probability == 0.5


def test_no_pair_has_no_p_value():
    assert np.isnan(sign_flip_p_value(np.array([np.nan]), np.array([1.0])))
    assert np.isnan(smallest_p_value(0))


def test_smallest_p_value_is_attained_by_a_constant_difference():
    for n in range(1, 10):
        assert sign_flip_p_value(np.ones(n), np.zeros(n)) == smallest_p_value(n) == 2 / 2**n


def test_seven_seeds_are_needed_for_three_comparisons():
    assert pairs_needed(3) == 7
    assert pairs_needed(1) == 6
    for comparisons in range(1, 30):
        n = pairs_needed(comparisons)
        assert holm(np.full(comparisons, smallest_p_value(n))).max() < 0.05
        assert holm(np.full(comparisons, smallest_p_value(n - 1))).max() >= 0.05


def test_holm_of_the_textbook_example():
    # m = 4: 4 * 0.005, then 3 * 0.01, then max(0.03, 2 * 0.03), then max(0.06, 0.04).
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_holm_counts_a_comparison_that_could_not_be_tested():
    np.testing.assert_array_equal(holm(np.array([0.01, np.nan])), [0.02, np.nan])


@given(p_values)
def test_holm_is_the_closed_bonferroni_test(p):
    """The adjusted value is the largest Bonferroni p-value of any set of hypotheses with this one."""
    expected = np.zeros(p.size)
    for size in range(1, p.size + 1):
        for chosen in itertools.combinations(range(p.size), size):
            bonferroni = min(1.0, size * p[list(chosen)].min())
            expected[list(chosen)] = np.maximum(expected[list(chosen)], bonferroni)
    np.testing.assert_allclose(holm(p), expected, atol=1e-15)


@given(p_values, st.randoms(use_true_random=False))
def test_holm_never_lowers_keeps_the_order_and_follows_a_permutation(p, random):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    order = random.sample(range(p.size), p.size)
    np.testing.assert_array_equal(holm(p[order]), adjusted[order])


@given(p_values, st.integers(0, 7), st.floats(0, 1))
def test_holm_never_falls_when_a_p_value_rises(p, index, raised):
    higher = p.copy()
    higher[index % p.size] = max(raised, p[index % p.size])
    assert (holm(higher) >= holm(p)).all()


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


def test_false_positives_stay_below_the_level():
    """1,500 studies of 3 arms, 8 seeds and no effect: the family-wise error rate is at most 5%."""
    generator = np.random.default_rng(6)
    studies = 1500
    false = 0
    for _ in range(studies):
        baseline = generator.standard_t(3, 8)
        arms = generator.standard_t(3, (3, 8))
        false += holm(np.array([sign_flip_p_value(arm, baseline) for arm in arms])).min() < 0.05
    # Three standard errors above 5%.
    assert false / studies < 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)


@settings(max_examples=30)
@given(st.integers(2, 12))
def test_interval_covers_zero_as_often_as_it_says(n):
    generator = np.random.default_rng(n)
    differences = generator.normal(0, 1, (400, n))
    covered = sum(low <= 0 <= high for low, high in (spread(row).interval for row in differences))
    assert 0.90 < covered / 400 < 0.99
