"""A short run of the calibration benchmark: coverage and false positives as the product concludes.

``python -m tests.benchmarks.calibration`` is the whole of it.
"""

import dataclasses

import numpy as np
import pytest

from experiments.statistics import power_of
from tests.benchmarks import calibration
from tests.benchmarks.calibration import Cell, misses, simulate, standard_error, true_superiority

STUDIES = 400


@pytest.mark.slow
@pytest.mark.parametrize("noise", [*calibration.NOISES])
@pytest.mark.parametrize("baseline", ["alike", "a third"])
def test_intervals_cover_as_often_as_asked_for(noise, baseline):
    cell = Cell(noise=noise, baseline=baseline, pairs=5, arms=2, effect=calibration.EFFECT)
    outcome = simulate(cell, STUDIES)
    assert not misses(cell, outcome, STUDIES)["coverage"], outcome
    # Taken as independent, although seeds are shared: wider than need be.
    assert outcome.superiority > 0.92 - 3 * standard_error(0.92, STUDIES), outcome


@pytest.mark.slow
@pytest.mark.parametrize("noise", [*calibration.NOISES])
@pytest.mark.parametrize(("test", "arms"), [("sign_flip", 3), ("wilcoxon", 1)])
def test_studies_without_any_difference_find_one_in_at_most_five_per_cent(noise, test, arms):
    cell = Cell(noise=noise, baseline="alike", pairs=10, arms=arms, effect=0.0, test=test)
    outcome = simulate(cell, STUDIES)
    assert not misses(cell, outcome, STUDIES)["false"], outcome


@pytest.mark.slow
def test_power_is_about_what_seeds_needed_promises():
    cell = Cell(noise="normal", baseline="alike", pairs=10, arms=1, effect=calibration.EFFECT)
    promised = power_of(calibration.EFFECT / 2**0.5, 10)
    # The permutation test and the agreement of the interval cost a little.
    assert promised - 0.12 < simulate(cell, STUDIES).better < promised + 3 * standard_error(promised, STUDIES)


def test_a_bound_that_is_missed_is_seen():
    cell = Cell(noise="normal", baseline="alike", pairs=5, arms=1, effect=0.0)
    good = calibration.Outcome(coverage=0.95, superiority=0.95, better=0.02, any_called=0.04)
    assert misses(cell, good, 2000) == {"coverage": False, "false": False}
    assert misses(cell, dataclasses.replace(good, coverage=0.90), 2000)["coverage"]
    assert misses(cell, dataclasses.replace(good, coverage=0.99), 2000)["coverage"]
    assert misses(cell, dataclasses.replace(good, any_called=0.08), 2000)["false"]
    skewed = dataclasses.replace(cell, noise="log-normal")
    assert not misses(skewed, dataclasses.replace(good, coverage=0.99), 2000)["coverage"]
    assert misses(skewed, dataclasses.replace(good, coverage=0.87), 2000)["coverage"]
    assert "90.0!" in calibration.row(cell, dataclasses.replace(good, coverage=0.90), 2000)


def test_simulated_studies_are_what_they_say():
    cell = Cell(noise="exponential", baseline="a third", pairs=4, arms=2, effect=1.5)
    values = calibration.draw(cell, np.random.default_rng(0), 50_000)
    assert values.shape == (50_000, 3, 4)
    np.testing.assert_allclose(values.mean(axis=(0, 2)), [0, 1.5, 1.5], atol=0.02)
    np.testing.assert_allclose(values[:, 0].std(), np.hypot(1 / 3, 0.5), rtol=0.02)
    np.testing.assert_allclose((values[:, 1] - values[:, 0]).std(), np.hypot(1, 1 / 3), rtol=0.02)
    alike = Cell(noise="normal", baseline="alike", pairs=4, arms=2, effect=0.0)
    assert true_superiority(alike) == pytest.approx(0.5, abs=0.004)
    # P(N(1.5, 2 (1 + 0.25)) > 0) with the seeds' part on both sides.
    assert true_superiority(dataclasses.replace(alike, effect=1.5)) == pytest.approx(0.8286, abs=0.004)
