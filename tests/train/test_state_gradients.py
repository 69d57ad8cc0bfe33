"""Norms of dh_T/dh_t against products in NumPy, automatic derivatives of the whole, and closed forms."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models import rnn
from models.base import BadInput, Shapes
from train import state_gradients
from train.config import Training, Trial, replace
from train.data import adding_problem, load
from train.outline import diagnostic_columns
from train.population import Population

LENGTH = 20
SHAPES = Shapes(inputs=(LENGTH, 2), vocabulary=None, outputs=1, per_position=False)


def network(length=LENGTH, **changes):
    """A recurrent network of width 5, its parameters with biases that are not zero, and 3 sequences."""
    model = models.build(rnn.Config(width=5, **changes), SHAPES)
    inputs = jax.random.normal(jax.random.key(1), (3, length, 2))
    params = model.init(jax.random.key(0), inputs)["params"]
    params["layer_0"]["bias"] = params["layer_0"]["bias"] + 0.3
    return model, params, inputs


def calls(model, params):
    """What the trainer hands to the measurement."""

    def advance(inputs, carry):
        return model.advance({"params": params}, inputs, carry, train=False, rngs={}, hyperparameters={})[1]

    return lambda size, length: model.start({"params": params}, size, length=length), advance


def test_lags_are_powers_of_two():
    assert state_gradients.lags(20) == (1, 2, 4, 8, 16)
    assert state_gradients.lags(16) == (1, 2, 4, 8, 16)


def test_the_simple_network_against_a_product_in_numpy():
    model, params, inputs = network(cell="vanilla", recurrent_init="glorot")
    found = state_gradients.measure(params, inputs, *calls(model, params))
    layer = {name: np.asarray(leaf, np.float64) for name, leaf in params["layer_0"].items()}
    kernel, norms = layer["recurrent_kernel"], []
    for sequence in np.asarray(inputs, np.float64):
        states = [np.zeros(5)]
        for x in sequence:
            states.append(np.tanh(x @ layer["input_kernel"] + layer["bias"] + states[-1] @ kernel))
        product, by_lag = np.eye(5), {}
        for lag, state in enumerate(reversed(states[1:]), start=1):
            product = product @ (np.diag(1 - state**2) @ kernel.T)
            by_lag[lag] = np.log10(np.linalg.norm(product, 2))
        norms.append(by_lag)
    bound = np.log10(np.linalg.svd(kernel)[1][0])
    for lag in (1, 2, 4, 8, 16):
        assert found[f"state_gradient/lag_{lag}"] == pytest.approx(np.mean([each[lag] for each in norms]), abs=1e-4)
        assert found[f"state_gradient_bound/lag_{lag}"] == pytest.approx(lag * bound, abs=1e-4)
    excess = max(each[lag] - lag * bound for each in norms for lag in (1, 2, 4, 8, 16))
    assert found["state_gradient_excess"] == pytest.approx(excess, abs=1e-4)
    assert found["state_gradient_rate"] == pytest.approx(np.mean([each[16] for each in norms]) / 16, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"cell": "gru"}, {"cell": "lstm", "depth": 2}, {"cell": "lstm", "variant": "full_gate_recurrence"}]
)
def test_gated_networks_against_the_derivative_of_the_whole(changes):
    model, params, inputs = network(8, **changes)
    start, advance = calls(model, params)
    found = state_gradients.measure(params, inputs, start, advance)
    assert not any("bound" in name or "excess" in name for name in found)  # none is proved

    def norm(sequence, lag):
        before = start(1, 8) if lag == 8 else advance(sequence[None, : 8 - lag], start(1, 8))
        flat, unravel = jax.flatten_util.ravel_pytree(before)
        last = jax.jacrev(lambda h: jax.flatten_util.ravel_pytree(advance(sequence[None, 8 - lag :], unravel(h)))[0])
        return np.log10(np.linalg.svd(np.asarray(last(flat), np.float64))[1][0])

    for lag in (1, 8):
        expected = np.mean([norm(sequence, lag) for sequence in inputs])
        assert found[f"state_gradient/lag_{lag}"] == pytest.approx(expected, abs=2e-4)


def test_a_linear_network_attains_its_bound_beyond_the_range_of_floats():
    model, params, inputs = network(256, cell="vanilla", activation="relu", recurrent_init="identity")
    params["layer_0"] |= {
        "recurrent_kernel": 0.5 * jnp.eye(5),
        "input_kernel": jnp.zeros((2, 5)),
        "bias": jnp.ones(5),
    }
    found = state_gradients.measure(params, inputs, *calls(model, params))
    assert found["state_gradient/lag_256"] == pytest.approx(256 * np.log10(0.5), rel=1e-5)  # 1e-77
    assert found["state_gradient_excess"] == pytest.approx(0, abs=1e-3)


def test_what_carries_no_state_is_refused(make_trials, images, text, sentences):
    for task, model, message in (
        (images, "mlp", "does not read sequences step by step"),
        (text, "transformer", "whose state does not grow"),
        (sentences, "rnn", "sequences of one length"),
    ):
        (trial,) = make_trials({"diagnostics.state_gradients": True, "model.name": model})
        with pytest.raises(BadInput, match=message):
            diagnostic_columns(trial.config, task)


@pytest.mark.slow
def test_lanes_have_their_own(make_trials):
    (trial,) = make_trials({"diagnostics.state_gradients": True})
    data = adding_problem.Config(length=LENGTH, evaluation_examples=10)
    changes = {"data": data, "model": rnn.Config(cell="vanilla", width=5), "training": Training(steps=1, batch_size=3)}
    config = replace(trial.config, changes)
    trials = [Trial(arm="a", seed=seed, config=config) for seed in (0, 1)]
    for strategy in ("sequential", "vectorised"):
        population = Population(trials, ["optimizer.learning_rate"], load(data, None), strategy)
        states = population.init()
        measured = jax.device_get(population.diagnose(states, 0))
        rows = [population.diagnosed(measured, lane, 0) for lane in (0, 1)]
        kernels = np.asarray(states.params["layer_0"]["recurrent_kernel"])
        for row, kernel in zip(rows, kernels, strict=True):
            assert row["state_gradient_bound/lag_16"] == pytest.approx(
                16 * np.log10(np.linalg.norm(kernel, 2)), abs=1e-4
            )
        assert rows[0]["state_gradient/lag_16"] != rows[1]["state_gradient/lag_16"]
