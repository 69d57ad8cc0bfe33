"""Time of one whole training step: Paribus against PyTorch, every family of models, on CPU.

    python -m tests.benchmarks.steps
    python -m tests.benchmarks.steps --samples=3 --models=architectures/cnn,families/lstm
    python -m tests.benchmarks.steps --models=families
    python -m tests.benchmarks.steps --models=families/gru,families/resnet20

    python -m tests.benchmarks.steps --models=architectures,families --trials=8 --threads=2

By default the models of the study ``architectures``. ``--models`` chooses others: one model, or
all of a group. The group ``families`` (``tests/benchmarks/families.py``) has generated data and a model of every
family and form that the study leaves out.

Run it from the root of the repository, on a machine that does nothing else. Linux only: threads are limited by
pinning. It needs PyTorch (``pip install -e .[reference]``).

A step draws and gathers a batch, runs the model forward and backward, clips the gradient where the study does, and
updates with the study's optimizer at a rate set for the step. The same on both sides: architecture and number of
parameters (checked), batch, data in memory, optimizer, float32, denormals flushed to zero, threads. The configuration
is the study's own, so that benchmark and study cannot differ. Paribus runs one trial through ``train.population``, as
the product does, with its traced hyperparameters, sum of losses and watch on divergence, which PyTorch is spared.
Sequences are of one length. Where the inputs are source and target, Paribus computes with their masks nonetheless;
PyTorch is spared that, too.

With ``--trials`` above 1 Paribus trains so many in one population, as the product lays it out over the cores. PyTorch
trains one a core at a time, each in a process of its own with one thread, which is its fastest way for small models.
Times are then those of a step of one trial: the time of all, divided by the number of trials at a time.

Each side is a process of its own, pinned to as many cores as it has threads. They take turns: a sample of Paribus, then
one of each form of PyTorch, and again; never two at once. A sample trains from step 1 (step 0 is not timed) for
about ``--seconds``, at most the length of the study. PyTorch is quoted in its best form: that of the lowest median of
eager, with a fused optimizer, with channels last (images), and with ``--compile`` compiled as well.
"""

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from experiments import plan
from tests.benchmarks.families import Case, cases
from train import data
from train.config import Trial, replace
from train.data.task import Task

STUDIES = ("architectures",)

PIN = "import os, sys; os.sched_setaffinity(0, map(int, sys.argv[1].split(','))); os.execv(sys.argv[2], sys.argv[2:])"
"""A program that runs another on some cores only, so that both sides' pools of threads have that size."""


class Sample(NamedTuple):
    """Milliseconds a step: wall clock, and CPU time of the process."""

    wall: float
    cpu: float


def benchmarked() -> dict[str, Case]:
    """What can be measured, by ``group/name``: the first trial of each arm of the studies, and the families."""
    studies = {
        f"{name}/{trial.arm}": Case(trial, functools.partial(data.load, trial.config.data, None))
        for name in STUDIES
        for trial in plan.resolve(plan.load(name, "cpu"), seeds=2).trials
        if trial.seed == 0
    }
    return studies | cases()


def chosen(models: str) -> list[str]:
    """The names that a comma-separated list of names and groups stands for, in its order."""
    names = []
    for part in models.split(","):
        found = [name for name in benchmarked() if name == part or name.partition("/")[0] == part]
        if not found:
            raise SystemExit(f"no such model or group: {part}; there are {', '.join(benchmarked())}")
        names += found
    return list(dict.fromkeys(names))


class Side(Protocol):
    """What a worker measures."""

    forms: tuple[str, ...]
    parameters: int

    def sample(self, form: str, steps: int) -> tuple[float, float]:
        """Wall-clock and CPU seconds of this many steps."""
        ...


class Paribus:
    """One trial, alone on one device; or several in one population, laid out as the product does it."""

    forms: tuple[str, ...] = ("",)

    def __init__(self, trial: Trial, task: Task, trials: int) -> None:
        import jax

        from train import devices
        from train.config import traced_paths
        from train.population import Population

        devices.prepare()
        traced = traced_paths([trial.config])
        config = replace(trial.config, {"execution.spread": False}) if trials == 1 else trial.config
        lanes = [Trial(arm=trial.arm, seed=trial.seed + lane, config=config) for lane in range(trials)]
        self.population = Population(lanes, traced, task)
        self.parameters = sum(leaf[0].size for leaf in jax.tree.leaves(self.population.init().params))

    def sample(self, form: str, steps: int) -> tuple[float, float]:
        import jax

        del form
        states, _ = jax.block_until_ready(self.population.advance(self.population.init(), 0, 1))
        with stopwatch() as result:
            jax.block_until_ready(self.population.advance(states, 1, 1 + steps))
        return result[0], result[1]


@contextlib.contextmanager
def stopwatch() -> Iterator[list[float]]:
    """A list that holds, once the block has ended, its wall-clock and CPU seconds."""
    result: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield result
    result += [time.perf_counter() - wall, time.process_time() - cpu]


class Torch:
    """The twin of a trial, in each of its forms."""

    def __init__(self, trial: Trial, task: Task, threads: int, *, compiled: bool) -> None:
        import torch

        from tests.benchmarks import torch_models

        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        torch.manual_seed(0)
        self.config = trial.config
        self.arrays = {name: torch_models.tensors(array) for name, array in task.train.arrays.items()}
        self.context = task.shapes.inputs[0]
        images = trial.config.model.name in ("cnn", "resnet")
        self.forms: tuple[str, ...] = (
            "eager",
            "fused",
            *(["channels last, fused"] if images else []),
            *(["compiled"] if compiled else []),
        )
        self.models = {}
        for form in self.forms:
            model: Any = torch_models.build(trial.config.model, task.shapes)
            self.parameters = torch_models.parameters(model)
            if form.startswith("channels last") or (images and form == "compiled"):
                model = model.to(memory_format=torch.channels_last)
            if form == "compiled":
                model = torch.compile(model)
            initial = {name: value.clone() for name, value in model.state_dict().items()}
            optimizer = torch_models.optimizer(model, trial.config.optimizer, fused=form != "eager")
            self.models[form] = (model, initial, optimizer)

    def batches(self) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Inputs (source and target, where there are two) and targets, drawn as the sampler draws them."""
        import torch

        size = self.config.training.batch_size
        if "tokens" in self.arrays:
            (tokens,) = self.arrays["tokens"]
            places = torch.arange(self.context + 1)
            while True:
                starts = torch.randint(tokens.shape[0] - self.context, (size, 1))
                windows = tokens[starts + places]
                yield (windows[:, :-1],), windows[:, 1:]
        inputs, (targets,) = self.arrays["inputs"], self.arrays["targets"]
        while True:
            order = torch.randperm(len(targets))
            for start in range(0, len(targets) - size + 1, size):
                indices = order[start : start + size]
                yield tuple(part[indices] for part in inputs), targets[indices]

    def sample(self, form: str, steps: int) -> tuple[float, float]:
        model, initial, optimizer = self.models[form]
        model.load_state_dict(initial)
        optimizer.state.clear()
        batches = self.batches()
        self.train(model, optimizer, batches, 1)
        with stopwatch() as result:
            self.train(model, optimizer, batches, steps)
        return result[0], result[1]

    def train(self, model: Any, optimizer: Any, batches: Iterator[tuple[tuple[Any, ...], Any]], steps: int) -> None:
        import torch

        clip = self.config.regularisation.clip_norm
        optimizer_config: Any = self.config.optimizer
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for _ in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = optimizer_config.learning_rate  # a schedule's work, not its values
            inputs, targets = next(batches)
            loss = torch.nn.functional.cross_entropy(model(*inputs).flatten(0, -2), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            if clip < float("inf"):
                torch.nn.utils.clip_grad_norm_(trained, clip)
            optimizer.step()


def work(side: str, model: str, threads: int, trials: int, *, compiled: bool) -> None:
    """A worker: sets up one side, says what it is, and measures whenever it is told to."""
    case = benchmarked()[model]
    trial, task = case.trial, case.task()
    ours = side == "paribus"
    measured: Side = Paribus(trial, task, trials) if ours else Torch(trial, task, threads, compiled=compiled)
    print(json.dumps({"forms": measured.forms, "parameters": measured.parameters}), flush=True)
    for line in sys.stdin:
        form, steps = json.loads(line)
        print(json.dumps(measured.sample(form, steps)), flush=True)


class Worker:
    """The parent's end of a worker: idle but when it is asked for a sample."""

    def __init__(self, side: str, model: str, cores: list[int], options: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.steps", f"--worker={side}", f"--models={model}"]
        command += [
            f"--threads={len(cores)}",
            f"--trials={options.trials}",
            *(["--compile"] if options.compile else []),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PIN, ",".join(map(str, cores)), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        head = self._read()
        self.side, self.forms, self.parameters = side, head["forms"], head["parameters"]

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended early, with status {self.process.wait()}; see above")
        return json.loads(line)

    def begin(self, form: str, steps: int) -> None:
        """Ask for a sample."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([form, steps]) + "\n")
        self.process.stdin.flush()

    def end(self, steps: int) -> Sample:
        """What was asked for: milliseconds a step."""
        wall, cpu = self._read()
        return Sample(1e3 * wall / steps, 1e3 * cpu / steps)

    def close(self) -> None:
        """End the process and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Workers:
    """The processes of one side. They work at the same time, each on one trial, or all trials are in the one.

    Args:
        workers: the processes.
        trials: that each of them trains at a time.
    """

    def __init__(self, workers: list[Worker], trials: int) -> None:
        self.workers, self.trials = workers, trials
        self.side, self.forms, self.parameters = workers[0].side, workers[0].forms, workers[0].parameters

    def sample(self, form: str, steps: int) -> Sample:
        """Milliseconds a step of one trial."""
        for worker in self.workers:
            worker.begin(form, steps)
        samples = [worker.end(steps) for worker in self.workers]
        count = len(samples) * self.trials
        return Sample(max(sample.wall for sample in samples) / count, sum(sample.cpu for sample in samples) / count)

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers:
            worker.close()


def compare(name: str, cores: list[int], options: argparse.Namespace) -> str:
    """One row of the table: both sides of one model on these cores, taking turns."""
    trial = benchmarked()[name].trial
    paribus = Workers([Worker("paribus", name, cores, options)], options.trials)
    apart = [[core] for core in cores] if options.trials > 1 else [cores]
    torch = Workers([Worker("torch", name, part, options) for part in apart], 1)
    workers = [paribus, torch]
    if paribus.parameters != torch.parameters:
        raise SystemExit(f"{name}: {paribus.parameters} parameters, and its twin {torch.parameters}")
    longest = trial.config.training.steps - 1
    steps = {}
    turns = [(worker, form) for worker in workers for form in worker.forms]
    for worker, form in turns:
        worker.sample(form, 2)  # compiles
        per_step = worker.sample(form, min(10, longest)).wall
        steps[form] = max(1, min(longest, round(1e3 * options.seconds / per_step)))
    samples: dict[str, list[Sample]] = {form: [] for form in steps}
    for _ in range(options.samples):
        for worker, form in turns:
            samples[form].append(worker.sample(form, steps[form]))
    for worker in workers:
        worker.close()
    best = min(torch.forms, key=lambda form: median(samples[form]).wall)
    for form in torch.forms:
        print(f"{name}, {len(cores)} threads: PyTorch {form} {median(samples[form]).wall:.3f} ms", file=sys.stderr)
    return row(name, trial, paribus.parameters, len(cores), best, samples[best], samples[""])


def row(
    name: str, trial: Trial, parameters: int, threads: int, best: str, torch: list[Sample], paribus: list[Sample]
) -> str:
    """A row of the Markdown table. Ratios are those of samples of the same turn."""
    ratios = [there.wall / here.wall for there, here in zip(torch, paribus, strict=True)]
    there, here = median(torch), median(paribus)
    return (
        f"| {name} | {parameters:,} | {trial.config.training.batch_size} | {threads} "
        f"| {there.wall:.3f} ({best}) | {here.wall:.3f} "
        f"| {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] "
        f"| {there.cpu:.3f} | {here.cpu:.3f} |"
    )


def median(samples: list[Sample]) -> Sample:
    """The median of each part by itself."""
    return Sample(*(statistics.median(column) for column in zip(*samples, strict=True)))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=9, help="turns; the table has their medians")
    parser.add_argument("--seconds", type=float, default=0.5, help="what a sample should last")
    parser.add_argument("--models", help="comma-separated group/name, or group; the studies otherwise")
    parser.add_argument("--threads", default="1,2", help="comma-separated numbers of threads")
    parser.add_argument("--trials", type=int, default=1, help="trials at once (see above)")
    parser.add_argument("--compile", action="store_true", help="try torch.compile, too (needs a C++ compiler)")
    parser.add_argument("--worker", choices=("paribus", "torch"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.worker:
        work(options.worker, options.models, int(options.threads), options.trials, compiled=options.compile)
        return
    models = chosen(options.models or ",".join(STUDIES))
    cores = sorted(os.sched_getaffinity(0))
    if os.getloadavg()[0] > 0.5:
        print(
            f"warning: load is {os.getloadavg()[0]:.1f}; PyTorch's two threads spin while they wait for each other, "
            "and look up to 100 times slower than they are when another process takes a core",
            file=sys.stderr,
        )
    print(
        "| model | parameters | batch | threads | PyTorch, ms (form) | Paribus, ms | PyTorch / Paribus [least, most]",
        end="",
    )
    print(" | PyTorch, CPU ms | Paribus, CPU ms |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for threads in map(int, options.threads.split(",")):
        if threads > len(cores):
            print(f"{threads} threads are left out: there are {len(cores)} cores", file=sys.stderr)
            continue
        for name in models:
            print(compare(name, cores[:threads], options), flush=True)


if __name__ == "__main__":
    main()
