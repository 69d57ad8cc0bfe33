"""Objectives: what a task minimises and what it reports, as pure functions of outputs and a batch.

Cross-entropy serves classification (one target an example) and language modelling (one a position)
alike; only the metrics that are reported differ. Every mean is over real items: those of weight 1.
A task of another kind brings an :class:`Objective` of its own.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
        loss: ``(outputs, batch, **values) -> scalar``, the weighted mean that is minimised.
        regularisers: names of the regularisation fields that :attr:`loss` takes as ``values``, where they are on.
        sums: ``(outputs, batch) -> {name: array}``, sums over a batch that add up over batches.
        metrics: names of the metrics that :attr:`finish` gives.
        finish: from the sums over a whole split, as NumPy arrays, to its metrics.
    """

    loss: Callable[..., Array]
    regularisers: tuple[str, ...]
    sums: Callable[..., dict[str, Array]]
    metrics: tuple[str, ...]
    finish: Callable[[Mapping[str, Any]], dict[str, float]]


def _loss(
    logits: Array, batch: Batch, *, label_smoothing: Array | float = 0.0, z_loss: Array | float = 0.0
) -> Float[Array, ""]:
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


def _classification(sums: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(sums[total] / sums["weight"]) for name, total in (("loss", "loss"), ("accuracy", "correct"))}


def _language_modelling(unit: str, sums: Mapping[str, Any]) -> dict[str, float]:
    finished = _classification(sums)
    return {"loss": finished["loss"], f"bits_per_{unit}": finished["loss"] / math.log(2), **finished}


OF_LOGITS = ("label_smoothing", "z_loss")
"""The regularisation fields that act on logits: an objective without logits has none of them."""


def classification() -> Objective:
    """The class of each item: cross-entropy in nats, and accuracy."""
    return Objective(_loss, OF_LOGITS, _sums, ("loss", "accuracy"), _classification)


def language_modelling(unit: str) -> Objective:
    """The token after each token: cross-entropy in nats, in bits, and accuracy.

    Args:
        unit: what a token is: character, byte, ...; it names the metric ``bits_per_<unit>``.
    """
    metrics = ("loss", f"bits_per_{unit}", "accuracy")
    return Objective(_loss, OF_LOGITS, _sums, metrics, functools.partial(_language_modelling, unit))
