"""Regularisers that act on gradients and parameters: penalties, noise, projections and averages."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from train.parameters import decay_mask

NOISE = "gradient_noise"
"""The random stream of gradient noise, and the field that it serves."""

Values = Mapping[str, Any]


def penalty(params: PyTree, values: Values, undecayed: str) -> Float[Array, ""] | float:
    """L1 and L2 on the loss over the decayed parameters: ``l1 sum |w| + l2 / 2 sum w^2``.

    Both together are the elastic net (Zou and Hastie 2005, equation 3, with lambda_1 = l1, lambda_2 = l2 / 2).

    Args:
        params: of the model.
        values: of the section; what is absent is off.
        undecayed: see :func:`train.parameters.decay_mask`.
    """
    mask = decay_mask(params, undecayed)
    decayed = [leaf for leaf, keep in zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True) if keep]
    total: Float[Array, ""] | float = 0.0
    if "l1" in values:
        total += values["l1"] * sum(jnp.sum(jnp.abs(leaf)) for leaf in decayed)
    if "l2" in values:
        total += 0.5 * values["l2"] * sum(jnp.sum(jnp.square(leaf)) for leaf in decayed)
    return total


def with_max_norm(params: PyTree, most: Array, undecayed: str) -> PyTree:
    """Decayed kernels whose columns are no longer than ``most`` (each column leads into one unit)."""

    def project(leaf: Array, decayed: bool) -> Array:
        if not decayed or leaf.ndim < 2:
            return leaf
        norm = jnp.sqrt(jnp.sum(jnp.square(leaf), axis=tuple(range(leaf.ndim - 1)), keepdims=True))
        return leaf * jnp.minimum(1, most / jnp.maximum(norm, jnp.finfo(leaf.dtype).tiny))

    return jax.tree.map(project, params, decay_mask(params, undecayed))


def noise(eta: Any, gamma: Any, key: Key[Array, ""] | None, step: Any) -> optax.GradientTransformation:
    """Gaussian noise of variance ``eta / (1 + step)^gamma`` on every element (Neelakantan et al. 2015, equation 1).

    Optax's ``add_noise`` is the same with a key that its state carries; here the key is a function of
    seed and step, like every other of Paribus.

    Args:
        eta: the variance at step 0. Where it is 0 the gradients stay as they are, bit for bit.
        gamma: how fast it falls.
        key: of this step; None where only the state is wanted, which is empty.
        step: the training step, from 0.
    """

    def add(gradients: PyTree, params: PyTree = None) -> PyTree:
        del params
        assert key is not None
        deviation = jnp.sqrt(eta / (1.0 + step) ** gamma)
        leaves, structure = jax.tree.flatten(gradients)
        keys = jax.random.split(key, len(leaves))
        noisy = [
            leaf + deviation * jax.random.normal(each, leaf.shape, leaf.dtype)
            for leaf, each in zip(leaves, keys, strict=True)
        ]
        return structure.unflatten(noisy)

    return optax.stateless(add)


def begin_averages(params: PyTree, batch_stats: PyTree, values: Values) -> dict[str, PyTree]:
    """The averages of the parameters before the first step; empty where there are none."""
    copy = jax.tree.map(jnp.copy, params)
    result: dict[str, PyTree] = {}
    if "ema_decay" in values:
        result["exponential"] = copy
    if "swa_every" in values:
        stats = jax.tree.map(jnp.copy, batch_stats)
        result["stochastic"] = {"params": jax.tree.map(jnp.copy, params), "batch_stats": stats, "count": jnp.int32(0)}
    return result


def advance_averages(
    averages: Mapping[str, PyTree],
    params: PyTree,
    values: Values,
    step: Any,
    statistics: Callable[[PyTree, PyTree], PyTree],
) -> dict[str, PyTree]:
    """The averages after a step.

    Exponential: ``a <- d a + (1 - d) w``. Stochastic (Izmailov et al. 2018, algorithm 1): at every
    ``swa_every``-th step from ``swa_start`` on, ``a <- (n a + w) / (n + 1)``.

    Args:
        averages: before the step.
        params: w, after it.
        values: of the section.
        step: the training step, from 0.
        statistics: ``(params, batch_stats) -> batch_stats`` after a training batch.
    """
    result = dict(averages)
    if "exponential" in averages:
        result["exponential"] = optax.incremental_update(params, averages["exponential"], 1 - values["ema_decay"])
    if "stochastic" in averages:
        result["stochastic"] = _stochastic(averages["stochastic"], params, values, step, statistics)
    return result


def _stochastic(own: Mapping[str, PyTree], params: PyTree, values: Values, step: Any, statistics: Any) -> PyTree:
    every, begun = values["swa_every"], jnp.asarray(step) + 1 - values["swa_start"]
    due = (every > 0) & (begun >= 0) & (jnp.mod(begun, jnp.maximum(every, 1)) == 0)
    count = own["count"]
    average = jax.tree.map(
        lambda a, w: jnp.where(due, (count.astype(a.dtype) * a + w) / (count + 1).astype(a.dtype), a),
        own["params"],
        params,
    )
    count = count + due
    batch_stats = own["batch_stats"]
    if jax.tree.leaves(batch_stats):
        batch_stats = jax.lax.cond(
            count > 0, lambda: statistics(average, batch_stats), lambda: jax.tree.map(jnp.asarray, batch_stats)
        )
    return {"params": average, "batch_stats": batch_stats, "count": count}


def averaged(averages: Mapping[str, PyTree], params: PyTree, batch_stats: PyTree, values: Values) -> tuple[Any, Any]:
    """The parameters and running statistics that an evaluation takes: those of the trial's average, where it has one.

    Trials of one program may differ in which average they have.
    """
    if "exponential" in averages:
        exponential = averages["exponential"]
        if "stochastic" in averages:
            has_one = values["ema_decay"] > 0
            params = jax.tree.map(lambda a, w: jnp.where(has_one, a, w), exponential, params)
        else:
            params = exponential
    if "stochastic" in averages:
        own = averages["stochastic"]
        params, batch_stats = jax.tree.map(
            lambda a, w: jnp.where(own["count"] > 0, a, w), (own["params"], own["batch_stats"]), (params, batch_stats)
        )
    return params, batch_stats
