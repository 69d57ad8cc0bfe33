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
