"""The sentence network against PyTorch; padding, short sentences, counts, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput, Shapes, build, text_cnn
from models.inputs import Padded
from tests.models.torch_weights import assert_close, load, tensors

TOKENS = Shapes(inputs=(9,), vocabulary=11, outputs=3, per_position=False)
VECTORS = Shapes(inputs=(9, 4), vocabulary=None, outputs=3, per_position=False)
SMALL = text_cnn.Config(kernel_sizes=(2, 3, 5), channels=4, embedding=6)
LENGTHS = np.array([9, 1, 4, 2, 6])


def _inputs(shapes, dtype="float32"):
    random = np.random.default_rng(0)
    if shapes.vocabulary is None:
        return jnp.asarray(random.normal(size=(5, *shapes.inputs)), dtype)
    return jnp.asarray(random.integers(0, shapes.vocabulary, (5, *shapes.inputs)), "int32")


def _mask(time=9):
    return jnp.asarray(np.arange(time)[None] < LENGTHS[:, None])


def _logits(model, variables, inputs, train=False, rngs=None, **hyperparameters):
    def apply(variables, inputs, rngs, hyperparameters):
        return model.apply(variables, inputs, train=train, rngs=rngs, hyperparameters=hyperparameters)[0]

    return jax.jit(apply)(variables, inputs, rngs or {}, hyperparameters)


def _make(config, shapes, x):
    model = build(config, shapes)
    return model, jax.jit(model.init)(jax.random.key(0), x)


def test_parameter_count_of_the_paper():
    """20,000 words: the table, 3 x 100 filters of 300 x (3, 4, 5) with a bias, and 300 features to 2 classes."""
    shapes = Shapes(inputs=(56,), vocabulary=20_000, outputs=2, per_position=False)
    tokens = jax.ShapeDtypeStruct((1, 56), jnp.int32)
    variables = jax.eval_shape(build(text_cnn.Config(), shapes).init, jax.random.key(0), tokens)
    expected = 20_000 * 300 + (3 + 4 + 5) * 300 * 100 + 300 + 300 * 2 + 2
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == expected


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("shapes", [TOKENS, VECTORS])
@pytest.mark.parametrize("padded", [False, True])
def test_equals_pytorch(shapes, padded, dtype, tolerance):
    """The reference sees each sentence alone, cut to its length (and filled up where it is too short)."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    with jax.enable_x64(dtype == "float64"):
        x = _inputs(shapes, dtype)
        inputs = Padded(x, _mask()) if padded else x
        model, variables = _make(SMALL, shapes, inputs)
        random = np.random.default_rng(1)
        params = jax.tree.map(lambda a: jnp.asarray(random.normal(size=a.shape), dtype), variables["params"])
        table = params.pop("tokens")["embedding"] if "tokens" in params else None
        network = torch.nn.Module()
        for number, size in enumerate(SMALL.kernel_sizes):
            setattr(network, f"conv_{number}", torch.nn.Conv1d(4 if table is None else 6, 4, size))
        network.logits = torch.nn.Linear(12, 3)
        network.to(getattr(torch, dtype))
        load(torch, network, params)
        values = torch.tensor(np.array(x))
        if table is not None:
            weights = torch.tensor(np.array(table), requires_grad=True)
            values = weights[values.long()]
            params |= {"tokens": {"embedding": table}}
        rows = []
        for row, length in zip(values, LENGTHS if padded else [9] * 5, strict=True):
            sentence = torch.nn.functional.pad(row[:length].T, (0, max(0, 5 - int(length))))[None]
            features = []
            for number, size in enumerate(SMALL.kernel_sizes):
                windows = getattr(network, f"conv_{number}")(sentence)[:, :, : max(1, int(length) - size + 1)]
                features.append(torch.relu(windows).max(dim=2).values)
            rows.append(network.logits(torch.cat(features, dim=1)))
        reference = torch.cat(rows)
        g = random.normal(size=reference.shape).astype(dtype)
        reference.backward(torch.tensor(g))
        expected = reference.detach().numpy()
        logits = _logits(model, {"params": params}, inputs)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * np.abs(expected).max())
        gradients = jax.jit(jax.grad(lambda p: (_logits(model, {"params": p}, inputs) * g).sum()))(params)
        if table is not None:
            ours = gradients.pop("tokens")["embedding"]
            largest = np.abs(weights.grad.numpy()).max()
            np.testing.assert_allclose(ours, weights.grad.numpy(), rtol=0, atol=tolerance * largest)
        assert_close(gradients, {path: tensor.grad.numpy() for path, tensor in tensors(network).items()}, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("shapes", [TOKENS, VECTORS])
def test_padding_changes_nothing_bit_for_bit(shapes):
    x, mask = _inputs(shapes), _mask()
    model, variables = _make(SMALL, shapes, Padded(x, mask))
    other = jnp.where(mask, x, (x + 5) % 11) if shapes.vocabulary else jnp.where(mask[:, :, None], x, jnp.nan)

    def gradients(inputs):
        grad = jax.grad(lambda v: (_logits(model, v, inputs) ** 2).sum())
        return jax.jit(grad)(variables)

    a, b = Padded(x, mask), Padded(other, mask)
    np.testing.assert_array_equal(_logits(model, variables, a), _logits(model, variables, b))
    jax.tree.map(np.testing.assert_array_equal, gradients(a), gradients(b))
    longer = Padded(jnp.pad(x, ((0, 0), (0, 4), *((0, 0),) * (x.ndim - 2))), jnp.pad(mask, ((0, 0), (0, 4))))
    np.testing.assert_allclose(_logits(model, variables, longer), _logits(model, variables, a), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("time", [1, 2, 3, 4])
def test_sentences_narrower_than_a_filter(time):
    """Filters of 2, 3 and 5 words: a batch as wide as its sentences, with and without a mask, and a wide one."""
    shapes = Shapes(inputs=(time,), vocabulary=11, outputs=3, per_position=False)
    x = jnp.asarray(np.random.default_rng(time).integers(1, 11, (6, time)))
    mask = jnp.asarray(np.arange(time)[None] < 1 + np.arange(6)[:, None] % time)
    model, variables = _make(SMALL, shapes, x)
    wide = build(SMALL, TOKENS)
    for real in (jnp.ones_like(mask), mask):
        rest = ((0, 0), (0, 9 - time))
        expected = _logits(wide, variables, Padded(jnp.pad(x, rest, constant_values=7), jnp.pad(real, rest)))
        found = _logits(model, variables, Padded(x, real))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        # and with the window that a bucket of the wide task would have
        np.testing.assert_allclose(_logits(wide, variables, Padded(x, real)), expected, rtol=1e-5, atol=1e-6)
        if real.all():
            np.testing.assert_allclose(_logits(model, variables, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_dropout():
    x = _inputs(TOKENS)
    model, variables = _make(SMALL, TOKENS, x)
    rngs = {"dropout": jax.random.key(1)}
    still = _logits(model, variables, x)
    assert (_logits(model, variables, x, train=True, rngs=rngs) != still).any()  # 0.5 by default
    zero = _logits(model, variables, x, train=True, rngs=rngs, dropout_rate=jnp.float32(0))
    np.testing.assert_array_equal(zero, still)


@pytest.mark.slow
def test_bfloat16():
    x = Padded(_inputs(TOKENS), _mask())
    model, variables = _make(SMALL, TOKENS, x)
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
        (Shapes(inputs=(6, 5, 2), vocabulary=None, outputs=3, per_position=False), "cnn takes images"),
        (Shapes(inputs=(6,), vocabulary=5, outputs=5, per_position=True), "every position; tcn"),
    ],
)
def test_bad_shapes(shapes, message):
    with pytest.raises(BadInput, match=message):
        build(text_cnn.Config(), shapes)


@pytest.mark.parametrize("fields", [{"kernel_sizes": ()}, {"kernel_sizes": (3, 0)}, {"channels": 0}, {"embedding": 0}])
def test_bad_configurations(fields):
    with pytest.raises(BadInput, match=next(iter(fields))):
        text_cnn.Config(**fields)
