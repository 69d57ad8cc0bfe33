"""The perceptron against PyTorch; parameter counts, initialisation, dropout and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, mlp
from models.inputs import Padded

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


def test_layers_of_different_widths():
    model = build(mlp.Config(depth=9, widths=(3, 7)), IMAGES)
    variables = jax.eval_shape(model.init, jax.random.key(0), draw(0, 1, *IMAGES.inputs))
    shapes = {name: leaves["kernel"].shape for name, leaves in variables["params"].items()}
    assert shapes == {"hidden_0": (60, 3), "hidden_1": (3, 7), "logits": (7, 4)}


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
    "fields",
    [
        {"depth": -1},
        {"normalisation": "layer", "depth": 0},
        {"residual": True, "depth": 0},
        {"dropout_rate": 0.1, "depth": 0},
        {"width": 0},
        {"activation": "swish"},
        {"dropout_rate": 1.0},
        {"dropout_rate": -0.1},
        {"normalisation": "instance"},
        {"norm_groups": 3, "normalisation": "group", "width": 8},
        {"scaled_branches": True},
        {"widths": (8, 0)},
        {"residual": True, "widths": (8, 4)},
        {"prenormalisation": True, "residual": True},
        {"prenormalisation": True, "normalisation": "layer"},
    ],
)
def test_refuses_bad_fields(fields):
    with pytest.raises(BadInput, match=next(iter(fields))):
        mlp.Config(**fields)


def test_depth_0_is_the_linear_model():
    """Logits ``x W + b``; the gradients of half their squares' sum are ``x^T y`` and the sum of y."""
    with jax.enable_x64(True):
        model, variables, x = make.__wrapped__(mlp.Config(depth=0))
        kernel, bias = np.asarray(variables["params"]["logits"]["kernel"]), np.array([0.5, -1, 2, 0])
        assert count(variables) == 60 * 4 + 4
        np.testing.assert_allclose(kernel.var(), 1 / 60, rtol=0.3)
        params = {"logits": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
        rows = np.asarray(x).reshape(8, 60)
        expected = np.einsum("ni,io->no", rows, kernel) + bias
        outputs, pull = jax.vjp(lambda p: logits(model, {"params": p}, x, train=True), params)
        np.testing.assert_allclose(outputs, expected, rtol=1e-12)
        gradient = pull(outputs)[0]["logits"]
        np.testing.assert_allclose(gradient["kernel"], np.einsum("ni,no->io", rows, expected), rtol=1e-10)
        np.testing.assert_allclose(gradient["bias"], expected.sum(0), rtol=1e-12)


def test_what_stands_in_padding_has_no_effect():
    mask = jnp.asarray(np.arange(5)[None] < np.array([5, 2, 1])[:, None])
    x = draw(1, 3, 5, 2)
    model = build(mlp.Config(width=8), Shapes(inputs=(5, 2), vocabulary=None, outputs=4, per_position=False))
    zeros = jnp.where(mask[:, :, None], x, 0)
    variables = model.init(jax.random.key(0), zeros)
    expected = logits(model, variables, zeros)
    np.testing.assert_array_equal(
        logits(model, variables, Padded(jnp.where(mask[:, :, None], x, jnp.nan), mask)), expected
    )


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


@pytest.mark.reference
@pytest.mark.parametrize("normalisation", ["batch", "layer", "group"])
@pytest.mark.parametrize("x64", [False, True])
def test_normalised_residual_layers_match_torch(normalisation, x64):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    config = mlp.Config(depth=3, width=16, normalisation=normalisation, norm_groups=4, norm_momentum=0.8, residual=True)
    with jax.enable_x64(x64):
        model = build(config, IMAGES)
        x = draw(0, 8, *IMAGES.inputs)
        variables = jax.jit(model.init)(jax.random.key(0), x)
        dtype = "float64" if x64 else "float32"
        variables = jax.tree.map(lambda leaf: jnp.asarray(draw(leaf.size, *leaf.shape) * 0.3, dtype), variables)
        if normalisation == "batch":
            variables["batch_stats"] = jax.tree.map(jnp.ones_like, variables["batch_stats"])

        def loss(params):
            outputs, stats = model.apply({**variables, "params": params}, x, train=True, rngs={}, hyperparameters={})
            return jnp.mean(jnp.square(outputs)), (outputs, stats)

        gradients, (outputs, stats) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    kinds = {
        "batch": lambda: torch.nn.BatchNorm1d(16, momentum=0.2),
        "layer": lambda: torch.nn.LayerNorm(16),
        "group": lambda: torch.nn.GroupNorm(4, 16),
    }
    params = variables["params"]
    dense = {name: torch.nn.Linear(*leaves["kernel"].shape) for name, leaves in params.items() if "kernel" in leaves}
    norms = {f"norm_{i}": kinds[normalisation]() for i in range(3)}
    kind = torch.float64 if x64 else torch.float32
    for name, module in {**dense, **norms}.items():
        module.to(kind)
        with torch.no_grad():
            weight = np.asarray(params[name]["kernel"]).T if name in dense else np.asarray(params[name]["scale"])
            module.weight.copy_(torch.tensor(weight.copy()))
            module.bias.copy_(torch.tensor(np.asarray(params[name]["bias"]).copy()))
            if normalisation == "batch" and name in norms:
                module.running_mean.fill_(1)
    h = torch.tensor(np.asarray(x)).reshape(8, -1)
    for i in range(3):
        new = torch.relu(norms[f"norm_{i}"](dense[f"hidden_{i}"](h)))
        h = h + new if i else new
    reference = dense["logits"](h)
    reference.square().mean().backward()
    tolerance = 1e-10 if x64 else 1e-5

    def close(mine, expected):
        np.testing.assert_allclose(mine, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())

    close(outputs, reference.detach().numpy())
    # The bias before a batch normalisation has gradient zero, so the scale of the kernel's is the measure.
    for name, module in {**dense, **norms}.items():
        weight = gradients[name]["kernel"].T if name in dense else gradients[name]["scale"]
        close(weight, module.weight.grad.numpy())
        np.testing.assert_allclose(
            gradients[name]["bias"], module.bias.grad.numpy(), atol=tolerance * np.abs(module.weight.grad.numpy()).max()
        )
        if normalisation == "batch" and name in norms:
            close(stats[name]["mean"], module.running_mean.numpy())
            close(stats[name]["var"], module.running_var.numpy())


def test_prenormalised_and_scaled_branches_are_the_formula():
    """``h + relu(W norm(h) + b) / sqrt(depth)``, and logits of the normalised sum, in NumPy."""
    config = mlp.Config(
        depth=3, width=16, normalisation="layer", residual=True, prenormalisation=True, scaled_branches=True
    )
    with jax.enable_x64(True):
        model, variables, x = make.__wrapped__(config)
        params = jax.tree.map(lambda leaf: draw(leaf.size, *leaf.shape), variables["params"])
        outputs = logits(model, {"params": params}, x)
    params = jax.tree.map(np.asarray, params)

    def dense(name, h):
        return h @ params[name]["kernel"] + params[name]["bias"]

    def norm(name, h):
        centred = h - h.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        return scaled * params[name]["scale"] + params[name]["bias"]

    h = np.maximum(dense("hidden_0", np.asarray(x).reshape(8, -1)), 0)
    for i in (1, 2):
        h = h + np.maximum(dense(f"hidden_{i}", norm(f"norm_{i}", h)), 0) / np.sqrt(3)
    np.testing.assert_allclose(outputs, dense("logits", norm("norm_logits", h)), rtol=1e-9, atol=1e-9)
    assert set(params) == {*(f"hidden_{i}" for i in range(3)), "norm_1", "norm_2", "norm_logits", "logits"}


def test_dropout_of_the_inputs_drops_inputs():
    """A linear map of ones in which every input has a weight of its own: what is dropped is known from the sum."""
    model = build(mlp.Config(depth=0, input_dropout_rate=0.25), IMAGES)
    kernel = np.zeros((60, 4), np.float32)
    kernel[:15, 0] = kernel[15:30, 1] = kernel[30:45, 2] = kernel[45:, 3] = 2.0 ** np.arange(15)
    params = {"params": {"logits": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(4)}}}
    outputs = logits(model, params, jnp.ones((64, *IMAGES.inputs)), train=True, key=jax.random.key(3))
    codes = np.rint(np.asarray(outputs, np.float64) * 0.75).astype(int)
    kept = ((codes[..., None] >> np.arange(15)) & 1).mean()
    assert abs(kept - 0.75) < 0.03
    assert len(np.unique(codes[:, 0])) > 30
    np.testing.assert_array_equal(logits(model, params, jnp.ones((1, *IMAGES.inputs)))[0], np.full(4, 2.0**15 - 1))


@pytest.mark.slow
def test_bfloat16_is_near_and_its_gradients_have_32_bits():
    config = mlp.Config(depth=2, width=32, normalisation="layer")
    wide, narrow = build(config, IMAGES), build(config, IMAGES, compute_dtype="bfloat16")
    x = draw(0, 8, *IMAGES.inputs)
    variables = jax.jit(wide.init)(jax.random.key(0), x)
    exact, rounded = (jax.jit(lambda v, m=m: logits(m, v, x))(variables) for m in (wide, narrow))
    assert rounded.dtype == jnp.float32
    error = jnp.linalg.norm(exact - rounded) / jnp.linalg.norm(exact)
    assert 0 < error < 3e-2
    gradients = jax.jit(jax.grad(lambda v: jnp.sum(logits(narrow, v, x) ** 2)))(variables)
    assert all(leaf.dtype == jnp.float32 and jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
