"""Intermediates by name: the documented ones come, outputs stay as they are, and unasked they cost nothing."""

import sys
from functools import partial

import jax
import numpy as np
import pytest

import models
from models.flops import inner_jaxprs
from models.layers import recording
from tests.models.families import BATCH, FAMILIES, QUICKLY, inputs_of

GATES = {"lstm": {"input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden"}}
GATES["gru"] = {"reset_gate", "update_gate", "candidate", "hidden"}


def below(*prefixes, names):
    return {f"{prefix}/{name}" for prefix in prefixes for name in names}


DOCUMENTED = {
    "cnn": {"stage_0", "stage_1", "hidden_activations"},
    "encoder_decoder": {"encoder/embedded", "decoder/embedded"}
    | below("encoder/block_0", names=["residual", "attention_weights", "feedforward_activations"])
    | below(
        "decoder/block_0",
        names=["residual", "attention_weights", "cross_attention_weights", "feedforward_activations"],
    ),
    "ltsf_linear": {"trend_forecast", "remainder_forecast"},
    "mlp": {"activations_0", "activations_1"},
    "resnet": {f"stage_{i}_block_0{name}" for i in range(3) for name in ("/residual", "_outputs")},
    "rnn": below("layer_0", "layer_1", names=GATES["lstm"]),
    "seq2seq": {"decoder/attention_weights", "decoder/hidden"}
    | below("encoder/layer_0", "encoder/layer_0_backward", names=GATES["gru"]),
    "tcn": {"block_0", "block_1"},
    "text_cnn": {"features"},
    "transformer": {"embedded"}
    | below("block_0", "block_1", names=["residual", "attention_weights", "feedforward_activations"]),
}


def prepared(family):
    config, shapes = FAMILIES[family]
    model, inputs = models.build(config, shapes), inputs_of(shapes)
    variables = jax.eval_shape(model.init, jax.random.key(2), inputs)

    def apply(variables, inputs):
        return model.apply(variables, inputs, train=False, rngs={}, hyperparameters={})[0]

    def inspect(variables, inputs):
        return model.inspect(variables, inputs, hyperparameters={})

    return model, apply, inspect, variables, inputs


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_recorded(family):
    model, apply, inspect, _, inputs = prepared(family)

    @partial(jax.jit, compiler_options=QUICKLY)
    def run(inputs):
        variables = model.init(jax.random.key(2), inputs)
        return inspect(variables, inputs), apply(variables, inputs)

    (outputs, found), expected = run(inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-6)
    assert set(found) == DOCUMENTED[family]
    for name, value in found.items():
        assert value.shape[0] == BATCH, name
        assert np.isfinite(value).all(), name
        assert np.ptp(value) > 0, name
        if name.endswith("attention_weights"):
            assert (value >= 0).all()
            np.testing.assert_allclose(np.sum(value, axis=-1), 1, atol=1e-5)


def equations(value):
    """The number of equations of a jaxpr, those of the loops and calls in it included."""
    return sum(1 + equations(list(equation.params.values())) for each in inner_jaxprs(value) for equation in each.eqns)


@pytest.mark.parametrize("family", FAMILIES)
def test_recording_costs_nothing_unasked(family, monkeypatch):
    """``apply`` is the same program as that of a model whose layers have nothing to record."""
    _, apply, inspect, variables, inputs = prepared(family)

    def size(function):
        return equations(jax.make_jaxpr(function)(variables, inputs))

    ours, asked = size(apply), len(jax.eval_shape(inspect, variables, inputs)[1])
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "models"]:
        if getattr(module, "record", None) is recording.record and module is not recording:
            monkeypatch.setattr(module, "record", lambda *_: None)
    _, apply, inspect, _, _ = prepared(family)
    assert asked > 0 == len(jax.eval_shape(inspect, variables, inputs)[1])
    assert ours == size(apply) > 10
