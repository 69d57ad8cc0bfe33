"""The studies of recurrent networks: what their heads say and needs no training."""

import math

import numpy as np
import pytest

from experiments import plan
from experiments.catalog import copy_memory as copying
from experiments.statements import Within
from train import data
from train.data import adding_problem, copy_memory


def test_always_to_answer_one_has_a_sixth_of_squared_error():
    """The integral of (x + y - 1)^2 over the unit square, by the midpoint rule; and what the data set says."""
    x = (np.arange(400) + 0.5) / 400
    error = np.mean(np.square(x[:, None] + x[None] - 1))
    assert error == pytest.approx(1 / 6, abs=1e-5)
    assert adding_problem.baseline(adding_problem.Config()) == 1 / 6


def test_without_memory_copying_costs_ten_eighths():
    """The best a network can do that knows where symbols are due and not which: measured on the data themselves."""
    task = data.load(copy_memory.Config(delay=30, evaluation_examples=50), None)
    targets = task.validation.arrays["targets"]
    nats = np.where(targets < 8, math.log(8), 0.0).mean()
    assert copying.memoryless(30) == pytest.approx(nats)
    assert copying.memoryless(1_000) == pytest.approx(0.0204, abs=5e-5)  # Bai et al. 2018: 0.0204, 0.0197, 0.0202
    assert copying.memoryless(200) == pytest.approx(10 * math.log(8) / 220)


def test_the_claims_on_copying_are_those_of_its_formula():
    claims = {claim.arm: claim for claim in plan.load("copy_memory", "cpu").claims if isinstance(claim, Within)}
    bound = copying.memoryless(200)
    assert (claims["gru"].low, claims["gru"].high) == pytest.approx((0.9 * bound, 1.1 * bound))
    assert claims["transformer"].high == pytest.approx(bound / 10)


@pytest.mark.slow
def test_the_networks_of_the_adding_problem_have_the_sizes_of_their_cells(parameters):
    """``g`` blocks of input, recurrent weights and bias (a second one in the GRU), and an output of 32 + 1."""
    block = 2 * 32 + 32 * 32 + 32
    sizes = parameters("adding_problem", "cpu")
    assert sizes == {"gru": 3 * (block + 32) + 33, "lstm": 4 * block + 33, "tanh": block + 33}
    assert parameters("adding_problem", "full")["tcn"] == pytest.approx(70_000, rel=0.1)


def test_parity_is_tested_on_lengths_that_no_training_has():
    study = plan.load("parity", "cpu")
    task = data.load(study.baseline.data, None)
    assert int(task.validation.arrays["inputs"].mask.sum(1).max()) <= 40
    test = dict(plan.resolve(study).configs)["tanh"].data
    assert (test.longest, test.test_longest) == (40, 200)
    assert test.test_longest == task.shapes.inputs[0]


def test_the_variants_of_the_lstm_differ_in_the_parts_they_have(parameters):
    """Of width 48 with embeddings of 32: a block is 48 (32 + 48 + 1), a peephole 48, full recurrence (3 x 48)^2."""
    sizes = parameters("lstm_variants", "cpu")
    block, peephole = 48 * (32 + 48 + 1), 48
    more = {arm: size - sizes["vanilla"] for arm, size in sizes.items() if arm != "vanilla"}
    lost = -(block + peephole)
    assert more == {
        **dict.fromkeys(("NIG", "NFG", "NOG", "CIFG"), lost),
        **dict.fromkeys(("NIAF", "NOAF"), 0),
        "FGR": (3 * 48) ** 2,
        "NP": -3 * peephole,
    }


def test_a_gradient_above_its_bound_would_be_seen():
    study = plan.load("vanishing_gradients", "cpu")
    bounded = {claim.arm for claim in study.claims if isinstance(claim, Within)}
    assert bounded == {"tanh", "tanh, small", "tanh trained"}
    resolved = plan.resolve(study).configs
    assert resolved["tanh"].groups.learning_rates == (0.0,)
    assert resolved["tanh trained"].groups.patterns == ()
