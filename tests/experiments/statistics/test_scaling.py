"""Power laws against known ones, scipy's curve fit and simulated studies."""

import numpy as np
import pytest
from scipy import optimize, stats

from experiments.statistics import check_held_out, fit_power_law

SIZES = np.array([1e4, 3e4, 1e5, 3e5, 1e6])


def measured(generator, seeds=5, noise=0.02, offset=0.0, exponent=0.3):
    return (20 * SIZES**-exponent + offset) * np.exp(generator.normal(0, noise, (seeds, SIZES.size)))


def test_an_exact_law_is_found_again():
    law = fit_power_law(SIZES, measured(np.random.default_rng(0), noise=0))
    assert law.scale == pytest.approx(20)
    assert law.exponent.value == pytest.approx(0.3)
    assert law.exponent.interval == pytest.approx((0.3, 0.3))
    assert law.offset is None
    np.testing.assert_allclose(law.predict(np.array([1e7])), 20 * 1e7**-0.3)


def test_the_fit_is_scipys_regression_of_logarithms():
    values = measured(np.random.default_rng(1), noise=0.1)
    values[3, 2] = np.nan
    law = fit_power_law(SIZES, values)
    kept = np.isfinite(values)
    line = stats.linregress(np.log(np.broadcast_to(SIZES, values.shape)[kept]), np.log(values[kept]))
    assert law.exponent.value == pytest.approx(-line.slope)
    assert law.scale == pytest.approx(np.exp(line.intercept))
    assert law.lost == 1


def test_an_offset_is_found_again_as_by_scipys_curve_fit():
    exact = fit_power_law(SIZES, measured(np.random.default_rng(0), noise=0, offset=0.25), offset=True, resamples=10)
    assert exact.exponent.value == pytest.approx(0.3, rel=1e-4)
    assert exact.offset is not None
    assert exact.offset.value == pytest.approx(0.25, rel=1e-4)
    values = measured(np.random.default_rng(2), noise=0.01, offset=0.25)
    law = fit_power_law(SIZES, values, offset=True, resamples=50)
    assert law.offset is not None
    (a, b, c), _ = optimize.curve_fit(
        lambda x, a, b, c: np.log(np.exp(a) * x**-b + c),
        np.broadcast_to(SIZES, values.shape).ravel(),
        np.log(values).ravel(),
        (np.log(20), 0.3, 0.25),
    )
    np.testing.assert_allclose([np.log(law.scale), law.exponent.value, law.offset.value], [a, b, c], rtol=1e-3)


def test_an_offset_is_never_negative():
    # Steeper at large sizes than a power law: the best offset would be below zero.
    values = np.exp(-((np.log(SIZES) / 8) ** 2)) * np.ones((3, 1))
    law = fit_power_law(SIZES, values, offset=True, resamples=10)
    assert law.offset is not None
    assert law.offset.value == pytest.approx(0, abs=1e-6)
    assert law.exponent.value == pytest.approx(fit_power_law(SIZES, values, resamples=10).exponent.value, rel=1e-3)


def test_one_seed_gives_a_law_without_interval():
    law = fit_power_law(SIZES, measured(np.random.default_rng(0), seeds=1))
    assert np.isnan(law.exponent.interval).all()
    held = check_held_out(SIZES, measured(np.random.default_rng(0), seeds=1))
    assert np.isnan(held.interval).all()
    assert not held.within


def test_held_out_size_of_a_law_that_holds_and_of_one_that_does_not():
    values = measured(np.random.default_rng(3))
    shuffled = [3, 4, 0, 2, 1]  # the largest size need not come last
    held = check_held_out(SIZES[shuffled], values[:, shuffled])
    assert held.size == 1e6
    assert held.within
    assert held.observed == pytest.approx(stats.gmean(values[:, 4]))
    assert held.error == pytest.approx(held.observed / held.predicted - 1)
    assert held.law.exponent.value == pytest.approx(fit_power_law(SIZES[:4], values[:, :4]).exponent.value)
    bent = check_held_out(SIZES, measured(np.random.default_rng(3), offset=0.5))
    assert not bent.within
    assert bent.error > 0.02
    assert check_held_out(SIZES, measured(np.random.default_rng(3), offset=0.5), offset=True, resamples=50).within


@pytest.mark.parametrize(
    ("sizes", "values"),
    [
        (SIZES, np.zeros((2, 5))),
        (-SIZES, np.ones((2, 5))),
        (SIZES, np.full((2, 5), np.nan)),
        (np.full(5, 10.0), np.ones((2, 5))),
    ],
)
def test_what_no_law_can_be_fitted_to(sizes, values):
    with pytest.raises(ValueError, match=r"above zero|as many sizes"):
        fit_power_law(sizes, values)


def test_a_largest_size_without_result():
    values = measured(np.random.default_rng(0))
    values[:, 4] = np.nan
    with pytest.raises(ValueError, match="no result"):
        check_held_out(SIZES, values)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_exponent_and_prediction_intervals_cover(seeds):
    generator = np.random.default_rng(seeds)
    exponent = prediction = 0
    for _ in range(300):
        held = check_held_out(SIZES, measured(generator, seeds=seeds, noise=0.1), resamples=400)
        exponent += held.law.exponent.interval.low <= 0.3 <= held.law.exponent.interval.high
        prediction += held.within
    assert 0.91 < exponent / 300 < 0.985
    assert 0.91 < prediction / 300 < 0.985


@pytest.mark.slow
def test_exponent_interval_covers_with_an_offset():
    generator = np.random.default_rng(9)
    covered = 0
    for _ in range(60):
        values = measured(generator, seeds=5, noise=0.01, offset=0.2)
        low, high = fit_power_law(SIZES, values, offset=True, resamples=200).exponent.interval
        covered += low <= 0.3 <= high
    assert covered / 60 > 0.86
