"""The optimizer's chain: clipping, noise, the optimizer of each group, and what is wrapped around it."""

import importlib
from typing import Any

import optax
import optax.contrib
from jaxtyping import Array, Key, PyTree

from train import groups, regularisers
from train.config import SECTIONS, Config, bind
from train.parameters import decay_mask
from train.schedules import warmup


def _module(section: str, config: Config) -> Any:
    return importlib.import_module(f"{SECTIONS[section][0]}.{getattr(config, section).name}")


def build(
    config: Config,
    hyperparameters: Any,
    params: PyTree,
    *,
    scaling: PyTree | None = None,
    noise_key: Key[Array, ""] | None = None,
    step: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """The chain, with traced values passed straight into Optax's constructors.

    Its links, each only where it is on: clipping by value, clipping by norm, gradient noise, the optimizer with the
    schedule's rate (one for each group of parameters) and with sharpness-aware minimisation around it, and what a
    schedule does with the updates.

    Args:
        config: any configuration of the population.
        hyperparameters: traced values by section and field.
        params: arrays, or shapes.
        scaling: factors of each parameter's rate and decay (see :mod:`train.mup`).
        noise_key: of this step's gradient noise; it and ``step`` are needed to update, not to begin.
        step: the training step.

    Raises:
        BadInput: the groups' patterns do not fit the parameters.
    """
    section = bind(config.optimizer, hyperparameters.get("optimizer", {}))
    schedule = bind(config.schedule, hyperparameters.get("schedule", {}))
    regularisation = bind(config.regularisation, hyperparameters.get("regularisation", {}))
    on = hyperparameters.get("regularisation", {})
    factor = warmup.factor(config.schedule.name, schedule, config.training.steps)
    mask = decay_mask(params, config.regularisation.undecayed)

    def learning_rate(count: Any, peak: Any = None) -> Any:
        return (section.learning_rate if peak is None else peak) * factor(count)

    tree, factors = groups.split(params, bind(config.groups, hyperparameters.get("groups", {})), scaling)
    chain = groups.optimizer(_module("optimizer", config).build, section, learning_rate, mask, tree, factors)
    if "sam_radius" in on:
        ascent = optax.chain(optax.contrib.normalize(), optax.sgd(regularisation.sam_radius))
        chain = _with_gradient_only(optax.contrib.sam(chain, ascent, opaque_mode=True))
    if hasattr(_module("schedule", config), "transform"):
        chain = optax.chain(chain, _module("schedule", config).transform(schedule))
    links = []
    if "clip_value" in on:
        links.append(optax.clip(regularisation.clip_value))
    if "clip_norm" in on:
        links.append(optax.clip_by_global_norm(regularisation.clip_norm))
    if regularisers.NOISE in on:
        eta, gamma = regularisation.gradient_noise, regularisation.gradient_noise_decay
        links.append(regularisers.noise(eta, gamma, noise_key, step))
    return optax.with_extra_args_support(optax.chain(*links, chain) if links else chain)


def _with_gradient_only(transform: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """A transformation that takes ``grad_fn`` and none of the other arguments of an update."""

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **arguments: Any) -> Any:
        return transform.update(updates, state, params, grad_fn=arguments["grad_fn"])

    return optax.GradientTransformationExtraArgs(transform.init, update)


def evaluation_params(config: Config, hyperparameters: Any, state: PyTree, params: PyTree) -> PyTree:
    """The parameters that an evaluation takes, where the optimizer itself has others than those that it trains.

    Args:
        config: any configuration of the population.
        hyperparameters: traced values by section and field.
        state: of the chain that :func:`build` gives.
        params: the trained ones.
    """
    optimizer = _module("optimizer", config)
    if not hasattr(optimizer, "evaluation_params"):
        return params
    on = hyperparameters.get("regularisation", {})
    if {"clip_norm", "clip_value", regularisers.NOISE} & set(on):
        state = state[-1]
    if hasattr(_module("schedule", config), "transform"):
        state = state[0]
    if "sam_radius" in on:
        state = state.opt_state
    if not config.groups.patterns:
        return optimizer.evaluation_params(state, params)
    tree = groups.labels(params, config.groups.patterns)
    return groups.each_group(state, params, tree, optimizer.evaluation_params)
