"""Objectives: what a task minimises and what it reports, as pure functions of logits and a batch.

Cross-entropy serves classification (one target an example) and language modelling (one a position)
alike; only the metrics that are reported differ. Every mean is over real items: those of weight 1.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from train.data.task import Batch


def cross_entropy(
    logits: Float[Array, "*items classes"], targets: Int[Array, "*items"], *, label_smoothing: Float[Array, ""] | float
) -> Float[Array, "*items"]:
    """Cross-entropy in nats of each item, with smoothed targets.

    Args:
        logits: unnormalised log-probabilities.
        targets: index of the true class.
        label_smoothing: epsilon; the target is (1 - epsilon) one-hot + epsilon / classes
            (Szegedy et al. 2016, section 7).
    """
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    if isinstance(label_smoothing, float) and label_smoothing == 0.0:
        return loss
    uniform = jax.nn.logsumexp(logits, axis=-1) - jnp.mean(logits, axis=-1)
    return (1.0 - label_smoothing) * loss + label_smoothing * uniform


class Objective(NamedTuple):
    """What is minimised and what is reported.

    Attributes:
        loss: ``(logits, batch, label_smoothing, z_loss) -> scalar``, the weighted mean that is minimised.
        sums: ``(logits, batch) -> {name: scalar}``, sums over a batch that add up over batches;
            ``weight`` is the number of real items.
        metrics: names of the metrics that :attr:`finish` gives.
        finish: from the sums over a whole split to its metrics.
    """

    loss: Callable[..., Array]
    sums: Callable[..., dict[str, Array]]
    metrics: tuple[str, ...]
    finish: Callable[[Mapping[str, float]], dict[str, float]]


def _loss(logits: Array, batch: Batch, label_smoothing: Array | float, z_loss: Array | float = 0.0) -> Float[Array, ""]:
    items = cross_entropy(logits, batch.targets, label_smoothing=label_smoothing)
    if not (isinstance(z_loss, float) and z_loss == 0.0):
        items += z_loss * jnp.square(jax.nn.logsumexp(logits, axis=-1))
    return jnp.sum(items * batch.weights) / jnp.sum(batch.weights)


def _sums(logits: Array, batch: Batch) -> dict[str, Array]:
    items = cross_entropy(logits, batch.targets, label_smoothing=0.0)
    correct = jnp.argmax(logits, axis=-1) == batch.targets
    return {
        "loss": jnp.sum(items * batch.weights),
        "correct": jnp.sum(correct * batch.weights),
        "weight": jnp.sum(batch.weights),
    }


def _classification(sums: Mapping[str, float]) -> dict[str, float]:
    return {"loss": sums["loss"] / sums["weight"], "accuracy": sums["correct"] / sums["weight"]}


def _language_modelling(sums: Mapping[str, float]) -> dict[str, float]:
    nats = sums["loss"] / sums["weight"]
    return {"loss": nats, "bits_per_character": nats / math.log(2), "accuracy": sums["correct"] / sums["weight"]}


OBJECTIVES: Mapping[str, Objective] = {
    "classification": Objective(_loss, _sums, ("loss", "accuracy"), _classification),
    "language_modelling": Objective(_loss, _sums, ("loss", "bits_per_character", "accuracy"), _language_modelling),
}
"""The objectives by the name that a task declares."""
