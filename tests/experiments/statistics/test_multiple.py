"""Holm's correction against its definition by closed testing."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from experiments.statistics import holm

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(lambda items: np.array(items, np.float64))


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
