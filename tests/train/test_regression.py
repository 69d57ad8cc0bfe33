"""Squared errors and the errors that forecasters compare, against loops in float64 and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput, Shapes
from train import objectives
from train.config import replace
from train.data.task import Batch
from train.objectives import Rescalable
from train.step import make_step

REGRESSION = objectives.regression()
FORECASTING = objectives.forecasting()
GENERATOR = np.random.default_rng(0)
OUTPUTS = GENERATOR.normal(size=(9, 4)).astype(np.float32)
TARGETS = GENERATOR.normal(size=(9, 4)).astype(np.float32)
WEIGHTS = np.asarray([1, 1, 0, 1, 1, 0, 1, 1, 1], np.float32)


def batch_of(targets, weights=WEIGHTS):
    return Batch(None, jax.tree.map(jnp.asarray, targets), jnp.asarray(weights))


def finished(objective, outputs, targets, weights=WEIGHTS, parts=(slice(0, 2), slice(2, 9))):
    """Metrics of sums that were added up over two batches, as an evaluation adds them."""
    total = {}
    for part in parts:
        cut = jax.tree.map(lambda leaf, part=part: leaf[part], targets)
        sums = objective.sums(jnp.asarray(outputs[part]), batch_of(cut, weights[part]))
        total = {name: total.get(name, 0.0) + np.asarray(value, np.float64) for name, value in sums.items()}
    return objective.finish(total)


def test_mean_squared_error_is_the_mean_over_real_items():
    real = WEIGHTS == 1
    errors = OUTPUTS.astype(np.float64)[real] - TARGETS[real]
    loss, gradient = jax.value_and_grad(REGRESSION.loss)(jnp.asarray(OUTPUTS), batch_of(TARGETS))
    np.testing.assert_allclose(loss, np.mean(errors**2), rtol=1e-6)
    expected = np.zeros_like(OUTPUTS)
    expected[real] = 2 * errors / errors.size
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)
    metrics = finished(REGRESSION, OUTPUTS, TARGETS)
    assert tuple(metrics) == REGRESSION.metrics == ("mse", "mae")
    assert metrics["mse"] == pytest.approx(np.mean(errors**2), rel=1e-6)
    assert metrics["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-6)


@pytest.mark.reference
def test_the_loss_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    ones = np.ones(9, np.float32)
    expected = torch.nn.functional.mse_loss(torch.tensor(OUTPUTS), torch.tensor(TARGETS)).item()
    assert float(REGRESSION.loss(jnp.asarray(OUTPUTS), batch_of(TARGETS, ones))) == pytest.approx(expected, rel=1e-6)


def test_one_output_may_have_targets_without_its_axis():
    flat = finished(REGRESSION, OUTPUTS[:, :1], TARGETS[:, 0])
    assert flat == finished(REGRESSION, OUTPUTS[:, :1], TARGETS[:, :1])
    assert flat["mse"] == pytest.approx(np.mean((OUTPUTS - TARGETS)[WEIGHTS == 1, 0] ** 2), rel=1e-6)


def test_outputs_of_every_position():
    outputs, targets, weights = OUTPUTS.reshape(3, 3, 4), TARGETS.reshape(3, 3, 4), WEIGHTS.reshape(3, 3)
    loss = REGRESSION.loss(jnp.asarray(outputs), batch_of(targets, weights))
    np.testing.assert_allclose(loss, REGRESSION.loss(jnp.asarray(OUTPUTS), batch_of(TARGETS)), rtol=1e-6)


def rescalable(**changes):
    parts = {
        "values": TARGETS,
        "location": GENERATOR.normal(size=(9, 4)).astype(np.float32) * 5,
        "scale": GENERATOR.uniform(0.5, 20, (9, 4)).astype(np.float32),
        "error_scale": GENERATOR.uniform(0.1, 2, (9, 4)).astype(np.float32),
    }
    return Rescalable(**{**parts, **changes})


def by_hand(outputs, targets, weights):
    """sMAPE and MASE from their definitions, term by term, in the series' own units."""
    symmetric, scaled = [], []
    for item in np.flatnonzero(weights):
        for step in range(outputs.shape[1]):
            location, scale = float(targets.location[item, step]), float(targets.scale[item, step])
            actual = location + scale * float(targets.values[item, step])
            forecast = location + scale * float(outputs[item, step])
            size = abs(actual) + abs(forecast)
            symmetric.append(200 * abs(actual - forecast) / size if size else 0.0)
            usual = scale * float(targets.error_scale[item, step])
            if usual:
                scaled.append(abs(actual - forecast) / usual)
    return float(np.mean(symmetric)), float(np.mean(scaled))


def test_forecasting_metrics_are_their_definitions():
    targets = rescalable()
    metrics = finished(FORECASTING, OUTPUTS, targets)
    assert tuple(metrics) == FORECASTING.metrics == ("mse", "mae", "smape", "mase")
    assert (metrics["smape"], metrics["mase"]) == pytest.approx(by_hand(OUTPUTS, targets, WEIGHTS), rel=1e-4)
    plain = finished(REGRESSION, OUTPUTS, TARGETS)
    assert {name: metrics[name] for name in plain} == plain
    loss = FORECASTING.loss(jnp.asarray(OUTPUTS), batch_of(targets))
    np.testing.assert_allclose(loss, plain["mse"], rtol=1e-6)


def test_a_series_that_never_changed_has_no_part_in_mase():
    usual = np.ones((9, 4), np.float32)
    usual[3:5, 1:] = 0
    targets = rescalable(error_scale=usual)
    metrics = finished(FORECASTING, OUTPUTS, targets)
    assert metrics["mase"] == pytest.approx(by_hand(OUTPUTS, targets, WEIGHTS)[1], rel=1e-5)
    assert np.isfinite(list(metrics.values())).all()


def test_smape_is_0_where_both_are_0_and_200_where_signs_differ():
    ones = np.ones((9, 4), np.float32)
    zero = rescalable(values=0 * ones, location=0 * ones, scale=ones)
    assert finished(FORECASTING, 0 * OUTPUTS, zero)["smape"] == 0
    apart = rescalable(values=ones, location=0 * ones, scale=3 * ones)
    assert finished(FORECASTING, -7 * ones, apart)["smape"] == pytest.approx(200)
    gradient = jax.grad(lambda outputs: FORECASTING.sums(outputs, batch_of(zero))["symmetric"])(
        jnp.asarray(0 * OUTPUTS)
    )
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("objective", [REGRESSION, FORECASTING], ids=["regression", "forecasting"])
@pytest.mark.parametrize("name", ["label_smoothing", "z_loss"])
def test_what_acts_on_logits_is_refused(objective, name, base):
    shapes = Shapes(inputs=(8, 2), vocabulary=None, outputs=4, per_position=False)
    make_step(base, shapes, objective)
    with pytest.raises(BadInput, match=rf"regularisation\.{name} acts on logits, and the task 'digits' has none"):
        make_step(replace(base, {f"regularisation.{name}": 0.1}), shapes, objective)
