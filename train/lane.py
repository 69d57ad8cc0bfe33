"""What one lane of a population does: pure functions of a trial's state, traced hyperparameters and data.

The data are a split's arrays that lie on the device, or a chunk of a streamed one (see :mod:`train.feed`). What
comes out is the same, bit for bit: a batch holds the same numbers, and everything behind it is one program.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.layers.partitioning import by_batch
from train import randomness, summation
from train.config import Trial, leaves
from train.data.task import Arrays, Batch, BucketedSampler, Task
from train.feed import Chunk
from train.step import Hyperparameters, State, Step, is_active, step_keys
from train.summation import Total


class Lanes(NamedTuple):
    """What distinguishes the lanes of a population; every array has the lanes as its first axis.

    Attributes:
        seed: uint32, root of the streams of the initial weights.
        order: uint32, root of the stream of the data's order.
        noise: uint32, root of the streams that a train step draws from.
        hyperparameters: the traced values, by section and field.
        padding: true for a lane that takes no step: it only fills up the devices, or was pruned.
        stream: int32, which of the population's different orders this is: lanes of equal order share their batches.
    """

    seed: Any
    order: Any
    noise: Any
    hyperparameters: Hyperparameters
    padding: Any
    stream: Any


def stack(trials: Sequence[Trial], traced: Sequence[str], devices: int) -> Lanes:
    """The lanes of these trials, padded with copies of the first one until they divide over the devices.

    Args:
        trials: of equal static configuration.
        traced: paths of the fields that the program takes as arguments.
        devices: that they are spread over.
    """
    padded = math.ceil(len(trials) / devices) * devices
    members = [*trials, *[trials[0]] * (padded - len(trials))]
    hyperparameters: dict[str, dict[str, Any]] = {}
    for path in traced:
        section, _, name = path.partition(".")
        values = [dict(leaves(trial.config))[path].value for trial in members]
        hyperparameters.setdefault(section, {})[name] = np.asarray(values, np.float32)
    streams = orders(trials)
    return Lanes(
        seed=np.asarray([trial.root("init") for trial in members], np.uint32),
        order=np.asarray([trial.root("order") for trial in members], np.uint32),
        noise=np.asarray([trial.root("noise") for trial in members], np.uint32),
        hyperparameters=hyperparameters,
        padding=np.arange(padded) >= len(trials),
        stream=np.asarray([streams.index(trial.root("order")) for trial in members], np.int32),
    )


def orders(trials: Sequence[Trial]) -> tuple[int, ...]:
    """Where the different orders of the data begin, each once."""
    return tuple(dict.fromkeys(trial.root("order") for trial in trials))


class Evaluation(NamedTuple):
    """What an evaluation returns for each lane.

    Attributes:
        sums: the objective's sums over a split, rounded to 32 bits.
        rests: what the rounding left, to be added in float64 (see :mod:`train.summation`).
        loss_sum: training losses since the last evaluation.
        diverged_step: as in :class:`train.step.State`.
    """

    sums: dict[str, Any]
    rests: dict[str, Any]
    loss_sum: Any
    diverged_step: Any

    def of(self, lane: int) -> dict[str, np.ndarray]:
        """The sums of one lane in float64."""
        return {
            name: np.asarray(np.float64(value[lane]) + np.float64(self.rests[name][lane]))
            for name, value in self.sums.items()
        }


class LaneFunctions:
    """The functions of a lane.

    Args:
        task: the data.
        step: the pure functions of a trial.
        batch_size: items in a step.
        evaluate_every: steps from one evaluation to the next.
        diagnosis: what :func:`train.diagnostics.make_diagnosis` gives.
    """

    def __init__(
        self, task: Task, step: Step, *, batch_size: int, evaluate_every: int, diagnosis: Callable[..., dict[str, Any]]
    ) -> None:
        self.task, self.step, self.diagnosis = task, step, diagnosis
        self.batch_size, self.evaluate_every = batch_size, evaluate_every

    def init(self, lane: Lanes, source: Arrays | Chunk, initial: Mapping[str, Any]) -> State:
        """A fresh state."""
        sampler: Any = self.task.sampler
        if isinstance(source, Chunk):
            batch = sampler.assemble(_rows(source, 0, 0))
        else:
            batch = sampler.gather(source, jnp.zeros(self.batch_size, jnp.int32))
        return self.step.init(lane.seed, lane.hyperparameters, batch, initial)

    def observe(self, state: State, lane: Lanes, value: Any, reached: Any, step: Any) -> State:
        """The state after early stopping has been told what the evaluation at ``step`` found."""
        return self.step.observe(state, lane.hyperparameters, value, step, reached)

    def conclude(self, state: State) -> State:
        """The state whose evaluations take what early stopping kept."""
        return self.step.conclude(state)

    def decode(self, state: State, lane: Lanes, source: Any) -> Any:
        """What the lane decodes from source sequences."""
        return self.step.decode(state, lane.hyperparameters, source)

    def advance_sequential(
        self, state: State, lane: Lanes, source: Arrays | Chunk, start: Any, stop: Any
    ) -> tuple[State, Any]:
        """Steps of one lane; one that has diverged, has stopped early or is padding takes none and costs nothing."""

        def unfinished(carry: tuple) -> Any:
            state, _, step = carry
            return (step < stop) & is_active(state) & ~lane.padding

        def body(carry: tuple) -> tuple:
            state, order, step = carry
            order = self._order(order, lane, source, step, step == start)
            return self._one_step(state, order, lane, source, step), order, step + 1

        state, order = self._begin(state, lane, source, start)
        state = jax.lax.while_loop(unfinished, body, (state, order, start))[0]
        return state, state.diverged_step + 0

    def advance_vectorised(
        self, state: State, lane: Lanes, source: Arrays | Chunk, start: Any, stop: Any
    ) -> tuple[State, Any]:
        """The same, for lanes that march in step: one that has diverged or stopped early keeps its state."""

        def body(step: Any, carry: tuple) -> tuple:
            state, order = carry
            active = is_active(state) & ~lane.padding
            order = self._order(order, lane, source, step, step == start)
            changed = self._one_step(state, order, lane, source, step)
            return jax.tree.map(lambda new, old: jnp.where(active, new, old), changed, state), order

        state = jax.lax.fori_loop(start, stop, body, self._begin(state, lane, source, start))[0]
        return state, state.diverged_step + 0

    def evaluate(
        self,
        state: State,
        lane: Lanes,
        sums: dict[str, Any],
        rests: dict[str, Any],
        source: Arrays | Chunk,
        start: Any,
        stop: Any,
        finished: Any,
        *,
        size: int,
        skips: bool,
    ) -> Evaluation:
        """The sums with those of the batches ``start`` to ``stop - 1`` added, each of ``size`` items.

        Where ``skips``, a lane that has diverged, stopped early or was pruned adds none unless ``finished`` is
        true, so that it costs nothing. Lanes that march in step would gain nothing by it.
        """

        def body(index: Any, totals: dict[str, Total]) -> dict[str, Total]:
            found = self._measure(state, lane, source, size, index)
            return {name: summation.add(total, found[name]) for name, total in totals.items()}

        totals = {name: Total(value, rests[name]) for name, value in sums.items()}
        if skips:
            stop = jnp.where(finished | (is_active(state) & ~lane.padding), stop, start)
        totals = jax.lax.fori_loop(start, stop, body, totals)
        # "+ 0": a plain copy would alias the state, whose buffers the next call donates.
        return Evaluation(
            {name: total.value for name, total in totals.items()},
            {name: total.rest for name, total in totals.items()},
            state.loss_sum + 0,
            state.diverged_step + 0,
        )

    def diagnose(self, state: State, lane: Lanes, source: Arrays | Chunk, step: Any) -> dict[str, Any]:
        """What the diagnostics find of the train step ``step``, which is not taken."""
        order = self._order(self._no_order(lane, source), lane, source, step, True)
        batch, bucket = self._draw(order, lane, source, step)

        def measure(batch: Batch) -> dict[str, Any]:
            keys = step_keys(lane.noise, lane.hyperparameters, step)
            return self.diagnosis(state, lane.hyperparameters, batch, keys, lane.seed, step)

        return self._at_width(measure, batch, bucket)

    def _measure(self, state: State, lane: Lanes, source: Arrays | Chunk, size: int, index: Any) -> dict[str, Any]:
        """The objective's sums over one batch of an evaluation."""
        sampler: Any = self.task.sampler
        if isinstance(source, Chunk):
            batch, bucket = (
                sampler.assemble(_rows(source, 0, index - source.first)),
                source.buckets[0, index - source.first],
            )
        else:
            positions = index * size + jnp.arange(size, dtype=jnp.int32)
            batch = sampler.evaluation_batch(source, positions)
            bucket = sampler.evaluation_bucket(source, positions) if isinstance(sampler, BucketedSampler) else 0
        return self._at_width(functools.partial(self.step.measure, state, lane.hyperparameters), batch, bucket)

    def _begin(self, state: State, lane: Lanes, source: Arrays | Chunk, start: Any) -> tuple[State, Any]:
        """The state with its sum of losses emptied after an evaluation, and room for the order."""
        fresh = start % self.evaluate_every == 0
        return state._replace(loss_sum=jnp.where(fresh, 0.0, state.loss_sum)), self._no_order(lane, source)

    def _no_order(self, lane: Lanes, source: Arrays | Chunk) -> Any:
        """Zeros in the form of an order; nothing where none is needed."""
        if isinstance(source, Chunk):
            return ()
        find: Any = functools.partial(self.task.sampler.order, batch_size=self.batch_size)
        shapes = jax.eval_shape(find, source, _order_key(lane), np.int32(0))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def _order(self, order: Any, lane: Lanes, source: Arrays | Chunk, step: Any, first: Any) -> Any:
        """The order at ``step``: that of the step before unless an epoch begins, or ``first`` says there is none.

        This is the one place of the program that finds an order, for to compile that takes long.
        """
        if not jax.tree.leaves(order):
            return order
        sampler: Any = self.task.sampler
        size, key = self.batch_size, _order_key(lane)
        begins = first | (step % sampler.epoch_steps(source, batch_size=size) == 0)
        return jax.lax.cond(begins, lambda: sampler.order(source, key, step, batch_size=size), lambda: order)

    def _one_step(self, state: State, order: Any, lane: Lanes, source: Arrays | Chunk, step: Any) -> State:
        """One train step: draw, gather, step."""
        batch, bucket = self._draw(order, lane, source, step)

        def train(batch: Batch) -> State:
            keys = step_keys(lane.noise, lane.hyperparameters, step)
            return self.step.train(state, lane.hyperparameters, batch, keys, step)

        return self._at_width(train, batch, bucket)

    def _draw(self, order: Any, lane: Lanes, source: Arrays | Chunk, step: Any) -> tuple[Batch, Any]:
        """This step's batch, and its bucket."""
        sampler: Any = self.task.sampler
        if isinstance(source, Chunk):
            place = lane.stream, step - source.first
            return sampler.assemble(_rows(source, *place)), source.buckets[place]
        key, size = _order_key(lane), self.batch_size
        indices = sampler.draw(order, source, key, step, batch_size=size)
        is_bucketed = isinstance(sampler, BucketedSampler)
        bucket = sampler.bucket(order, source, step, batch_size=size) if is_bucketed else 0
        return sampler.gather(source, indices), bucket

    def _at_width(self, function: Callable[[Batch], Any], batch: Batch, bucket: Any) -> Any:
        """``function`` of a batch that is cut to the width of its bucket: a branch of the program for each width."""
        sampler: Any = self.task.sampler
        batch = jax.tree.map(by_batch, batch)
        if not isinstance(sampler, BucketedSampler):
            return function(batch)
        branches = [
            functools.partial(lambda number: function(sampler.narrowed(batch, number)), number)
            for number in range(sampler.buckets)
        ]
        return jax.lax.switch(bucket, branches)


def _order_key(lane: Lanes) -> Any:
    return randomness.stream(randomness.root(lane.order), "order")


def _rows(chunk: Chunk, stream: Any, batch: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[stream, batch], chunk.rows)
