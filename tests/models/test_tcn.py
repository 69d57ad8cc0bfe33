"""The temporal convolutional network: PyTorch, causality, receptive field, padding, steps, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, tcn
from models.inputs import Padded

TOKENS = Shapes(inputs=(12,), vocabulary=7, outputs=7, per_position=True, causal=True)
SEQUENCE = Shapes(inputs=(12, 3), vocabulary=None, outputs=4, per_position=True)
LAST = Shapes(inputs=(12, 3), vocabulary=None, outputs=4, per_position=False)
IMAGE = Shapes(inputs=(4, 3, 3), vocabulary=None, outputs=4, per_position=False)
SMALL = tcn.Config(width=5, depth=2, kernel_size=3, embedding=4)
LENGTHS = np.array([12, 1, 7])


def _inputs(shapes, dtype="float32"):
    random = np.random.default_rng(0)
    if shapes.vocabulary is None:
        return jnp.asarray(random.normal(size=(3, *shapes.inputs)), dtype)
    return jnp.asarray(random.integers(0, shapes.vocabulary, (3, *shapes.inputs)), "int32")


def _mask():
    return jnp.asarray(np.arange(12)[None] < LENGTHS[:, None])


def _logits(model, variables, inputs, train=False, rngs=None, **hyperparameters):
    def apply(variables, inputs, rngs, hyperparameters):
        return model.apply(variables, inputs, train=train, rngs=rngs, hyperparameters=hyperparameters)[0]

    return jax.jit(apply)(variables, inputs, rngs or {}, hyperparameters)


def _make(config, shapes, dtype="float32"):
    model, x = build(config, shapes), _inputs(shapes, dtype)
    random = np.random.default_rng(1)
    shape = jax.eval_shape(model.init, jax.random.key(0), x)
    return model, jax.tree.map(lambda a: jnp.asarray(random.normal(size=a.shape) * 0.5, dtype), shape), x


def _network(torch, config, features, outputs):
    """The network as in PyTorch, from the paper's figure 1."""

    class Conv(torch.nn.Module):
        def __init__(self, before, dilation):
            super().__init__()
            self.conv = torch.nn.Conv1d(before, config.width, config.kernel_size, dilation=dilation)
            self.past = (config.kernel_size - 1) * dilation
            if config.weight_normalisation:
                self.conv = torch.nn.utils.parametrizations.weight_norm(self.conv, dim=0)

        def forward(self, x):
            return torch.relu(self.conv(torch.nn.functional.pad(x, (self.past, 0))))

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            before = features
            for block in range(config.depth):
                setattr(self, f"block_{block}_conv_0", Conv(before, 2**block))
                setattr(self, f"block_{block}_conv_1", Conv(config.width, 2**block))
                if before != config.width:
                    setattr(self, f"block_{block}_projection", torch.nn.Conv1d(before, config.width, 1))
                before = config.width
            self.logits = torch.nn.Linear(before, outputs)

        def forward(self, x):
            for block in range(config.depth):
                y = getattr(self, f"block_{block}_conv_1")(getattr(self, f"block_{block}_conv_0")(x))
                x = getattr(self, f"block_{block}_projection", lambda x: x)(x)
                x = torch.relu(x + y)
            return self.logits(x.transpose(1, 2))

    return Network()


def _pairs(network, config, params):
    """(path of ours, tensor, from our array to the tensor's shape) for every parameter."""
    for name, leaves in params.items():
        for leaf in leaves:
            child = getattr(network, name)
            if "conv" not in name:
                tensor = child.weight if leaf == "kernel" else child.bias
            elif leaf == "bias":
                tensor = child.conv.bias
            elif config.weight_normalisation:
                tensor = getattr(
                    child.conv.parametrizations.weight, {"scale": "original0", "kernel": "original1"}[leaf]
                )
            else:
                tensor = child.conv.weight

            def as_torch(array, leaf=leaf):
                array = np.asarray(array)
                return (
                    array[:, None, None]
                    if leaf == "scale"
                    else np.moveaxis(array, (-1, -2), (0, 1))
                    if array.ndim > 1
                    else array
                )

            yield (name, leaf), tensor, as_torch


@pytest.mark.reference
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("weight_normalisation", [False, True])
@pytest.mark.parametrize("shapes", [SEQUENCE, LAST, IMAGE, TOKENS])
def test_equals_pytorch(shapes, weight_normalisation, dtype, tolerance):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    config = tcn.Config(width=5, depth=2, kernel_size=3, embedding=4, weight_normalisation=weight_normalisation)
    with jax.enable_x64(dtype == "float64"):
        model, variables, x = _make(config, shapes, dtype)
        params = dict(variables["params"])
        logits = _logits(model, variables, x)
        g = np.random.default_rng(2).normal(size=logits.shape).astype(dtype)
        gradients = jax.jit(jax.grad(lambda v: (_logits(model, v, x) * g).sum()))(variables)["params"]
        table = params.pop("tokens")["embedding"] if "tokens" in params else None
        network = _network(torch, config, 3 if table is None else 4, shapes.outputs).to(getattr(torch, dtype))
        pairs = list(_pairs(network, config, params))
        assert len(pairs) == len(list(network.parameters()))
        with torch.no_grad():
            for (name, leaf), tensor, as_torch in pairs:
                tensor.copy_(torch.tensor(as_torch(params[name][leaf]).copy()))
        values = torch.tensor(np.array(x))
        if table is not None:
            weights = torch.tensor(np.array(table), requires_grad=True)
            values = weights[values.long()]
        reference = network(values.reshape(3, 12, -1).transpose(1, 2))
        reference = reference if shapes.per_position else reference[:, -1]
        reference.backward(torch.tensor(g))

        def check(mine, expected):
            np.testing.assert_allclose(mine, expected, rtol=0, atol=tolerance * np.abs(expected).max())

        check(logits, reference.detach().numpy())
        for (name, leaf), tensor, as_torch in pairs:
            check(as_torch(gradients[name][leaf]), tensor.grad.numpy())
        if table is not None:
            check(gradients["tokens"]["embedding"], weights.grad.numpy())


@pytest.mark.parametrize(("kernel_size", "depth"), [(2, 1), (3, 1), (2, 2)])
def test_an_output_sees_its_receptive_field_and_nothing_else(kernel_size, depth):
    config = tcn.Config(width=6, depth=depth, kernel_size=kernel_size)
    model, variables, _ = _make(config, SEQUENCE)
    # Positive weights keep every rectifier open, so that nothing is hidden.
    variables = jax.tree.map(jnp.abs, variables)
    x = jnp.abs(_inputs(SEQUENCE))[:1]
    jacobian = jax.jit(jax.jacobian(lambda x: _logits(model, variables, x)[0].sum(-1)))(x)[:, 0]
    influence = np.asarray(jnp.abs(jacobian).sum(-1)) > 0  # [output, input]
    field = config.receptive_field
    assert field == {(2, 1): 3, (3, 1): 5, (2, 2): 7}[kernel_size, depth]
    output, position = np.indices((12, 12))
    np.testing.assert_array_equal(influence, (position <= output) & (position > output - field))


@pytest.mark.slow
def test_weight_normalisation_begins_as_the_plain_network():
    x = _inputs(SEQUENCE)
    plain = tcn.Config(width=5, depth=2, weight_normalisation=False)
    a, b = build(SMALL, SEQUENCE), build(plain, SEQUENCE)
    params = _make(plain, SEQUENCE)[1]
    normalised = jax.jit(a.init)(jax.random.key(0), x)
    for name, layer in normalised["params"].items():
        if "scale" in layer:
            norms = jnp.sqrt((layer["kernel"] ** 2).sum((0, 1)))
            np.testing.assert_allclose(layer["scale"], norms, rtol=1e-6)
        params["params"][name] = {leaf: layer[leaf] for leaf in ("kernel", "bias")}
    np.testing.assert_allclose(_logits(a, normalised, x), _logits(b, params, x), rtol=1e-5, atol=1e-6)
    doubled = jax.tree.map(lambda leaf: leaf, normalised)
    doubled["params"]["block_0_conv_0"]["kernel"] *= 2  # only its direction counts
    np.testing.assert_allclose(_logits(a, doubled, x), _logits(a, normalised, x), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shapes", [SEQUENCE, LAST, TOKENS])
def test_padding_changes_nothing_bit_for_bit(shapes):
    model, variables, x = _make(SMALL, shapes)
    mask = _mask()
    other = jnp.where(mask, x, (x + 5) % 7) if shapes.vocabulary else jnp.where(mask[:, :, None], x, jnp.nan)
    real = mask[:, :, None] if shapes.per_position else jnp.ones((3, 1), bool)

    @jax.jit
    def results(inputs):
        def loss(variables):
            logits = jnp.where(real, _logits(model, variables, inputs), 0)
            return (logits**2).sum(), logits

        return jax.grad(loss, has_aux=True)(variables)

    a, b = results(Padded(x, mask)), results(Padded(other, mask))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    for row, length in enumerate(LENGTHS):  # as if there had been no padding
        short = Shapes(**{**vars(shapes), "inputs": (int(length), *shapes.inputs[1:])})
        alone = _logits(build(SMALL, short), variables, x[row : row + 1, :length])[0]
        logits = a[1][row, :length] if shapes.per_position else a[1][row]
        np.testing.assert_allclose(logits, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shapes", [SEQUENCE, TOKENS])
@pytest.mark.parametrize("pieces", [(12,), (5, 7), (1,) * 12])
def test_reading_in_pieces_is_reading_the_whole(shapes, pieces):
    model, variables, x = _make(SMALL, shapes)
    carry = model.start(variables, 3, length=12)
    advance = jax.jit(lambda v, x, c: model.advance(v, x, c, train=False, rngs={}, hyperparameters={}))
    outputs, begin = [], 0
    for size in pieces:
        logits, carry = advance(variables, x[:, begin : begin + size], carry)
        outputs.append(logits)
        begin += size
    whole = _logits(model, variables, x)
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=1), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_padded_piece_leaves_no_trace_in_the_carry():
    model, variables, x = _make(SMALL, SEQUENCE)
    advance = jax.jit(lambda v, x, c: model.advance(v, x, c, train=False, rngs={}, hyperparameters={}))
    _, carry = advance(variables, Padded(x, _mask()), model.start(variables, 3, length=24))
    more, _ = advance(variables, x[:, :4], carry)
    for row, length in enumerate(LENGTHS):
        joined = jnp.concatenate([x[row, :length], x[row, :4]])[None]
        whole, _ = advance(variables, joined, model.start(variables, 1, length=24))
        np.testing.assert_allclose(more[row], whole[0, -4:], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_dropout_takes_whole_channels():
    model, variables, x = _make(tcn.Config(width=5, depth=1), SEQUENCE)
    rngs, still = {"dropout": jax.random.key(1)}, _logits(model, variables, x)
    np.testing.assert_array_equal(_logits(model, variables, x, train=True), still)
    zero = _logits(model, variables, x, train=True, rngs=rngs, dropout_rate=jnp.float32(0))
    np.testing.assert_array_equal(zero, still)
    # Block of zeros but for the bias: its output tells which channels were kept, at every position alike.
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["block_0_conv_1"]["bias"] += 1
    params["block_0_conv_1"]["kernel"] += 1
    params["block_0_conv_0"]["kernel"] += 1
    params["logits"]["kernel"] = params["logits"]["kernel"].at[0, 0].set(1.0)
    x = jnp.zeros((200, 12, 3))
    kept = _logits(model, {"params": params}, x, train=True, rngs=rngs, dropout_rate=jnp.float32(0.25))[..., 0]
    np.testing.assert_array_equal(kept, jnp.broadcast_to(kept[:, :1], kept.shape))
    assert abs(float((kept[:, 0] > 0).mean()) - 0.75) < 0.1
    np.testing.assert_allclose(kept[kept > 0], 1 / 0.75, rtol=1e-4)


@pytest.mark.slow
def test_bfloat16():
    model, variables, x = _make(SMALL, TOKENS)
    rounded = build(SMALL, TOKENS, compute_dtype="bfloat16")
    exact = _logits(model, variables, x)
    assert jnp.linalg.norm(_logits(rounded, variables, x) - exact) < 3e-2 * jnp.linalg.norm(exact)
    for leaf in jax.tree.leaves(jax.jit(jax.grad(lambda v: (_logits(rounded, v, x) ** 2).sum()))(variables)):
        assert leaf.dtype == jnp.float32
        assert jnp.isfinite(leaf).all()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (Shapes(inputs=(6,), vocabulary=None, outputs=3, per_position=False), r"shape \(6,\)"),
        (Shapes(inputs=(6, 2), vocabulary=5, outputs=5, per_position=True), r"shape \(6, 2\)"),
        (Shapes(inputs=(5, 4, 2), vocabulary=None, outputs=3, per_position=True), "every position"),
        (Shapes(inputs=(5,), vocabulary=5, outputs=5, per_position=True, target=4), "maps one to another"),
    ],
)
def test_bad_shapes(shapes, message):
    with pytest.raises(BadInput, match=message):
        build(tcn.Config(), shapes)


@pytest.mark.parametrize("fields", [{"width": 0}, {"depth": 0}, {"kernel_size": 1}, {"dropout_rate": 1.0}])
def test_bad_configurations(fields):
    with pytest.raises(BadInput, match=next(iter(fields))):
        tcn.Config(**fields)
