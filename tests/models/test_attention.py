"""Attention against PyTorch and against a loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers import attention as module
from models.layers.attention import attention

DRAW = np.random.default_rng(0)
Q, K, V = (DRAW.normal(size=(2, 5, 3, 4)) for _ in range(3))


def loop(causal: bool) -> np.ndarray:
    """Equation 1 of Vaswani et al. 2017, one head and one query at a time."""
    out = np.zeros_like(V)
    for b in range(2):
        for h in range(3):
            for t in range(5):
                seen = t + 1 if causal else 5
                scores = K[b, :seen, h] @ Q[b, t, h] / 2.0
                weights = np.exp(scores - scores.max())
                out[b, t, h] = (weights / weights.sum()) @ V[b, :seen, h]
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("x64", "tolerance"), [(False, 1e-5), (True, 1e-12)])
def test_equals_a_loop_over_queries(causal: bool, x64: bool, tolerance: float) -> None:
    with jax.enable_x64(x64):
        out = attention(jnp.asarray(Q), jnp.asarray(K), jnp.asarray(V), causal=causal)
    np.testing.assert_allclose(out, loop(causal), rtol=tolerance, atol=tolerance)


@pytest.mark.reference
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_equal_pytorch(causal: bool) -> None:
    torch = pytest.importorskip("torch")
    theirs = [torch.from_numpy(x).transpose(1, 2).detach().requires_grad_() for x in (Q, K, V)]
    out = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=causal)
    (out**2).sum().backward()
    with jax.enable_x64(True):
        ours = jax.grad(lambda args: jnp.sum(attention(*args, causal=causal) ** 2))(
            tuple(jnp.asarray(x) for x in (Q, K, V))
        )
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other.grad.transpose(1, 2).numpy(), rtol=1e-9, atol=1e-12)


def test_large_scores_stay_finite() -> None:
    out = attention(jnp.asarray(Q) * 1e3, jnp.asarray(K) * 1e3, jnp.asarray(V), causal=True)
    assert bool(jnp.all(jnp.isfinite(out)))


def test_dropout_is_applied_to_the_weights() -> None:
    out = attention(jnp.asarray(Q), jnp.asarray(K), jnp.asarray(V), causal=False, drop=jnp.zeros_like)
    np.testing.assert_array_equal(out, np.zeros_like(V))


MASK = jnp.arange(5)[None] < jnp.asarray([[3], [0]])


def single(*arrays):
    return tuple(jnp.asarray(array, "float32") for array in arrays)


def weights_of(*arrays, **options):
    kept = []
    attention(*arrays, observe=kept.append, **options)
    return kept[0]


@pytest.mark.parametrize("causal", [False, True])
def test_padded_keys_have_no_weight_and_change_nothing(causal):
    """The second sequence is all padding: its weights are zeros too, and nothing is nan."""
    q, k, v = single(Q, K, V)
    weights = weights_of(q, k, v, causal=causal, mask=MASK)
    np.testing.assert_array_equal(weights[0, ..., 3:], 0)
    np.testing.assert_array_equal(weights[1], 0)
    np.testing.assert_allclose(weights[0].sum(-1), 1, rtol=1e-6)

    def product(q, k, v):
        out = attention(q, k, v, causal=causal, mask=MASK)
        return (out**2).sum(), out

    run = jax.jit(jax.value_and_grad(product, (0, 1, 2), has_aux=True))
    other = jnp.where(MASK[:, :, None, None], k, 1e6), jnp.where(MASK[:, :, None, None], v, -1e6)
    results = [run(q, k, v), run(q, *other)]
    for ours, reference in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(ours, reference)
    (_, out), gradients = results[0]
    np.testing.assert_array_equal(out[1], 0)
    assert all(bool(jnp.isfinite(g).all()) for g in gradients)
    short = attention(q[:1], k[:1, :3], v[:1, :3], causal=False)
    if not causal:
        np.testing.assert_allclose(out[:1], short, rtol=1e-5, atol=1e-6)


@pytest.mark.reference
def test_grouped_heads_equal_pytorch() -> None:
    """Six heads of queries, two of keys and values, whose sizes differ; outputs and gradients, with padding."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    arrays = [random.normal(size=(2, 5, heads, size)) for heads, size in ((6, 4), (2, 4), (2, 3))]
    visible = np.tril(np.ones((5, 5), bool))[None, None] & (np.arange(5)[None] < np.array([[5], [2]]))[:, None, None]
    theirs = [torch.from_numpy(x).transpose(1, 2).detach().requires_grad_() for x in arrays]
    out = torch.nn.functional.scaled_dot_product_attention(*theirs, attn_mask=torch.tensor(visible), enable_gqa=True)
    (out**2).sum().backward()
    with jax.enable_x64(True):

        def product(args):
            out = attention(*args, causal=True, mask=jnp.asarray(visible[:, 0, -1]))
            return (out**2).sum(), out

        (_, ours), gradients = jax.value_and_grad(product, has_aux=True)(tuple(jnp.asarray(x) for x in arrays))
    np.testing.assert_allclose(ours, out.detach().transpose(1, 2).numpy(), rtol=1e-10, atol=1e-12)
    for mine, other in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(mine, other.grad.transpose(1, 2).numpy(), rtol=1e-9, atol=1e-12)


def test_a_query_sees_keys_up_to_its_own_position() -> None:
    q, k, v = single(Q, K, V)
    where = jnp.asarray([[1, 2], [3, 4]], "int32")
    out = attention(q[:, :2], k, v, causal=True, positions=where)
    rows = jnp.stack([jnp.stack([q[b, t - where[b, 0]] for t in range(5)]) for b in range(2)])  # queries 0, 1 at home
    whole = attention(rows, k, v, causal=True)
    for b, i in np.ndindex(2, 2):
        np.testing.assert_allclose(out[b, i], whole[b, int(where[b, i])], rtol=1e-5, atol=1e-6)


def test_half_precision_has_its_softmax_in_single() -> None:
    q, k, v = (x.astype("bfloat16") for x in single(Q, K, V))
    weights = weights_of(q, k, v, causal=False)
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights, weights_of(*(x.astype("float32") for x in (q, k, v)), causal=False), rtol=1e-5)
    assert attention(q, k, v, causal=False).dtype == jnp.bfloat16


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, MASK])
def test_the_fused_kernel_is_asked_for_the_same(causal, mask, monkeypatch) -> None:
    """What cuDNN is asked for, computed by JAX's slow form of the same function."""
    slow = jax.nn.dot_product_attention
    asked = []

    def stand_in(*arrays, implementation, **options):
        asked.append(implementation)
        return slow(*arrays, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
    q, k, v = single(Q, K, V)
    q = jnp.concatenate([q, -q], axis=2)
    plain = attention(q, k, v, causal=causal, mask=mask)
    assert not asked
    monkeypatch.setattr(module, "_fused_kernel_takes", lambda *arrays: True)
    np.testing.assert_allclose(attention(q, k, v, causal=causal, mask=mask), plain, rtol=1e-5, atol=1e-6)
    assert asked == ["cudnn"]
    # Nobody can see, drop or bias weights that are never held.
    weights_of(q, k, v, causal=causal, mask=mask)
    attention(q, k, v, causal=causal, mask=mask, drop=lambda weights: weights)
    attention(q, k, v, causal=causal, mask=mask, bias=jnp.zeros((1, 6, 5, 5)))
    assert asked == ["cudnn"]


@pytest.mark.parametrize(
    ("size", "value_size", "dtype", "capability", "fused"),
    [
        (64, 64, "bfloat16", "9.0", True),
        (8, 8, "float16", "8.0", True),
        (64, 64, "float32", "9.0", False),
        (20, 20, "bfloat16", "9.0", False),
        (136, 136, "bfloat16", "9.0", False),
        (64, 32, "bfloat16", "9.0", False),
        (64, 64, "bfloat16", "7.5", False),
        (64, 64, "bfloat16", "gfx90a", False),
    ],
)
def test_when_the_fused_kernel_is_asked(size, value_size, dtype, capability, fused, monkeypatch) -> None:
    class Device:
        compute_capability = capability

    queries, values = (jnp.zeros((1, 4, 2, s), dtype) for s in (size, value_size))
    assert jax.default_backend() != "cpu" or not module._fused_kernel_takes(queries, queries, values)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert module._fused_kernel_takes(queries, queries, values) == fused


@pytest.mark.skipif("jax.default_backend() != 'gpu'", reason="needs a GPU with cuDNN")
@pytest.mark.parametrize("mask", [None, MASK])
def test_the_fused_kernel_on_a_gpu(mask) -> None:
    q, k, v = (jnp.asarray(np.random.default_rng(2).normal(size=(2, 5, 4, 64)), "bfloat16") for _ in range(3))

    def product(args, observe):
        out = attention(*args, causal=True, mask=mask, observe=observe)
        return (out.astype("float32") ** 2).sum(), out

    fused, plain = (jax.value_and_grad(product, has_aux=True)((q, k, v), o) for o in (None, lambda weights: None))
    for ours, reference in zip(*map(jax.tree.leaves, (fused, plain)), strict=True):
        reference = np.asarray(reference, "float32")
        np.testing.assert_allclose(np.asarray(ours, "float32"), reference, atol=3e-2 * np.abs(reference).max())
