"""Diagnostics: what a training step does to each layer, measured inside the compiled program, lane by lane.

A layer is a module of the model, by the path of its parameters (``hidden_0``, ``block_1/attention_out``); blocks that
are scanned over are told apart as if they were not. What is measured: see :class:`train.sections.Diagnostics`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from models.base import SCANNED, BadInput, check_divides
from models.inputs import Padded, Pair
from train import randomness, state_gradients
from train.config import Config
from train.curvature import Tridiagonal, extremes, hessian_product, lanczos
from train.data.task import Batch, Task
from train.parameters import path_name
from train.step import Hyperparameters, State, Step

Measured = dict[str, Any]
"""Arrays by name, of one lane: what the program hands to the host."""

ATTENTION = "attention_weights"
"""How the names end under which models record attention weights."""


SUMS, RESTS = "training_sums/", "training_rests/"
"""How the names begin of the sums over the training split, and of what their rounding left."""


def check(config: Config, task: Task, batch_size: int) -> None:
    """Refuse parts of a batch that would not be equal, and a training split without end.

    Raises:
        BadInput: they would not, or there is no whole of it.
    """
    if config.diagnostics.training_split and set(task.train.arrays) != set(task.validation.arrays):
        raise BadInput(
            f"diagnostics.training_split=true: the training examples of {config.data.name!r} are made as they are "
            "needed, and there is no whole of them; leave it false"
        )
    if config.diagnostics.noise_scale:
        parts = config.diagnostics.noise_scale_parts
        check_divides("diagnostics.noise_scale_parts", parts, "the size of a batch", batch_size)


def make_diagnosis(config: Config, step: Step) -> Callable[..., Measured]:
    """``(state, hyperparameters, batch, keys, seed, number) -> measured``, for one trial; pure, and traced by jax.

    Args:
        config: any configuration of the population.
        step: the pure functions of its trials.
    """
    wanted = config.diagnostics

    def diagnose(
        state: State, hyperparameters: Hyperparameters, batch: Batch, keys: Mapping[str, Any], seed: Any, number: Any
    ) -> Measured:
        found: Measured = {}
        loss, augmented, _ = step.loss(state, hyperparameters, batch, keys)
        if wanted.norms:
            following = step.train(state, hyperparameters, batch, keys, number).params
            update = jax.tree.map(jnp.subtract, following, state.params)
            gradient = loss.with_gradient(state.params)[1]
            for name, tree in (("gradient", gradient), ("parameter", state.params), ("update", update)):
                found |= {f"{name}_norm/{layer}": value for layer, value in layer_norms(tree).items()}
        if wanted.small_weights:
            found |= {f"small_weights/{name}": share for name, share in small_weights(state.params).items()}
        if wanted.activations or wanted.attention_entropy:
            recorded = _apart(step.inspect(state, hyperparameters, augmented.inputs))
            for name, array in recorded.items():
                if name.endswith(ATTENTION) and wanted.attention_entropy:
                    mask = _real(augmented.inputs, name, (array.shape[0], array.shape[-2]))
                    layer = name.removesuffix(ATTENTION).rstrip("/_")
                    found[f"attention_entropy/{layer or name}"] = entropy(array, mask)
                elif wanted.activations and not name.endswith(ATTENTION):
                    found |= _activation(name, array, _real(augmented.inputs, name, array.shape[:2]))
        if wanted.state_gradients:
            found |= state_gradients.measure(
                state.params,
                augmented.inputs,
                lambda size, length: step.start(state, size, length),
                lambda inputs, carry: step.advance(state, hyperparameters, inputs, carry),
            )
        if wanted.curvature:
            key = randomness.at(randomness.stream(randomness.root(seed), "curvature"), number)
            product = hessian_product(lambda params: loss.with_gradient(params)[1], state.params)
            matrix = lanczos(product, state.params, key, iterations=wanted.curvature_iterations)
            found |= {"curvature/diagonal": matrix.diagonal, "curvature/beside": matrix.beside}
        if wanted.noise_scale:
            found |= _gradient_squares(step.loss, state, hyperparameters, batch, keys, wanted.noise_scale_parts)
        return found

    return diagnose


def finish(measured: Mapping[str, Any], *, config: Config, batch_size: int, at_end: bool = False) -> dict[str, float]:
    """The columns of one lane, from what the program measured of it.

    Args:
        measured: NumPy arrays of the lane.
        config: of the population.
        batch_size: items in a step.
        at_end: that no step follows: there is no update then.
    """
    result: dict[str, float] = {}
    parts: dict[str, np.ndarray] = {}
    for name, value in measured.items():
        if name.startswith(("curvature/", "gradient_squares/")):
            parts[name.rpartition("/")[2]] = np.asarray(value, np.float64)
        elif not (at_end and name.startswith("update_norm/")):
            result[name] = float(value)
    for kind in ("gradient", "parameter", "update"):
        own = [value for name, value in result.items() if name.startswith(f"{kind}_norm/")]
        if own:
            result[f"{kind}_norm"] = float(np.linalg.norm(own))
    for name in [name for name in result if name.startswith("update_norm")]:
        weight = result[name.replace("update", "parameter", 1)]
        result[name.replace("update_norm", "update_ratio", 1)] = result[name] / weight if weight else np.nan
    if "diagonal" in parts:
        found = extremes(Tridiagonal(parts["diagonal"], parts["beside"]))
        result |= {f"curvature_{name}": value for name, value in found._asdict().items()}
    if "small" in parts:
        size = batch_size // config.diagnostics.noise_scale_parts
        result |= noise_scale(float(parts["small"]), float(parts["big"]), small_batch=size, big_batch=batch_size)
    return result


def named_sums(evaluation: Any) -> Measured:
    """The sums over the training split that an evaluation gives (:class:`train.lane.Evaluation`), each by a name."""
    parts = ((SUMS, evaluation.sums), (RESTS, evaluation.rests))
    return {f"{prefix}{name}": value for prefix, part in parts for name, value in part.items()}


def separated(measured: Measured) -> tuple[dict[str, np.ndarray], Measured]:
    """Of what was measured of a lane, the sums over the whole training split in float64, and the rest."""
    sums = {
        name.removeprefix(SUMS): np.float64(value) + np.float64(measured[name.replace(SUMS, RESTS, 1)])
        for name, value in measured.items()
        if name.startswith(SUMS)
    }
    rest = {name: value for name, value in measured.items() if not name.startswith((SUMS, RESTS))}
    return {name: np.asarray(value) for name, value in sums.items()}, rest


def of_training(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics over the whole training split by column: ``training_accuracy``."""
    return {f"training_{name}": value for name, value in metrics.items()}


def layer_norms(tree: PyTree) -> dict[str, Float[Array, ""]]:
    """The Euclidean norm of all arrays of each layer: ``sqrt(sum of squares)``."""
    sums: dict[str, Any] = {}
    leaves = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    for name, leaf in _apart(leaves).items():
        layer = name.rpartition("/")[0] or name
        sums[layer] = sums.get(layer, 0.0) + jnp.sum(jnp.square(leaf.astype(jnp.float32)))
    return {layer: jnp.sqrt(total) for layer, total in sums.items()}


SMALL = 0.01
"""Weights of less than this share of the largest of their kernel count as small."""


def small_weights(params: PyTree) -> dict[str, Float[Array, ""]]:
    """For each kernel, by its layer, the share of weights w with ``|w| < 0.01 max |w|``: nearly absent."""
    leaves = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    sizes = {name: jnp.abs(leaf) for name, leaf in _apart(leaves).items() if leaf.ndim > 1}
    return {name.rpartition("/")[0] or name: jnp.mean(size < SMALL * jnp.max(size)) for name, size in sizes.items()}


def _apart(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays by name, those of scanned blocks one for each block: ``blocks/x`` as ``block_0/x``, ``block_1/x``."""
    result: dict[str, Any] = {}
    for name, array in arrays.items():
        path = name.split("/")
        if SCANNED not in path:
            result[name] = array
            continue
        place = path.index(SCANNED)
        for index in range(array.shape[0]):
            result["/".join([*path[:place], f"block_{index}", *path[place + 1 :]])] = array[index]
    return result


def _real(inputs: Any, name: str, shape: tuple[int, ...]) -> Float[Array, "batch positions"]:
    """1 at the real positions of what was recorded under ``name``, 0 at padding; ones where nothing is padded."""
    if isinstance(inputs, Pair):
        inputs = inputs.target if name.startswith("decoder") else inputs.source
    if isinstance(inputs, Padded) and inputs.mask.shape == tuple(shape):
        return inputs.mask.astype(jnp.float32)
    return jnp.ones(shape, jnp.float32)


def entropy(weights: Float[Array, "batch *heads queries keys"], real: Float[Array, "batch queries"]) -> Array:
    """``-sum over keys of p log p`` in nats, the mean over all heads and real queries.

    Args:
        weights: p, of which each row sums to 1.
        real: 1 at the queries that count.
    """
    weights = weights.astype(jnp.float32)
    each = -jnp.sum(weights * jnp.log(jnp.where(weights > 0, weights, 1)), axis=-1)
    factors = jnp.broadcast_to(_aligned(real, each.ndim, position_axis=-1), each.shape)
    return jnp.sum(each * factors) / jnp.sum(factors)


def _aligned(real: Array, axes: int, *, position_axis: int) -> Array:
    """The mask [batch, positions] with axes of one element between or after, to multiply what has so many axes."""
    between = (1,) * (axes - 2)
    shape = (len(real), *between, real.shape[1]) if position_axis == -1 else (*real.shape, *between)
    return real.reshape(shape)


def _activation(name: str, values: Array, real: Array) -> Measured:
    """Mean, standard deviation and share of dead units of activations [batch, ..., units]."""
    values = values.astype(jnp.float32)
    if values.ndim == 2:
        factors = jnp.ones(values.shape, jnp.float32)
    else:
        factors = jnp.broadcast_to(_aligned(real, values.ndim, position_axis=1), values.shape)
    count = jnp.sum(factors)
    mean = jnp.sum(values * factors) / count
    deviation = jnp.sqrt(jnp.sum(jnp.square(values - mean) * factors) / count)
    dead = jnp.all((values == 0) | (factors == 0), axis=tuple(range(values.ndim - 1)))
    return {
        f"activation_mean/{name}": mean,
        f"activation_std/{name}": deviation,
        f"dead_units/{name}": jnp.mean(dead.astype(jnp.float32)),
    }


def _gradient_squares(
    make_loss: Callable[..., tuple[Any, ...]],
    state: Any,
    hyperparameters: Hyperparameters,
    batch: Batch,
    keys: Mapping[str, Any],
    parts: int,
) -> Measured:
    """The squared norm of the gradient: the mean over the parts of a batch, and that of their mean.

    Every part has draws of its own, and statistics of its own where a model normalises by batch. ``make_loss`` is that
    of :class:`train.step.Step`.
    """
    split = jax.tree.map(lambda leaf: leaf.reshape(parts, leaf.shape[0] // parts, *leaf.shape[1:]), batch)

    def add(carry: tuple, at: tuple) -> tuple[tuple, None]:
        total, squares = carry
        number, part = at
        own = {name: jax.random.fold_in(key, number) for name, key in keys.items()}
        loss = make_loss(state, hyperparameters, part, own, in_parts=False)[0]
        gradient = loss.with_gradient(state.params)[1]
        return (jax.tree.map(jnp.add, total, gradient), squares + _square(gradient)), None

    nothing = jax.tree.map(jnp.zeros_like, state.params)
    (total, squares), _ = jax.lax.scan(add, (nothing, jnp.float32(0)), (jnp.arange(parts), split))
    return {"gradient_squares/small": squares / parts, "gradient_squares/big": _square(total) / parts**2}


def _square(tree: PyTree) -> Array:
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), jnp.float32(0))


def noise_scale(small: float, big: float, *, small_batch: int, big_batch: int) -> dict[str, float]:
    """The simple noise scale B = tr(Sigma) / |G|^2 from the gradients of two sizes of batch.

    With b and B items, and the squared norms of their gradients,
    ``|G|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b)`` and ``tr(Sigma) = (|G_b|^2 - |G_B|^2) / (1/b - 1/B)``, both without
    bias (McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1). Their ratio is biased and
    noisy: for a steady estimate, divide the means of the two columns over several rows. Where the estimate of |G|^2 is
    not positive the ratio says nothing and is NaN.

    Args:
        small: |G_b|^2.
        big: |G_B|^2.
        small_batch: b.
        big_batch: B.
    """
    square = (big_batch * big - small_batch * small) / (big_batch - small_batch)
    variance = (small - big) / (1 / small_batch - 1 / big_batch)
    return {
        "noise_scale": variance / square if square > 0 else np.nan,
        "noise_scale_gradient": square,
        "noise_scale_variance": variance,
    }
