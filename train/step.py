"""The train step: ``(state, hyperparameters, batch, keys) -> (state, loss)``, pure, for one trial.

Nothing else in the codebase computes a gradient for training.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

import models
from models import Model, Shapes
from models.base import BadInput
from models.beam_search import Beam, beam_search
from models.generation import Sampling, generate
from train import augmentation, early_stopping, mup, optimization, precision, randomness, regularisers
from train.config import Config, replace
from train.data.task import Batch, Decoding
from train.gradients import Loss, forward, make_loss
from train.initialisation import initialised
from train.objectives import OF_LOGITS, Objective
from train.parameters import with_initial

Hyperparameters = Mapping[str, Mapping[str, Any]]
"""Traced values by section and field: ``{"optimizer": {"learning_rate": ...}}``."""


class State(NamedTuple):
    """Everything of a trial that changes while it trains.

    Attributes:
        params: trained arrays.
        batch_stats: running statistics of batch normalisation; empty where there is none.
        optimizer: the optimizer's own state.
        average: the averages of the parameters that evaluations take, by name; empty where there is none.
        loss_scale: the state of loss scaling; empty where nothing is scaled.
        stopping: the state of early stopping; empty where no trial has patience or a target.
        loss_sum: training losses summed since the last evaluation.
        diverged_step: the first step whose loss was not finite, or -1.
    """

    params: PyTree
    batch_stats: PyTree
    optimizer: PyTree
    average: PyTree
    loss_scale: PyTree
    stopping: PyTree
    loss_sum: Float[Array, ""]
    diverged_step: Int[Array, ""]


class Step(NamedTuple):
    """The pure functions of a trial, for one static configuration.

    Attributes:
        init: ``(seed, hyperparameters, batch, initial) -> state``; ``initial`` is that of the task.
        train: ``(state, hyperparameters, batch, keys, step) -> state``; the train step.
        loss: ``(state, hyperparameters, batch, keys, *, in_parts=True) -> (loss, batch, rngs)``; what the train step
            minimises of a batch (:class:`train.gradients.Loss`; ``in_parts=False``: without accumulation), the batch
            as it is augmented, and the keys that the model takes.
        inspect: ``(state, hyperparameters, inputs) -> {name: array}``; what the model's layers record of an evaluation.
        start: ``(state, size, length) -> carry``; what so many sequences begin from, of a model that reads in steps.
        advance: ``(state, hyperparameters, inputs, carry) -> carry``; after the next positions, as in an evaluation.
        measure: ``(state, hyperparameters, batch) -> {name: sum}``; the evaluation step.
        decode: ``(state, hyperparameters, source) -> tokens [batch, steps]``; for a task with a decoding.
        evaluated: ``(state, hyperparameters) -> variables``; what an evaluation takes of a state: ``params`` (the
            trained ones, or an average of them) and ``batch_stats``.
        observe: ``(state, hyperparameters, value, step, reached) -> state``; what early stopping makes of an
            evaluation.
        conclude: ``state -> state``; from then on evaluations take what early stopping kept.
    """

    init: Callable[..., State]
    train: Callable[..., State]
    loss: Callable[..., tuple[Loss, Batch, dict[str, Any]]]
    inspect: Callable[..., dict[str, Array]]
    start: Callable[..., Any]
    advance: Callable[..., Any]
    measure: Callable[..., dict[str, Array]]
    decode: Callable[..., Array]
    evaluated: Callable[..., dict[str, PyTree]]
    observe: Callable[..., State]
    conclude: Callable[[State], State]


def is_active(state: State) -> Bool[Array, ""]:
    """Whether a trial goes on: it has neither diverged nor stopped early."""
    active = state.diverged_step < 0
    return active & (state.stopping.stopped_step < 0) if state.stopping else active


def step_keys(seed: Any, hyperparameters: Hyperparameters, step: Any) -> dict[str, Any]:
    """The keys that the train step needs: each of a stream of its own, by the stream's name.

    Args:
        seed: where the trial's noise begins.
        hyperparameters: traced values by section and field; what is absent is off.
        step: the training step.
    """
    root = randomness.root(seed)
    names = ("dropout", *{regularisers.NOISE} & set(hyperparameters.get("regularisation", {})))
    keys = {name: randomness.at(randomness.stream(root, name), step) for name in names}
    return keys | augmentation.keys(root, hyperparameters.get("augmentation", {}), step)


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
    _check(config, shapes, objective)
    model: Model = models.build(config.model, shapes, compute_dtype=config.training.compute_dtype)
    apply = forward(model, config.training.rematerialise)
    minimise = _make_loss(config, objective, apply)
    return Step(
        init=initial_state(config, shapes, model),
        train=_make_train(config, shapes, model, minimise, apply),
        loss=minimise,
        **_make_evaluation(config, objective, decoding, model),
    )


def _check(config: Config, shapes: Shapes, objective: Objective) -> None:
    """Refuse what does not fit the task.

    Raises:
        BadInput: something does not.
    """
    for name in OF_LOGITS:
        if getattr(config.regularisation, name) != 0.0 and name not in objective.regularisers:
            raise BadInput(
                f"regularisation.{name} acts on logits, and the task {config.data.name!r} has none; leave it 0"
            )
    early_stopping.check_target(config.training.target_metric, objective.metrics)
    augmentation.check(config, shapes)
    mup.check(config)


def initial_state(config: Config, shapes: Shapes, model: Model) -> Callable[..., State]:
    """The function ``init`` of :class:`Step`."""

    def init(
        seed: Array, hyperparameters: Hyperparameters, batch: Batch, initial: Mapping[str, Any] | None = None
    ) -> State:
        root = randomness.root(seed)
        variables = dict(model.init(randomness.stream(root, "init"), batch.inputs))
        params, batch_stats = variables.pop("params"), variables.get("batch_stats", {})
        gain = hyperparameters.get("initialisation", {}).get("gain")
        params = initialised(params, config.initialisation, gain, randomness.stream(root, "initialisation"))
        scaling = mup.scaling(config, shapes, batch.inputs, params)
        if scaling is not None:
            params = jax.tree.map(lambda leaf, factor: leaf * factor, params, scaling.deviations)
        params = with_initial(params, initial or {})
        optimizer = optimization.build(config, hyperparameters, params, scaling=scaling and scaling.factors)
        training, regularisation = hyperparameters.get("training", {}), hyperparameters.get("regularisation", {})
        variables = {"params": params, "batch_stats": batch_stats}
        return State(
            params=params,
            batch_stats=batch_stats,
            optimizer=optimizer.init(params),
            average=regularisers.begin_averages(params, batch_stats, regularisation),
            loss_scale=precision.begin(training["loss_scale"]) if _is_scaled(config) else {},
            stopping=early_stopping.begin(variables) if early_stopping.stops_early(config, regularisation) else {},
            loss_sum=jnp.zeros((), jnp.float32),
            diverged_step=jnp.full((), -1, jnp.int32),
        )

    return init


def _is_scaled(config: Config) -> bool:
    return config.training.compute_dtype == "float16"


def _make_loss(config: Config, objective: Objective, apply: Callable[..., Any]) -> Callable[..., Any]:
    whole = replace(config, {"training.accumulation": 1})

    def minimise(
        state: State, hyperparameters: Hyperparameters, batch: Batch, keys: Mapping[str, Any], *, in_parts: bool = True
    ) -> tuple[Loss, Batch, dict[str, Any]]:
        own, mixture = config if in_parts else whole, None
        if changes := hyperparameters.get("augmentation", {}):
            batch, mixture = augmentation.augment(batch, changes, keys)
        others = {*augmentation.STREAMS, regularisers.NOISE}
        rngs = {name: key for name, key in keys.items() if name not in others}
        scale = state.loss_scale.scale if _is_scaled(config) else None
        found = make_loss(own, objective, apply, batch, mixture, state.batch_stats, rngs, hyperparameters, scale)
        return found, batch, rngs

    return minimise


def _make_train(
    config: Config, shapes: Shapes, model: Model, minimise: Callable[..., Any], apply: Callable[..., Any]
) -> Callable[..., State]:
    def train(
        state: State, hyperparameters: Hyperparameters, batch: Batch, keys: Mapping[str, Any], step: Array
    ) -> State:
        values = hyperparameters.get("regularisation", {})
        minimised, batch, rngs = minimise(state, hyperparameters, batch, keys)
        (total, (loss, batch_stats)), gradients = minimised.with_gradient(state.params)
        scaling = mup.scaling(config, shapes, batch.inputs, state.params)
        optimizer = optimization.build(
            config,
            hyperparameters,
            state.params,
            scaling=scaling and scaling.factors,
            noise_key=keys.get(regularisers.NOISE),
            step=step,
        )
        again = {}
        if "sam_radius" in values:  # else Optax would hand it on to value_fn
            again["grad_fn"] = lambda params, _: minimised.with_gradient(params)[1]
        updates, optimizer_state = optimizer.update(
            gradients,
            state.optimizer,
            state.params,
            value=total,
            grad=gradients,
            value_fn=lambda params: minimised.value(params)[0],
            **again,
        )
        params = optax.apply_updates(state.params, updates)
        if "max_norm" in values:
            params = regularisers.with_max_norm(params, values["max_norm"], config.regularisation.undecayed)

        def statistics(params: PyTree, batch_stats: PyTree) -> PyTree:
            return apply(params, batch_stats, batch.inputs, rngs, hyperparameters.get("model", {}))[1]

        average = regularisers.advance_averages(state.average, params, values, step, statistics)
        new = state._replace(params=params, batch_stats=batch_stats, optimizer=optimizer_state, average=average)
        has_failed = ~jnp.isfinite(loss)
        if _is_scaled(config):
            # The second gradient of sharpness-aware minimisation shows in the updates alone.
            finite = precision.is_finite((gradients, updates) if again else gradients)
            new = jax.tree.map(lambda taken, old: jnp.where(finite, taken, old), new, state)
            interval = hyperparameters["training"]["loss_scale_interval"]
            new = new._replace(loss_scale=precision.update(state.loss_scale, finite, interval))
            has_failed |= precision.has_failed(state.loss_scale, finite)
        return new._replace(
            loss_sum=state.loss_sum + loss,
            diverged_step=jnp.where((state.diverged_step < 0) & has_failed, step, state.diverged_step).astype(
                jnp.int32
            ),
        )

    return train


def _present(config: Config, state: State, hyperparameters: Hyperparameters) -> dict[str, PyTree]:
    """What an evaluation takes of a state while it trains."""
    params = optimization.evaluation_params(config, hyperparameters, state.optimizer, state.params)
    values = hyperparameters.get("regularisation", {})
    params, batch_stats = regularisers.averaged(state.average, params, state.batch_stats, values)
    return {"params": params, "batch_stats": batch_stats}


def evaluated_variables(config: Config) -> Callable[[State, Hyperparameters], dict[str, PyTree]]:
    """The function ``evaluated`` of :class:`Step`."""

    def evaluated(state: State, hyperparameters: Hyperparameters) -> dict[str, PyTree]:
        variables = _present(config, state, hyperparameters)
        return early_stopping.kept(state.stopping, variables) if state.stopping else variables

    return evaluated


def conclude(state: State) -> State:
    """The function of that name of :class:`Step`."""
    return state._replace(stopping=early_stopping.conclude(state.stopping)) if state.stopping else state


def _make_evaluation(
    config: Config, objective: Objective, decoding: Decoding | None, model: Model
) -> dict[str, Callable[..., Any]]:
    evaluated = evaluated_variables(config)

    def observe(
        state: State, hyperparameters: Hyperparameters, value: Array, step: Any, reached: Array | bool = False
    ) -> State:
        if not state.stopping:
            return state
        values = hyperparameters.get("regularisation", {})
        return state._replace(
            stopping=early_stopping.observe(
                state.stopping,
                value,
                _present(config, state, hyperparameters),
                step,
                patience=values.get("early_stopping_patience", 0),
                improvement=values.get("early_stopping_improvement", 0.0),
                reached=reached,
            )
        )

    def measure(state: State, hyperparameters: Hyperparameters, batch: Batch) -> dict[str, Array]:
        outputs, _ = model.apply(
            evaluated(state, hyperparameters),
            batch.inputs,
            train=False,
            rngs={},
            hyperparameters=hyperparameters.get("model", {}),
        )
        return objective.sums(outputs, batch)

    def trained(state: State) -> dict[str, PyTree]:
        return {"params": state.params, "batch_stats": state.batch_stats}

    def inspect(state: State, hyperparameters: Hyperparameters, inputs: Any) -> dict[str, Array]:
        return dict(model.inspect(trained(state), inputs, hyperparameters=hyperparameters.get("model", {}))[1])

    def start(state: State, size: int, length: int) -> Any:
        return model.start(trained(state), size, length=length)

    def advance(state: State, hyperparameters: Hyperparameters, inputs: Any, carry: Any) -> Any:
        values = hyperparameters.get("model", {})
        return model.advance(trained(state), inputs, carry, train=False, rngs={}, hyperparameters=values)[1]

    def decode(state: State, hyperparameters: Hyperparameters, source: Any) -> Array:
        assert decoding is not None
        variables = evaluated(state, hyperparameters)
        prompt = jnp.full((jax.tree.leaves(source)[0].shape[0], 1), decoding.begin, jnp.int32)
        values = hyperparameters.get("model", {})
        options: dict[str, Any] = {"steps": decoding.steps, "end": decoding.end, "pad": decoding.pad}
        options |= {"source": source, "hyperparameters": values}
        if decoding.beams == 1:
            sampling, key = Sampling(method="greedy"), jax.random.key(0)  # which greedy decoding does not use
            return generate(model, variables, prompt, key=key, sampling=sampling, **options).tokens
        beam = Beam(beams=decoding.beams, length_penalty=decoding.length_penalty)
        return beam_search(model, variables, prompt, beam=beam, **options).tokens[:, 0]

    return {
        "evaluated": evaluated,
        "measure": measure,
        "inspect": inspect,
        "start": start,
        "advance": advance,
        "decode": decode,
        "observe": observe,
        "conclude": conclude,
    }
