"""Paired tests against scipy, brute force and simulated studies."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.statistics import (
    EXACT_PAIRS,
    MONTE_CARLO_FLIPS,
    holm,
    paired,
    pairs_needed,
    sign_flip_p_value,
    smallest_p_value,
    wilcoxon_p_value,
)

values = st.floats(-1, 1, allow_nan=False, width=32)
samples = st.lists(values, min_size=1, max_size=9).map(lambda items: np.array(items, np.float64))


def pairs(n, *, effect=0.0, seed=0):
    generator = np.random.default_rng(seed)
    baseline = generator.normal(0.9, 0.02, n)
    return baseline + generator.normal(effect, 0.01, n), baseline


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
    monkeypatch.setattr(paired, "EXACT_PAIRS", 5)
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


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_one_sided_sign_flip_is_the_share_of_all_flips(items):
    differences = np.array(items, float)
    signs = np.array(list(itertools.product([1, -1], repeat=differences.size)))
    expected = np.mean(signs @ differences >= differences.sum())
    p = sign_flip_p_value(differences, np.zeros(differences.size), alternative="greater")
    assert p == pytest.approx(expected, abs=1e-12)


def test_sampled_one_sided_p_value_is_near_the_normal_one():
    arm, baseline = pairs(EXACT_PAIRS + 5, effect=0.003, seed=1)
    differences = arm - baseline
    normal = stats.norm.sf(differences.sum() / np.sqrt((differences**2).sum()))
    assert sign_flip_p_value(arm, baseline, alternative="greater") == pytest.approx(normal, rel=0.1)
    assert sign_flip_p_value(baseline, arm, alternative="greater") == pytest.approx(1 - normal, rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 5, 9, 25, 45])
def test_wilcoxon_is_scipys_exact_test(n):
    arm, baseline = pairs(n, effect=0.003, seed=n)
    assert wilcoxon_p_value(arm, baseline) == pytest.approx(stats.wilcoxon(arm, baseline, method="exact").pvalue)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_wilcoxon_with_ties_is_the_share_of_all_sign_flips_of_the_ranks(items):
    differences = np.array(items, float)
    kept = differences[differences != 0]
    if kept.size:
        ranks = stats.rankdata(np.abs(kept))
        sums = np.array(list(itertools.product([0, 1], repeat=kept.size))) @ ranks
        observed = ranks[kept > 0].sum()
        expected = min(1, 2 * min(np.mean(sums <= observed), np.mean(sums >= observed)))
    else:
        expected = 1.0
    # Float32 accuracies: ties hold only to rounding.
    arm = (np.float32(0.5) + differences.astype(np.float32) / np.float32(300)).astype(float)
    assert wilcoxon_p_value(arm, np.full(arm.size, 0.5)) == pytest.approx(expected, abs=1e-12)


def test_wilcoxon_ranks_a_failed_trial_as_the_worst():
    arm, baseline = np.array([1, 2, 3, np.nan, 5, 6, np.nan]), np.array([0.5, 1, 1, 1, 1, 1, np.nan])
    expected = stats.wilcoxon([0.5, 1, 2, -100, 4, 5], method="exact").pvalue
    assert wilcoxon_p_value(arm, baseline) == pytest.approx(expected)
    lost = np.full(6, -np.inf)
    assert wilcoxon_p_value(np.arange(6.0), lost) == wilcoxon_p_value(lost, np.arange(6.0)) == 2 / 2**6
    assert np.isnan(wilcoxon_p_value(lost, lost))


@pytest.mark.parametrize("n", [1, 4, 25])
def test_smallest_wilcoxon_p_value_is_attained(n):
    assert wilcoxon_p_value(np.arange(1.0, n + 1), np.zeros(n)) == smallest_p_value(n, test="wilcoxon") == 2 / 2**n
    assert wilcoxon_p_value(np.ones(n), np.ones(n)) == 1
