"""Operation counts against closed forms and, where no loop hides anything, XLA's own analysis."""

import jax
import jax.numpy as jnp
import pytest

from models import Shapes, build, cnn, flops, mlp, rnn

BATCH = 5


def forward(config, shapes):
    model = build(config, shapes)
    inputs = jax.ShapeDtypeStruct((BATCH, *shapes.inputs), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)

    def apply(variables, inputs):
        return model.apply(variables, inputs, train=False, rngs={}, hyperparameters={})[0]

    return apply, variables, inputs


def test_a_perceptron():
    shapes = Shapes(inputs=(6, 4), vocabulary=None, outputs=3, per_position=False)
    assert flops.count(*forward(mlp.Config(depth=2, width=7), shapes)) == 2 * BATCH * (24 * 7 + 7 * 7 + 7 * 3)


def test_the_gradient_of_a_perceptron_costs_twice_its_forward_pass_but_for_the_inputs():
    shapes = Shapes(inputs=(24,), vocabulary=None, outputs=3, per_position=False)
    apply, variables, inputs = forward(mlp.Config(depth=2, width=7), shapes)
    gradient = jax.grad(lambda variables, inputs: (apply(variables, inputs) ** 2).sum())
    first, rest = 24 * 7, 7 * 7 + 7 * 3
    assert flops.count(gradient, variables, inputs) == 2 * BATCH * (2 * first + 3 * rest)


@pytest.mark.parametrize(("cell", "gates"), [("vanilla", 1), ("gru", 3), ("lstm", 4)])
@pytest.mark.parametrize("time", [3, 30])
def test_every_step_of_a_recurrent_network_counts(cell, gates, time):
    shapes = Shapes(inputs=(time, 5), vocabulary=None, outputs=3, per_position=False)
    one_step = gates * (5 * 8 + 8 * 8)
    count = flops.count(*forward(rnn.Config(cell=cell, width=8), shapes))
    assert count == 2 * BATCH * (time * one_step + 8 * 3)


def test_a_convolutional_network():
    """Same padding, 8 x 8 pooled to 4 x 4: every position of every kernel counts, padded ones too."""
    shapes = Shapes(inputs=(8, 8, 2), vocabulary=None, outputs=3, per_position=False)
    apply, variables, inputs = forward(cnn.Config(channels=(4,), kernel_size=3), shapes)
    features = next(leaf.shape[0] for leaf in jax.tree.leaves(variables) if leaf.ndim == 2 and leaf.shape[1] == 3)
    assert flops.count(apply, variables, inputs) == 2 * BATCH * (64 * 9 * 2 * 4 + features * 3)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_convolution_primitive(groups):
    kernel = jax.ShapeDtypeStruct((3, 5, 8 // groups, 6), jnp.float32)
    image = jax.ShapeDtypeStruct((BATCH, 9, 9, 8), jnp.float32)

    def convolve(image, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "VALID", dimension_numbers=dimensions, feature_group_count=groups
        )

    assert flops.count(convolve, image, kernel) == 2 * BATCH * (7 * 5) * 6 * (3 * 5 * 8 / groups)


def test_control_flow():
    x = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    product = 2 * 4**3

    def looped(x):
        return jax.lax.scan(lambda carry, _: (jax.jit(jnp.matmul)(carry, carry), None), x, length=10)[0]

    def branched(x):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x @ x)

    assert flops.count(looped, x) == 10 * product
    assert flops.count(branched, x) == 2 * product
    assert flops.count(jax.vmap(looped), jax.ShapeDtypeStruct((3, 4, 4), jnp.float32)) == 30 * product


def test_what_no_result_depends_on_does_not_count():
    x = jax.ShapeDtypeStruct((4, 4), jnp.float32)

    @jax.jit
    def pair(x):
        return x @ x, (x @ x) @ x

    assert flops.count(lambda x: pair(x)[0], x) == 2 * 4**3
    assert flops.count(lambda x: jax.lax.cond(x[0, 0] > 0, pair, pair, x)[1], x) == 2 * 2 * 4**3


def test_xla_counts_the_same_for_a_perceptron():
    shapes = Shapes(inputs=(64,), vocabulary=None, outputs=16, per_position=False)
    apply, variables, inputs = forward(mlp.Config(depth=2, width=64), shapes)
    analysis = jax.jit(apply).lower(variables, inputs).compile().cost_analysis()
    assert analysis is not None
    ours = flops.count(apply, variables, inputs)
    assert ours <= analysis["flops"] <= 1.05 * ours  # XLA counts biases and rectifiers, too
