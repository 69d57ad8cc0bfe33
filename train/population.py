"""Populations: many trials as one compiled program.

Trials whose static fields are equal form a population; each is a lane. The program takes every
traced value and the seed as arguments, so it compiles once, whatever the values. How the lanes
run is a strategy, chosen by measurement, and never changes what a trial computes beyond rounding:

    spread over devices (shard_map) of  one lane after another (lax.map)  or  all at once (vmap)
    of  a loop over steps whose bounds are arguments, so that any number of steps is one program.
"""

import concurrent.futures
import functools
import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from train import augmentation, randomness
from train.config import Config, Trial, digest, leaves, program_key, traced_paths
from train.data.task import Arrays, Batch, BucketedSampler, Task
from train.step import Hyperparameters, State, make_step

logger = logging.getLogger("paribus")

AXIS = "lanes"


class Lanes(NamedTuple):
    """What distinguishes the lanes of a population; every array has the lanes as its first axis.

    Attributes:
        seed: uint32, root of the lane's random streams.
        hyperparameters: the traced values, by section and field.
        padding: true for a lane that only fills up the devices and takes no step.
    """

    seed: Any
    hyperparameters: Hyperparameters
    padding: Any


class Evaluation(NamedTuple):
    """What an evaluation returns for each lane."""

    sums: dict[str, Any]
    loss_sum: Any
    diverged_step: Any


def group(trials: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    """Trials by population, in order of first appearance; at most ``max_lanes`` in each."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(program_key(trial.config), []).append(trial)
    result = []
    for members in groups.values():
        size = members[0].config.execution.max_lanes
        result += [tuple(members[start : start + size]) for start in range(0, len(members), size)]
    return result


def choose_strategy(config: Config, backend: str) -> str:
    """The strategy that was measured to be fastest, or the one that the configuration demands.

    On a CPU, lanes one after another won in every family (tests/benchmarks/populations.py): batched
    kernels spill the caches and gain nothing. On an accelerator a small model is bound by launches,
    so its lanes are batched; that was not measured.
    """
    if config.execution.strategy != "auto":
        return config.execution.strategy
    return "sequential" if backend == "cpu" else "vectorised"


class Population:
    """Trials that share one compiled program, on the devices that they are spread over.

    Args:
        trials: of equal static configuration.
        traced: paths of the fields that the program takes as arguments; those of all trials of
            the study that share the static configuration, so that each gets the same program.
        task: the data.

    Raises:
        BadInput: the model cannot treat the task, or the batch does not fit the data.
    """

    def __init__(self, trials: Sequence[Trial], traced: Sequence[str], task: Task) -> None:
        self.trials = tuple(trials)
        self.task = task
        self.config = trials[0].config
        task.sampler.check(task.train.arrays, batch_size=self.config.training.batch_size)
        for trial in trials:  # make_step sees the first alone
            augmentation.check(trial.config, task.shapes)
        self.strategy = choose_strategy(self.config, jax.default_backend())
        self.step = make_step(self.config, task.shapes, task.objective, task.decoding)
        devices = jax.local_devices()
        count = min(len(devices), len(self.trials)) if self.config.execution.spread else 1
        self.mesh = Mesh(np.array(devices[:count]), (AXIS,))
        self.compile_seconds = 0.0
        self._programs: dict[str, Any] = {}
        self._split = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self._whole = NamedSharding(self.mesh, PartitionSpec())
        self.lanes = jax.device_put(self._lanes(traced, count), self._split)
        self._arrays = {"train": jax.device_put(dict(task.train.arrays), self._whole)}
        self._initial = jax.device_put(dict(task.initial), self._whole)

    @property
    def id(self) -> str:
        """A name that the same trials always get: the first arm and a digest of them all."""
        text = "\n".join(f"{trial.id} {digest(trial.config)}" for trial in self.trials)
        return f"{self.trials[0].arm}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def execution(self) -> str:
        """The strategy in words, for the records: ``sequential x 2 devices``."""
        return f"{self.strategy} x {self.mesh.size} device{'s' if self.mesh.size > 1 else ''}"

    def _lanes(self, traced: Sequence[str], devices: int) -> Lanes:
        """Lane arrays, padded with copies of the first lane until they divide over the devices."""
        padded = math.ceil(len(self.trials) / devices) * devices
        members = self.trials + self.trials[:1] * (padded - len(self.trials))
        hyperparameters: dict[str, dict[str, Any]] = {}
        for path in traced:
            section, _, name = path.partition(".")
            values = [dict(leaves(trial.config))[path].value for trial in members]
            hyperparameters.setdefault(section, {})[name] = np.asarray(values, np.float32)
        return Lanes(
            seed=np.asarray([trial.seed for trial in members], np.uint32),
            hyperparameters=hyperparameters,
            padding=np.arange(padded) >= len(self.trials),
        )

    def init(self) -> State:
        """Fresh states of all lanes."""
        return self._init()()

    def _init(self) -> Callable[[], State]:
        return self._program("init", self._init_lane, (self.lanes,), (self._arrays["train"], self._initial))

    def advance(self, states: State, start: int, stop: int) -> tuple[State, Any]:
        """Train from step ``start`` up to ``stop``. Donates ``states``.

        Returns:
            the new states, and ``diverged_step`` of each lane as an array of its own, which stays
            readable when the states have been donated to the next call.
        """
        return self._advance(states, start, stop)()

    def _advance(self, states: State, start: int, stop: int) -> Callable[[], Any]:
        function = self._advance_vectorised if self.strategy == "vectorised" else self._advance_sequential
        bounds = (np.int32(start), np.int32(stop))
        return self._program("advance", function, (states, self.lanes), (self._arrays["train"], *bounds), donate=True)

    def evaluate(self, states: State, split: str, arrays: Arrays) -> Evaluation:
        """Sums of the objective's measures over a whole split, and the lanes' health."""
        return self._evaluate(states, split, arrays)()

    def _evaluate(self, states: State, split: str, arrays: Arrays) -> Callable[[], Any]:
        if split not in self._arrays:
            self._arrays[split] = jax.device_put(dict(arrays), self._whole)
        return self._program(f"evaluate {split}", self._evaluate_lane, (states, self.lanes), (self._arrays[split],))

    def decode(self, states: State, source: Any) -> Int[np.ndarray, "lanes examples steps"]:
        """What every lane decodes from these source sequences, as the task wants it; the lanes one after another.

        The program decodes a batch, so it compiles once, whatever the number of sequences.

        Args:
            states: of all lanes.
            source: sequences of a split, all of them, on the host.
        """
        count = len(jax.tree.leaves(source)[0])
        size = min(self.config.training.evaluation_batch_size, len(self.task.validation.references))
        decoded = []
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            batch = jax.device_put(jax.tree.map(lambda leaf: leaf[rows], source), self._whole)  # noqa: B023
            decoded.append(self._program("decode", self._decode_lane, (states, self.lanes), (batch,))())
        return np.concatenate(jax.device_get(decoded), axis=1)[:, :count]

    def compile(self) -> None:
        """Compile what training needs, so that no compilation falls between two steps.

        The programs are compiled side by side: one thread each, for XLA compiles without Python's lock.
        """
        start, before = time.perf_counter(), self.compile_seconds
        shared = (self._arrays["train"], self._initial)
        states = jax.eval_shape(self._over_lanes(self._init_lane), self.lanes, (), shared)
        states = jax.tree.map(lambda leaf: leaf.update(sharding=self._split), states)
        calls = (
            self._init,
            lambda: self._advance(states, 0, 0),
            lambda: self._evaluate(states, "validation", self.task.validation.arrays),
        )
        with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
            for program in [pool.submit(call) for call in calls]:
                program.result()
        self.compile_seconds = before + time.perf_counter() - start

    def place(self, states: State) -> State:
        """States from host memory, laid out over the devices."""
        return jax.device_put(states, self._split)

    def _program(
        self, name: str, function: Callable[..., Any], lanes: tuple, shared: tuple, *, donate: bool = False
    ) -> Callable[[], Any]:
        """The call that runs ``function`` for every lane; compiled ahead of time, once for each name."""
        first, rest = lanes[0], lanes[1:]
        if name not in self._programs:
            start = time.perf_counter()
            program = jax.jit(self._over_lanes(function), donate_argnums=(0,) if donate else ())
            self._programs[name] = program.lower(first, rest, shared).compile()
            self.compile_seconds += time.perf_counter() - start
            logger.debug("%s: compiled %s in %.1f s", self.id, name, time.perf_counter() - start)
        return functools.partial(self._programs[name], first, rest, shared)

    def _over_lanes(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def on_device(first: Any, rest: tuple, shared: tuple) -> Any:
            lanes = (first, *rest)
            # Batched factorisations (orthogonal kernels) deadlock in jaxlib's CPU thread pool, so lanes
            # are initialised one after another. A decoding ends when its own rows have ended.
            if self.strategy == "vectorised" and function not in (self._init_lane, self._decode_lane):
                return jax.vmap(lambda lane: function(*lane, *shared))(lanes)
            return jax.lax.map(lambda lane: function(*lane, *shared), lanes)

        specs = (PartitionSpec(AXIS), PartitionSpec(AXIS), PartitionSpec())
        return jax.shard_map(on_device, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False)

    def _init_lane(self, lane: Lanes, arrays: Arrays, initial: Mapping[str, Any]) -> State:
        indices = jnp.zeros(self.config.training.batch_size, jnp.int32)
        return self.step.init(lane.seed, lane.hyperparameters, self.task.sampler.gather(arrays, indices), initial)

    def _decode_lane(self, state: State, lane: Lanes, source: Any) -> Any:
        return self.step.decode(state, lane.hyperparameters, source)

    def _keys(self, lane: Lanes, step: Any) -> dict[str, Any]:
        root = randomness.root(lane.seed)
        keys = {"dropout": randomness.at(randomness.stream(root, "dropout"), step)}
        return keys | augmentation.keys(root, lane.hyperparameters.get("augmentation", {}), step)

    def _one_step(self, state: State, order: Any, lane: Lanes, arrays: Arrays, step: Any) -> tuple[State, Any]:
        """One train step of one lane: draw, gather, step."""
        key = randomness.stream(randomness.root(lane.seed), "order")
        size, sampler = self.config.training.batch_size, self.task.sampler
        following, indices = sampler.draw(order, arrays, key, step, batch_size=size)
        batch = sampler.gather(arrays, indices)

        def train(batch: Batch) -> State:
            return self.step.train(state, lane.hyperparameters, batch, self._keys(lane, step), step)

        if not isinstance(sampler, BucketedSampler):
            return train(batch), following
        return _at_width(train, batch, sampler, sampler.bucket(order, arrays, step, batch_size=size)), following

    def _begin(self, state: State, lane: Lanes, arrays: Arrays, start: Any) -> tuple[State, Any]:
        """The state with its sum of losses emptied after an evaluation, and the order at ``start``."""
        fresh = start % self.config.training.evaluate_every == 0
        state = state._replace(loss_sum=jnp.where(fresh, 0.0, state.loss_sum))
        key = randomness.stream(randomness.root(lane.seed), "order")
        size = self.config.training.batch_size
        return state, self.task.sampler.start(arrays, key, start, batch_size=size)

    def _advance_sequential(
        self, state: State, lane: Lanes, arrays: Arrays, start: Any, stop: Any
    ) -> tuple[State, Any]:
        """Steps of one lane; one that has diverged, or is padding, takes none and costs nothing."""

        def unfinished(carry: tuple) -> Any:
            state, _, step = carry
            return (step < stop) & (state.diverged_step < 0) & ~lane.padding

        def body(carry: tuple) -> tuple:
            state, order, step = carry
            state, order = self._one_step(state, order, lane, arrays, step)
            return state, order, step + 1

        state, order = self._begin(state, lane, arrays, start)
        state = jax.lax.while_loop(unfinished, body, (state, order, start))[0]
        return state, state.diverged_step + 0

    def _advance_vectorised(
        self, state: State, lane: Lanes, arrays: Arrays, start: Any, stop: Any
    ) -> tuple[State, Any]:
        """The same, for lanes that march in step: one that has diverged keeps its state."""

        def body(step: Any, carry: tuple) -> tuple:
            state, order = carry
            active = (state.diverged_step < 0) & ~lane.padding
            changed, order = self._one_step(state, order, lane, arrays, step)
            return jax.tree.map(lambda new, old: jnp.where(active, new, old), changed, state), order

        state = jax.lax.fori_loop(start, stop, body, self._begin(state, lane, arrays, start))[0]
        return state, state.diverged_step + 0

    def _evaluate_lane(self, state: State, lane: Lanes, arrays: Arrays) -> Evaluation:
        sampler = self.task.sampler
        size = min(self.config.training.evaluation_batch_size, sampler.evaluation_size(arrays))

        def measure(index: Any) -> dict[str, Any]:
            positions = index * size + jnp.arange(size, dtype=jnp.int32)
            batch = sampler.evaluation_batch(arrays, positions)
            sums = functools.partial(self.step.measure, state, lane.hyperparameters)
            if not isinstance(sampler, BucketedSampler):
                return sums(batch)
            return _at_width(sums, batch, sampler, sampler.evaluation_bucket(arrays, positions))

        def body(index: Any, sums: dict[str, Any]) -> dict[str, Any]:
            return jax.tree.map(jnp.add, sums, measure(index))

        batches = math.ceil(sampler.evaluation_size(arrays) / size)
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(measure, jnp.int32(0)))
        sums = jax.lax.fori_loop(jnp.int32(0), jnp.int32(batches), body, zero)
        # "+ 0": a plain copy would alias the state, whose buffers the next call donates.
        return Evaluation(sums, state.loss_sum + 0, state.diverged_step + 0)


def _at_width(function: Callable[[Batch], Any], batch: Batch, sampler: BucketedSampler, bucket: Any) -> Any:
    """``function`` of a batch that is cut to the width of its bucket: a branch of the program for each width."""
    branches = [
        functools.partial(lambda number: function(sampler.narrowed(batch, number)), number)
        for number in range(sampler.buckets)
    ]
    return jax.lax.switch(bucket, branches)


def study_traced_paths(trials: Sequence[Trial]) -> dict[str, tuple[str, ...]]:
    """For each program key, the traced fields that its program takes as arguments."""
    configs: dict[str, list[Config]] = {}
    for trial in trials:
        configs.setdefault(program_key(trial.config), []).append(trial.config)
    return {key: traced_paths(members) for key, members in configs.items()}
