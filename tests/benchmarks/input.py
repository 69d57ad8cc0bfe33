"""The input of a streamed set: does the device wait for it, and how fast is it beside NumPy and PyTorch?

    python -m tests.benchmarks.input
    python -m tests.benchmarks.input --parts=waiting --steps=200 --arms=mlp,cnn
    python -m tests.benchmarks.input --parts=rate --seconds=3

Run it from the root of the repository. Two parts.

``waiting``: whole training runs of the study ``architectures``, its models and batches as they are, on a training
split of the same images that is repeated until it has ``--mib`` MiB, written to a file and streamed from there, as
is the validation split. Quoted is the share of the run after compilation in which the devices had no data and
nothing else to do, as ``train.loop`` counts it, start of the reading included.

``rate``: shuffled batches of ``--batch`` images of 28 x 28 bytes from a memory-mapped file of ``--mib`` MiB that
lies in the page cache, in examples a second: plain NumPy indexing with a permutation made once; the feed up to the
host's memory, and up to the device; and a PyTorch DataLoader whose sampler gives whole batches of indices to a data
set that takes them at once, its best form, with 0, 1 and 2 workers. They take turns; the numbers are medians over the
turns. It needs PyTorch (``pip install -e .[reference]``).
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from experiments import plan
from train import data, devices
from train.config import Trial, replace, traced_paths
from train.data import streaming
from train.data.sampling import ShuffledExamples
from train.data.task import Task, Train, Validation
from train.feed import training_feed
from train.folder import Files
from train.loop import Watch, run_population
from train.meshes import Layout
from train.population import Population


def on_disk(folder: Path, arrays: dict, size: int) -> dict:
    """The rows again and again, until the largest array has this many bytes, in memory-mapped files."""
    times = max(1, -(-size // max(array.nbytes for array in arrays.values())))
    mapped = {}
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        shape = (times * len(array), *array.shape[1:])
        file = np.lib.format.open_memmap(path, "w+", array.dtype, shape)
        for turn in range(times):
            file[turn * len(array) : (turn + 1) * len(array)] = array
        file.flush()
        mapped[name] = np.load(path, mmap_mode="r")
    return mapped


def streamed(task: Task, folder: Path, size: int) -> Task:
    for name in ("train", "validation"):
        (folder / name).mkdir(parents=True)
    train = Train(on_disk(folder / "train", dict(task.train.arrays), size))
    validation = Validation(on_disk(folder / "validation", dict(task.validation.arrays), 0))
    return dataclasses.replace(task, train=train, validation=validation)


def waiting(arguments: argparse.Namespace, folder: Path) -> None:
    study = plan.load("architectures", "cpu")
    print(f"streamed training split of {arguments.mib} MiB, {arguments.workers} worker processes")
    for trial in plan.resolve(dataclasses.replace(study, claims=()), seeds=1).trials:
        if arguments.arms and trial.arm not in arguments.arms.split(","):
            continue
        changes = {"execution.stream_above_gib": 0.0, "execution.input_workers": arguments.workers}
        if arguments.steps:
            changes |= {"training.steps": arguments.steps}
        trials = [
            Trial(arm=trial.arm, seed=seed, config=replace(trial.config, changes)) for seed in range(arguments.seeds)
        ]
        task = streamed(data.load(trial.config.data, None), folder / trial.arm, arguments.mib * 2**20)
        population = Population(trials, traced_paths([trials[0].config]), task)
        assert population.splits.reach(0) < 10**6  # it streams
        files = Files(folder / "runs" / trial.arm, trials, [task])
        files.folder.mkdir(parents=True)
        spent = run_population(population, files, Watch(lambda steps: None, lambda: False))
        run = sum(spent.values()) - spent["compile"]
        print(
            f"  {trial.arm:<12} {trials[0].config.training.steps:6} steps of {len(trials)} trials on "
            f"{population.layout.mesh.size} device(s): {run:6.1f} s, of which input {spent['input']:6.3f} s = "
            f"{spent['input'] / run:.2%}",
            flush=True,
        )


class Batched(torch.utils.data.Dataset):
    """Takes the indices of a whole batch at once."""

    def __init__(self, arrays: dict) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays["targets"])

    def __getitem__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        places = np.asarray(indices)
        return torch.from_numpy(self.arrays["inputs"][places]), torch.from_numpy(self.arrays["targets"][places])


def of_numpy(arrays: dict, batch: int) -> Iterator[int]:
    order = np.random.default_rng(0).permutation(len(arrays["targets"]))
    while True:
        for start in range(0, len(order) - batch, batch):
            places = order[start : start + batch]
            yield len(arrays["inputs"][places]) and len(arrays["targets"][places])


def of_torch(arrays: dict, batch: int, workers: int) -> Iterator[int]:
    sampler = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(Batched(arrays)), batch, drop_last=True)
    options = {"persistent_workers": True, "prefetch_factor": 8} if workers else {}
    loader = torch.utils.data.DataLoader(
        Batched(arrays), sampler=sampler, batch_size=None, num_workers=workers, **options
    )
    while True:
        for _, targets in loader:
            yield len(targets)


def of_the_host(arrays: dict, batch: int, workers: int) -> Iterator[int]:
    layout = Layout("", 1, spread=False)
    feed = training_feed(ShuffledExamples(), arrays, (0,), batch_size=batch, steps=10**6, layout=layout)
    chunks, _ = streaming.read(feed.chunks, 0, 10**6, workers=workers)
    for rows in chunks:
        yield rows.rows["targets"].size


def of_the_feed(arrays: dict, batch: int) -> Iterator[int]:
    layout = Layout("", 1, spread=False)
    feed = training_feed(ShuffledExamples(), arrays, (0,), batch_size=batch, steps=10**6, layout=layout)
    for step in range(0, 10**6, feed.size):
        yield feed.chunk(step).rows["targets"].size


def rate(arguments: argparse.Namespace, folder: Path) -> None:
    batch, generator = arguments.batch, np.random.default_rng(0)
    some = {"inputs": generator.integers(0, 256, (4096, 28, 28), np.uint8), "targets": np.arange(4096, dtype=np.int32)}
    arrays = on_disk(folder, some, arguments.mib * 2**20)
    ways: dict[str, Callable[[], Iterator[int]]] = {
        "NumPy indexing": lambda: of_numpy(arrays, batch),
        "read, threads": lambda: of_the_host(arrays, batch, 0),
        "read, 1 worker": lambda: of_the_host(arrays, batch, 1),
        "feed on the device": lambda: of_the_feed(arrays, batch),
        **{f"DataLoader, {n} workers": lambda n=n: of_torch(arrays, batch, n) for n in (0, 1, 2)},
    }
    iterators = {name: way() for name, way in ways.items()}
    turns: dict[str, list[float]] = {name: [] for name in ways}
    for iterator in iterators.values():
        next(iterator)  # begins to read, and compiles
    for _ in range(arguments.samples):
        for name, iterator in iterators.items():
            for _ in range(4):  # what was read ahead while others had their turn is not counted
                next(iterator)
            begin, count = time.perf_counter(), 0
            while time.perf_counter() - begin < arguments.seconds:
                count += next(iterator)
            turns[name].append(count / (time.perf_counter() - begin))
    print(f"batches of {batch} images of 28 x 28 bytes from {len(arrays['targets']):,} in a file")
    for name, rates in turns.items():
        ratio = statistics.median(one / other for one, other in zip(rates, turns["NumPy indexing"], strict=True))
        print(
            f"  {name:<22} {statistics.median(rates):>12,.0f} examples/s  {ratio:5.2f} times NumPy indexing", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="waiting,rate")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--arms", default="")
    parser.add_argument("--steps", type=int, default=0, help="0: those of the study")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--samples", type=int, default=5)
    arguments = parser.parse_args()
    devices.prepare()
    with tempfile.TemporaryDirectory(prefix="paribus-input-") as place:
        for part in arguments.parts.split(","):
            (Path(place) / part).mkdir()
            {"waiting": waiting, "rate": rate}[part](arguments, Path(place) / part)


if __name__ == "__main__":
    main()
