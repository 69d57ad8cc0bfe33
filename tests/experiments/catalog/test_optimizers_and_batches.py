"""Facts in the heads of the studies on optimizers, learning rates and batch sizes, against references of their own."""

import numpy as np
import pytest

from experiments import plan
from train import data
from train.data.task import FinalEvaluation


def test_what_was_proved_of_adaptive_methods_holds_in_float64():
    study = plan.load("adaptive_generalises_worse", "cpu")
    task = data.load(study.baseline.data, None)
    train, test = task.train.arrays, task.test.open(FinalEvaluation())
    inputs, targets = (np.asarray(train[name], np.float64) for name in ("inputs", "targets"))
    signs = np.sign(inputs.T @ targets) / 4
    # Weights of one size fit the training examples, and answer +1 to whatever is new.
    np.testing.assert_allclose(inputs @ signs, targets, atol=1e-12)
    outputs = np.asarray(test["inputs"], np.float64) @ signs
    np.testing.assert_array_equal(np.where(test["targets"] > 0, 0.75, 0.25), outputs)
    shares = [claim.low for claim in study.claims if getattr(claim, "arm", None) == "adam" and hasattr(claim, "low")]
    assert shares == pytest.approx([np.mean(test["targets"] > 0)], abs=2e-6)
    # Gradient descent from 0 ends at the solution of least norm, which is always right.
    least = inputs.T @ np.linalg.solve(inputs @ inputs.T, targets)
    assert np.all(np.sign(np.asarray(test["inputs"], np.float64) @ least) == test["targets"])


@pytest.mark.parametrize("preset", ["smoke", "cpu", "full"])
def test_the_linear_models_rates_lie_one_per_cent_beside_two_over_its_sharpness(preset):
    study = plan.load("edge_of_stability", preset)
    inputs = np.asarray(data.load(study.baseline.data, None).train.arrays["inputs"], np.float64)
    # The mean squared error of weights and a bias has the Hessian 2 E[x x'], x with a 1 for the bias.
    extended = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    sharpness = np.linalg.eigvalsh(2 * extended.T @ extended / len(inputs))[-1]
    rates = [study.arms[f"linear, {side}"]["optimizer.learning_rate"] for side in ("below", "above")]
    np.testing.assert_allclose(np.multiply(rates, sharpness / 2), [0.99, 1.01], rtol=1e-5)


def test_decoupled_arms_take_the_papers_decay_off_the_weights_at_every_step():
    study = plan.load("decoupled_decay", "cpu")
    steady = next(claim for claim in study.claims if hasattr(claim, "steady"))
    for levels in steady.steady:
        for arm, decay in levels:
            optimizer = study.arms[arm]["optimizer"]
            assert optimizer.learning_rate * optimizer.weight_decay == pytest.approx(decay)
    for levels in steady.moving:
        assert all(study.arms[arm]["optimizer"].weight_decay == decay for arm, decay in levels)


def test_the_largest_batch_is_all_of_the_training_examples():
    study = plan.load("batch_size", "cpu")
    task = data.load(study.baseline.data, None)
    assert max(batch for claim in study.claims for _, batch in getattr(claim, "batches", ())) == len(
        task.train.arrays["inputs"]
    )
