"""The convolutional network against PyTorch; parameter counts, dropout and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, cnn

IMAGES = Shapes(inputs=(9, 8, 2), vocabulary=None, outputs=4, per_position=False)


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@functools.cache
def make(config, shapes=IMAGES):
    model = build(config, shapes)
    x = draw(0, 6, *shapes.inputs)
    return model, jax.jit(model.init)(jax.random.key(0), x), x


def logits(model, variables, x, *, train=False, key=None, **hyperparameters):
    rngs = {} if key is None else {"dropout": key}
    return model.apply(variables, x, train=train, rngs=rngs, hyperparameters=hyperparameters)[0]


@pytest.mark.parametrize("width", [0, 7])
@pytest.mark.parametrize(("channels", "kernel_size"), [((3,), 5), ((3, 5), 3), ((3, 5, 6), 2)])
def test_parameter_count(channels, kernel_size, width):
    model = build(cnn.Config(channels=channels, kernel_size=kernel_size, width=width), IMAGES)
    variables = jax.eval_shape(model.init, jax.random.key(0), draw(0, 1, *IMAGES.inputs))
    pairs = zip((2, *channels), channels, strict=False)
    convolutions = sum((kernel_size**2 * before + 1) * after for before, after in pairs)
    features = (9 >> len(channels)) * (8 >> len(channels)) * channels[-1]
    dense = (features + 1) * width + (width + 1) * 4 if width else (features + 1) * 4
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == convolutions + dense


def test_evaluation_ignores_dropout():
    model, variables, x = make(cnn.Config(channels=(2,), dropout_rate=0.5, width=8))
    np.testing.assert_array_equal(logits(model, variables, x), logits(model, variables, x, dropout_rate=0.9))


def test_hyperparameter_overrides_config_and_zero_is_bit_identical():
    model, variables, x = make(cnn.Config(channels=(2,), dropout_rate=0.5, width=8))
    key = jax.random.key(1)
    dropped = logits(model, variables, x, train=True, key=key)
    kept = logits(model, variables, x, train=True, key=key, dropout_rate=jnp.float32(0.0))
    assert (dropped != kept).any()
    np.testing.assert_array_equal(kept, logits(model, variables, x))


def test_without_dropout_nothing_random_is_traced():
    model, variables, x = make(cnn.Config(channels=(2,)))
    assert "random" not in str(jax.make_jaxpr(lambda v, x: logits(model, v, x, train=True))(variables, x))


def test_vmapped_trials_are_solo_trials():
    model, _, x = make(cnn.Config(channels=(2, 3)))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    many = jax.tree.map(lambda leaf: draw(leaf.size, 3, *leaf.shape), shapes)
    gradient = jax.grad(lambda variables: jnp.sin(logits(model, variables, x)).sum())
    together = jax.jit(jax.vmap(gradient))(many)
    solo = jax.jit(gradient)
    for lane in range(3):
        alone = solo(jax.tree.map(lambda a, lane=lane: a[lane], many))
        jax.tree.map(
            lambda a, b, lane=lane: np.testing.assert_allclose(a[lane], b, rtol=1e-4, atol=1e-5), together, alone
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": 9, "inputs": (5,)}, "tokens; rnn and transformer"),
        ({"inputs": (30,)}, r"\(30,\); mlp"),
        ({"per_position": True}, "position; rnn and transformer"),
        ({"inputs": (3, 8, 1)}, "at least 4x4 pixels.*3x8"),
    ],
)
def test_refuses_what_it_cannot_take(change, message):
    shapes = Shapes(**({"inputs": (9, 8, 2), "vocabulary": None, "outputs": 4, "per_position": False} | change))
    with pytest.raises(BadInput, match=message):
        build(cnn.Config(channels=(2, 2)), shapes)


@pytest.mark.parametrize(
    "fields", [{"channels": ()}, {"channels": (4, 0)}, {"kernel_size": 0}, {"width": -1}, {"dropout_rate": 1.0}]
)
def test_refuses_bad_fields(fields):
    with pytest.raises(BadInput, match=next(iter(fields))):
        cnn.Config(**fields)


@pytest.mark.reference
@pytest.mark.parametrize("x64", [False, True])
def test_matches_torch(x64):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    labels = np.arange(6) % 4
    with jax.enable_x64(x64):
        model, variables, x = make.__wrapped__(cnn.Config(channels=(3, 5), width=7))

        def loss(variables):
            return -jnp.mean(jax.nn.log_softmax(logits(model, variables, x))[np.arange(6), labels])

        outputs = np.asarray(jax.jit(lambda v: logits(model, v, x))(variables))
        gradients = jax.tree.map(np.asarray, jax.jit(jax.grad(loss))(variables)["params"])
    params = jax.tree.map(np.asarray, variables["params"])
    # PyTorch flattens channels before pixels.
    from_torch = np.arange(2 * 2 * 5).reshape(5, 2, 2).transpose(1, 2, 0).reshape(-1)

    def as_torch(name, kernel):
        if name.startswith("conv"):
            return kernel.transpose(3, 2, 0, 1)
        return kernel[np.argsort(from_torch)].T if name == "hidden" else kernel.T

    layers = {
        "conv_0": torch.nn.Conv2d(2, 3, 3, padding=1),
        "conv_1": torch.nn.Conv2d(3, 5, 3, padding=1),
        "hidden": torch.nn.Linear(20, 7),
        "logits": torch.nn.Linear(7, 4),
    }
    stages = [step for name in ("conv_0", "conv_1") for step in (layers[name], torch.nn.ReLU(), torch.nn.MaxPool2d(2))]
    network = torch.nn.Sequential(*stages, torch.nn.Flatten(), layers["hidden"], torch.nn.ReLU(), layers["logits"]).to(
        torch.float64 if x64 else torch.float32
    )
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(torch.tensor(as_torch(name, params[name]["kernel"]).copy()))
            layer.bias.copy_(torch.tensor(params[name]["bias"]))
    reference = network(torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy()))
    torch.nn.functional.cross_entropy(reference, torch.tensor(labels)).backward()
    tolerance = 1e-10 if x64 else 1e-5
    np.testing.assert_allclose(outputs, reference.detach().numpy(), rtol=tolerance, atol=tolerance)
    for name, layer in layers.items():
        gradient = gradients[name]
        for mine, tensor in ((as_torch(name, gradient["kernel"]), layer.weight), (gradient["bias"], layer.bias)):
            expected = tensor.grad.numpy()
            np.testing.assert_allclose(mine, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
