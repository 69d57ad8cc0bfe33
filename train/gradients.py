"""The loss of a batch and its gradient: whole or in parts, with or without keeping what the backward pass needs.

In parts (``training.accumulation``), the loss of a batch is the sum over its parts of

    ``weight of the part / weight of the batch x loss of the part``,

where the weight is what the objective divides by. So it is the loss of the whole batch, whatever the
items weigh, and its gradient is that of the whole batch up to the rounding of another order of addition.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from models import Model
from models.base import check_divides
from models.layers.partitioning import by_batch
from train import augmentation, regularisers
from train.augmentation import Mixture
from train.config import Config
from train.data.task import Batch
from train.objectives import Objective


class Loss(NamedTuple):
    """What a step minimises, as functions of the parameters.

    Attributes:
        value: ``params -> (total, (loss, batch_stats))``: the loss with penalties and without, and the running
            statistics after the batch.
        with_gradient: ``params -> ((total, (loss, batch_stats)), gradients)``.
    """

    value: Callable[[PyTree], Any]
    with_gradient: Callable[[PyTree], Any]


def forward(model: Model, rematerialise: str) -> Callable[..., tuple[Any, PyTree]]:
    """The model in training: ``(params, batch_stats, inputs, rngs, values) -> (outputs, batch_stats)``.

    Args:
        model: as it is built.
        rematerialise: what the backward pass computes again; see :class:`train.sections.Training`.
    """

    def apply(params: PyTree, batch_stats: PyTree, inputs: Any, rngs: Any, values: Any) -> tuple[Any, PyTree]:
        variables = {"params": params, "batch_stats": batch_stats}
        return model.apply(variables, inputs, train=True, rngs=rngs, hyperparameters=values)

    if rematerialise == "nothing":
        return apply
    policies = {
        "elementwise": jax.checkpoint_policies.dots_saveable,
        "everything": jax.checkpoint_policies.nothing_saveable,
    }
    return jax.checkpoint(apply, policy=policies[rematerialise])


def make_loss(
    config: Config,
    objective: Objective,
    apply: Callable[..., tuple[Any, PyTree]],
    batch: Batch,
    mixture: Mixture | None,
    batch_stats: PyTree,
    rngs: Mapping[str, Any],
    hyperparameters: Mapping[str, Mapping[str, Any]],
    scale: Float[Array, ""] | None = None,
) -> Loss:
    """The loss of one batch.

    Args:
        config: the trial's.
        objective: of the task.
        apply: what :func:`forward` gives.
        batch: all of it.
        mixture: how its targets are mixed, where they are.
        batch_stats: running statistics before the step.
        rngs: the step's keys.
        hyperparameters: traced values by section.
        scale: of the loss in its backward pass (see :mod:`train.precision`); None: nothing is scaled.

    Raises:
        BadInput: the parts of the batch would not be equal.
    """
    values = hyperparameters.get("regularisation", {})
    consumed = {name: values[name] for name in objective.regularisers if name in values}
    parts = config.training.accumulation

    def penalty(params: PyTree) -> Any:
        return regularisers.penalty(params, values, config.regularisation.undecayed)

    def of_part(params: PyTree, stats: PyTree, rngs: Any, part: Batch, mixture: Mixture | None) -> tuple[Any, PyTree]:
        outputs, stats = apply(params, stats, part.inputs, rngs, hyperparameters.get("model", {}))
        return augmentation.loss(objective.loss, outputs, part, mixture, **consumed), stats

    if parts == 1:

        def value(params: PyTree) -> Any:
            loss, stats = of_part(params, batch_stats, rngs, batch, mixture)
            return loss + penalty(params), (loss, stats)

        return Loss(value, _with_gradient(value, scale))

    split = _split(batch, mixture, parts)
    whole = objective.weight(batch)

    def of_share(params: PyTree, stats: PyTree, number: Any, part: Batch, mixture: Mixture | None) -> Any:
        keys = {name: jax.random.fold_in(key, number) for name, key in rngs.items()}
        weight = objective.weight(part)
        # A part without any weight has no loss (0 / 0); it is given one, which then counts for nothing.
        part = part._replace(weights=jnp.where(weight > 0, part.weights, 1))
        loss, stats = of_part(params, stats, keys, part, mixture)
        return weight / whole * loss, stats

    def accumulated(params: PyTree) -> Any:
        def add(carry: Any, at: Any) -> Any:
            loss, stats = carry
            own, stats = of_share(params, stats, *at)
            return (loss + own, stats), None

        (loss, stats), _ = jax.lax.scan(add, (jnp.float32(0), batch_stats), split)
        return loss + penalty(params), (loss, stats)

    def with_gradient(params: PyTree) -> Any:
        def add(carry: Any, at: Any) -> Any:
            loss, stats, total = carry
            (own, stats), gradient = _with_gradient(of_share, scale)(params, stats, *at)
            return (loss + own, stats, jax.tree.map(jnp.add, total, gradient)), None

        extra, gradient = jax.value_and_grad(lambda params: jnp.asarray(penalty(params), jnp.float32))(params)
        (loss, stats, gradient), _ = jax.lax.scan(add, (jnp.float32(0), batch_stats, gradient), split)
        return (loss + extra, (loss, stats)), gradient

    return Loss(accumulated, with_gradient)


def _with_gradient(function: Callable[..., Any], scale: Float[Array, ""] | None) -> Callable[..., Any]:
    """``jax.value_and_grad`` of a function with a second result; the backward pass begins at ``scale``, not at 1."""
    if scale is None:
        return jax.value_and_grad(function, has_aux=True)

    def enlarged(params: PyTree, *arguments: Any) -> Any:
        value, rest = function(params, *arguments)
        return value * scale, (value, rest)

    def run(params: PyTree, *arguments: Any) -> Any:
        (_, result), gradient = jax.value_and_grad(enlarged, has_aux=True)(params, *arguments)
        return result, jax.tree.map(lambda leaf: leaf / scale, gradient)

    return run


def _split(batch: Batch, mixture: Mixture | None, parts: int) -> tuple[Any, Batch, Mixture | None]:
    """The number of each part, the parts of the batch and of what is mixed in, each with a leading axis of parts."""
    size = jax.tree.leaves(batch.weights)[0].shape[0]
    check_divides("training.accumulation", parts, "the size of a batch", size)

    def cut(leaf: Array) -> Array:
        return by_batch(leaf.reshape(parts, size // parts, *leaf.shape[1:]), axis=1)

    if mixture is not None:
        share = jnp.broadcast_to(mixture.share, (parts,))
        mixture = Mixture(jax.tree.map(cut, mixture.targets), share)
    return jnp.arange(parts), jax.tree.map(cut, batch), mixture
