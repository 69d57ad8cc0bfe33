"""Bands, areas and steps to a target against scipy, brute force and simulated curves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.statistics import (
    Arrivals,
    area_under_curve,
    kaplan_meier,
    mean_interval,
    median_steps,
    pointwise_band,
    simultaneous_band,
    steps_ratio,
    steps_to_target,
)


def curves_of(trials, steps, generator):
    """Smooth curves: random walks and an offset of each trial."""
    walk = generator.normal(0, 1, (trials, steps)).cumsum(axis=1) / steps**0.5
    return walk + generator.normal(0, 1, (trials, 1))


def test_pointwise_band_is_the_interval_at_each_step():
    curves = curves_of(6, 5, np.random.default_rng(0))
    curves[2, 3:] = np.nan
    curves[:5, 4] = np.inf
    band = pointwise_band(curves)
    for step in range(4):
        column = curves[np.isfinite(curves[:, step]), step]
        np.testing.assert_allclose([band.low[step], band.high[step]], mean_interval(column))
        assert band.mean[step] == pytest.approx(column.mean())
    assert list(band.n) == [6, 6, 6, 5, 1]
    assert band.mean[4] == curves[5, 4]
    assert np.isnan([band.low[4], band.high[4]]).all()


def test_simultaneous_band_of_one_step_is_students_interval():
    curves = np.random.default_rng(1).normal(0, 1, (7, 1))
    band = simultaneous_band(curves)
    expected = stats.ttest_1samp(curves[:, 0], 0).confidence_interval()
    np.testing.assert_allclose([band.low[0], band.high[0]], [*expected])


def test_simultaneous_band_of_steps_that_move_together_is_students_too():
    curves = np.random.default_rng(1).normal(0, 1, (7, 1)) * np.array([1.0, 2.0, 5.0]) + np.array([0.0, 1.0, 2.0])
    band = simultaneous_band(curves, resamples=20_000)
    half = stats.t.ppf(0.975, 6) * curves.std(axis=0, ddof=1) / 7**0.5
    np.testing.assert_allclose(band.high - band.mean, half, rtol=0.03)


def test_simultaneous_band_ends_where_a_trial_diverged_and_is_flat_where_trials_agree():
    curves = curves_of(5, 6, np.random.default_rng(2))
    curves[:, 0] = 0.1
    curves[1, 4:] = np.nan
    band = simultaneous_band(curves)
    assert band.low[0] == band.high[0] == pytest.approx(0.1)
    assert np.isfinite(band.low[:4]).all()
    assert np.isnan(band.low[4:]).all()
    assert list(band.n) == [5, 5, 5, 5, 4, 4]
    assert np.isnan(simultaneous_band(curves[:1]).mean).all()


@pytest.mark.slow
@pytest.mark.parametrize("trials", [4, 8, 20])
def test_simultaneous_band_covers_the_whole_curve(trials):
    generator = np.random.default_rng(3)
    whole = pointwise = 0
    for _ in range(400):
        curves = curves_of(trials, 25, generator)
        band, thin = simultaneous_band(curves, resamples=300), pointwise_band(curves)
        whole += np.all((band.low <= 0) & (band.high >= 0))
        pointwise += np.all((thin.low <= 0) & (thin.high >= 0))
    # Binomial error of 400 studies: 1.1%.
    assert 0.915 < whole / 400 < 0.985
    assert pointwise < whole


def test_area_is_the_mean_height():
    steps = np.array([0.0, 10.0, 30.0])
    curves = np.array([[0.0, 1.0, 1.0], [0.5, 0.5, 0.5], [1.0, np.nan, 1.0]])
    np.testing.assert_allclose(area_under_curve(steps, curves), [(5 + 20) / 30, 0.5, np.nan])


@pytest.mark.parametrize("steps", [[1.0], [0.0, 2.0, 2.0]])
def test_area_needs_rising_steps(steps):
    with pytest.raises(ValueError, match="rising"):
        area_under_curve(np.array(steps), np.ones((2, len(steps))))


def test_steps_to_target_are_those_of_the_first_arrival():
    steps = np.array([0, 10, 20, 30])
    curves = np.array([[0.1, 0.6, 0.4, 0.9], [0.1, 0.2, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4], [0.1, np.nan, np.nan, np.nan]])
    found = steps_to_target(steps, curves, 0.5, higher_is_better=True)
    assert list(found.steps) == [10, 30, 30, 30]
    assert list(found.arrived) == [True, True, False, False]
    falling = steps_to_target(steps, -curves, -0.5, higher_is_better=False)
    np.testing.assert_array_equal(falling.waiting, [10, 30, np.inf, np.inf])
    assert not steps_to_target(steps, np.full((1, 4), np.inf), 0.5, higher_is_better=True).arrived.any()


arrivals = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=2, max_size=12).map(
    lambda rows: Arrivals(steps=np.array([row[0] for row in rows], float), arrived=np.array([row[1] for row in rows]))
)


@given(arrivals)
def test_kaplan_meier_is_scipys(found):
    survival = kaplan_meier(found)
    data = stats.CensoredData.right_censored(found.steps, ~found.arrived)
    if not found.arrived.any():
        assert survival.steps.size == 0
        return
    expected = stats.ecdf(data).sf
    np.testing.assert_allclose(survival.share, expected.evaluate(survival.steps), atol=1e-12)
    # Scipy lets censored steps into its table, at which the interval has no value yet: warned of, not needed.
    if survival.share[-1] > 0 and found.arrived[np.argmin(found.steps)]:
        bounds = expected.confidence_interval(method="log-log")
        np.testing.assert_allclose(survival.low, bounds.low.evaluate(survival.steps), atol=1e-9)
        np.testing.assert_allclose(survival.high, bounds.high.evaluate(survival.steps), atol=1e-9)


def test_median_of_runs_that_all_arrive():
    steps = np.array([30.0, 10, 20, 50, 40])
    estimate, (low, high) = median_steps(Arrivals(steps=steps, arrived=np.ones(5, bool)))
    assert estimate == 30
    assert low < 30 < high


def test_median_where_most_never_arrive_is_beyond_all_steps():
    found = Arrivals(steps=np.array([10.0, 50, 50, 50, 50]), arrived=np.array([True, False, False, False, False]))
    estimate, (_, high) = median_steps(found)
    assert estimate == high == np.inf
    assert np.isnan(median_steps(Arrivals(steps=np.zeros(0), arrived=np.zeros(0, bool))).value)


@pytest.mark.slow
def test_median_interval_covers():
    generator = np.random.default_rng(6)
    covered = 0
    for _ in range(1000):
        steps = np.ceil(generator.exponential(100, 10))
        budget = 180
        found = Arrivals(steps=np.minimum(steps, budget), arrived=steps <= budget)
        low, high = median_steps(found).interval
        covered += low <= np.ceil(100 * np.log(2)) <= high
    assert covered / 1000 > 0.92


def arriving(*steps, budget=100):
    waits = np.array(steps, float)
    return Arrivals(steps=np.minimum(waits, budget), arrived=waits <= budget)


def test_ratio_of_steps():
    fast, slow = arriving(10, 12, 14, 16, 18), arriving(20, 24, 28, 32, 36)
    # The runs are paired: every resample has the same ratio.
    assert steps_ratio(fast, slow) == (0.5, (0.5, 0.5))
    assert steps_ratio(slow, fast).value == 2


def test_ratio_with_late_runs():
    never = np.inf
    estimate, (low, high) = steps_ratio(arriving(10, 12, never, 16, 18), arriving(20, 24, 28, 32, 36))
    assert estimate == pytest.approx(16 / 28)
    assert 0 < low < estimate < high
    assert steps_ratio(arriving(10, never, never), arriving(20, 20, 20)).value == np.inf
    assert steps_ratio(arriving(20, 20, 20), arriving(10, never, never)).value == 0
    most = [never] * 4
    unknown, (low, high) = steps_ratio(arriving(10, *most), arriving(20, *most))
    assert np.isnan(unknown)
    assert (low, high) == (0, np.inf)


def test_ratio_needs_pairs():
    with pytest.raises(ValueError, match="paired"):
        steps_ratio(arriving(1), arriving(1, 2))
    few = steps_ratio(arriving(1, 2, 3, 4), arriving(2, 4, 6, 8))
    assert few.value == 0.5
    assert np.isnan(few.interval).all()
    assert np.isnan(steps_ratio(arriving(), arriving()).value)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10, 20])
def test_ratio_interval_covers(n):
    generator = np.random.default_rng(n)
    covered = 0
    for _ in range(600):
        shared = generator.normal(0, 0.3, n)
        waits = 50 * np.exp(shared + generator.normal(0, 0.2, (2, n)))
        waits[0] *= 0.7
        low, high = steps_ratio(*(arriving(*row, budget=70) for row in waits), resamples=500).interval
        covered += low <= 0.7 <= high
    assert covered / 600 > 0.92
