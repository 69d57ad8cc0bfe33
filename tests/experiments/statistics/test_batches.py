"""The law of steps and examples, and how far the best level of a factor moves, against values known beforehand."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from experiments.statistics.batches import fit_tradeoff

BATCHES = np.array([4.0, 16, 64, 256, 1024, 4096])


def test_the_law_is_found_again():
    steps = np.tile(120 * (1 + 90 / BATCHES), (5, 1))
    found = fit_tradeoff(BATCHES, steps)
    assert found.critical_batch.value == pytest.approx(90, rel=0.01)
    assert found.least_steps.value == pytest.approx(120, rel=0.01)
    assert found.r_squared.value == pytest.approx(1, abs=1e-4)
    examples, least = BATCHES * steps[0], 90 * 120
    np.testing.assert_allclose((steps[0] / 120 - 1) * (examples / least - 1), 1)


def test_it_is_the_least_squares_solution_of_noisy_steps():
    steps = 50 * (1 + 200 / BATCHES) * np.exp(0.2 * np.random.default_rng(0).standard_normal((6, 6)))
    logs = np.log(steps).mean(axis=0)
    reference = least_squares(lambda x: x[0] + np.log1p(np.exp(x[1]) / BATCHES) - logs, [3.0, 4.0])
    found = fit_tradeoff(BATCHES, steps)
    assert np.log(found.critical_batch.value) == pytest.approx(reference.x[1], abs=0.02)
    assert found.r_squared.value == pytest.approx(1 - 2 * reference.cost / (logs.var() * 6), abs=1e-4)
    low, high = found.critical_batch.interval
    assert low < 200 < high


def test_steps_that_do_not_fall_are_no_law():
    flat = np.exp(np.random.default_rng(1).standard_normal((5, 6)) + np.log(BATCHES))
    assert fit_tradeoff(BATCHES, flat).r_squared.value < 0.5
    with pytest.raises(ValueError, match="above 0"):
        fit_tradeoff(BATCHES, np.zeros((3, 6)))
    with pytest.raises(ValueError, match="three batch sizes"):
        fit_tradeoff(BATCHES[:2], np.ones((3, 2)))
