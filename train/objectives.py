"""Objectives: what a task minimises and what it reports, as pure functions of outputs and a batch.

Cross-entropy serves classification (one target an example) and language modelling (one a position)
alike, the mean squared error regression and forecasting; only the metrics that are reported differ.
Every mean is over real items: those of weight 1. A task of another kind brings an :class:`Objective` of its own.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from models.layers.partitioning import tensor_parts
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
    loss = _of_labels(logits, targets)
    if isinstance(label_smoothing, float) and label_smoothing == 0.0:
        return loss
    uniform = jax.nn.logsumexp(logits, axis=-1) - jnp.mean(logits, axis=-1)
    return (1.0 - label_smoothing) * loss + label_smoothing * uniform


def _of_labels(logits: Array, targets: Array) -> Array:
    """Cross-entropy without smoothing; of logits that are cut along the classes, without looking any of them up."""
    if tensor_parts(logits.shape[-1]) == 1:
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    # XLA's partitioner aborts at a look-up along an axis that is cut, in a program with lanes.
    is_target = targets[..., None] == jnp.arange(logits.shape[-1]).reshape((1,) * targets.ndim + (-1,))
    chosen = jnp.sum(jnp.where(is_target, logits, jnp.zeros((), logits.dtype)), axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def total_weight(batch: Batch) -> Float[Array, ""]:
    """The sum of the weights of a batch's items, which a mean over the items is divided by."""
    return jnp.sum(batch.weights)


class Objective(NamedTuple):
    """What is minimised and what is reported.

    Attributes:
        loss: ``(outputs, batch, **values) -> scalar``, the weighted mean that is minimised.
        regularisers: names of the regularisation fields that :attr:`loss` takes as ``values``, where they are on.
        sums: ``(outputs, batch) -> {name: array}``, sums over a batch that add up over batches. One named
            ``confusion`` [classes, classes] counts true and predicted class; the test split's goes to a file.
        metrics: names of the metrics that :attr:`finish` gives.
        finish: from the sums over a whole split, as NumPy arrays, to its metrics.
        weight: ``batch -> scalar``, what :attr:`loss` divides its sum over items by, up to a constant: so the losses
            of the parts of a batch, weighted by it, add up to the loss of the batch.
    """

    loss: Callable[..., Array]
    regularisers: tuple[str, ...]
    sums: Callable[..., dict[str, Array]]
    metrics: tuple[str, ...]
    finish: Callable[[Mapping[str, Any]], dict[str, float]]
    weight: Callable[[Batch], Array] = total_weight


MOST_CONFUSED = 100
"""Classes up to which a classification counts every pair of true and predicted class."""


def _items(
    logits: Array, batch: Batch, *, label_smoothing: Array | float = 0.0, z_loss: Array | float = 0.0
) -> Float[Array, "*items"]:
    """The loss of each item before its weight."""
    items = cross_entropy(logits, batch.targets, label_smoothing=label_smoothing)
    if not (isinstance(z_loss, float) and z_loss == 0.0):
        items += z_loss * jnp.square(jax.nn.logsumexp(logits, axis=-1))
    return items


def _loss(logits: Array, batch: Batch, **values: Array | float) -> Float[Array, ""]:
    return jnp.sum(_items(logits, batch, **values) * batch.weights) / jnp.sum(batch.weights)


def _sums(logits: Array, batch: Batch) -> dict[str, Array]:
    items = cross_entropy(logits, batch.targets, label_smoothing=0.0)
    correct = jnp.argmax(logits, axis=-1) == batch.targets
    return {
        "loss": jnp.sum(items * batch.weights),
        "correct": jnp.sum(correct * batch.weights),
        "weight": jnp.sum(batch.weights),
    }


def _means(sums: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(sums[total] / sums["weight"]) for name, total in (("loss", "loss"), ("accuracy", "correct"))}


HIGHEST_PERPLEXITY = 300.0
"""Nats from which on a perplexity is that of so many: no finite loss is a divergence, whatever floats hold.

The loss itself is reported as it is. From here, means and squares over seeds stay finite too.
"""


def _perplexity(loss: float) -> float:
    """``exp(loss)``; where a finite loss is beyond :data:`HIGHEST_PERPLEXITY`, that of this bound."""
    return math.exp(loss if math.isinf(loss) else min(loss, HIGHEST_PERPLEXITY))


def _class_sums(logits: Array, batch: Batch) -> dict[str, Array]:
    """The sums, and how often each class is true, is predicted, and is both; all pairs where classes are few."""
    classes = logits.shape[-1]
    weights = batch.weights.reshape(-1)
    true = jax.nn.one_hot(batch.targets.reshape(-1), classes) * weights[:, None]
    predicted = jax.nn.one_hot(jnp.argmax(logits, axis=-1).reshape(-1), classes)
    if classes <= MOST_CONFUSED:
        return _sums(logits, batch) | {"confusion": jnp.matmul(true.T, predicted, precision="highest")}
    both = jnp.sum(true * predicted, axis=0)
    counts = {"true": jnp.sum(true, axis=0), "predicted": weights @ predicted, "both": both}
    return _sums(logits, batch) | counts


def macro_f1(
    true: Float[np.ndarray, " classes"], predicted: Float[np.ndarray, " classes"], both: Float[np.ndarray, " classes"]
) -> float:
    """Mean over the classes of ``2 both / (true + predicted)``, the harmonic mean of precision and recall.

    Classes that are neither true nor predicted anywhere are left out, as scikit-learn leaves them out.

    Args:
        true: how often each class is the target.
        predicted: how often it is predicted.
        both: how often it is predicted and the target.
    """
    total = true + predicted
    return float(np.mean(2 * both[total > 0] / total[total > 0]))


def _classification(sums: Mapping[str, Any]) -> dict[str, float]:
    if "confusion" in sums:
        matrix = np.asarray(sums["confusion"])
        score = macro_f1(matrix.sum(1), matrix.sum(0), np.diagonal(matrix))
    else:
        score = macro_f1(*(np.asarray(sums[name]) for name in ("true", "predicted", "both")))
    return {**_means(sums), "macro_f1": score}


def _translation_loss(tokens: float, logits: Array, batch: Batch, **values: Array | float) -> Float[Array, ""]:
    return jnp.sum(_items(logits, batch, **values) * batch.weights) / (batch.weights.shape[0] * tokens)


def _sentences(batch: Batch) -> Float[Array, ""]:
    return jnp.float32(batch.weights.shape[0])


def _translation(sums: Mapping[str, Any]) -> dict[str, float]:
    means = _means(sums)
    return {"loss": means["loss"], "perplexity": _perplexity(means["loss"]), "token_accuracy": means["accuracy"]}


def _spelling_sums(spelled: tuple[str, ...], logits: Array, batch: Batch) -> dict[str, Array]:
    lengths = {f"{unit}s": jnp.sum(batch.lengths[f"{unit}s"] * batch.weights) for unit in spelled}
    return _sums(logits, batch) | lengths


def _language_sums(spelled: tuple[str, ...], by_position: bool, logits: Array, batch: Batch) -> dict[str, Array]:
    sums = _spelling_sums(spelled, logits, batch)
    if by_position:
        items = cross_entropy(logits, batch.targets, label_smoothing=0.0) * batch.weights
        sums |= {"position_loss": jnp.sum(items, axis=0), "position_weight": jnp.sum(batch.weights, axis=0)}
    return sums


def _by_position(sums: Mapping[str, Any]) -> dict[str, float]:
    """The loss early and late in a window, and how much the context in between is worth."""
    loss, weight = (np.asarray(sums[f"position_{name}"], np.float64) for name in ("loss", "weight"))
    time = loss.size
    parts = {"early": slice(time // 16, time // 8), "late": slice(-(time // 4), None)}
    means = {name: float(loss[part].sum() / weight[part].sum()) for name, part in parts.items()}
    return {"loss_early": means["early"], "loss_late": means["late"], "context_gain": means["early"] - means["late"]}


def _language_modelling(unit: str, spelled: tuple[str, ...], sums: Mapping[str, Any]) -> dict[str, float]:
    loss, accuracy = _means(sums).values()
    bits = float(sums["loss"]) / math.log(2)
    return {
        "loss": loss,
        f"bits_per_{unit}": loss / math.log(2),
        **{f"bits_per_{other}": bits / float(sums[f"{other}s"]) for other in spelled},
        "accuracy": accuracy,
        # Saturates, for a finite loss is no divergence; NaN and infinity stay what they are.
        "perplexity": _perplexity(loss),
        **(_by_position(sums) if "position_loss" in sums else {}),
    }


OF_LOGITS = ("label_smoothing", "z_loss")
"""The regularisation fields that act on logits: an objective without logits has none of them."""


def classification() -> Objective:
    """The class of each item: cross-entropy in nats, accuracy, and macro-averaged F1."""
    return Objective(_loss, OF_LOGITS, _class_sums, ("loss", "accuracy", "macro_f1"), _classification)


def translation(tokens_per_sentence: float) -> Objective:
    """The next token at each position of a target: cross-entropy in nats, perplexity, and token accuracy.

    The loss of a batch is ``sum of the tokens' losses / (sentences x tokens_per_sentence)``. Divided by the
    batch's own number of tokens, it would weigh a token of short sentences more than one of long
    sentences where batches are of similar length. So each token weighs the same in every batch, and
    over an epoch the mean of the losses is the mean over tokens.

    Args:
        tokens_per_sentence: mean number of real target tokens in a sentence of the training split.
    """
    loss = functools.partial(_translation_loss, tokens_per_sentence)
    metrics = ("loss", "perplexity", "token_accuracy")
    return Objective(loss, OF_LOGITS, _sums, metrics, _translation, _sentences)


def language_modelling(unit: str, *, spelled: tuple[str, ...] = (), by_position: bool = False) -> Objective:
    """The token after each token: cross-entropy in nats and in bits, accuracy, and perplexity exp(loss).

    Bits are counted by token, and by what the tokens spell: ``sum of the tokens' bits / sum of the
    characters that they spell``. The latter can be compared whatever the tokens are.

    Args:
        unit: what a token is: character, byte, ...; it names the metric ``bits_per_<unit>``.
        spelled: what else bits are counted by; for each, as ``character``, an evaluation's batches have
            ``lengths["characters"]``.
        by_position: also the losses of the tokens from T/16 to T/8 of a window of T tokens (``loss_early``) and of its
            last quarter (``loss_late``), and their difference (``context_gain``): what the context between them is
            worth (Kaplan et al. 2020, section 3.2.1, has tokens 64 to 128 of 1,024).
    """
    metrics = ("loss", *(f"bits_per_{name}" for name in (unit, *spelled)), "accuracy", "perplexity")
    metrics += ("loss_early", "loss_late", "context_gain") if by_position else ()
    sums = functools.partial(_language_sums, spelled, by_position)
    return Objective(_loss, OF_LOGITS, sums, metrics, functools.partial(_language_modelling, unit, spelled))


class Rescalable(NamedTuple):
    """Real targets on the scale that a model predicts, and what leads back to their own units.

    Attributes:
        values: ``(y - location) / scale`` of targets y in their own units.
        location: in the units of y.
        scale: in the units of y, positive.
        error_scale: what a usual error is, on the scale of ``values``: the mean absolute error of the
            seasonal naive forecast over the past of the series. 0 where there is none.
    """

    values: Float[Array, "batch outputs"]
    location: Float[Array, "batch outputs"]
    scale: Float[Array, "batch outputs"]
    error_scale: Float[Array, "batch outputs"]


def _squared_error(outputs: Float[Array, "*items outputs"], targets: Array) -> Float[Array, " *items"]:
    """The mean squared error of each item over its outputs; an item of one output may leave that axis out."""
    return jnp.mean(jnp.square(outputs - targets.reshape(outputs.shape)), axis=-1)


def _values(batch: Batch) -> Array:
    return batch.targets.values if isinstance(batch.targets, Rescalable) else batch.targets


def _regression_loss(outputs: Array, batch: Batch) -> Float[Array, ""]:
    return jnp.sum(_squared_error(outputs, _values(batch)) * batch.weights) / jnp.sum(batch.weights)


def _regression_sums(outputs: Array, batch: Batch) -> dict[str, Array]:
    targets = _values(batch)
    absolute = jnp.mean(jnp.abs(outputs - targets.reshape(outputs.shape)), axis=-1)
    return {
        "squared": jnp.sum(_squared_error(outputs, targets) * batch.weights),
        "absolute": jnp.sum(absolute * batch.weights),
        "weight": jnp.sum(batch.weights),
    }


def _forecasting_sums(outputs: Array, batch: Batch) -> dict[str, Array]:
    values, location, scale, error_scale = batch.targets
    difference = jnp.abs(outputs - values)
    size = jnp.abs(values * scale + location) + jnp.abs(outputs * scale + location)
    ratio = jnp.where(size > 0, scale * difference / jnp.where(size > 0, size, 1), 0)
    defined = batch.weights[:, None] * (error_scale > 0)
    scaled = difference / jnp.where(error_scale > 0, error_scale, 1)
    return {
        **_regression_sums(outputs, batch),
        "symmetric": jnp.sum(jnp.mean(ratio, axis=-1) * batch.weights),
        "scaled": jnp.sum(scaled * defined),
        "defined": jnp.sum(defined),
    }


def _regression_metrics(sums: Mapping[str, Any]) -> dict[str, float]:
    return {"mse": float(sums["squared"] / sums["weight"]), "mae": float(sums["absolute"] / sums["weight"])}


def _forecasting_metrics(sums: Mapping[str, Any]) -> dict[str, float]:
    return {
        **_regression_metrics(sums),
        "smape": 200 * float(sums["symmetric"] / sums["weight"]),
        "mase": float(sums["scaled"] / sums["defined"]),
    }


def regression() -> Objective:
    """One or several real numbers for each item: the mean squared error; it and the mean absolute error.

    Outputs are ``[..., outputs]``, targets the same, or without the last axis where there is one output.
    """
    return Objective(_regression_loss, (), _regression_sums, ("mse", "mae"), _regression_metrics)


def forecasting() -> Objective:
    """The future of a series: the mean squared error, and the errors that forecasters compare.

    Targets are :class:`Rescalable`. With errors e = forecast - y, means over all steps, channels and
    windows: ``mse`` and ``mae`` are those of the values that the model predicts, standardised as the
    task says; ``smape`` is the mean of ``200 |e| / (|y| + |forecast|)`` in the series' own units, in per
    cent, 0 where both are 0 (Makridakis and Hibon 2000, appendix A, with absolute values); ``mase`` is the
    mean of ``|e| / q`` (Hyndman and Koehler 2006, section 3), where q is the mean absolute error of the seasonal
    naive forecast over the past of the series. A series of which q is 0 or unknown has no part in ``mase``.
    """
    metrics = ("mse", "mae", "smape", "mase")
    return Objective(_regression_loss, (), _forecasting_sums, metrics, _forecasting_metrics)


def _answer_sums(logits: Array, batch: Batch) -> dict[str, Array]:
    wrong = (jnp.argmax(logits, axis=-1) != batch.targets) & (batch.weights > 0)
    asked = jnp.any(batch.weights > 0, axis=1)
    return {
        **_sums(logits, batch),
        "strings": jnp.sum(asked, dtype=jnp.float32),
        "right": jnp.sum(asked & ~jnp.any(wrong, axis=1), dtype=jnp.float32),
    }


def _answers(sums: Mapping[str, Any]) -> dict[str, float]:
    return {**_means(sums), "string_accuracy": float(sums["right"] / sums["strings"])}


def answers() -> Objective:
    """The tokens that a sequence asks for, those of weight 1: cross-entropy in nats, and accuracy.

    ``string_accuracy`` is the share of sequences whose every such token is right. Targets and weights are
    [batch, time].
    """
    return Objective(_loss, OF_LOGITS, _answer_sums, ("loss", "accuracy", "string_accuracy"), _answers)
