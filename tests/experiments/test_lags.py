"""The figure of gradients against the lag."""

import dataclasses

import numpy as np
import pytest

from experiments.report import gallery, lags
from experiments.report.summary import summarise

NORMS = {1: -0.1, 2: -0.4, 8: -2.0}


@pytest.fixture
def summary(make_study, make_records):
    """A study of which two arms have the diagnostic, and one of them a bound."""
    study = make_study()
    trials, curves = make_records(study, lost=[("cnn", 3, "diverged")])
    for lag, norm in NORMS.items():
        has = trials["arm"].isin(["mlp", "cnn"])
        values = norm + 0.01 * trials["seed"]
        trials[f"state_gradient/lag_{lag}"] = np.where(has, values, np.nan)
        trials[f"state_gradient_bound/lag_{lag}"] = np.where(trials["arm"] == "mlp", 0.0, np.nan)
    trials.loc[trials["status"] != "ok", "state_gradient/lag_8"] = 99
    return summarise(study, trials, command="again"), curves


def test_lags_stand_in_order_with_the_mean_of_the_seeds(summary):
    trials = summary[0].trials
    table = lags.by_lag(trials[trials["arm"] == "mlp"], lags.NORM)
    assert table.index.tolist() == [1, 2, 8]
    np.testing.assert_allclose(table["mean"], [norm + 0.01 * 3.5 for norm in NORMS.values()])
    assert (table["low"] < table["mean"]).all()
    assert lags.by_lag(trials[trials["arm"] == "lstm"], lags.NORM).empty


def test_the_figure_has_a_line_for_each_arm_that_was_measured_and_one_for_each_bound(summary):
    axes = lags.state_gradients(summary[0]).axes[0]
    assert [line.get_label() for line in axes.lines if not line.get_label().startswith("_")] == ["mlp", "cnn"]
    bounds = [line for line in axes.lines if line.get_label().startswith("_")]
    assert [line.get_ydata().tolist() for line in bounds] == [[0.0] * 3]
    assert max(axes.lines[0].get_ydata()) < 0  # what diverged is left out


def test_the_figure_is_drawn_only_where_it_was_measured(summary, make_study, make_records):
    measured, curves = summary
    assert "state_gradients" in {drawn.name for drawn in gallery.gallery(measured, curves)}
    study = dataclasses.replace(make_study(), claims=())
    trials, curves = make_records(study)
    plain = summarise(study, trials, command="again")
    assert "state_gradients" not in {drawn.name for drawn in gallery.gallery(plain, curves)}
