"""The loop around a population, in an order that makes every saved point consistent.

At step 0, at every multiple of ``evaluate_every`` and at the end:

1. evaluate on the validation split,
2. record the rows, on the disk,
3. checkpoint, when enough time has passed or a stop was asked for,

and then train on. So a checkpoint at step s implies the rows up to s; on resuming, rows beyond the
checkpoint are dropped and made again. After the last step: checkpoint (but not of tuning trials), final
evaluation (the only reader of the test split; it decodes, too, where the task wants it), one row a trial.
The device is kept busy all the while: the next work is dispatched before the host waits for the last.
"""

import collections
import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from train import conclusion, processes, profiling, resumption
from train.choosing import Choosing
from train.config import values
from train.directions import is_reached
from train.folder import Files
from train.in_flight import InFlight
from train.meshes import fetch
from train.pace import Pace
from train.population import Population
from train.rows import head, origin
from train.signals import Interrupted
from train.trackers import Tracker

CHECKPOINT_SHARE = 0.02
"""Share of the time that checkpoints take at the most, by waiting longer after one that took long."""

CHUNK_SECONDS = 0.5
"""Aim for the duration of one dispatch: long beside its overhead, short beside a person's patience."""


class Watch(NamedTuple):
    """What the loop tells and asks while it runs.

    Attributes:
        progress: called with the number of trial-steps that have been done since the last call.
        interrupted: true once a stop has been asked for.
        trackers: told of the rows of ``curves.csv``, and of the final metrics.
        profiles: folder for a profile of a few steps of each population; None where none is wanted.
    """

    progress: Callable[[int], None]
    interrupted: Callable[[], bool]
    trackers: Sequence[Tracker] = ()
    profiles: Path | None = None


def run_population(
    population: Population,
    files: Files,
    watch: Watch,
    *,
    origin: Path | None = None,
    choosing: Choosing | None = None,
) -> dict[str, float]:
    """Train and evaluate the trials of a population, from where they stopped, and record them.

    Args:
        population: the trials.
        files: where records and checkpoints go.
        watch: what is told and asked.
        origin: folder of the checkpoints to begin from, where the population has none of its own.
        choosing: how the trials are judged, where they are run to choose a configuration.

    Returns:
        seconds by what they went into: compile, step, evaluate, checkpoint, and input, in which the devices waited for
        the data of a streamed split and had nothing else to do; where diagnostics are on, diagnose. Beside them ideal,
        what the steps would have taken at the pace of the fastest of them (see :class:`train.pace.Pace`).

    Raises:
        Interrupted: a stop was asked for; a checkpoint has been written.
        DoesNotFit: the compiled programs take more memory than there is; nothing has been done.
    """
    compiled = population.compile_seconds
    with contextlib.ExitStack() as stack:
        for each in (population.splits, *watch.trackers):
            stack.callback(each.close)
        population.compile()
        population.check_memory()
        run = _Run(population, files, watch, origin, choosing)
        with contextlib.closing(run.checkpoints):
            run.train()
            run.finish()
    return {"compile": population.compile_seconds - compiled, **run.seconds, "ideal": run.pace.ideal_seconds}


class _Run:
    """One population on its way through the loop."""

    def __init__(
        self, population: Population, files: Files, watch: Watch, origin: Path | None, choosing: Choosing | None
    ) -> None:
        self.population, self.files, self.watch, self.choosing = population, files, watch, choosing
        self.checkpoints = resumption.opened(files.checkpoints(population), population)
        self.seconds = {"step": 0.0, "evaluate": 0.0, "checkpoint": 0.0, "input": 0.0}
        if population.config.diagnostics.is_on:
            self.seconds["diagnose"] = 0.0
        self.trained_seconds = 0.0
        self.evaluated_at: collections.deque[float] = collections.deque()
        self.pace = Pace()
        self.training = population.config.training
        self.chunk = 4
        self.in_flight = InFlight(self._account)
        self.saved, self.save_seconds = time.perf_counter(), 0.0
        self.scores: dict[str, float] = {}
        self.compared: dict[str, float] = {}
        self.pruned = np.full(len(population.trials), -1)
        self.evaluated: tuple[int, Any] = (-1, None)
        self.diagnosed: tuple[int, dict[str, Any]] = (-1, {})
        self._restore(origin)

    @functools.cached_property
    def _origins(self) -> list[dict[str, Any]]:
        facts, execution = self.population.task.facts, self.population.execution
        return [origin(trial, facts, execution) for trial in self.population.trials]

    def _restore(self, origin: Path | None) -> None:
        """Begin at the newest whole checkpoint, or at step 0; drop the rows beyond it."""
        self.population.splits.has_input(self.checkpoints.latest())  # which begins to read
        self.population.splits.request("validation", self.population.task.validation.arrays)
        self.states = self.population.init()
        restored = resumption.restored(self.checkpoints, origin, self.states)
        self.step = -1
        if restored is not None:
            self.step = restored.step
            self.states = self.population.place(restored.states)
            self.trained_seconds = restored.facts["train_seconds"]
            self.watch.progress(self.step * len(self.population.trials))
        self.stopped = self.population.stopped_steps(self.states)
        self.diverged = np.asarray(fetch(self.states.diverged_step))
        mine = {trial.id for trial in self.population.trials}
        self.files.curves.keep(lambda row: row["trial"] not in mine or int(row["step"]) <= self.step)
        if self.choosing is not None and self.choosing.prune is not None:
            self._prune_again(mine, self.choosing.column)
        for tracker in self.watch.trackers:
            for trial in self.population.trials:
                tracker.begin(trial, self.step)
        processes.barrier("restored")  # nobody reads a table any more while the first process writes to it

    def _prune_again(self, mine: set[str], column: str) -> None:
        """Prune what had been pruned by the step at which the run goes on: all of it follows from the rows."""
        told: dict[int, dict[str, float]] = {}
        for row in self.files.curves.rows():
            if row["trial"] in mine:
                told.setdefault(int(row["step"]), {})[row["trial"]] = float(row[column])
        for step in sorted(told):
            self._prune(step, told[step])

    def _prune(self, step: int, values: Mapping[str, float]) -> None:
        """Let the trials end that look hopeless by what the evaluation at ``step`` found."""
        if self.choosing is None or self.choosing.prune is None or step >= self.training.steps:
            return
        ended = self.choosing.prune(step, values)
        for lane, trial in enumerate(self.population.trials):
            if trial.id in ended and self.pruned[lane] < 0:
                self.pruned[lane] = step
        if ended:
            self.population.retire([bool(at >= 0) for at in self.pruned])

    def train(self) -> None:
        """Evaluate, record, checkpoint, train on; until the last step."""
        fresh = self.step < 0
        self.step = begun = max(self.step, 0)
        if fresh:
            self._evaluate()
        self._compact()
        while self.step < self.training.steps:
            every = self.training.evaluate_every
            boundary = min((self.step // every + 1) * every, self.training.steps)
            self._await_input()
            self.chunk, _ = processes.agreed(self.chunk, False)
            stop = min(self.step + self.chunk, boundary, self.population.splits.reach(self.step))
            if self.watch.profiles is not None and self.step <= begun + 1:
                self._advance_profiled(begun, stop, self.watch.profiles / self.population.id)
            else:
                self._advance(stop)
            if self.step == boundary:
                self._evaluate()
            self.in_flight.wait(leave=1)
            self._save_if_due()
            if stop == boundary:
                self._compact()
        self.in_flight.wait(leave=0)
        if self.choosing is None:  # nobody wants the weights of tuning trials
            self._save()

    def _compact(self) -> None:
        """Let trials that have diverged, stopped early or were pruned cost nothing; end where all of them have.

        What counts is what was known at the evaluation before the last, so that a run that resumes does the same;
        of pruning, which is waited for, at the last.
        Near the end the compilation would not pay.
        """
        every, last = self.training.evaluate_every, self.training.steps
        known = (self.step // every - 1) * every
        ends = np.stack([self.diverged[: len(self.pruned)], self.stopped])
        finished = (((ends >= 0) & (ends <= known)).any(axis=0) | (self.pruned >= 0)).tolist()
        if all(finished):
            self.watch.progress((last - self.step) * len(self.population.trials))
            self.step = last
        elif 10 * (last - self.step) >= last and self.population.compact(finished):
            self.in_flight.ready = time.perf_counter()

    def _advance(self, stop: int) -> None:
        """Dispatch the steps up to ``stop``."""
        dispatched = time.perf_counter()
        self.states, pulse = self.population.advance(self.states, self.step, stop)
        self.in_flight.submit("step", dispatched, stop - self.step, pulse)
        self.step, self.scores = stop, {}

    def _advance_profiled(self, begun: int, stop: int, folder: Path) -> None:
        """One step to warm up; the next time, a few that are profiled."""
        is_warm = self.step > begun
        stop = min(stop, self.step + (profiling.STEPS if is_warm else 1))
        with profiling.trace(folder) if is_warm else contextlib.nullcontext():
            self._advance(stop)
            self.in_flight.wait(leave=0)

    def _await_input(self) -> None:
        """Wait for the data of the next step; what the devices were given before is not counted as waiting."""
        if self.population.splits.has_input(self.step):
            return
        self.in_flight.wait(leave=0)
        start = time.perf_counter()
        self.population.splits.training(self.step)
        self.in_flight.ready = time.perf_counter()
        self.seconds["input"] += self.in_flight.ready - start

    def _save_if_due(self) -> None:
        patience = self.population.config.execution.checkpoint_seconds
        if patience:
            patience = max(patience, self.save_seconds / CHECKPOINT_SHARE)
        late = time.perf_counter() - self.saved >= patience
        due, interrupted = processes.agreed(late, self.watch.interrupted())
        if interrupted or self._is_best() or due:
            self.in_flight.wait(leave=0)
            self._save()
        if interrupted:
            raise Interrupted

    def _is_best(self) -> bool:
        """Whether some trial is now at its best, where such checkpoints are to be kept."""
        if not self.checkpoints.best or self.step % self.training.evaluate_every:
            return False
        self.in_flight.wait(leave=0)  # for what the evaluation finds
        return self.checkpoints.would_keep(self.step, self.scores)

    def _save(self) -> None:
        start = time.perf_counter()
        facts = {"train_seconds": self.trained_seconds, **resumption.facts(self.population)}
        self.checkpoints.save(self.step, self.states, facts, self.scores)
        self.saved = self.in_flight.ready = time.perf_counter()
        self.save_seconds = self.saved - start
        self.seconds["checkpoint"] += self.save_seconds

    def _account(self, kind: str, spent: float, steps: int) -> None:
        """The devices have spent so many seconds on work of a kind; of training on so many steps."""
        self.seconds[kind] += spent
        if kind == "evaluate":
            self.evaluated_at.append(self.trained_seconds)  # for its rows, which may be written later
        if kind == "step":
            going = (self.diverged[: len(self.pruned)] < 0) & (self.stopped < 0) & (self.pruned < 0)
            self.pace.add(int(going.sum()), spent, steps)
            self.trained_seconds += spent * self.population.layout.lanes / len(self.population.trials)
            self.chunk = max(1, min(math.ceil(CHUNK_SECONDS * steps / max(spent, 1e-6)), 4 * self.chunk))
            self.watch.progress(steps * len(self.population.trials))

    def _evaluate(self) -> None:
        """Dispatch an evaluation on the validation split; its rows are written once it is done."""
        arrays = self.population.task.validation.arrays
        if not self.population.splits.request("validation", arrays):
            self.in_flight.wait(leave=0)
        dispatched, step, idle = time.perf_counter(), self.step, self.population.splits.idle_seconds
        result = self.population.evaluate(self.states, "validation", arrays, finished=False)
        self.evaluated = step, result
        self.population.splits.request("validation", arrays)  # for the next time
        idle = self.population.splits.idle_seconds - idle
        self.seconds["input"] += idle
        self.seconds["evaluate"] -= idle
        record = functools.partial(self._record, step, (self.stopped < 0) & (self.pruned < 0))
        if self.population.config.diagnostics.is_on:
            self.in_flight.submit("evaluate", dispatched, 0, result)
            self._await_input()
            dispatched, found = time.perf_counter(), self.population.diagnose(self.states, step)
            self.diagnosed = step, found
            self.in_flight.submit("diagnose", dispatched, 0, found, lambda found: record(result, found))
        else:
            self.in_flight.submit("evaluate", dispatched, 0, result, lambda result: record(result, {}))
        if self.population.stops_early:
            self.in_flight.settle()
            self._heed(step, result)
        if self.choosing is not None and self.choosing.prune is not None:
            self.in_flight.wait(leave=0)
            self._prune(step, self.compared)

    def _heed(self, step: int, evaluation: Any) -> None:
        """Tell early stopping what an evaluation found; trials may end with it."""
        evaluation = jax.device_get(evaluation)
        task, first = self.population.task, self.population.task.objective.metrics[0]
        values, reached = [], []
        for lane, trial in enumerate(self.population.trials):
            going = max(self.stopped[lane], evaluation.diverged_step[lane]) < 0
            found = conclusion.metrics(task, "validation", evaluation, lane) if going else {}
            values.append(found.get(f"validation_{first}", math.nan))
            wanted = trial.config.training
            value = found.get(f"validation_{wanted.target_metric}", math.nan)
            reached.append(bool(wanted.target_metric) and is_reached(wanted.target_metric, value, wanted.target))
        self.states = self.population.observe(self.states, values, step, reached)
        self.stopped = self.population.stopped_steps(self.states)

    def _record(self, step: int, going: np.ndarray, evaluation: Any, diagnosis: dict[str, Any]) -> None:
        """Write a row for each lane that was ``going`` before the evaluation and has not diverged."""
        since, seconds = conclusion.steps_since(self.training, step), round(self.evaluated_at.popleft(), 3)
        evaluation, diagnosis = jax.device_get((evaluation, diagnosis))  # all at once: a lane of an array costs as much
        self.diverged = evaluation.diverged_step
        rows = []
        for lane, trial in enumerate(self.population.trials):
            if self.diverged[lane] >= 0 or not going[lane]:
                continue
            found: dict[str, float] = {"train_loss": float(evaluation.loss_sum[lane]) / since} if step else {}
            found |= conclusion.metrics(self.population.task, "validation", evaluation, lane)
            found |= self.population.diagnosed(diagnosis, lane, step)
            for tracker in self.watch.trackers:
                tracker.write(trial, step, found)
            self.files.curves.admit(found)
            rows.append(head(trial) | {"step": step, "seconds": seconds} | found | self._origins[lane])
        self.files.curves.append(rows)
        if self.choosing is not None:
            self.compared = {row["trial"]: row[self.choosing.column] for row in rows if self.choosing.column in row}
        if step == self.step:
            self.scores = {row["trial"]: row[f"validation_{self.population.task.objective.metrics[0]}"] for row in rows}

    def finish(self) -> None:
        """The final evaluation, and a row for each trial; all of them at once."""
        population, task = self.population, self.population.task
        opened = conclusion.splits(task, test=self.choosing is None)
        compiled, start = population.compile_seconds, time.perf_counter()
        diagnosis = jax.device_get(self._final_diagnosis())
        if population.stops_early:
            self.states = population.conclude(self.states)
        found = {"validation": jax.device_get(self._final_validation())}
        if "test" in opened:
            found["test"] = jax.device_get(population.evaluate(self.states, "test", opened["test"].arrays))
        self.seconds["evaluate"] += time.perf_counter() - start - (population.compile_seconds - compiled)
        scores = conclusion.scores(population, self.states, found, opened)
        rows = []
        for lane, each in enumerate(scores):
            measured = population.diagnosed(diagnosis, lane, self.training.steps)
            diverged, loss = found["validation"].diverged_step[lane], found["validation"].loss_sum[lane]
            rows.append(self._final_row(lane, conclusion.Found(each, measured, float(loss), int(diverged))))
        if self.choosing is None:
            conclusion.record_beside(self.files, population, opened, found, [row["status"] == "ok" for row in rows])
        for row in rows:
            self.files.trials.admit(row)
        self.files.trials.put(rows, key="trial")

    def _final_row(self, lane: int, found: conclusion.Found) -> dict[str, Any]:
        """What became of a trial."""
        population, trial = self.population, self.population.trials[lane]
        row, metrics = conclusion.outcome(
            found, self.training, stopped=int(self.stopped[lane]), pruned=int(self.pruned[lane])
        )
        if self.choosing is not None and metrics:
            row["value"] = (row | metrics)[self.choosing.column]
        for tracker in self.watch.trackers:
            tracker.conclude(trial, row["steps"], metrics)
        spent = population.cost()
        row |= {name: getattr(spent, name) for name in ("parameters", "flops_per_step", "sequential_products")}
        row |= {"train_seconds": round(self.trained_seconds, 3)}
        return head(trial) | row | values(trial.config) | self._origins[lane]

    def _final_diagnosis(self) -> dict[str, Any]:
        """What the diagnostics find at the end; often that of the last step. Nothing where they are off."""
        step, found = self.diagnosed
        if step == self.training.steps or not self.population.config.diagnostics.is_on:
            return found
        return self.population.diagnose(self.states, self.training.steps)

    def _final_validation(self) -> Any:
        """The evaluation on the validation split of the final weights of every lane; often that of the last step."""
        step, result = self.evaluated
        ended = self.population.stops_early or (self.diverged >= 0).any() or (self.pruned >= 0).any()
        if step == self.training.steps and not ended:
            return result
        return self.population.evaluate(self.states, "validation", self.population.task.validation.arrays)
