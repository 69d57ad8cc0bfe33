"""The longest chain of dependent products, against counts by hand and against the longest way through a graph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models import Shapes, chains, rnn, tcn, transformer

SQUARE = jax.ShapeDtypeStruct((3, 3), jnp.float32)


def longest(function, *arguments) -> int:
    return chains.longest(jax.make_jaxpr(function)(*(arguments or (SQUARE,))))


def looped(rounds):
    def step(carry, _):
        first, second = carry
        # Two states that take turns: a product every other round on each way.
        return (second, first @ first), second @ first

    return lambda x: jax.lax.scan(step, (x, x), None, length=rounds)


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (lambda x: x + 1, 0),
        (lambda x: (x @ x) @ x, 2),
        (lambda x: (x @ x) + (x @ x @ x), 2),
        (lambda x: (x @ x @ x, x)[1], 0),
        (lambda x: jax.jit(lambda y: (y @ y, y))(x @ x)[0], 2),
        (lambda x: jax.jit(lambda y, z: (y @ y @ y, z))(x, x @ x)[1], 1),
        (lambda x: jax.lax.cond((x @ x)[0, 0] > 0, lambda y: y @ y @ y, lambda y: y, x), 3),
        (lambda x: jax.lax.scan(lambda carry, _: (carry @ carry, None), x, None, length=5)[0], 5),
        (lambda x: jax.lax.scan(lambda carry, at: (carry, at @ x), x, jnp.ones((5, 3, 3)))[1], 1),
        (lambda x: jax.lax.map(lambda y: y @ y, jnp.ones((7, 3, 3))), 1),
        (jax.checkpoint(lambda x: x @ x @ x), 2),
    ],
)
def test_chains_counted_by_hand(function, products):
    assert longest(function) == products


@pytest.mark.parametrize("rounds", [1, 2, 3, 8])
def test_a_scan_is_the_same_loop_written_out(rounds):
    def unrolled(x):
        first, second, out = x, x, []
        for _ in range(rounds):
            first, second, y = second, first @ first, second @ first
            out.append(y)
        return first, second, out

    assert longest(looped(rounds)) == longest(unrolled)


def test_against_the_longest_way_through_a_random_graph():
    random = np.random.default_rng(0)
    parents = [sorted(random.choice(node, size=min(node, 2), replace=False).tolist()) for node in range(1, 30)]

    def graph(x):
        values = [x]
        for chosen in parents:
            values.append(values[chosen[0]] @ values[chosen[-1]])
        return values[-1]

    depth = [0]
    for chosen in parents:
        depth.append(1 + max(depth[parent] for parent in chosen))
    assert longest(graph) == depth[-1]


def _forward(config, time):
    shapes = Shapes(inputs=(time,), vocabulary=5, outputs=5, per_position=True, causal=True)
    model = models.build(config, shapes)
    tokens = jax.ShapeDtypeStruct((2, time), jnp.int32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((2, time), jnp.int32)))

    def apply(variables, tokens):
        return model.apply(variables, tokens, train=False, rngs={}, hyperparameters={})[0]

    return longest(apply, variables, tokens)


@pytest.mark.parametrize("cell", ["vanilla", "gru", "lstm"])
def test_recurrence_has_a_chain_as_long_as_its_sequence(cell):
    # The first step's inputs, a product with the state at each of the others, and the logits.
    assert [_forward(rnn.Config(cell=cell, width=4), time) for time in (8, 32)] == [1 + 7 + 1, 1 + 31 + 1]


def test_attention_and_convolution_have_chains_that_do_not_grow():
    # Projection, scores, mixing, output, two of the perceptron, logits.
    block = transformer.Config(width=4, depth=1, heads=2, feedforward=4)
    assert [_forward(block, time) for time in (8, 32)] == [7, 7]
    network = tcn.Config()
    assert _forward(network, 8) == _forward(network, 32)
