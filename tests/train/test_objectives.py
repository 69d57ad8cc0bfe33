"""Cross-entropy and the metrics, against PyTorch, a float64 NumPy version and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import objectives
from train.data.task import Batch
from train.objectives import cross_entropy

SMOOTHING = [0.0, 0.1, 0.7]
CLASSIFICATION = objectives.classification()
LANGUAGE = objectives.language_modelling("character")


def draw(*shape, classes=7, scale=3.0):
    generator = np.random.default_rng(0)
    return (
        (scale * generator.normal(size=(*shape, classes))).astype(np.float32),
        generator.integers(0, classes, shape).astype(np.int32),
    )


def numpy_cross_entropy(logits, targets, epsilon):
    """- sum_k q_k log p_k with q = (1 - epsilon) one-hot + epsilon / K, in float64, from its definition."""
    logits = np.asarray(logits, np.float64)
    classes = logits.shape[-1]
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    smoothed = (1 - epsilon) * np.eye(classes)[targets] + epsilon / classes
    return -(smoothed * np.log(probabilities)).sum(-1)


@pytest.mark.parametrize("epsilon", SMOOTHING)
@pytest.mark.parametrize("shape", [(5,), (2, 6)])
def test_cross_entropy_is_its_definition(shape, epsilon):
    logits, targets = draw(*shape)
    expected = numpy_cross_entropy(logits, targets, epsilon)
    for smoothing in (epsilon, jnp.float32(epsilon)):
        loss = cross_entropy(jnp.asarray(logits), jnp.asarray(targets), label_smoothing=smoothing)
        np.testing.assert_allclose(loss, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.reference
@pytest.mark.parametrize("epsilon", SMOOTHING)
def test_cross_entropy_and_its_gradient_are_those_of_pytorch(epsilon):
    torch = pytest.importorskip("torch")
    logits, targets = draw(9)
    reference = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(reference, torch.tensor(targets).long(), label_smoothing=epsilon)
    loss.backward()
    batch = Batch(None, jnp.asarray(targets), jnp.ones(9))
    ours, gradient = jax.value_and_grad(CLASSIFICATION.loss)(
        jnp.asarray(logits), batch, label_smoothing=jnp.float32(epsilon)
    )
    np.testing.assert_allclose(ours, loss.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, reference.grad, rtol=1e-5, atol=1e-7)


def test_extreme_logits_stay_finite():
    logits = jnp.asarray([[1e4, -1e4, 0.0], [-3e38, 3e38, 0.0]])
    loss = cross_entropy(logits, jnp.asarray([0, 1]), label_smoothing=0.0)
    np.testing.assert_array_equal(loss, [0.0, 0.0])


def test_the_loss_is_the_mean_over_items_of_weight_one():
    logits, targets = draw(6)
    weights = np.asarray([1, 1, 0, 1, 0, 0], np.float32)
    batch = Batch(None, jnp.asarray(targets), jnp.asarray(weights))
    expected = numpy_cross_entropy(logits, targets, 0.2)[weights == 1].mean()
    loss, gradient = jax.value_and_grad(CLASSIFICATION.loss)(jnp.asarray(logits), batch, label_smoothing=0.2)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert not gradient[weights == 0].any()
    assert gradient[weights == 1].any(axis=-1).all()


@pytest.mark.parametrize("objective", [CLASSIFICATION, LANGUAGE], ids=["classification", "language"])
def test_sums_add_up_over_batches(objective):
    logits, targets = draw(4, 6)
    weights = (np.arange(24).reshape(4, 6) < 17).astype(np.float32)
    batches = [slice(0, 1), slice(1, 4)]
    parts = [
        objective.sums(jnp.asarray(logits[b]), Batch(None, jnp.asarray(targets[b]), jnp.asarray(weights[b])))
        for b in batches
    ]
    total = {name: np.asarray(sum(part[name] for part in parts), np.float64) for name in parts[0]}
    metrics = objective.finish(total)
    real = weights == 1
    assert total["weight"] == 17
    assert tuple(metrics) == objective.metrics
    np.testing.assert_allclose(metrics["loss"], numpy_cross_entropy(logits, targets, 0.0)[real].mean(), rtol=1e-6)
    assert metrics["accuracy"] == pytest.approx((logits.argmax(-1) == targets)[real].mean(), abs=1e-12)


def test_a_uniform_guess_costs_log2_of_the_vocabulary_in_bits():
    tokens = jnp.zeros((2, 5), jnp.int32)
    sums = LANGUAGE.sums(jnp.zeros((2, 5, 32)), Batch(None, tokens, jnp.ones((2, 5))))
    metrics = LANGUAGE.finish({name: float(value) for name, value in sums.items()})
    assert metrics["bits_per_character"] == pytest.approx(5.0, rel=1e-6)
    assert metrics["loss"] == pytest.approx(5 * math.log(2), rel=1e-6)


def test_the_loss_early_and_late_in_a_window_is_that_of_its_tokens():
    logits, targets = draw(3, 32)
    weights = np.ones((3, 32), np.float32)
    weights[2, 3:] = 0  # the text ends here
    objective = objectives.language_modelling("character", by_position=True)
    batch = Batch(None, jnp.asarray(targets), jnp.asarray(weights))
    found = objective.finish(jax.tree.map(np.asarray, objective.sums(jnp.asarray(logits), batch)))
    losses = numpy_cross_entropy(logits, targets, 0.0)
    early = losses[:2, 2:4].sum() + losses[2, 2]
    assert found["loss_early"] == pytest.approx(early / 5, rel=1e-5)
    assert found["loss_late"] == pytest.approx(losses[:2, 24:].mean(), rel=1e-5)
    assert found["context_gain"] == pytest.approx(early / 5 - losses[:2, 24:].mean(), rel=1e-4)
    assert set(found) == set(objective.metrics)
    # All else is as without it.
    plain = LANGUAGE.finish(jax.tree.map(np.asarray, LANGUAGE.sums(jnp.asarray(logits), batch)))
    assert plain == {name: found[name] for name in LANGUAGE.metrics}
