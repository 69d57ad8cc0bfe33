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
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from models.layers import engines
from train import augmentation, devices, diagnostics, full_batch, packing
from train.config import Trial, digest
from train.cost import cost
from train.data.division import divided
from train.data.task import Arrays, Task
from train.early_stopping import stops_early
from train.feed import Chunk
from train.lane import Evaluation, LaneFunctions, orders, stack
from train.meshes import Layout, bytes_per_device, fetch, put
from train.splits import Splits
from train.step import State, make_step

logger = logging.getLogger("paribus")

COMPILER_OPTIONS: dict[str, Any] = {}
"""XLA's, beside those of :func:`_options`."""


class Population:
    """Trials that share one compiled program, on the devices that they are spread over.

    Args:
        trials: of equal static configuration.
        traced: paths of the fields that the program takes as arguments; those of all trials of
            the study that share the static configuration, so that each gets the same program.
        task: the data.
        strategy: how the lanes of a device run, sequential or vectorised; None for what the configuration says.
            Nothing is measured here (see :mod:`train.strategies`): where it leaves that open, sequential on a CPU,
            vectorised elsewhere.

    Raises:
        BadInput: the model cannot treat the task, or the batch does not fit the data.
    """

    def __init__(self, trials: Sequence[Trial], traced: Sequence[str], task: Task, strategy: str | None = None) -> None:
        self.trials = tuple(trials)
        self.config = trials[0].config
        self.cost = functools.partial(cost, self.config, task)  # a division keeps all shapes
        if self.config.seeds.split == "seed":
            task = divided(task, trials[0].seed)
        self.task, batch_size = full_batch.resolve(self.config, task)
        self.task.sampler.check(task.train.arrays, batch_size=batch_size)
        for trial in trials:  # make_step sees the first alone
            augmentation.check(trial.config, task.shapes)
        self.strategy = strategy or self.config.execution.strategy
        if self.strategy not in ("sequential", "vectorised"):
            self.strategy = "sequential" if jax.default_backend() == "cpu" else "vectorised"
        self.step = make_step(self.config, task.shapes, task.objective, task.decoding)
        self._lane = LaneFunctions(
            self.task,
            self.step,
            batch_size=batch_size,
            evaluate_every=self.config.training.evaluate_every,
            diagnosis=diagnostics.make_diagnosis(self.config, self.step),
        )
        self.layout = Layout(self.config.execution.mesh, len(self.trials), spread=self.config.execution.spread)
        self.compile_seconds = 0.0
        self._programs: dict[str, Any] = {}
        self._evaluations: dict[Any, str] = {}
        self._split, self._whole = self.layout.by_lane, self.layout.whole
        self.lanes = put(stack(trials, traced, self.layout.lanes), self._split)
        self._slots: Any = None
        self._sums: dict[str, Any] | None = None
        self.splits = Splits(self.task, self.config, self.layout, seeds=orders(self.trials), batch_size=batch_size)
        self._initial = put(dict(task.initial), self._whole)
        if self.layout.is_partitioned:
            self.layout.check(self._shapes, batch_size)

    @property
    def id(self) -> str:
        """A name that the same trials always get: the first arm and a digest of them all."""
        text = "\n".join(f"{trial.id} {digest(trial.config)}" for trial in self.trials)
        return f"{self.trials[0].arm}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def execution(self) -> str:
        """The strategy in words, for the records: ``sequential x 2 devices``."""
        return f"{self.strategy} x {self.layout}"

    def init(self) -> State:
        """Fresh states of all lanes."""
        return self._init()()

    def _init(self) -> Callable[[], State]:
        return self._program("init", self._lane.init, (self.lanes,), (self.splits.example(), self._initial))

    def advance(self, states: State, start: int, stop: int) -> tuple[State, Any]:
        """Train from step ``start`` up to ``stop``. Donates ``states``.

        Returns:
            the new states, and ``diverged_step`` of each lane as an array of its own, which stays
            readable when the states have been donated to the next call.
        """
        while True:
            last = min(stop, self.splits.reach(start))
            states, pulse = self._advance(states, self.splits.training(start), start, last)()
            if last == stop:
                return states, pulse
            start = last

    def _advance(self, states: State, source: Arrays | Chunk, start: int, stop: int) -> Callable[[], Any]:
        function = self._lane.advance_vectorised if self.strategy == "vectorised" else self._lane.advance_sequential
        shared = (source, np.int32(start), np.int32(stop))
        if self._slots is None:
            return self._program("advance", function, (states, self.lanes), shared, donate=True)
        lanes, name = (states, self.lanes, self._slots), f"advance {len(self._slots)}"
        return self._program(name, function, lanes, shared, donate=True, over=self._over_slots)

    def compact(self, finished: Sequence[bool]) -> bool:
        """Train on with the lanes that have not finished: evenly on all devices, in fewer slots where that is faster.

        A program is compiled where the number of slots changes. What a lane computes stays the same, but for the
        rounding of a batched program of another size.

        Args:
            finished: for each trial, whether it has diverged, has stopped early or was pruned.

        Returns:
            whether anything changed.
        """
        done = [*finished, *[True] * (len(self.lanes.seed) - len(finished))]
        if all(done) or self.layout.is_partitioned:
            return False
        before = list(range(len(done))) if self._slots is None else np.asarray(self._slots).tolist()
        after = packing.slots(done, self.layout.lanes, self.strategy)
        if packing.gain(before, after, done, self.layout.lanes, self.strategy) <= 1:
            return False
        self._slots = put(np.asarray(after, np.int32), self._split)
        self._advance(self._shapes, self.splits.training_shape(), 0, 0)
        return True

    def retire(self, ended: Sequence[bool]) -> None:
        """Let the trials that were pruned take no more steps; their states stay as they are.

        Args:
            ended: for each trial, whether it was pruned, now or before.
        """
        padding = np.asarray([*ended, *[True] * (len(self.lanes.seed) - len(ended))])
        self.lanes = self.lanes._replace(padding=put(padding, self._split))

    def evaluate(self, states: State, split: str, arrays: Arrays, *, finished: bool = True) -> Evaluation:
        """Sums of the objective's measures over a whole split, and the lanes' health.

        Args:
            states: of all lanes.
            split: its name.
            arrays: of the split.
            finished: measure lanes, too, that have diverged or stopped early; else their sums may lack the split.
        """
        sums = put(self._no_sums(arrays), self._split)
        result = Evaluation(sums, sums, None, None)

        def busy() -> Any:
            return result.sums

        for source, start, stop in self.splits.evaluation(split, arrays, busy):
            result = self._evaluate(states, split, arrays, result, source, start, stop, finished)()
        return result

    def diagnose(self, states: State, step: int) -> dict[str, Any]:
        """What the diagnostics find of every lane before ``step``; see :meth:`diagnosed`."""
        step = min(step, self.config.training.steps - 1)
        wanted = self.config.diagnostics
        found = self._diagnose(states, self.splits.training(step), step)() if wanted.of_a_step else {}
        if wanted.training_split:
            found |= diagnostics.named_sums(self.evaluate(states, "train", self.task.train.arrays))
        return found

    def _diagnose(self, states: State, source: Arrays | Chunk, step: int) -> Callable[[], dict[str, Any]]:
        return self._program("diagnose", self._lane.diagnose, (states, self.lanes), (source, np.int32(step)))

    def diagnosed(self, found: dict[str, Any], lane: int, step: int) -> dict[str, float]:
        """The columns of one lane, of what :meth:`diagnose` found at ``step``."""
        whole, own = diagnostics.separated({name: np.asarray(value[lane]) for name, value in found.items()})
        size, at_end = self._lane.batch_size, step == self.config.training.steps
        result = diagnostics.finish(own, config=self.config, batch_size=size, at_end=at_end)
        return result | (diagnostics.of_training(self.task.objective.finish(whole)) if whole else {})

    @property
    def stops_early(self) -> bool:
        """Whether some trial has patience or a target; evaluations are then to be told to :meth:`observe`."""
        return stops_early(self.config, self.lanes.hyperparameters.get("regularisation", {}))

    def observe(self, states: State, values: Sequence[float], step: int, reached: Sequence[bool] = ()) -> State:
        """The states after early stopping was told each trial's value and whether it is at its target. Donates them."""
        return self._observe(states, values, step, reached)()

    def _observe(self, states: State, values: Sequence[float], step: int, reached: Any = ()) -> Callable[[], State]:
        told = np.zeros((2, len(self.lanes.seed)), np.float32)
        told[0, : len(values)], told[1, : len(reached)] = values, reached
        given = (states, self.lanes, *put((told[0], told[1] > 0), self._split))
        return self._program("observe", self._lane.observe, given, (np.int32(step),), donate=True)

    def conclude(self, states: State) -> State:
        """The states whose evaluations take what early stopping kept. Donates ``states``."""
        return self._conclude(states)()

    def _conclude(self, states: State) -> Callable[[], State]:
        return self._program("conclude", self._lane.conclude, (states,), (), donate=True)

    def stopped_steps(self, states: State) -> Int[np.ndarray, " trials"]:
        """The step at which each trial stopped early; -1 for one that has not."""
        if not states.stopping:
            return np.full(len(self.trials), -1)
        return np.asarray(fetch(states.stopping.stopped_step))[: len(self.trials)]

    def _evaluate(
        self,
        states: State,
        split: str,
        arrays: Arrays,
        before: Evaluation,
        source: Arrays | Chunk,
        start: int,
        stop: int,
        finished: bool,
    ) -> Callable[[], Any]:
        size, skips = self.splits.evaluation_batch(arrays), self.strategy == "sequential"
        function = functools.partial(self._lane.evaluate, size=size, skips=skips)
        lanes = (states, self.lanes, before.sums, before.rests)
        shared = (source, np.int32(start), np.int32(stop), np.bool_(finished))
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(source))
        name = self._evaluations.setdefault((size, shapes), f"evaluate {split}")  # splits of one shape share a program
        return self._program(name, function, lanes, shared)

    def _no_sums(self, arrays: Arrays) -> dict[str, Any]:
        """The sums of nothing, of every lane."""
        if self._sums is None:
            state, lane = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (self._shapes, self.lanes)
            )
            positions = jax.ShapeDtypeStruct((1,), jnp.int32)
            batch = jax.eval_shape(self.task.sampler.evaluation_batch, dict(arrays), positions)
            self._sums = jax.eval_shape(self.step.measure, state, lane.hyperparameters, batch)
        sums: Any = self._sums
        return {name: np.zeros((len(self.lanes.seed), *leaf.shape), leaf.dtype) for name, leaf in sums.items()}

    @functools.cached_property
    def _shapes(self) -> State:
        """What the states of all lanes look like, without their content."""
        states = jax.eval_shape(
            self._over_lanes(self._lane.init), self.lanes, (), (self.splits.example(), self._initial)
        )
        return jax.tree.map(lambda leaf, place: leaf.update(sharding=place), states, self.layout.states(states))

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
            batch = put(jax.tree.map(lambda leaf: leaf[rows], source), self._whole)  # noqa: B023
            decoded.append(self._program("decode", self._lane.decode, (states, self.lanes), (batch,))())
        return np.concatenate(jax.device_get(decoded), axis=1)[:, :count]

    def compile(self) -> None:
        """Compile what training needs, so that no compilation falls between two steps.

        The programs are compiled side by side: one thread each, for XLA compiles without Python's lock.
        """
        start, before = time.perf_counter(), self.compile_seconds
        if not self.config.execution.input_workers:  # processes would outlive a population that is never run
            self.splits.has_input(0)  # which begins to read
        states, of_a_step = self._shapes, self.config.diagnostics.of_a_step
        calls = (
            self._init,
            self.training_program,
            lambda: self._prepare_evaluations(states),
            *([lambda: self._observe(states, (), 0), lambda: self._conclude(states)] if self.stops_early else []),
            *([lambda: self._diagnose(states, self.splits.training_shape(), 0)] if of_a_step else []),
        )
        with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
            for program in [pool.submit(call) for call in calls]:
                program.result()
        self.compile_seconds = before + time.perf_counter() - start

    def check_memory(self) -> None:
        """Whether the compiled programs fit; a single trial is let try.

        Raises:
            DoesNotFit: they do not.
        """
        states = bytes_per_device(self._shapes)
        packing.check_memory(states, self._programs, self.layout.mesh.local_devices, len(self.trials))

    def training_program(self) -> tuple[Any, State]:
        """The compiled program of :meth:`advance`, and what the states that it takes look like."""
        states = self._shapes
        self._advance(states, self.splits.training_shape(), 0, 0)
        return self._programs["advance"], states

    def _prepare_evaluations(self, states: State) -> None:
        """Compile the evaluations, and bring splits to the devices unless they are streamed; never the test split."""
        task, diagnosed = self.task, self.config.diagnostics.training_split
        known = {"validation": task.validation.arrays} | ({"train": task.train.arrays} if diagnosed else {})
        parts = [(split, arrays, self.splits.evaluation_shape(split, arrays)) for split, arrays in known.items()]
        unopened = task.test.shapes()
        for split, arrays, source in (*parts, ("test", unopened, self.splits.unopened_shape(unopened))):
            if source is not None:
                sums = put(self._no_sums(arrays), self._split)
                self._evaluate(states, split, arrays, Evaluation(sums, sums, None, None), source, 0, 0, True)

    def place(self, states: State) -> State:
        """States of the trials laid out over the devices; padding takes those of the first."""
        rows = np.where(np.arange(len(self.lanes.seed)) < len(self.trials), np.arange(len(self.lanes.seed)), 0)
        return self.layout.placed(states, rows)

    def _program(
        self,
        name: str,
        function: Callable[..., Any],
        lanes: tuple,
        shared: tuple,
        *,
        donate: bool = False,
        over: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
    ) -> Callable[[], Any]:
        """The call that runs ``function`` for every lane; compiled ahead of time, once for each name."""
        first, rest = lanes[0], lanes[1:]
        if name not in self._programs:
            start = time.perf_counter()
            program = jax.jit(
                self.layout.pinning((over or self._over_lanes)(function)), donate_argnums=(0,) if donate else ()
            )
            self._programs[name] = program.lower(first, rest, shared).compile(_options())
            self.compile_seconds += time.perf_counter() - start
            logger.debug("%s: compiled %s in %.1f s", self.id, name, time.perf_counter() - start)
        program = self._programs[name]

        def run() -> Any:
            engines.share(devices.cores() // self.layout.mesh.size)
            return program(first, rest, shared)

        return run

    def _over_slots(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the states, as :meth:`_over_lanes` makes it, for the lanes that the slots name."""

        def on_devices(states: State, rest: tuple, shared: tuple) -> Any:
            lanes, places = rest
            chosen, some = jax.lax.with_sharding_constraint(
                jax.tree.map(lambda leaf: leaf[places], (states, lanes)), self._split
            )
            changed, _ = self._over_lanes(function)(chosen, (some,), shared)
            states = jax.tree.map(lambda every, new: every.at[places].set(new), states, changed)
            states = jax.lax.with_sharding_constraint(states, self._split)
            return states, states.diverged_step + 0

        return on_devices

    def _over_lanes(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def on_device(first: Any, rest: tuple, shared: tuple) -> Any:
            lanes = (first, *rest)
            # Batched factorisations (orthogonal kernels, singular values) deadlock in jaxlib's CPU thread pool, so
            # lanes are initialised and diagnosed one after another. A decoding ends when its own rows have ended.
            alone = (self._lane.init, self._lane.decode, self._lane.diagnose)
            if self.strategy == "vectorised" and function not in alone:
                return jax.vmap(lambda lane: function(*lane, *shared))(lanes)
            return jax.lax.map(lambda lane: function(*lane, *shared), lanes)

        return self.layout.over_lanes(on_device)


def _options() -> dict[str, Any]:
    """XLA's options. On a CPU LLVM optimises less: programs are as fast, and compiled in 5 to 20% less time."""
    quick = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}
    return quick | COMPILER_OPTIONS
