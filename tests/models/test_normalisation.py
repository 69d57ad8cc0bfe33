"""Normalisation against a float64 form and PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BadInput
from models.layers.normalisation import LayerNorm, Norm, normalise, standardise

X = np.random.default_rng(0).normal(3, 2, (4, 5, 6))


@pytest.mark.reference
def test_outputs_and_gradients_equal_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X).requires_grad_()
    out = torch.nn.functional.layer_norm(x, (6,), eps=1e-5)
    (out**3).sum().backward()
    with jax.enable_x64(True):
        ours = normalise(jnp.asarray(X))
        gradient = jax.grad(lambda x: jnp.sum(normalise(x) ** 3))(jnp.asarray(X))
    np.testing.assert_allclose(ours, out.detach().numpy(), rtol=1e-10)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_the_gradient_is_that_of_the_plain_form() -> None:
    def plain(x: jax.Array) -> jax.Array:
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)

    x = jnp.asarray(X, jnp.float32)
    np.testing.assert_allclose(normalise(x), plain(x), rtol=1e-5, atol=1e-6)
    ours, theirs = (jax.jit(jax.grad(lambda x, form=form: jnp.sum(jnp.sin(form(x)))))(x) for form in (normalise, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_scale_and_bias_apply_to_the_last_axis() -> None:
    variables = {"params": {"scale": jnp.arange(6.0), "bias": jnp.arange(6.0) + 10}}
    x = jnp.asarray(X, jnp.float32)
    expected = normalise(x) * jnp.arange(6.0)[None, None] + (jnp.arange(6.0) + 10)[None, None]
    np.testing.assert_allclose(LayerNorm().apply(variables, x), expected, rtol=1e-6)


SHAPES = [(6, 24), (3, 5, 4), (3, 5, 2, 8)]


def norm(kind: str, groups: int = 1):
    """A jitted ``(variables, x, train, momentum) -> (y, batch_stats)`` of the layer."""

    @functools.partial(jax.jit, static_argnums=2)
    def apply(variables, x, train=True, momentum=0.9):
        y, changed = Norm(kind, groups).apply(variables, x, train=train, momentum=momentum, mutable=["batch_stats"])
        return y, changed.get("batch_stats", {})

    return apply


def parameters(channels: int) -> dict:
    random = np.random.default_rng(1)
    return {
        "params": {"scale": random.normal(1, 0.2, channels), "bias": random.normal(size=channels)},
        "batch_stats": {"mean": random.normal(size=channels), "var": random.uniform(1, 2, channels)},
    }


@pytest.mark.reference
@pytest.mark.parametrize(("x64", "tolerance"), [(False, 1e-5), (True, 1e-10)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "groups"), [("batch", 1), ("group", 2), ("group", 4), ("layer", 1)])
def test_norm_equals_pytorch_over_several_steps(kind, groups, shape, x64, tolerance) -> None:
    torch = pytest.importorskip("torch")
    dtype, channels = (np.float64 if x64 else np.float32), shape[-1]
    with jax.enable_x64(x64):
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), parameters(channels))
        if kind == "batch":
            module = torch.nn.BatchNorm1d(channels, momentum=0.3).to(torch.from_numpy(np.zeros(0, dtype)).dtype)
            for name, tensor in (("mean", module.running_mean), ("var", module.running_var)):
                tensor.copy_(torch.tensor(np.array(variables["batch_stats"][name])))
        else:
            module = torch.nn.GroupNorm(groups, channels).to(torch.from_numpy(np.zeros(0, dtype)).dtype)
        with torch.no_grad():
            module.weight.copy_(torch.tensor(np.array(variables["params"]["scale"])))
            module.bias.copy_(torch.tensor(np.array(variables["params"]["bias"])))
        layer = norm(kind, groups)

        def as_torch(x):
            """Positions after channels, as one axis where there are any."""
            x = np.asarray(x).reshape(shape[0], -1, channels).transpose(0, 2, 1)
            return x[..., 0] if len(shape) == 2 else x

        def check(mine, reference):
            reference = reference.detach().numpy()
            np.testing.assert_allclose(mine, reference, rtol=0, atol=tolerance * np.abs(reference).max())

        for step in range(3):
            random = np.random.default_rng(step + 2)
            x, g = random.normal(3, 2, shape).astype(dtype), random.normal(size=shape).astype(dtype)
            (y, batch_stats), pull = jax.vjp(
                lambda p, x, old=variables: layer(old | {"params": p}, x, True, 0.7),
                variables["params"],
                jnp.asarray(x),
            )
            gradients, dx = pull((jnp.asarray(g), jax.tree.map(jnp.zeros_like, batch_stats)))
            tensor = torch.tensor(as_torch(x).copy(), requires_grad=True)
            module.zero_grad()
            reference = module(tensor)
            reference.backward(torch.tensor(as_torch(g).copy()))
            check(as_torch(y), reference)
            check(as_torch(dx), tensor.grad)
            check(gradients["scale"], module.weight.grad)
            check(gradients["bias"], module.bias.grad)
            if kind == "batch":
                variables |= {"batch_stats": batch_stats}
                check(batch_stats["mean"], module.running_mean)
                check(batch_stats["var"], module.running_var)
        module.eval()
        check(as_torch(layer(variables, jnp.asarray(x), False)[0]), module(tensor))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_hand_written_gradient_is_that_of_the_plain_form(groups) -> None:
    def plain(x, scale, bias, groups):
        grouped = x.reshape(3, 5, groups, 4 // groups)
        centred = grouped - grouped.mean((1, 3), keepdims=True)
        y = centred / jnp.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-5)
        return y.reshape(x.shape) * scale[None, None] + bias[None, None]

    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        x, scale, bias, g = (jnp.asarray(random.normal(size=size)) for size in ((3, 5, 4), 4, 4, (3, 5, 4)))
        ours, theirs = (
            jax.jit(jax.grad(lambda *args, form=form: (form(*args, groups) * g).sum(), (0, 1, 2)))(x, scale, bias)
            for form in (lambda *args: standardise(*args)[0], plain)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), ours, theirs)


def test_statistics_of_a_far_away_mean() -> None:
    """A variance as the mean of squares less the square of the mean would have no digit left."""
    x = jnp.asarray(np.random.default_rng(0).normal(3000, 0.5, (64, 16, 2)), jnp.float32)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), parameters(2))
    variance = norm("batch")(variables, x, True, jnp.float32(0))[1]["var"]
    expected = np.asarray(x, np.float64).var((0, 1), ddof=1)
    np.testing.assert_allclose(variance, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["batch", "group", "layer"])
def test_16_bits_have_statistics_of_32(kind) -> None:
    x = np.random.default_rng(0).normal(8, 1, (16, 64, 4))
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), parameters(4))
    rounded = jnp.asarray(x, jnp.bfloat16)
    y, batch_stats = norm(kind, 2)(variables, rounded, True)
    exact, _ = norm(kind, 2)(variables, rounded.astype(jnp.float32), True)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(batch_stats))


def test_none_is_the_identity_without_parameters() -> None:
    x = jnp.ones((2, 3))
    assert Norm("none").init(jax.random.key(0), x, train=True, momentum=0.9) == {}
    assert norm("none")({}, x)[0] is not None
    np.testing.assert_array_equal(norm("none")({}, x)[0], x)


@pytest.mark.parametrize(
    ("groups", "channels", "nearest"), [(3, 4, "2 and 4"), (5, 12, "4 and 6"), (9, 8, "8"), (2, 7, "1 and 7")]
)
def test_groups_that_do_not_divide_are_refused(groups, channels, nearest) -> None:
    with pytest.raises(
        BadInput, match=f"norm_groups={groups} must divide channels={channels}; nearest: {nearest}(\\n|$)"
    ):
        jax.eval_shape(
            lambda x: Norm("group", groups).init(jax.random.key(0), x, train=False, momentum=0.9),
            jnp.ones((2, channels)),
        )
