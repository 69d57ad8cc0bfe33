"""Weights alone: out of a checkpoint, into a safetensors file, and back into a parameter tree.

A file holds what an evaluation of the trial takes: trained parameters, or the average of them where the trial has
one, or those that early stopping kept, and running statistics. Names are paths (``params/hidden_0/kernel``), so any
program that reads safetensors can use them. The file's metadata say what made them, as JSON. To go on with a model::

    import models
    from train import weights

    found = weights.read("runs/architectures/weights/mlp-s0.safetensors")
    model = models.build(found.config.model, found.shapes)
    logits, _ = model.apply(found.variables, images, train=False, rngs={}, hyperparameters={})
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

import models
from models.base import BadInput, Shapes
from models.inputs import Padded, Pair
from train.checkpoints import Checkpoints
from train.config import Config, from_dict, leaves
from train.data.task import Batch
from train.parameters import path_name
from train.records import write_atomically
from train.step import State, conclude, evaluated_variables, initial_state

Which = Literal["last", "best"]


class Weights(NamedTuple):
    """The weights of a trial, as a file or a checkpoint has them.

    Attributes:
        variables: ``params`` and, where the model normalises by batch, ``batch_stats``: what a model's ``apply`` takes.
        config: of the trial.
        shapes: of its task; with ``config.model`` they make the model.
        facts: trial, arm, seed, step, score (of ``metric`` at that step) and what versions made them.
    """

    variables: dict[str, PyTree]
    config: Config
    shapes: Shapes
    facts: dict[str, Any]


def _library() -> Any:
    """The library, which only those need who export or load weights.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise BadInput("weights are kept in safetensors files: pip install 'paribus[export]'") from None
    return safetensors


def write(path: Path, weights: Weights) -> None:
    """Write a safetensors file, whole or not at all."""
    arrays = {
        path_name(place): np.ascontiguousarray(leaf)
        for place, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(weights.variables))
    }
    # Values of safetensors' metadata are texts.
    metadata = {name: json.dumps(value) for name, value in weights.facts.items()}
    write_atomically(path, _library().numpy.save(arrays, metadata=metadata))


def read(path: Path | str) -> Weights:
    """Read a file that :func:`write` wrote.

    Raises:
        BadInput: it is not there, is damaged, or was written by something else.
    """
    library = _library()
    try:
        with library.safe_open(path, framework="numpy") as file:
            facts = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            arrays = {name: jnp.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        config, shapes = from_dict(facts["config"]), _shapes(facts["shapes"])
    except (OSError, library.SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise BadInput(f"{path} does not hold weights of a trial ({reason})") from None
    variables: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        place = variables
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = array
    return Weights(variables, config, shapes, facts)


def _shapes(values: Mapping[str, Any]) -> Shapes:
    return Shapes(**{**values, "inputs": tuple(values["inputs"])})


def of_folder(folder: Path, which: Which, *, only: Collection[str] | None = None) -> dict[str, Weights]:
    """The weights of every trial whose checkpoints lie below this folder, by the trial's name.

    Args:
        folder: ``checkpoints/`` of a study, with a folder for each population.
        which: ``last``: of the newest checkpoint. ``best``: of the one with the least score, among those that were kept
            (see ``execution.keep_best``).
        only: names of the trials that are wanted; None for all.
    """
    result: dict[str, Weights] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and ".damaged-" not in path.name:
            for name, found in _of_population(path, which, only).items():
                if name not in result or _rank(found, which) > _rank(result[name], which):
                    result[name] = found
    return result


def _rank(weights: Weights, which: Which) -> float:
    return weights.facts["step"] if which == "last" else -weights.facts["score"]


def _of_population(folder: Path, which: Which, only: Collection[str] | None) -> dict[str, Weights]:
    checkpoints = Checkpoints(folder)
    try:
        steps = {
            step: facts for step in checkpoints.steps() if (facts := checkpoints.facts(step)) and "trials" in facts
        }
        result = {}
        for lane in dict.fromkeys(lane for facts in steps.values() for lane in facts["trials"]):
            if only is not None and lane not in only:
                continue
            having = [step for step, facts in steps.items() if lane in facts["trials"]]
            if which == "best":
                having = [step for step in having if lane in steps[step]["scores"]]
                having.sort(key=lambda step, lane=lane: (steps[step]["scores"][lane], step))
            if having:
                result[lane] = _of_lane(checkpoints, having[0], steps[having[0]], lane, conclusive=which == "last")
        return result
    finally:
        checkpoints.close()


def _of_lane(checkpoints: Checkpoints, step: int, facts: Mapping[str, Any], lane: str, *, conclusive: bool) -> Weights:
    """The weights of one trial. Where they are conclusive and training is over, early stopping has its say."""
    trial = facts["trials"][lane]
    config, shapes = from_dict(trial["config"]), _shapes(facts["shapes"])
    hyperparameters: dict[str, dict[str, Any]] = {}
    for path in facts["traced"]:
        section, _, name = path.partition(".")
        hyperparameters.setdefault(section, {})[name] = jnp.asarray(dict(leaves(config))[path].value, jnp.float32)
    like = _state_shape(config, shapes, hyperparameters)
    state: State = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), checkpoints.read(step, like, [lane]).states)
    if conclusive and state.stopping and (step >= config.training.steps or int(state.stopping.stopped_step) >= 0):
        state = conclude(state)
    variables = evaluated_variables(config)(state, hyperparameters)
    return Weights(
        variables={name: tree for name, tree in variables.items() if jax.tree.leaves(tree)},
        config=config,
        shapes=shapes,
        facts={
            "trial": lane,
            "step": step,
            "metric": facts["metric"],
            "score": facts["scores"].get(lane),
            **{name: trial[name] for name in ("arm", "seed", "config")},
            **{name: facts[name] for name in ("shapes", "made_by")},
        },
    )


def _state_shape(config: Config, shapes: Shapes, hyperparameters: Mapping[str, Any]) -> State:
    """What the state of one trial looks like, with an axis of lanes."""

    def init(values: Mapping[str, Any]) -> State:
        model = models.build(config.model, shapes, compute_dtype=config.training.compute_dtype)
        return initial_state(config, shapes, model)(jnp.uint32(0), values, Batch(_inputs(shapes), None, None))

    state = jax.eval_shape(init, hyperparameters)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), state)


def _inputs(shapes: Shapes) -> Any:
    """A batch of one example; what it holds, and whether it is padded, changes no parameter's shape."""
    inputs = jnp.zeros((1, *shapes.inputs), jnp.float32 if shapes.vocabulary is None else jnp.int32)
    if shapes.target is None:
        return inputs
    target = jnp.zeros((1, shapes.target), jnp.int32)
    return Pair(*(Padded(tokens, jnp.ones(tokens.shape[:2], bool)) for tokens in (inputs, target)))
