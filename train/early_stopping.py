"""Early stopping: the decision, and what it needs to remember, as pure functions of one lane's state.

Goodfellow et al. 2016, "Deep Learning", algorithm 7.1: after every evaluation on the validation split the
least value so far is kept with its weights; after ``patience`` evaluations in a row without a new least
one, training stops, and those weights are the result. A trial with a target stops at the first evaluation that finds
it reached, with the weights that it has then: its steps are those to the target. Everything is in the state, so a run
that resumes decides as it would have decided. The state of a trial holds it only where patience is on in some
trial of its program, or a target.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from models.base import unknown
from train.config import Config
from train.directions import higher_is_better


class Patience(NamedTuple):
    """What is remembered from evaluation to evaluation.

    Attributes:
        best: the least value; infinity before the first evaluation.
        best_step: the step of it, or -1.
        waited: evaluations in a row without a new least value.
        stopped_step: the step at which training stopped, or -1.
        variables: what the evaluation of the least value took: parameters and running statistics.
        concluded: whether training is over, and evaluations take :attr:`variables`.
    """

    best: Float[Array, ""]
    best_step: Int[Array, ""]
    waited: Int[Array, ""]
    stopped_step: Int[Array, ""]
    variables: PyTree
    concluded: Bool[Array, ""]


def stops_early(config: Config, regularisation: Mapping[str, Any]) -> bool:
    """Whether some trial of a program may end before its last step: by patience, or at a target.

    Args:
        config: any configuration of the program.
        regularisation: its traced values.
    """
    return "early_stopping_patience" in regularisation or bool(config.training.target_metric)


def check_target(name: str, metrics: Sequence[str]) -> None:
    """Refuse a target on what a task does not report, or of which it is not known whether more is better.

    Args:
        name: the metric; empty for no target.
        metrics: what the task reports.

    Raises:
        BadInput: it is one of these.
    """
    known = [metric for metric in metrics if higher_is_better(metric) is not None]
    if name and name not in known:
        raise unknown("metric for training.target_metric", name, known)


def begin(variables: PyTree) -> Patience:
    """The state before the first evaluation."""
    none = jnp.full((), -1, jnp.int32)
    copy = jax.tree.map(jnp.copy, variables)
    return Patience(jnp.float32(jnp.inf), none, jnp.int32(0), none + 0, copy, jnp.bool_(False))


def observe(
    state: Patience,
    value: Any,
    variables: PyTree,
    step: Any,
    *,
    patience: Any,
    improvement: Any,
    reached: Any = False,
) -> Patience:
    """The state after an evaluation. One that has stopped stays as it is.

    Args:
        state: before it.
        value: what the evaluation found; less is better. NaN is no improvement.
        variables: what it took.
        step: of the training.
        patience: evaluations without a new least value after which training stops; 0: the trial never stops.
        improvement: a value is a new least one when it is lower than the old one by more than this.
        reached: whether the trial is at its target, which ends it with the weights that it has.
    """
    going = state.stopped_step < 0
    active = (patience > 0) & going
    better = active & (value < state.best - improvement)
    waited = jnp.where(better, 0, state.waited + active)
    stops = (active & (waited >= patience)) | (going & reached)
    return state._replace(
        best=jnp.where(better, value, state.best),
        best_step=jnp.where(better, step, state.best_step).astype(jnp.int32),
        waited=waited,
        stopped_step=jnp.where(stops, step, state.stopped_step).astype(jnp.int32),
        variables=jax.tree.map(lambda new, old: jnp.where(better, new, old), variables, state.variables),
    )


def conclude(state: Patience) -> Patience:
    """The state when training is over: evaluations take the best weights, where the trial has patience set."""
    return state._replace(concluded=state.best_step >= 0)


def kept(state: Patience, variables: PyTree) -> PyTree:
    """What an evaluation takes: the weights of the least value once training is over, the present ones before."""
    return jax.tree.map(lambda best, present: jnp.where(state.concluded, best, present), state.variables, variables)
