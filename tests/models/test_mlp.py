"""The perceptron against PyTorch; parameter counts, initialisation, dropout and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, mlp

IMAGES = Shapes(inputs=(6, 5, 2), vocabulary=None, outputs=4, per_position=False)


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@functools.cache
def make(config, shapes=IMAGES):
    model = build(config, shapes)
    x = draw(0, 8, *shapes.inputs)
    return model, jax.jit(model.init)(jax.random.key(0), x), x


def logits(model, variables, x, *, train=False, key=None, **hyperparameters):
    rngs = {} if key is None else {"dropout": key}
    return model.apply(variables, x, train=train, rngs=rngs, hyperparameters=hyperparameters)[0]


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("depth", "width"), [(1, 3), (3, 7)])
def test_parameter_count(depth, width):
    model = build(mlp.Config(depth=depth, width=width), IMAGES)
    variables = jax.eval_shape(model.init, jax.random.key(0), draw(0, 1, *IMAGES.inputs))
    assert count(variables) == (60 + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * 4


@pytest.mark.parametrize(("activation", "gain"), [("relu", 2), ("gelu", 2), ("tanh", 1)])
def test_initial_variances(activation, gain):
    _, variables, _ = make(mlp.Config(depth=1, width=400, activation=activation))
    params = variables["params"]
    np.testing.assert_allclose(params["hidden_0"]["kernel"].var(), gain / 60, rtol=0.05)
    np.testing.assert_allclose(params["logits"]["kernel"].var(), 1 / 400, rtol=0.15)
    assert not params["hidden_0"]["bias"].any()
    assert not params["logits"]["bias"].any()


def test_evaluation_ignores_dropout():
    model, variables, x = make(mlp.Config(dropout_rate=0.5))
    np.testing.assert_array_equal(logits(model, variables, x), logits(model, variables, x, dropout_rate=0.9))


def test_hyperparameter_overrides_config_and_zero_is_bit_identical():
    model, variables, x = make(mlp.Config(dropout_rate=0.5))
    key = jax.random.key(1)
    dropped = logits(model, variables, x, train=True, key=key)
    kept = logits(model, variables, x, train=True, key=key, dropout_rate=jnp.float32(0.0))
    assert (dropped != kept).any()
    np.testing.assert_array_equal(kept, logits(model, variables, x))


def test_without_dropout_nothing_random_is_traced():
    model, variables, x = make(mlp.Config())
    assert "random" not in str(jax.make_jaxpr(lambda v, x: logits(model, v, x, train=True))(variables, x))


@pytest.mark.parametrize(
    ("change", "word"), [({"vocabulary": 9, "inputs": (5,)}, "tokens"), ({"per_position": True}, "position")]
)
def test_refuses_what_it_cannot_take(change, word):
    shapes = Shapes(**({"inputs": (6, 5, 2), "vocabulary": None, "outputs": 4, "per_position": False} | change))
    with pytest.raises(BadInput, match=f"mlp.*{word}.*rnn and transformer"):
        build(mlp.Config(), shapes)


@pytest.mark.parametrize(
    "fields", [{"depth": 0}, {"width": 0}, {"activation": "swish"}, {"dropout_rate": 1.0}, {"dropout_rate": -0.1}]
)
def test_refuses_bad_fields(fields):
    with pytest.raises(BadInput, match=next(iter(fields))):
        mlp.Config(**fields)


@pytest.mark.reference
@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
@pytest.mark.parametrize("x64", [False, True])
def test_matches_torch(activation, x64):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    labels = np.arange(8) % 4
    with jax.enable_x64(x64):
        model, variables, x = make.__wrapped__(mlp.Config(depth=2, width=16, activation=activation))

        def loss(variables):
            return -jnp.mean(jax.nn.log_softmax(logits(model, variables, x))[np.arange(8), labels])

        outputs = np.asarray(jax.jit(lambda v: logits(model, v, x))(variables))
        gradients = jax.tree.map(np.asarray, jax.jit(jax.grad(loss))(variables)["params"])
    nonlinearity = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "tanh": torch.nn.Tanh}[activation]
    names = ["hidden_0", "hidden_1", "logits"]
    layers = [torch.nn.Linear(*variables["params"][name]["kernel"].shape) for name in names]
    network = torch.nn.Sequential(torch.nn.Flatten(), layers[0], nonlinearity(), layers[1], nonlinearity(), layers[2])
    network.to(torch.float64 if x64 else torch.float32)
    with torch.no_grad():
        for name, layer in zip(names, layers, strict=True):
            layer.weight.copy_(torch.tensor(np.asarray(variables["params"][name]["kernel"]).T.copy()))
            layer.bias.copy_(torch.tensor(np.asarray(variables["params"][name]["bias"])))
    reference = network(torch.tensor(np.asarray(x)))
    torch.nn.functional.cross_entropy(reference, torch.tensor(labels)).backward()
    tolerance = 1e-10 if x64 else 1e-5
    np.testing.assert_allclose(outputs, reference.detach().numpy(), rtol=tolerance, atol=tolerance)
    for name, layer in zip(names, layers, strict=True):
        for mine, tensor in ((gradients[name]["kernel"].T, layer.weight), (gradients[name]["bias"], layer.bias)):
            expected = tensor.grad.numpy()
            np.testing.assert_allclose(mine, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
