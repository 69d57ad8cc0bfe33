"""Where a factor is at its best: against a polynomial fit by NumPy, and where there is none."""

import numpy as np
import pytest

from experiments.statistics.optima import Condition, Move, best_level, steadiness


def test_the_best_level_is_the_lowest_point_of_a_parabola_through_three_levels():
    random = np.random.default_rng(0)
    levels = np.array([-3.5, -3.0, -2.5, -2.1, -1.0])
    means = (levels - random.uniform(-3, -2, (20, 1))) ** 2 + random.normal(0, 0.01, (20, 5))
    found = best_level(levels, means)
    for row, value in zip(means, found, strict=True):
        middle = int(np.clip(row.argmin(), 1, 3))
        a, b, _ = np.polyfit(levels[middle - 1 : middle + 2], row[middle - 1 : middle + 2], 2)
        assert value == pytest.approx(-b / (2 * a))
        assert levels[middle - 1] <= value <= levels[middle + 1]


def test_a_least_value_at_an_end_stays_there_and_the_order_of_levels_is_nothing():
    levels = np.array([1.0, 3.0, 2.0])
    np.testing.assert_array_equal(
        best_level(levels, np.array([[0.0, 2.0, 1.0], [5.0, 1.0, 4.0], [1.0, 1.0, 1.0]])), [1, 3, 1]
    )
    np.testing.assert_allclose(best_level(levels, np.array([[2.0, 1.0, 0.0]])), 2 + 1 / 6)


def test_equal_moves_of_coarse_levels_are_not_certain():
    random, levels = np.random.default_rng(1), np.array([3e-4, 1e-3, 3e-3, 1e-2, 3e-2])

    def condition(best):
        return Condition(levels, (np.log10(levels) - best) ** 2 + random.normal(0, 0.05, (10, 5)))

    steady, moving = (Move(condition(first), condition(second)) for first, second in ((-3, -2.5), (-2, -2.5)))
    low, high = steadiness(steady, moving).interval
    assert low < 0 < high
    far = Move(condition(-1.9), condition(-3.1))
    assert steadiness(steady, far).interval[0] > 0.3


def valley(best: float, seed: int) -> Condition:
    """A parabola over five decades, at a height of its own for each of eight seeds."""
    levels = np.arange(-4.0, 1.0)
    heights = np.random.default_rng(seed).standard_normal((8, 1))
    return Condition(10.0**levels, heights + (levels - best) ** 2)


@pytest.mark.parametrize(("steady", "moving", "expected"), [(-2, -1, 1), (-2, -4, 2), (-3, -2, -1), (-2.3, -1, 0.7)])
def test_a_best_level_that_moves_less(steady, moving, expected):
    found = steadiness(Move(valley(-2, 0), valley(steady, 1)), Move(valley(-2, 2), valley(moving, 3)))
    assert found.value == pytest.approx(expected)
    assert found.interval == pytest.approx((expected, expected))


def test_a_best_level_that_chance_decides_has_a_wide_interval():
    flat = Condition(10.0 ** np.arange(-4, 1), np.random.default_rng(5).standard_normal((8, 5)))
    low, high = steadiness(Move(valley(-2, 0), valley(-2, 1)), Move(valley(-2, 2), flat)).interval
    assert high - low > 1
