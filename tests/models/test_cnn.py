"""The convolutional network against PyTorch; parameter counts, dropout and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, cnn
from models.inputs import Padded
from tests.models.torch_weights import assert_close, load, paths, tensors

IMAGES = Shapes(inputs=(9, 8, 2), vocabulary=None, outputs=4, per_position=False)
SQUARES = Shapes(inputs=(11, 11, 2), vocabulary=None, outputs=4, per_position=False)
SIGNALS = Shapes(inputs=(13, 2), vocabulary=None, outputs=4, per_position=False)


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


def test_parameter_counts_of_the_papers():
    """LeNet-5 with every map connected, and the 138 M of VGG's network D (Simonyan and Zisserman, table 2)."""
    digits = Shapes(inputs=(32, 32, 1), vocabulary=None, outputs=10, per_position=False)
    lenet = cnn.Config(
        channels=(6, 16), kernel_size=5, padding="valid", pooling="average", width=120, further_widths=(84,)
    )
    imagenet = Shapes(inputs=(224, 224, 3), vocabulary=None, outputs=1000, per_position=False)
    vgg = cnn.Config(
        channels=(64, 128, 256, 512, 512), convolutions=(2, 2, 3, 3, 3), width=4096, further_widths=(4096,)
    )
    for config, shapes, expected in ((lenet, digits, 61_706), (vgg, imagenet, 138_357_544)):
        images = jax.ShapeDtypeStruct((1, *shapes.inputs), jnp.float32)
        variables = jax.eval_shape(build(config, shapes).init, jax.random.key(0), images)
        assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == expected


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


@pytest.mark.slow
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
        ({"inputs": (3, 1)}, "signals of at least 4 points; signals of this task have 3"),
    ],
)
def test_refuses_what_it_cannot_take(change, message):
    shapes = Shapes(**({"inputs": (9, 8, 2), "vocabulary": None, "outputs": 4, "per_position": False} | change))
    with pytest.raises(BadInput, match=message):
        build(cnn.Config(channels=(2, 2)), shapes)


@pytest.mark.parametrize(
    ("padding", "pooling", "stride", "smallest"),
    [("valid", "max", 1, 20), ("valid", "none", 1, 13), ("same", "max", 1, 4), ("valid", "none", 3, 29)],
)
def test_the_smallest_image_leaves_one_pixel(padding, pooling, stride, smallest):
    config = cnn.Config(
        channels=(2, 2), convolutions=(2, 1), kernel_size=5, padding=padding, pooling=pooling, stride=stride
    )
    shapes = Shapes(inputs=(smallest, smallest, 1), vocabulary=None, outputs=4, per_position=False)
    images = jax.ShapeDtypeStruct((1, *shapes.inputs), jnp.float32)
    params = jax.eval_shape(build(config, shapes).init, jax.random.key(0), images)["params"]
    assert params["logits"]["kernel"].shape == (2, 4)
    with pytest.raises(BadInput, match=f"at least {smallest}x{smallest} pixels.*{smallest}x{smallest - 1}"):
        build(config, Shapes(inputs=(smallest, smallest - 1, 1), vocabulary=None, outputs=4, per_position=False))


@pytest.mark.parametrize(
    "fields",
    [
        {"channels": ()},
        {"channels": (4, 0)},
        {"kernel_size": 0},
        {"kernel_size": (3, 3, 3)},
        {"pool_size": 1},
        {"width": -1},
        {"dropout_rate": 1.0},
        {"convolutions": (1, 2, 3)},
        {"further_widths": (3,)},
        {"norm_groups": 5, "normalisation": "group"},
    ],
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


VARIANTS = {
    "lenet": cnn.Config(
        channels=(3, 4),
        kernel_size=3,
        padding="valid",
        pooling="average",
        activation="tanh",
        width=6,
        further_widths=(5,),
    ),
    "vgg": cnn.Config(channels=(4, 6), convolutions=(2, 1), normalisation="batch", width=6, further_widths=(5, 3)),
    "global": cnn.Config(
        channels=(4, 6),
        convolutions=(1, 2),
        normalisation="group",
        norm_groups=2,
        activation="gelu",
        global_pooling=True,
    ),
    "unpooled": cnn.Config(channels=(3, 2), pooling="none", normalisation="layer", activation="gelu_tanh"),
    "strided": cnn.Config(
        channels=(3, 4), convolutions=(1, 2), kernel_size=(3, 2), stride=2, padding="valid", pooling="none"
    ),
    "overlapping": cnn.Config(channels=(3, 4), kernel_size=(5, 3), pool_size=3),
}


def random_variables(config, shapes):
    """The model, random variables and images. Nothing is compiled for the variables."""
    model, x, random = build(config, shapes), draw(0, 6, *shapes.inputs), np.random.default_rng(1)

    def leaf(path, shape):
        noise = random.normal(size=shape.shape)
        if path[-1].key == "kernel":
            return jnp.asarray(noise * np.sqrt(2 / np.prod(shape.shape[:-1])))
        return jnp.asarray(0.1 * noise if path[-1].key in ("bias", "mean") else 1 + 0.1 * np.abs(noise))

    return model, jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(model.init, jax.random.key(0), x)), x


def torch_network(torch, config, size, axes):
    """The same stack of PyTorch's own modules for so many axes, by our names."""
    act = {"tanh": "Tanh", "relu": "ReLU"}.get(config.activation)
    kind = {"gelu": "none", "gelu_tanh": "tanh"}
    network, before, number = torch.nn.Sequential(), 2, 0

    def add_activation(name):
        network.add_module(name, getattr(torch.nn, act)() if act else torch.nn.GELU(kind[config.activation]))

    def norm(channels):
        if config.normalisation == "batch":
            return getattr(torch.nn, f"BatchNorm{axes}d")(channels)
        return torch.nn.GroupNorm(config.norm_groups if config.normalisation == "group" else 1, channels)

    stages = config.convolutions if len(config.convolutions) > 1 else config.convolutions * len(config.channels)
    sides = config.kernel_size if isinstance(config.kernel_size, tuple) else (config.kernel_size,) * len(stages)
    for stage, (features, count, side) in enumerate(zip(config.channels, stages, sides, strict=True)):
        for index in range(count):
            bias, stride = config.normalisation == "none", 1 if index else config.stride
            padding = side // 2 if config.padding == "same" else 0
            conv = getattr(torch.nn, f"Conv{axes}d")(before, features, side, stride, padding=padding, bias=bias)
            network.add_module(f"conv_{number}", conv)
            if not bias:
                network.add_module(f"norm_{number}", norm(features))
            add_activation(f"act_{number}")
            before, number = features, number + 1
            size = (size + 2 * padding - side) // stride + 1
        if config.pooling != "none":
            if config.pool_size > 2:  # after a rectifier a zero is as good as nothing
                network.add_module(f"pad_{stage}", torch.nn.ZeroPad2d((0, 1, 0, 1)[: 2 * axes]))
            pool = {"max": "MaxPool", "average": "AvgPool"}[config.pooling]
            network.add_module(f"pool_{stage}", getattr(torch.nn, f"{pool}{axes}d")(config.pool_size, 2))
            size //= 2
    if config.global_pooling:
        network.add_module("mean", getattr(torch.nn, f"AvgPool{axes}d")(size))
    # Ours flattens channels last.
    pixels = 1 if config.global_pooling else size**axes

    class ChannelsLast(torch.nn.Module):
        def forward(self, x):
            return x.movedim(1, -1).flatten(1)

    network.add_module("flatten", ChannelsLast())
    before *= pixels
    for layer, width in enumerate((config.width, *config.further_widths) if config.width else ()):
        name = f"hidden_{layer}" if layer else "hidden"
        network.add_module(name, torch.nn.Linear(before, width))
        add_activation(f"act_{name}")
        before = width
    network.add_module("logits", torch.nn.Linear(before, 4))
    return network


@pytest.mark.reference
@pytest.mark.parametrize(
    ("shapes", "x64"),
    [
        pytest.param(SQUARES, False, id="images"),
        pytest.param(SQUARES, True, id="images-x64"),
        pytest.param(SIGNALS, False, id="signals"),
        pytest.param(SIGNALS, True, id="signals-x64", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", VARIANTS)
def test_variants_equal_pytorch(name, shapes, x64):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    config, labels, tolerance = VARIANTS[name], np.arange(6) % 4, 1e-10 if x64 else 1e-5
    with jax.enable_x64(x64):
        model, variables, x = random_variables(config, shapes)
        params = variables["params"]

        @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        def step(params, x):
            def loss(params):
                outputs, changed = model.apply(
                    variables | {"params": params}, x, train=True, rngs={}, hyperparameters={"norm_momentum": 0.6}
                )
                return -jnp.mean(jax.nn.log_softmax(outputs)[np.arange(6), labels]), (outputs, changed)

            return jax.grad(loss, has_aux=True)(params)

        gradients, (outputs, batch_stats) = step(params, x)
        size, axes = shapes.inputs[0], len(shapes.inputs) - 1
        network = torch_network(torch, config, size, axes).to(torch.float64 if x64 else torch.float32)
        for module in network:
            if hasattr(module, "momentum"):
                module.momentum = 0.4
        load(torch, network, params)
        for path, tensor in tensors(network, batch_stats=True).items():
            tensor.copy_(torch.tensor(paths(variables["batch_stats"])[path].copy()))
        reference = network(torch.tensor(np.moveaxis(np.asarray(x), -1, 1).copy()))
        torch.nn.functional.cross_entropy(reference, torch.tensor(labels)).backward()
        expected = reference.detach().numpy()
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=tolerance * np.abs(expected).max())
        assert_close(gradients, {path: tensor.grad.numpy() for path, tensor in tensors(network).items()}, tolerance)
        assert_close(batch_stats, tensors(network, batch_stats=True), tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "vgg"])
def test_bfloat16(name):
    exact, variables, x = random_variables(VARIANTS[name], SQUARES)
    model = build(VARIANTS[name], SQUARES, compute_dtype="bfloat16")

    @jax.jit
    def results(params):
        outputs = logits(model, variables | {"params": params}, x, train=True)
        return (outputs**2).sum(), outputs

    gradients, outputs = jax.jit(jax.grad(results, has_aux=True))(variables["params"])
    reference = jax.jit(lambda v: logits(exact, v, x, train=True))(variables)
    assert outputs.dtype == jnp.float32
    assert jnp.linalg.norm(outputs - reference) < 3e-2 * jnp.linalg.norm(reference)
    for leaf in jax.tree.leaves(gradients):
        assert leaf.dtype == jnp.float32
        assert jnp.isfinite(leaf).all()


def test_intermediates_by_name():
    model, variables, x = make(cnn.Config(channels=(3, 5), width=7))
    outputs, seen = jax.jit(lambda v: model.inspect(v, x, hyperparameters={}))(variables)
    np.testing.assert_array_equal(outputs, jax.jit(lambda v: logits(model, v, x))(variables))
    shapes = {name: value.shape for name, value in seen.items()}
    assert shapes == {"stage_0": (6, 4, 4, 3), "stage_1": (6, 2, 2, 5), "hidden_activations": (6, 7)}


def test_what_stands_in_the_padding_of_a_signal_has_no_effect():
    model, variables, x = random_variables(cnn.Config(channels=(3,)), SIGNALS)
    mask = jnp.asarray(np.arange(13)[None] < np.array([13, 1, 5, 12, 7, 9])[:, None])

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def gradient(params, x, mask):
        inputs = Padded(x, mask)
        return jax.value_and_grad(lambda p: (logits(model, variables | {"params": p}, inputs) ** 2).sum())(params)

    zeros = jnp.where(mask[:, :, None], x, 0)
    filled = gradient(variables["params"], jnp.where(mask[:, :, None], x, jnp.nan), mask)
    jax.tree.map(np.testing.assert_array_equal, filled, gradient(variables["params"], zeros, mask))
    # The whole, whatever it holds: a signal that ends in zeros.
    jax.tree.map(np.testing.assert_array_equal, filled, gradient(variables["params"], zeros, jnp.ones_like(mask)))
