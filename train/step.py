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
import optax.contrib
from jaxtyping import Array, Float, Int, PyTree

import models
from models import Model, Shapes
from models.base import BadInput
from models.beam_search import Beam, beam_search
from models.generation import Sampling, generate
from train import augmentation, randomness
from train.config import SECTIONS, Config, bind
from train.data.task import Batch, Decoding
from train.objectives import OF_LOGITS, Objective
from train.schedules import warmup

Hyperparameters = Mapping[str, Mapping[str, Any]]
"""Traced values by section and field: ``{"optimizer": {"learning_rate": ...}}``."""


class State(NamedTuple):
    """Everything of a trial that changes while it trains.

    Attributes:
        params: trained arrays.
        batch_stats: running statistics of batch normalisation; empty where there is none.
        optimizer: the optimizer's own state.
        average: the average of the parameters that evaluations take; empty where there is none.
        loss_sum: training losses summed since the last evaluation.
        diverged_step: the first step whose loss was not finite, or -1.
    """

    params: PyTree
    batch_stats: PyTree
    optimizer: PyTree
    average: PyTree
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
        init: ``(seed, hyperparameters, batch, initial) -> state``; ``initial`` is that of the task.
        train: ``(state, hyperparameters, batch, keys, step) -> state``; the train step.
        measure: ``(state, hyperparameters, batch) -> {name: sum}``; the evaluation step.
        decode: ``(state, hyperparameters, source) -> tokens [batch, steps]``; for a task with a decoding.
    """

    init: Callable[..., State]
    train: Callable[..., State]
    measure: Callable[..., dict[str, Array]]
    decode: Callable[..., Array]


def _optimizer(
    config: Config, hyperparameters: Hyperparameters, params: PyTree
) -> optax.GradientTransformationExtraArgs:
    """The optimizer's chain, with traced values passed straight into Optax's constructors.

    Its last link is that of the optimizer's own file, or what is wrapped around it.
    """
    section = bind(config.optimizer, hyperparameters.get("optimizer", {}))
    schedule = bind(config.schedule, hyperparameters.get("schedule", {}))
    regularisation = bind(config.regularisation, hyperparameters.get("regularisation", {}))
    factor = warmup.factor(config.schedule.name, schedule, config.training.steps)
    mask = decay_mask(params, config.regularisation.undecayed)

    def learning_rate(count: Any, peak: Any = None) -> Any:
        return (section.learning_rate if peak is None else peak) * factor(count)

    chain = _module("optimizer", config).build(section, learning_rate, mask)
    if _is_on(hyperparameters, "sam_radius"):
        ascent = optax.chain(optax.contrib.normalize(), optax.sgd(regularisation.sam_radius))
        chain = _with_gradient_only(optax.contrib.sam(chain, ascent, opaque_mode=True))
    if hasattr(_module("schedule", config), "transform"):
        chain = optax.chain(chain, _module("schedule", config).transform(schedule))
    links = []
    if _is_on(hyperparameters, "clip_value"):
        links.append(optax.clip(regularisation.clip_value))
    if _is_on(hyperparameters, "clip_norm"):
        links.append(optax.clip_by_global_norm(regularisation.clip_norm))
    return optax.with_extra_args_support(optax.chain(*links, chain) if links else chain)


def _with_gradient_only(transform: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """A transformation that takes ``grad_fn`` and none of the other arguments of an update."""

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **arguments: Any) -> Any:
        return transform.update(updates, state, params, grad_fn=arguments["grad_fn"])

    return optax.GradientTransformationExtraArgs(transform.init, update)


def _module(section: str, config: Config) -> Any:
    return importlib.import_module(f"{SECTIONS[section][0]}.{getattr(config, section).name}")


def _is_on(hyperparameters: Hyperparameters, name: str) -> bool:
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


def _with_max_norm(params: PyTree, config: Config, most: Array) -> PyTree:
    """Decayed kernels whose columns are no longer than ``most`` (each column leads into one unit)."""

    def project(leaf: Array, decayed: bool) -> Array:
        if not decayed or leaf.ndim < 2:
            return leaf
        norm = jnp.sqrt(jnp.sum(jnp.square(leaf), axis=tuple(range(leaf.ndim - 1)), keepdims=True))
        return leaf * jnp.minimum(1, most / jnp.maximum(norm, jnp.finfo(leaf.dtype).tiny))

    return jax.tree.map(project, params, decay_mask(params, config.regularisation.undecayed))


def _own_state(config: Config, hyperparameters: Hyperparameters, state: PyTree) -> PyTree:
    """The state of the optimizer's own link of the chain that :func:`_optimizer` builds."""
    if _is_on(hyperparameters, "clip_norm") or _is_on(hyperparameters, "clip_value"):
        state = state[-1]
    if hasattr(_module("schedule", config), "transform"):
        state = state[0]
    return state.opt_state if _is_on(hyperparameters, "sam_radius") else state


def with_initial(params: PyTree, initial: Mapping[str, Any]) -> PyTree:
    """Parameters with the values that a task gives them to begin from (see :class:`train.data.task.Task`).

    Raises:
        BadInput: a name finds no parameter or several, or one of another shape.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    paths = [path_name(path) for path, _ in leaves]
    values = [leaf for _, leaf in leaves]
    for pattern, given in initial.items():
        found = [number for number, path in enumerate(paths) if re.search(pattern, path)]
        if len(found) != 1:
            raise BadInput(
                f"initial values are for one parameter, {pattern!r}, and the model has {len(found)} of that name; "
                f"its parameters are {', '.join(paths)}"
            )
        (number,) = found
        own = values[number]
        if own.shape != given.shape:
            raise BadInput(
                f"initial values of shape {given.shape} do not fit the model's parameter {paths[number]} of shape "
                f"{own.shape}; make the model's size {given.shape[-1]} (model.embedding, or model.width)"
            )
        values[number] = jnp.where(jnp.isnan(given), own, given.astype(own.dtype))
    return structure.unflatten(values)


def make_step(config: Config, shapes: Shapes, objective: Objective, decoding: Decoding | None = None) -> Step:
    """The pure functions for one static configuration and a task's shapes.

    Args:
        config: any configuration of the population; its traced values are used only where
            ``hyperparameters`` leaves them out.
        shapes: what the task declares.
        objective: what the task minimises and reports.
        decoding: how the task decodes outputs, where it does.

    Raises:
        BadInput: the model cannot treat such a task.
    """
    for name in OF_LOGITS:
        if getattr(config.regularisation, name) != 0.0 and name not in objective.regularisers:
            raise BadInput(
                f"regularisation.{name} acts on logits, and the task {config.data.name!r} has none; leave it 0"
            )
    augmentation.check(config, shapes)
    model: Model = models.build(config.model, shapes, compute_dtype=config.training.compute_dtype)

    def init(
        seed: Array, hyperparameters: Hyperparameters, batch: Batch, initial: Mapping[str, Any] | None = None
    ) -> State:
        key = randomness.stream(randomness.root(seed), "init")
        variables = dict(model.init(key, batch.inputs))
        params = with_initial(variables.pop("params"), initial or {})
        optimizer = _optimizer(config, hyperparameters, params)
        return State(
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            optimizer=optimizer.init(params),
            average=jax.tree.map(jnp.copy, params) if _is_on(hyperparameters, "ema_decay") else {},
            loss_sum=jnp.zeros((), jnp.float32),
            diverged_step=jnp.full((), -1, jnp.int32),
        )

    def train(
        state: State, hyperparameters: Hyperparameters, batch: Batch, keys: Mapping[str, Any], step: Array
    ) -> State:
        regularisation = hyperparameters.get("regularisation", {})
        changes, mixture = hyperparameters.get("augmentation", {}), None
        if changes:
            batch, mixture = augmentation.augment(batch, changes, keys)
        rngs = {name: key for name, key in keys.items() if name not in augmentation.STREAMS}

        def loss_of(params: PyTree) -> tuple[Array, Any]:
            outputs, batch_stats = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                batch.inputs,
                train=True,
                rngs=rngs,
                hyperparameters=hyperparameters.get("model", {}),
            )
            consumed = {name: regularisation[name] for name in objective.regularisers if name in regularisation}
            loss = augmentation.loss(objective.loss, outputs, batch, mixture, **consumed)
            return loss + _penalty(config, hyperparameters, params), (loss, batch_stats)

        (total, (loss, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        optimizer = _optimizer(config, hyperparameters, state.params)
        again = {}
        if "sam_radius" in regularisation:  # else Optax would hand it on to value_fn
            again["grad_fn"] = lambda params, _: jax.grad(loss_of, has_aux=True)(params)[0]
        updates, optimizer_state = optimizer.update(
            gradients,
            state.optimizer,
            state.params,
            value=total,
            grad=gradients,
            value_fn=lambda params: loss_of(params)[0],
            **again,
        )
        params = optax.apply_updates(state.params, updates)
        if "max_norm" in regularisation:
            params = _with_max_norm(params, config, regularisation["max_norm"])
        average = state.average
        if "ema_decay" in regularisation:
            average = optax.incremental_update(params, average, 1 - regularisation["ema_decay"])
        first = (state.diverged_step < 0) & ~jnp.isfinite(loss)
        return State(
            params=params,
            batch_stats=batch_stats,
            optimizer=optimizer_state,
            average=average,
            loss_sum=state.loss_sum + loss,
            diverged_step=jnp.where(first, step, state.diverged_step).astype(jnp.int32),
        )

    def evaluated(state: State, hyperparameters: Hyperparameters) -> PyTree:
        """The parameters that an evaluation takes."""
        if _is_on(hyperparameters, "ema_decay"):
            return state.average
        optimizer = _module("optimizer", config)
        if not hasattr(optimizer, "evaluation_params"):
            return state.params
        return optimizer.evaluation_params(_own_state(config, hyperparameters, state.optimizer), state.params)

    def measure(state: State, hyperparameters: Hyperparameters, batch: Batch) -> dict[str, Array]:
        outputs, _ = model.apply(
            {"params": evaluated(state, hyperparameters), "batch_stats": state.batch_stats},
            batch.inputs,
            train=False,
            rngs={},
            hyperparameters=hyperparameters.get("model", {}),
        )
        return objective.sums(outputs, batch)

    def decode(state: State, hyperparameters: Hyperparameters, source: Any) -> Array:
        assert decoding is not None
        variables = {"params": evaluated(state, hyperparameters), "batch_stats": state.batch_stats}
        prompt = jnp.full((jax.tree.leaves(source)[0].shape[0], 1), decoding.begin, jnp.int32)
        values = hyperparameters.get("model", {})
        options: dict[str, Any] = {"steps": decoding.steps, "end": decoding.end, "pad": decoding.pad}
        options |= {"source": source, "hyperparameters": values}
        if decoding.beams == 1:
            sampling, key = Sampling(method="greedy"), jax.random.key(0)  # which greedy decoding does not use
            return generate(model, variables, prompt, key=key, sampling=sampling, **options).tokens
        beam = Beam(beams=decoding.beams, length_penalty=decoding.length_penalty)
        return beam_search(model, variables, prompt, beam=beam, **options).tokens[:, 0]

    return Step(init, train, measure, decode)
