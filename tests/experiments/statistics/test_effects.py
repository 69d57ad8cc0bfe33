"""Standardised effects, seeds needed and equivalence against scipy, tables and simulations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.statistics import (
    UNKNOWN,
    Spread,
    equivalence,
    mean_interval,
    paired_difference,
    power_of,
    seeds_needed,
    standardised_effect,
)
from experiments.statistics.noncentral import noncentral_t_cdf


def difference(n, mean, sd=1.0):
    return Spread(n=n, lost=0, mean=mean, sd=sd, interval=UNKNOWN, minimum=mean, maximum=mean)


@given(st.integers(3, 40), st.floats(-6, 6))
def test_effect_interval_holds_the_noncentralities_that_are_compatible(n, mean):
    estimate, (low, high) = standardised_effect(difference(n, mean))
    t = mean * n**0.5
    assert stats.nct.cdf(t, n - 1, low * n**0.5) == pytest.approx(0.975, abs=1e-6)
    assert stats.nct.cdf(t, n - 1, high * n**0.5) == pytest.approx(0.025, abs=1e-6)
    assert low < estimate < high
    mirrored = standardised_effect(difference(n, -mean))
    np.testing.assert_allclose([mirrored.value, *mirrored.interval], [-estimate, -high, -low], atol=1e-9)


def test_effect_has_hedges_correction():
    # Hedges (1981), table 1: c(2) = 0.5642, c(10) = 0.9228.
    assert standardised_effect(difference(3, 1)).value == pytest.approx(0.5642, abs=1e-4)
    assert standardised_effect(difference(11, 2, 2)).value == pytest.approx(0.9228, abs=1e-4)


@pytest.mark.parametrize("freedom", [1, 2, 4, 19, 300])
@pytest.mark.parametrize("t", [-3.0, 0.0, 0.3, 2.0, 8.0, 40.0])
def test_noncentral_t_is_scipys_where_that_has_a_value(t, freedom):
    for noncentrality in (t - 3, t - 1, t, 1.1 * t + 1, t + 4):
        expected = stats.nct.cdf(t, freedom, noncentrality)
        if np.isfinite(expected):
            assert noncentral_t_cdf(t, freedom, noncentrality) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("n", [4, 5, 30])
def test_effect_is_unbiased(n):
    correction = standardised_effect(difference(n, 1)).value
    expected_ratio = stats.nct.mean(n - 1, 0.7 * n**0.5) / n**0.5  # of mean / sd where the effect is 0.7
    assert correction * expected_ratio == pytest.approx(0.7)


def test_effect_where_nothing_varies():
    assert math.isnan(standardised_effect(difference(8, 0.0, 0.0)).value)
    assert standardised_effect(difference(8, -1.0, 0.0)).value == -math.inf
    assert math.isnan(standardised_effect(difference(2, 1.0)).value)
    assert math.isnan(standardised_effect(difference(0, math.nan, math.nan)).value)


@pytest.mark.parametrize("mean", [50.0, 1e5, 1e9])
def test_effect_with_hardly_any_noise(mean):
    estimate, (low, high) = standardised_effect(difference(5, mean))
    # Nothing but the noise of the standard deviation counts: sd² is χ²(4) / 4.
    np.testing.assert_allclose([low, high], mean * np.sqrt(stats.chi2.ppf([0.025, 0.975], 4) / 4), rtol=1e-3)
    assert low < estimate < high


def test_seeds_needed_are_those_of_the_tables():
    # Cohen (1988) for two-sided tests at 5% with 80% power; G*Power 3.1: matched pairs, dz = 0.2, 0.5, 0.8, 1.
    assert [seeds_needed(effect) for effect in (0.2, 0.5, 0.8, 1.0)] == [199, 34, 15, 10]


@given(st.floats(0.05, 5), st.sampled_from([0.05, 0.01]))
def test_seeds_needed_are_the_first_that_suffice(effect, level):
    n = int(seeds_needed(effect, level=level))
    assert power_of(effect, n, level=level) >= 0.8
    assert n == 2 or power_of(effect, n - 1, level=level) < 0.8
    assert seeds_needed(-effect, level=level) == n


def test_seeds_needed_of_no_effect_are_endless():
    assert seeds_needed(0.0) == math.inf
    assert seeds_needed(1e-4) == math.inf
    assert math.isnan(seeds_needed(math.nan))
    assert seeds_needed(math.inf) == 2


@pytest.mark.parametrize(("effect", "n"), [(0.0, 5), (0.4, 10), (1.2, 8)])
def test_power_is_how_often_the_t_test_rejects(effect, n):
    samples = np.random.default_rng(3).normal(effect, 1, (20_000, n))
    share = np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05)
    assert power_of(effect, n) == pytest.approx(share, abs=4 * (0.25 / 20_000) ** 0.5)


def test_equivalence_is_two_one_sided_tests_of_scipy():
    generator = np.random.default_rng(2)
    for _ in range(20):
        arm, baseline = generator.normal(0.1, 1, 9), generator.normal(0, 1, 9)
        result = equivalence(arm, baseline, 0.8)
        low = stats.ttest_1samp(arm - baseline, -0.8, alternative="greater").pvalue
        high = stats.ttest_1samp(arm - baseline, 0.8, alternative="less").pvalue
        assert result.p_value == pytest.approx(max(low, high))
        assert result.interval == mean_interval(arm - baseline, confidence=0.9)
        inside = result.interval.low > -0.8 and result.interval.high < 0.8
        assert result.equivalent == (inside and result.p_value < 0.05)


def test_arms_that_differ_by_the_margin_are_seldom_called_equivalent():
    generator = np.random.default_rng(4)
    called = sum(
        equivalence(generator.normal(0.5, 0.2, 8), generator.normal(0, 0.2, 8), 0.5).equivalent for _ in range(1500)
    )
    assert 0.01 < called / 1500 < 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5


def test_equivalence_of_identical_and_of_failed_arms():
    same = np.linspace(0.9, 0.95, 6)
    assert equivalence(same, same, 0.01).equivalent
    assert not equivalence(same + 0.02, same, 0.01).equivalent
    failed = np.append(same, np.nan)
    assert equivalence(failed, failed, 0.01).equivalent
    assert not equivalence(failed, np.append(same, 0.9), 0.01).equivalent
    alone = equivalence(np.array([0.9]), np.array([0.9]), 0.01)
    assert math.isnan(alone.p_value)
    assert not alone.equivalent
    assert paired_difference(failed, failed).n == 6
