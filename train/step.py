"""The train step: ``(state, hyperparameters, batch, keys) -> (state, loss)``, pure, for one trial.

Nothing else in the codebase computes a gradient for training.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

import models
from models import Model, Shapes
from train import randomness
from train.config import SECTIONS, Config, bind
from train.data.task import Batch
from train.objectives import OBJECTIVES, Objective

Hyperparameters = Mapping[str, Mapping[str, Any]]
"""Traced values by section and field: ``{"optimizer": {"learning_rate": ...}}``."""


class State(NamedTuple):
    """Everything of a trial that changes while it trains.

    Attributes:
        params: trained arrays.
        batch_stats: running statistics of batch normalisation; empty where there is none.
        optimizer: the optimizer's own state.
        loss_sum: training losses summed since the last evaluation.
        diverged_step: the first step whose loss was not finite, or -1.
    """

    params: PyTree
    batch_stats: PyTree
    optimizer: PyTree
    loss_sum: Float[Array, ""]
    diverged_step: Int[Array, ""]


def decay_mask(params: PyTree, undecayed: str) -> PyTree:
    """A tree of booleans: true for parameters that L1, L2 and weight decay act on.

    Args:
        params: arrays, or shapes, of the parameters.
        undecayed: regular expression searched for in each path (``layers_0/bias``).
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: not re.search(undecayed, path_name(path)), params)


def path_name(path: tuple[Any, ...]) -> str:
    """A tree path as text: ``Dense_0/kernel``."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


class Step(NamedTuple):
    """The pure functions of a trial, for one static configuration.

    Attributes:
        init: ``(seed, hyperparameters, batch) -> state``.
        train: ``(state, hyperparameters, batch, keys, step) -> state``; the train step.
        measure: ``(state, hyperparameters, batch) -> {name: sum}``; the evaluation step.
    """

    init: Callable[..., State]
    train: Callable[..., State]
    measure: Callable[..., dict[str, Array]]


def _optimizer(config: Config, hyperparameters: Hyperparameters, params: PyTree) -> optax.GradientTransformation:
    """The optimizer's chain, with traced values passed straight into Optax's constructors."""
    section = bind(config.optimizer, hyperparameters.get("optimizer", {}))
    schedule = bind(config.schedule, hyperparameters.get("schedule", {}))
    regularisation = bind(config.regularisation, hyperparameters.get("regularisation", {}))
    factor = _module("schedule", config).build(schedule, config.training.steps)
    mask = decay_mask(params, config.regularisation.undecayed)
    chain = _module("optimizer", config).build(section, lambda count: section.learning_rate * factor(count), mask)
    if _is_on(config, hyperparameters, "clip_norm"):
        return optax.chain(optax.clip_by_global_norm(regularisation.clip_norm), chain)
    return chain


def _module(section: str, config: Config) -> Any:
    return importlib.import_module(f"{SECTIONS[section][0]}.{getattr(config, section).name}")


def _is_on(config: Config, hyperparameters: Hyperparameters, name: str) -> bool:
    """Whether a mechanism of the regularisation section is in the program at all."""
    return name in hyperparameters.get("regularisation", {})


def _penalty(config: Config, hyperparameters: Hyperparameters, params: PyTree) -> Float[Array, ""] | float:
    """L1 and L2 on the loss, over the decayed parameters."""
    values = hyperparameters.get("regularisation", {})
    mask = decay_mask(params, config.regularisation.undecayed)
    decayed = [leaf for leaf, keep in zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True) if keep]
    total: Float[Array, ""] | float = 0.0
    if "l1" in values:
        total += values["l1"] * sum(jnp.sum(jnp.abs(leaf)) for leaf in decayed)
    if "l2" in values:
        total += 0.5 * values["l2"] * sum(jnp.sum(jnp.square(leaf)) for leaf in decayed)
    return total


def make_step(config: Config, shapes: Shapes, objective_name: str) -> Step:
    """The pure functions for one static configuration and a task's shapes.

    Args:
        config: any configuration of the population; its traced values are used only where
            ``hyperparameters`` leaves them out.
        shapes: what the task declares.
        objective_name: a key of ``train.objectives.OBJECTIVES``.

    Raises:
        BadInput: the model cannot treat such a task.
    """
    model: Model = models.build(config.model, shapes)
    objective: Objective = OBJECTIVES[objective_name]

    def init(seed: Array, hyperparameters: Hyperparameters, batch: Batch) -> State:
        key = randomness.stream(randomness.root(seed), "init")
        variables = dict(model.init(key, batch.inputs))
        params = variables.pop("params")
        optimizer = _optimizer(config, hyperparameters, params)
        return State(
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            optimizer=optimizer.init(params),
            loss_sum=jnp.zeros((), jnp.float32),
            diverged_step=jnp.full((), -1, jnp.int32),
        )

    def train(
        state: State, hyperparameters: Hyperparameters, batch: Batch, keys: Mapping[str, Any], step: Array
    ) -> State:
        def loss_of(params: PyTree) -> tuple[Array, Any]:
            outputs, batch_stats = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                batch.inputs,
                train=True,
                rngs=keys,
                hyperparameters=hyperparameters.get("model", {}),
            )
            smoothing = hyperparameters.get("regularisation", {}).get("label_smoothing", 0.0)
            loss = objective.loss(outputs, batch, smoothing)
            return loss + _penalty(config, hyperparameters, params), (loss, batch_stats)

        gradients, (loss, batch_stats) = jax.grad(loss_of, has_aux=True)(state.params)
        optimizer = _optimizer(config, hyperparameters, state.params)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        first = (state.diverged_step < 0) & ~jnp.isfinite(loss)
        return State(
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            optimizer=optimizer_state,
            loss_sum=state.loss_sum + loss,
            diverged_step=jnp.where(first, step, state.diverged_step).astype(jnp.int32),
        )

    def measure(state: State, hyperparameters: Hyperparameters, batch: Batch) -> dict[str, Array]:
        outputs, _ = model.apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            batch.inputs,
            train=False,
            rngs={},
            hyperparameters=hyperparameters.get("model", {}),
        )
        return objective.sums(outputs, batch)

    return Step(init, train, measure)
