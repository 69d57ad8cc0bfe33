"""Residual networks: the papers' parameter counts, PyTorch over several steps, shortcuts, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, resnet
from tests.models.torch_weights import assert_close, load, paths, tensors

CIFAR = Shapes(inputs=(32, 32, 3), vocabulary=None, outputs=10, per_position=False)
IMAGENET = Shapes(inputs=(224, 224, 3), vocabulary=None, outputs=1000, per_position=False)
TINY = Shapes(inputs=(9, 8, 2), vocabulary=None, outputs=4, per_position=False)
WIDE = {"depth": 10, "width": 4, "width_multiplier": 2, "shortcut": "projection", "preactivation": True}


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def count(config, shapes):
    images = jax.ShapeDtypeStruct((1, *shapes.inputs), jnp.float32)
    variables = jax.eval_shape(build(config, shapes).init, jax.random.key(0), images)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@functools.cache
def make(config, shapes=TINY, batch=5):
    """The model, random variables and images. Nothing is compiled for the variables."""
    model, x, random = build(config, shapes), draw(0, batch, *shapes.inputs), np.random.default_rng(1)

    def leaf(path, shape):
        noise = random.normal(size=shape.shape)
        if path[-1].key == "kernel":
            return jnp.asarray(noise * np.sqrt(2 / np.prod(shape.shape[:-1])))
        return jnp.asarray(0.1 * noise if path[-1].key in ("bias", "mean") else 1 + 0.1 * np.abs(noise))

    shapes_of_all = jax.eval_shape(model.init, jax.random.key(0), x)
    return model, jax.tree_util.tree_map_with_path(leaf, shapes_of_all), x


def applied(model, *, train=False, **fixed):
    """A jitted ``(variables, x, rngs, hyperparameters) -> (logits, batch_stats)``."""

    def apply(variables, x, rngs=None, hyperparameters=None):
        return model.apply(variables, x, train=train, rngs=rngs or {}, hyperparameters=hyperparameters or fixed)

    return jax.jit(apply)


@pytest.mark.parametrize(
    ("depth", "millions"),
    [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), pytest.param(110, 1.7, marks=pytest.mark.slow)],
)  # He et al. 2016, table 6
def test_parameter_counts_on_cifar(depth, millions):
    residual = count(resnet.Config(depth=depth), CIFAR)
    assert round(residual / 1e6, 1 if depth == 110 else 2) == millions


def test_parameter_counts_of_the_shortcuts():
    residual = count(resnet.Config(), CIFAR)
    assert count(resnet.Config(shortcut="none"), CIFAR) == residual
    # Option B: two projections with their normalisation.
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert count(resnet.Config(shortcut="projection"), CIFAR) == residual + projections


@pytest.mark.parametrize(
    ("depth", "block", "millions"), [(18, "basic", 11.69), (34, "basic", 21.80), (50, "bottleneck", 25.56)]
)
def test_parameter_counts_on_imagenet(depth, block, millions):
    config = resnet.Config(form="imagenet", depth=depth, block=block, shortcut="projection")
    assert round(count(config, IMAGENET) / 1e6, 2) == millions


@pytest.mark.slow
def test_parameter_counts_of_wide_and_preactivated_networks():
    wide = resnet.Config(depth=28, width_multiplier=10, shortcut="projection", preactivation=True)
    assert round(count(wide, CIFAR) / 1e6, 1) == 36.5  # Zagoruyko and Komodakis 2016, table 4
    deep = resnet.Config(depth=164, block="bottleneck", shortcut="projection", preactivation=True)
    assert round(count(deep, CIFAR) / 1e6, 1) == 1.7  # He et al. 2016b, table 4


CONFIGS = {
    "identity": resnet.Config(depth=8, width=4),
    "projection": resnet.Config(depth=8, width=4, shortcut="projection"),
    "plain": resnet.Config(depth=8, width=4, shortcut="none"),
    "bottleneck": resnet.Config(depth=11, width=2, block="bottleneck"),
    "preactivated": resnet.Config(depth=8, width=4, preactivation=True),
    "preactivated bottleneck": resnet.Config(
        depth=11, width=2, block="bottleneck", preactivation=True, shortcut="projection"
    ),
    "wide": resnet.Config(**WIDE),
    "group": resnet.Config(depth=8, width=4, normalisation="group", norm_groups=2),
    "layer": resnet.Config(depth=8, width=4, normalisation="layer"),
    "unnormalised": resnet.Config(depth=8, width=4, normalisation="none"),
    "imagenet": resnet.Config(form="imagenet", depth=18, width=2, shortcut="projection"),
    "imagenet bottleneck": resnet.Config(form="imagenet", depth=50, block="bottleneck", width=2, shortcut="projection"),
}


def torch_network(torch, config, shapes):
    """The network as people write it in PyTorch, from the papers."""
    functional = torch.nn.functional

    def norm(channels):
        if config.normalisation == "none":
            return torch.nn.Identity()
        if config.normalisation == "batch":
            return torch.nn.BatchNorm2d(channels, momentum=0.1)
        return torch.nn.GroupNorm(config.norm_groups if config.normalisation == "group" else 1, channels)

    def conv(before, after, size, stride):
        bias = config.normalisation == "none"
        return torch.nn.Conv2d(before, after, size, stride, padding=size // 2, bias=bias)

    class Block(torch.nn.Module):
        def __init__(self, before, width, stride, first):
            super().__init__()
            after = width * (4 if config.block == "bottleneck" else 1)
            if config.block == "bottleneck":
                plan = [(before, width, 1, 1), (width, width, 3, stride), (width, after, 1, 1)]
            else:
                plan = [(before, width, 3, stride), (width, width, 3, 1)]
            for i, (a, b, size, step) in enumerate(plan):
                setattr(self, f"conv_{i}", conv(a, b, size, step))
                if not config.preactivation:
                    setattr(self, f"norm_{i}", norm(b))
                elif i or not first:
                    setattr(self, f"norm_{i}", norm(a))
            self.count, self.first, self.stride, self.after = len(plan), first, stride, after
            self.changes = stride != 1 or before != after
            if config.shortcut == "projection" and self.changes:
                self.projection = conv(before, after, 1, stride)
                if not config.preactivation:
                    self.projection_norm = norm(after)

        def shortcut(self, x):
            if not self.changes:
                return x
            if config.shortcut == "projection":
                x = self.projection(x)
                return x if config.preactivation else self.projection_norm(x)
            x = x[:, :, :: self.stride, :: self.stride]
            return torch.cat([x, x.new_zeros(len(x), self.after - x.shape[1], *x.shape[2:])], dim=1)

        def forward(self, x):
            if config.preactivation:
                start = x if self.first else torch.relu(self.norm_0(x))
                y = self.conv_0(start)
                for i in range(1, self.count):
                    y = getattr(self, f"conv_{i}")(torch.relu(getattr(self, f"norm_{i}")(y)))
                return y if config.shortcut == "none" else y + self.shortcut(start if self.changes else x)
            y = x
            for i in range(self.count):
                y = getattr(self, f"norm_{i}")(getattr(self, f"conv_{i}")(y))
                y = torch.relu(y) if i < self.count - 1 else y
            return torch.relu(y if config.shortcut == "none" else y + self.shortcut(x))

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            width = config.width
            imagenet = config.form == "imagenet"
            self.stem = conv(shapes.inputs[-1], width, 7 if imagenet else 3, 2 if imagenet else 1)
            self.stem_norm = norm(width)
            self.names, before = [], width
            stages = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[config.depth] if imagenet else (1, 1, 1)
            for stage, blocks in enumerate(stages):
                for index in range(blocks):
                    name = f"stage_{stage}_block_{index}"
                    inner = width * config.width_multiplier * 2**stage
                    block = Block(before, inner, 2 if stage and not index else 1, stage == index == 0)
                    setattr(self, name, block)
                    self.names.append(name)
                    before = block.after
            if config.preactivation:
                self.final_norm = norm(before)
            self.logits = torch.nn.Linear(before, shapes.outputs)

        def forward(self, x):
            x = torch.relu(self.stem_norm(self.stem(x)))
            x = functional.max_pool2d(x, 3, 2, padding=1) if config.form == "imagenet" else x
            for name in self.names:
                x = getattr(self, name)(x)
            x = torch.relu(self.final_norm(x)) if config.preactivation else x
            return self.logits(x.mean((2, 3)))

    return Network()


SLOW = ("plain", "preactivated", "layer", "unnormalised", "imagenet", "imagenet bottleneck")
# Networks of many layers amplify rounding, so most are compared where there is little of it.
CASES = [
    *(pytest.param(name, True, marks=pytest.mark.slow if name in SLOW else ()) for name in CONFIGS),
    ("identity", False),
    pytest.param("wide", False, marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize(("name", "x64"), CASES)
def test_three_steps_equal_pytorch(name, x64):
    """Outputs, gradients, parameters and running statistics after each of three steps; the evaluation."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    config, labels, rate = CONFIGS[name], np.arange(5) % 4, 0.01
    shapes = Shapes(inputs=(33, 34, 2), vocabulary=None, outputs=4, per_position=False) if "imagenet" in name else TINY
    with jax.enable_x64(x64):
        dtype, tolerance = ("float64", 1e-10) if x64 else ("float32", 1e-5)
        if config.depth == 50:  # more layers, more rounding, and steps that carry it on
            tolerance, rate = 10 * tolerance, 0.01 * rate
        model, variables, x = make.__wrapped__(config, shapes)
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        network = torch_network(torch, config, shapes).to(getattr(torch, dtype))
        load(torch, network, params)
        for path, tensor in tensors(network, batch_stats=True).items():
            tensor.copy_(torch.tensor(paths(batch_stats)[path].copy()))
        optimizer = torch.optim.SGD(network.parameters(), lr=rate)

        # In 64 bits, less optimisation of the code: it compiles in a third of the time.
        @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0} if x64 else None)
        def step(params, batch_stats, x):
            def loss(params):
                variables = {"params": params, "batch_stats": batch_stats}
                logits, changed = model.apply(variables, x, train=True, rngs={}, hyperparameters={})
                return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(5), labels]), (logits, changed)

            return jax.grad(loss, has_aux=True)(params)

        for number in range(3):
            x = draw(number, 5, *shapes.inputs)
            gradients, (logits, batch_stats) = step(params, batch_stats, x)
            optimizer.zero_grad()
            reference = network(torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy()))
            torch.nn.functional.cross_entropy(reference, torch.tensor(labels)).backward()
            largest = np.abs(reference.detach().numpy()).max()
            np.testing.assert_allclose(logits, reference.detach().numpy(), rtol=0, atol=tolerance * largest)
            expected = {path: tensor.grad.numpy() for path, tensor in tensors(network).items()}
            assert_close(gradients, expected, tolerance)
            assert_close(batch_stats, tensors(network, batch_stats=True), tolerance)
            optimizer.step()
            params = jax.tree.map(lambda p, g: p - rate * g, params, gradients)
        if name not in ("identity", "wide"):
            return
        network.eval()
        logits = applied(model)({"params": params, "batch_stats": batch_stats}, x)[0]
        reference = network(torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy())).detach().numpy()
        np.testing.assert_allclose(logits, reference, rtol=0, atol=tolerance * np.abs(reference).max())


@pytest.mark.slow
def test_the_plain_twin_is_the_network_without_shortcuts_and_nothing_else():
    residual, plain = CONFIGS["identity"], CONFIGS["plain"]
    (_, ours, x), (twin, theirs, _) = make(residual), make(plain)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    # What the block adds is the same function of the same input: shown on the first block's residual.
    _, with_shortcut = jax.jit(lambda v: build(residual, TINY).inspect(v, x, hyperparameters={}))(ours)
    _, without = jax.jit(lambda v: twin.inspect(v, x, hyperparameters={}))(theirs)
    np.testing.assert_array_equal(with_shortcut["stage_0_block_0/residual"], without["stage_0_block_0/residual"])
    assert (with_shortcut["stage_0_block_0_outputs"] != without["stage_0_block_0_outputs"]).any()


@pytest.mark.slow
def test_initial_values():
    model, _, x = make(CONFIGS["projection"])
    variables = jax.jit(model.init)(jax.random.key(0), x)
    for path, leaf in paths(variables).items():
        if path[-1] in ("scale", "var", "bias", "mean"):
            np.testing.assert_array_equal(leaf, 1.0 if path[-1] in ("scale", "var") else 0.0)
    kernel = variables["params"]["stage_2_block_0"]["conv_1"]["kernel"]
    assert abs(float(kernel.std()) / np.sqrt(2 / (9 * 16)) - 1) < 0.1


@pytest.mark.slow
def test_momentum_is_a_traced_number():
    model, variables, x = make(CONFIGS["identity"])
    step = applied(model, train=True)
    old = variables["batch_stats"]
    kept = step(variables, x, None, {"norm_momentum": jnp.float32(1.0)})[1]
    jax.tree.map(np.testing.assert_array_equal, kept, old)
    newest = step(variables, x, None, {"norm_momentum": jnp.float32(0.0)})[1]
    half = step(variables, x, None, {"norm_momentum": jnp.float32(0.5)})[1]
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(c, (a + b) / 2, rtol=1e-5, atol=1e-6), old, newest, half)


def test_evaluation_changes_no_average_and_gives_every_image_its_own_logits():
    model, variables, x = make(CONFIGS["identity"])
    evaluate = applied(model)
    logits, batch_stats = evaluate(variables, x)
    jax.tree.map(np.testing.assert_array_equal, batch_stats, variables["batch_stats"])
    np.testing.assert_array_equal(evaluate(variables, x.at[2:].set(7.0))[0][:2], logits[:2])


@pytest.mark.slow
def test_stochastic_depth_decays_linearly():
    """Each block dies as often as the rule says, and one that survives is divided by its probability."""
    model, variables, _ = make(resnet.Config(depth=8, width=2, normalisation="none", survival_rate=0.4))
    x = jnp.ones((3000, 4, 4, 2))
    step = applied(model, train=True)
    for number, rate in enumerate((0.8, 0.6, 0.4)):
        # All weights are zero but one bias: the block adds 1 everywhere, or 1 / rate, or nothing.
        params = jax.tree.map(jnp.zeros_like, variables["params"])
        params["logits"]["kernel"] += 1.0
        params[f"stage_{number}_block_0"]["conv_1"]["bias"] += 1.0
        added = step({"params": params}, x, {"dropout": jax.random.key(number)})[0][:, 0]
        survived = added > 0
        assert abs(float(survived.mean()) - rate) < 0.05
        np.testing.assert_allclose(added[survived], 2 * 2**number / rate, rtol=1e-4)


@pytest.mark.slow
def test_what_is_off_draws_nothing_and_zero_changes_nothing():
    model, variables, x = make(resnet.Config(**WIDE))
    text = str(jax.make_jaxpr(lambda v, x: model.apply(v, x, train=True, rngs={}, hyperparameters={}))(variables, x))
    assert "random" not in text
    step, rngs = applied(model, train=True), {"dropout": jax.random.key(1)}
    still = step(variables, x)[0]
    off = {"dropout_rate": jnp.float32(0), "survival_rate": jnp.float32(1)}
    # Another program rounds in another way.
    np.testing.assert_allclose(step(variables, x, rngs, off)[0], still, rtol=1e-4, atol=1e-5)
    for name, value in (("dropout_rate", 0.5), ("survival_rate", 0.5)):
        assert jnp.abs(step(variables, x, rngs, off | {name: jnp.float32(value)})[0] - still).max() > 1e-2


@pytest.mark.slow
def test_bfloat16():
    config = CONFIGS["projection"]
    _, variables, x = make(config)
    exact = applied(build(config, TINY), train=True)(variables, x)

    @jax.jit
    def rounded(variables, x):
        model = build(config, TINY, compute_dtype="bfloat16")

        def loss(params):
            logits, batch_stats = model.apply(
                variables | {"params": params}, x, train=True, rngs={}, hyperparameters={}
            )
            return jnp.sum(logits**2), (logits, batch_stats)

        return jax.grad(loss, has_aux=True)(variables["params"])

    gradients, (logits, batch_stats) = rounded(variables, x)
    assert logits.dtype == jnp.float32
    assert jnp.linalg.norm(logits - exact[0]) < 3e-2 * jnp.linalg.norm(exact[0])
    for leaf in (*jax.tree.leaves(gradients), *jax.tree.leaves(batch_stats)):
        assert leaf.dtype == jnp.float32
        assert jnp.isfinite(leaf).all()


@pytest.mark.slow
def test_vmapped_trials_are_solo_trials():
    model, variables, x = make(CONFIGS["identity"])
    random = np.random.default_rng(2)
    many = jax.tree.map(
        lambda leaf: leaf[None] + jnp.asarray(0.1 * random.uniform(size=(2, *leaf.shape)), leaf.dtype), variables
    )
    step = lambda v: model.apply(v, x, train=True, rngs={}, hyperparameters={})  # noqa: E731
    together, solo = jax.jit(jax.vmap(step))(many), jax.jit(step)
    for lane in range(2):
        alone = solo(jax.tree.map(lambda a, lane=lane: a[lane], many))
        jax.tree.map(
            lambda a, b, lane=lane: np.testing.assert_allclose(a[lane], b, rtol=1e-4, atol=1e-4), together, alone
        )


def test_a_training_batch_of_one_value_is_refused():
    shapes = Shapes(inputs=(1, 1, 2), vocabulary=None, outputs=4, per_position=False)
    model, variables, x = make(CONFIGS["identity"], shapes, batch=1)
    with pytest.raises(BadInput, match="batch_size >= 2"):
        applied(model, train=True)(variables, x)
