"""A streamed run is the run in memory, bit for bit: batches, states, evaluations, records, resumed runs."""

import dataclasses
import threading
import time

import jax
import numpy as np
import pytest

from train import feed as feeding
from train import loop
from train.config import traced_paths
from train.data.bucketing import BucketedExamples
from train.data.streaming import TrainingChunks
from train.data.task import FinalEvaluation, Test, Train, Validation
from train.folder import Files
from train.loop import Watch, run_population
from train.population import Population
from train.signals import Interrupted

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")

STREAMED = {"execution__stream_above_gib": 0.0}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Three batches, so that 12 steps take four chunks, and evaluations stop in the middle of some."""
    monkeypatch.setattr(feeding, "MOST_BATCHES", 3)


def populate(trials, task):
    return Population(trials, traced_paths([trial.config for trial in trials]), task)


def trained(population, task, cuts=(5, 7, 10, 12)):
    """States and evaluations on the host at each of the cuts."""
    population.compile()
    states, start, found = population.init(), 0, []
    for stop in cuts:
        states, _ = population.advance(states, start, stop)
        found.append(jax.device_get((states, population.evaluate(states, "validation", task.validation.arrays))))
        start = stop
    return found


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


ARMS = ({"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 0.3, "model.dropout_rate": 0.25})


def compare(make_trials, task, arms=({},), **shared):
    memory = populate(make_trials(*arms, seeds=(0, 3), **shared), task)
    streamed = populate(make_trials(*arms, seeds=(0, 3), **shared, **STREAMED), task)
    assert memory.splits.feed is None
    assert streamed.splits.feed.size == 3
    try:
        assert_same_bits(trained(streamed, task), trained(memory, task))
        assert "train" not in streamed.splits.resident
        assert "validation" not in streamed.splits.resident
    finally:
        streamed.splits.close()


@pytest.mark.parametrize(
    "strategy", [pytest.param(name, marks=pytest.mark.slow) for name in ("sequential", "vectorised")]
)
def test_a_streamed_population_is_one_in_memory(strategy, make_trials, images):
    compare(make_trials, images, ARMS, execution__strategy=strategy)


def bucketed(task, widths):
    """The same examples sorted by bucket."""

    def sort(arrays):
        length = arrays["inputs"].mask.sum(1)
        order = np.argsort(np.searchsorted(widths, length), kind="stable")
        ends = np.searchsorted(np.sort(length), np.asarray(widths), side="right").astype(np.int32)
        return {**jax.tree.map(lambda leaf: leaf[order], dict(arrays)), "ends": ends}

    sampler = BucketedExamples(tuple((width,) for width in widths))
    splits = {"train": Train(sort(task.train.arrays)), "validation": Validation(sort(task.validation.arrays))}
    return dataclasses.replace(task, sampler=sampler, test=Test(sort(task.test.open(FinalEvaluation()))), **splits)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "sentences", "buckets", "pairs"])
def test_a_streamed_population_of_sequences_is_one_in_memory(kind, make_trials, request):
    task = request.getfixturevalue("sentences" if kind == "buckets" else kind)
    task = bucketed(task, (3, 6)) if kind == "buckets" else task
    models = {"text": "rnn", "sentences": "rnn", "buckets": "rnn", "pairs": "seq2seq"}
    compare(make_trials, task, model__name=models[kind], execution__strategy="sequential")


def test_one_program_trains_with_every_chunk(make_trials, images):
    population = populate(make_trials(**STREAMED), images)
    trained(population, images)
    assert set(population._programs) == {"init", "advance", "evaluate validation"}
    population.splits.close()


def files(folder, trials, task):
    return Files(folder, trials, [task])


def run(folder, trials, task, *, stop_after=10**6):
    asked = []

    def interrupted():
        asked.append(1)
        return len(asked) >= stop_after

    return run_population(populate(trials, task), files(folder, trials, task), Watch(lambda _: None, interrupted))


def test_time_in_which_the_devices_wait_for_data_is_told_apart(make_trials, images, tmp_path, monkeypatch):
    """A disk that reads one chunk, and takes half a second for the next ones once training has begun."""
    begun, read, advance = threading.Event(), TrainingChunks.__call__, Population.advance

    def slowly(self, chunk):
        if chunk:
            begun.wait(60)
            time.sleep(0.5)
        return read(self, chunk)

    def begin(self, *args):
        begun.set()
        return advance(self, *args)

    monkeypatch.setattr(TrainingChunks, "__call__", slowly)
    monkeypatch.setattr(Population, "advance", begin)
    trials = make_trials(**STREAMED)
    assert run(tmp_path / "slow", trials, images)["input"] >= 0.4


def rows(table):
    clocks = ("seconds", "train_seconds", "config")
    return [{key: value for key, value in row.items() if key not in clocks} for row in table.rows()]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_stopped_run_goes_on_in_the_middle_of_an_epoch_with_any_number_of_workers(
    workers, make_trials, images, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    mapped = {}
    for name, array in images.train.arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    on_disk = dataclasses.replace(images, train=Train(mapped))
    options = {"seeds": (0, 1), "model__dropout_rate": 0.2}
    plain = make_trials(**options)
    run(tmp_path / "memory", plain, images)
    streamed = make_trials(**options, **STREAMED, execution__input_workers=workers)
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", streamed, on_disk, stop_after=3)
    spent = run(tmp_path / "stopped", streamed, on_disk)
    assert spent["input"] >= 0
    for table in ("curves", "trials"):
        ours = rows(getattr(files(tmp_path / "stopped", streamed, on_disk), table))
        theirs = rows(getattr(files(tmp_path / "memory", plain, images), table))
        for row in (*ours, *theirs):
            for key in [key for key in row if key.startswith("execution.")]:
                del row[key]
        assert ours == theirs


def test_a_chunk_is_bounded_by_memory_and_by_the_epoch(make_trials, images, monkeypatch):
    monkeypatch.setattr(feeding, "MOST_BATCHES", 256)
    make = lambda: populate(make_trials(seeds=(0, 1), **STREAMED), images).splits.feed.size  # noqa: E731
    assert make() == 5  # batches of 4 in 23 examples
    bytes_of_a_step = 2 * 4 * (8 * 8 * 4 + 4)
    monkeypatch.setattr(feeding, "CHUNK_BYTES", 3 * bytes_of_a_step)
    assert make() == 3
    monkeypatch.setattr(feeding, "CHUNK_BYTES", 1)
    assert make() == 1


def test_what_goes_wrong_while_reading_reaches_the_caller(make_trials, images, monkeypatch):
    population = populate(make_trials(**STREAMED), images)

    def broken(arrays, indices):
        raise OSError("the disk is gone")

    monkeypatch.setattr(type(images.sampler), "fetch", lambda self, arrays, indices: broken(arrays, indices))
    with pytest.raises(OSError, match="the disk is gone"):
        population.splits.feed.chunk(0)
    population.splits.close()
