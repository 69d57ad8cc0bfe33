"""Parameters by module and operations, against counts by hand and XLA's own."""

import jax
import jax.numpy as jnp
import pytest

from models import BadInput, Shapes, build, cnn, mlp, resnet, rnn, transformer
from models.summary import flops, parameters, xla_flops

BATCH = 5


def model_and_inputs(config, shapes):
    dtype = jnp.float32 if shapes.vocabulary is None else jnp.int32
    return build(config, shapes), jax.ShapeDtypeStruct((BATCH, *shapes.inputs), dtype)


def case_mlp():
    """784 inputs, two hidden layers of 64, 10 logits: a matrix product each."""
    shapes = Shapes(inputs=(28, 28, 1), vocabulary=None, outputs=10, per_position=False)
    products = 784 * 64 + 64 * 64 + 64 * 10
    return mlp.Config(depth=2, width=64), shapes, products, products, 0.01


def case_cnn():
    """16 x 16 x 8: 3 x 3 kernels to 16 channels, pooled to 8 x 8; to 24 channels, pooled to 4 x 4; 10 logits."""
    shapes = Shapes(inputs=(16, 16, 8), vocabulary=None, outputs=10, per_position=False)
    products = 16 * 16 * (3 * 3 * 8) * 16 + 8 * 8 * (3 * 3 * 16) * 24 + (4 * 4 * 24) * 10
    inside = 46 * 46 * 8 * 16 + 22 * 22 * 16 * 24 + (4 * 4 * 24) * 10  # three pixels in sight but for the ends' two
    return cnn.Config(channels=(16, 24)), shapes, products, inside, 0.05


def case_transformer():
    """16 tokens of 100, 64 wide, 2 blocks: four projections, scores and means for every pair, a perceptron."""
    shapes = Shapes(inputs=(16,), vocabulary=100, outputs=100, per_position=True, causal=True)
    projections, pairs, perceptron = 4 * 64 * 64, 2 * 16 * 64, 2 * 64 * 256
    products = 16 * (2 * (projections + pairs + perceptron) + 64 * 100)
    return transformer.Config(width=64, depth=2, heads=4, feedforward=256), shapes, products, products, 0.05


def case_resnet():
    """Stem 3 -> 7, then two 3 x 3 convolutions a stage, at 32 x 32, 16 x 16 and 8 x 8; 10 logits."""
    shapes = Shapes(inputs=(32, 32, 3), vocabulary=None, outputs=10, per_position=False)
    stem, first = 32 * 32 * 27 * 7, 32 * 32 * 9 * (7 * 7 + 7 * 7)
    second, third = 16 * 16 * 9 * (7 * 14 + 14 * 14), 8 * 8 * 9 * (14 * 28 + 28 * 28)
    inside = (
        94 * 94 * (3 * 7 + 2 * 7 * 7) + 47 * 47 * 7 * 14 + 46 * 46 * 14 * 14 + 23 * 23 * 14 * 28 + 22 * 22 * 28 * 28
    )
    return resnet.Config(depth=8, width=7), shapes, stem + first + second + third + 28 * 10, inside + 28 * 10, 0.1


@pytest.mark.parametrize("case", [case_mlp, case_cnn, case_transformer, case_resnet])
def test_operations(case):
    """Ours are those of the products alone; XLA's have the element-wise work in them, and no products with padding."""
    config, shapes, products, inside, elementwise = case()
    arguments = model_and_inputs(config, shapes)
    assert flops(*arguments) == 2 * BATCH * products
    assert 2 * BATCH * inside <= xla_flops(*arguments) <= (1 + elementwise) * 2 * BATCH * inside


def test_the_form_of_a_convolution_does_not_matter():
    """On CPU those of many channels are Winograd's, with 4 products for 9, and others are machine code."""
    for channels in (64, 16, 7):
        shapes = Shapes(inputs=(32, 32, channels), vocabulary=None, outputs=10, per_position=False)
        arguments = model_and_inputs(cnn.Config(channels=(channels,)), shapes)
        head = 16 * 16 * channels * 10
        assert flops(*arguments) == 2 * BATCH * (32 * 32 * 9 * channels**2 + head)
        assert 1 < xla_flops(*arguments) / (2 * BATCH * (94 * 94 * channels**2 + head)) < 1.1


@pytest.mark.parametrize("time", [1, 7, 40])
def test_operations_of_a_recurrent_network(time):
    """20 features to 4 gates of 32 units, 32 units to the gates again, at every step; 3 logits at the end."""
    shapes = Shapes(inputs=(time, 20), vocabulary=None, outputs=3, per_position=False)
    arguments = model_and_inputs(rnn.Config(cell="lstm", width=32), shapes)
    assert flops(*arguments) == 2 * BATCH * (time * (20 * 4 * 32 + 32 * 4 * 32) + 32 * 3)


def test_xla_counts_the_body_of_a_loop_once():
    """The reason why there are two counts. The products with the inputs stand before the loop."""

    def counts(time):
        shapes = Shapes(inputs=(time, 20), vocabulary=None, outputs=3, per_position=False)
        arguments = model_and_inputs(rnn.Config(cell="lstm", width=32), shapes)
        return flops(*arguments), xla_flops(*arguments)

    ours, xla = counts(40)
    assert ours == 2 * BATCH * (40 * (20 * 128 + 32 * 128) + 32 * 3)
    once = 2 * BATCH * (40 * 20 * 128 + 32 * 128 + 32 * 3)
    assert once <= xla <= 1.15 * once < 0.6 * ours


def test_parameters_by_module():
    shapes = Shapes(inputs=(16,), vocabulary=100, outputs=50, per_position=True, causal=True)
    config = transformer.Config(width=8, depth=2, heads=2, feedforward=32)
    model, inputs = model_and_inputs(config, shapes)
    norm, attention = 2 * 8, {"queries_keys_values": 8 * 24 + 24, "attention_out": 8 * 8 + 8}
    perceptron = {"feedforward_in": 8 * 32 + 32, "feedforward_out": 32 * 8 + 8}
    block = {"norm_1": norm, **attention, "norm_2": norm, **perceptron}
    whole = {"positions": 16 * 8, "tokens": 100 * 8, "norm": norm, "logits": 8 * 50}
    by_path = {f"block_{i}/{name}": size for i in range(2) for name, size in block.items()}
    assert parameters(model, inputs) == whole | by_path
    blocks = {f"block_{i}": sum(block.values()) for i in range(2)}
    assert parameters(model, inputs, depth=1) == whole | blocks
    assert parameters(model, inputs, depth=2) == whole | by_path
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    assert sum(parameters(model, inputs).values()) == sum(leaf.size for leaf in jax.tree.leaves(variables))


def test_running_statistics_are_no_parameters():
    shapes = Shapes(inputs=(6,), vocabulary=None, outputs=3, per_position=False)
    model, inputs = model_and_inputs(mlp.Config(width=4, normalisation="batch"), shapes)
    counts = parameters(model, inputs)
    assert sum(counts.values()) == 6 * 4 + 4 + 2 * 4 + 4 * 3 + 3


def test_nothing_is_allocated():
    """A layer of a terabyte is counted, too, and inputs may be arrays."""
    shapes = Shapes(inputs=(500_000,), vocabulary=None, outputs=3, per_position=False)
    model, inputs = model_and_inputs(mlp.Config(depth=1, width=500_000), shapes)
    assert sum(parameters(model, inputs).values()) == 500_000 * 500_000 + 500_000 + 3 * 500_000 + 3
    assert flops(model, inputs) == 2 * BATCH * (500_000 * 500_000 + 3 * 500_000)
    small = build(mlp.Config(width=4), Shapes(inputs=(6,), vocabulary=None, outputs=3, per_position=False))
    assert sum(parameters(small, jnp.zeros((1, 6))).values()) == 6 * 4 + 4 + 4 * 3 + 3


def test_bad_depth():
    shapes = Shapes(inputs=(6,), vocabulary=None, outputs=3, per_position=False)
    with pytest.raises(BadInput, match="depth=0 must be at least 1"):
        parameters(*model_and_inputs(mlp.Config(), shapes), depth=0)
