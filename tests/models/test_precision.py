"""Computation in 16 bits with parameters in 32: what comes out in which format, and how far off it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from tests.models.families import FAMILIES, QUICKLY, inputs_of

# Half a unit in the last place: 2**-9 and 2**-12. Outputs may be off by a few of them a layer.
OUTPUT_ERROR = {"bfloat16": 0.03, "float16": 0.004}
GRADIENT_ERROR = {"bfloat16": 0.1, "float16": 0.015}


@functools.cache
def trained_once(family, dtype):
    """Outputs, the gradient of a loss and the running statistics."""
    config, shapes = FAMILIES[family]
    model = models.build(config, shapes, compute_dtype=dtype)
    inputs = inputs_of(shapes)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(inputs):
        variables = model.init(jax.random.key(2), inputs)
        rest = {name: value for name, value in variables.items() if name != "params"}

        def loss(params):
            outputs, statistics = model.apply(
                {**rest, "params": params}, inputs, train=True, rngs={}, hyperparameters={}
            )
            wanted = jax.random.normal(jax.random.key(3), outputs.shape)
            return jnp.mean(wanted * jax.nn.log_softmax(outputs)), (outputs, statistics)

        return variables, *jax.grad(loss, has_aux=True)(variables["params"])

    return run(inputs)


def distance(tree, reference):
    """The relative distance of two trees as vectors."""
    pairs = list(zip(*(map(np.asarray, jax.tree.leaves(part)) for part in (tree, reference)), strict=True))
    return np.sqrt(sum(((a - b) ** 2).sum() for a, b in pairs) / sum((b**2).sum() for _, b in pairs))


def test_every_family_is_tested():
    assert set(FAMILIES) == set(models.names())


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_sixteen_bits(family, dtype, monkeypatch):
    """Rectifiers are made smooth: where rounding moves a unit across zero, the gradient jumps.

    With rectifiers the gradients of these residual networks are off by 0.14 (bfloat16) and 0.06 (float16),
    with softplus by 0.016 and 0.002; the outputs hardly differ in that.
    """
    monkeypatch.setattr(jax.nn, "relu", jax.nn.softplus)
    variables, gradients, (outputs, statistics) = trained_once(family, dtype)
    _, exact_gradients, (exact, exact_statistics) = trained_once(family, "float32")
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, gradients, outputs, statistics))} == {np.dtype("f4")}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, outputs, statistics)))
    assert 0 < distance(outputs, exact) < OUTPUT_ERROR[dtype]
    assert 0 < distance(gradients, exact_gradients) < GRADIENT_ERROR[dtype]
    if statistics:
        assert distance(statistics, exact_statistics) < OUTPUT_ERROR[dtype]
