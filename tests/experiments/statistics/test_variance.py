"""Variance attribution against scipy's tests and simulated sources."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import attribute


def varied_of(generator, n=12, **deviations):
    return {name: generator.normal(0.9, deviation, n) for name, deviation in deviations.items()}


def test_variances_have_the_chi_square_interval_and_shares_that_of_f():
    generator = np.random.default_rng(0)
    varied = varied_of(generator, init=0.02, order=0.005)
    together = generator.normal(0.9, 0.02, 9)
    result = attribute(varied, together)
    assert [source.name for source in result.sources] == ["init", "order"]
    for source in result.sources:
        values = varied[source.name]
        assert source.variance == pytest.approx(values.var(ddof=1))
        expected = 11 * values.var(ddof=1) / stats.chi2.ppf([0.975, 0.025], 11)
        np.testing.assert_allclose(source.interval, expected)
        ratio = values.var(ddof=1) / together.var(ddof=1)
        assert source.share == pytest.approx(ratio)
        np.testing.assert_allclose(source.share_interval, ratio / stats.f.ppf([0.975, 0.025], 11, 8))


def test_a_source_dominates_when_it_is_tested_against_each_other_one():
    generator = np.random.default_rng(1)
    varied = varied_of(generator, order=0.002, init=0.02, dropout=0.003)
    result = attribute(varied)
    assert result.dominant == "init"
    assert result.reason == ""
    expected = max(stats.levene(varied["init"], varied[name], center="median").pvalue for name in ("order", "dropout"))
    assert result.p_value == pytest.approx(expected)
    assert math.isnan(result.sources[0].share)


def test_where_it_cannot_be_told():
    generator = np.random.default_rng(2)
    alike = attribute(varied_of(generator, init=0.02, order=0.02))
    assert alike.dominant is None
    assert "alike" in alike.reason
    assert attribute({"init": np.ones(5), "order": np.ones(5)}).reason == "no source changes the result"
    assert attribute({"init": np.arange(5.0)}).dominant is None
    assert "three runs" in attribute({"init": np.arange(2.0), "order": np.arange(9.0)}).reason
    failed = varied_of(generator, init=0.5, order=0.001)
    failed["order"][3] = np.nan
    result = attribute(failed)
    assert result.dominant is None
    assert "order" in result.reason
    assert result.sources[1].lost == 1
    empty = attribute({"init": np.arange(4.0), "order": np.full(4, np.nan)})
    assert [source.name for source in empty.sources] == ["init", "order"]
    assert math.isnan(empty.sources[1].variance)


def test_a_source_that_changes_nothing_is_dominated():
    result = attribute({"dropout": np.full(8, 0.9), "init": np.linspace(0.8, 0.95, 8)})
    assert result.dominant == "init"
    assert result.sources[1].variance == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("draw", [np.random.Generator.standard_normal, np.random.Generator.standard_exponential])
def test_equal_sources_are_seldom_told_apart(draw):
    generator = np.random.default_rng(3)
    found = sum(
        attribute({name: draw(generator, 8) for name in ("a", "b", "c")}).dominant is not None for _ in range(600)
    )
    assert found / 600 < 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5
