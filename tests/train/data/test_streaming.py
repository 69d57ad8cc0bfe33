"""Streamed splits on the host: the same rows as in memory, whoever reads them."""

import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from models.inputs import Padded, Pair
from train import randomness
from train.data import streaming
from train.data.bucketing import BucketedExamples
from train.data.image_sampling import StandardisedExamples
from train.data.sampling import ShuffledExamples, Windows
from train.data.series_sampling import ForecastWindows
from train.data.streaming import Draws, EvaluationChunks, Share, TrainingChunks
from train.data.task import StreamedSampler

N, BATCH = 23, 4
GENERATOR = np.random.default_rng(0)


def _padded(widths):
    mask = np.arange(widths[-1])[None] < np.sort(GENERATOR.integers(1, widths[-1] + 1, N))[:, None]
    return Padded(np.where(mask, GENERATOR.integers(1, 5, mask.shape), 0).astype(np.int32), mask)


def _cases():
    targets = GENERATOR.integers(0, 3, N).astype(np.int32)
    images = {"inputs": GENERATOR.normal(size=(N, 3, 2, 1)).astype(np.float32), "targets": targets}
    pixels = {"inputs": GENERATOR.integers(0, 256, (N, 3, 2, 3)).astype(np.uint8), "targets": targets}
    padded = _padded((3, 6))
    pair = Pair(padded, _padded((3, 5)))
    translation = {"inputs": pair, "targets": pair.target.values, "weights": pair.target.mask.astype(np.float32)}
    ends = np.searchsorted(padded.mask.sum(1), [4, 7]).astype(np.int32)
    text = {"tokens": GENERATOR.integers(0, 200, 101).astype(np.uint8)}
    series = {
        "values": GENERATOR.normal(size=(40, 2)).astype(np.float32),
        "origins": GENERATOR.integers(1, 36, N).astype(np.int32),
        "series": GENERATOR.integers(0, 2, N).astype(np.int32),
        "first": np.array([0, 20], np.int32),
        **{name: GENERATOR.uniform(1, 2, (2, 2)).astype(np.float32) for name in ("location", "scale", "error_scale")},
    }
    return {
        "images": (ShuffledExamples(), images),
        "pixels": (StandardisedExamples((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), pixels),
        "padded": (ShuffledExamples(), {"inputs": padded, "targets": targets}),
        "pairs": (ShuffledExamples(), translation),
        "buckets": (BucketedExamples(((3,), (6,))), {"inputs": padded, "targets": targets, "ends": ends}),
        "text": (Windows(7), text),
        "strided text": (Windows(7, 3), {**text, "characters": GENERATOR.integers(0, 3, 101).astype(np.uint8)}),
        "series": (ForecastWindows(context=6, horizon=3, subtract_last=True), series),
    }


CASES = _cases()
cases = pytest.mark.parametrize(("sampler", "arrays"), CASES.values(), ids=CASES)


quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@cases
def test_fetched_rows_make_the_batch_that_is_gathered(sampler, arrays):
    assert isinstance(sampler, StreamedSampler)
    size = sampler.train_size(arrays)
    indices = np.array([0, size - 1, 5, 5], np.int32)
    gathered = quick(sampler.gather)(arrays, indices)
    assert_same_bits(quick(sampler.assemble)(sampler.fetch(arrays, indices)), gathered)
    for first in range(0, sampler.evaluation_size(arrays) + 5, 5):
        positions = np.arange(first, first + 5, dtype=np.int32)
        expected = quick(sampler.evaluation_batch)(arrays, positions)
        assert_same_bits(quick(sampler.assemble)(sampler.fetch_evaluation(arrays, positions)), expected)


def drawn_in_memory(sampler, arrays, seed, steps):
    """Indices and buckets as the compiled program draws them, step after step."""
    key = randomness.stream(randomness.root(jnp.uint32(seed)), "order")
    find, draw = (quick(functools.partial(method, batch_size=BATCH)) for method in (sampler.order, sampler.draw))
    found, buckets = [], []
    for step in range(steps):
        order = find(arrays, key, jnp.int32(step))
        if isinstance(sampler, BucketedExamples):
            buckets.append(int(sampler.bucket(order, arrays, jnp.int32(step), batch_size=BATCH)))
        found.append(draw(order, arrays, key, jnp.int32(step)))
    return np.stack(found), buckets or [0] * steps


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images", "buckets", "text"])
def test_the_host_draws_what_the_program_draws(name):
    sampler, arrays = CASES[name]
    draws = Draws(sampler, arrays, (3, 2**32 - 1), BATCH)
    expected = [drawn_in_memory(sampler, arrays, seed, 18) for seed in draws.seeds]
    for first, count in [(0, 3), (3, 3), (12, 3), (15, 3), (4, 3), (0, 18)]:  # there are 5 steps in an epoch
        indices, buckets = draws.batches(first, count)
        for stream, (whole, whole_buckets) in enumerate(expected):
            np.testing.assert_array_equal(indices[stream], whole[first : first + count])
            np.testing.assert_array_equal(buckets[stream], whole_buckets[first : first + count])


def test_an_order_is_drawn_once_in_an_epoch(monkeypatch):
    sampler, arrays = CASES["images"]
    draws, drawn = Draws(sampler, arrays, (0,), BATCH), []
    start = draws._epoch
    monkeypatch.setattr(draws, "_epoch", lambda seed, step: drawn.append(int(step)) or start(seed, step))
    for first in range(19):
        draws.batches(first, 1)
    draws._executor.shutdown()
    assert drawn == [0, 5, 10, 15, 20]  # the last one ahead, in the second half of the epoch before
    assert len(draws._orders) <= 3


@pytest.mark.parametrize("hosts", [2, 4])
@pytest.mark.parametrize("name", ["pairs", pytest.param("buckets", marks=pytest.mark.slow), "text"])
def test_the_shares_of_several_hosts_joined_are_the_whole_batch(name, hosts):
    sampler, arrays = CASES[name]
    chunks = TrainingChunks(sampler, arrays, (1, 2), BATCH, 3)
    whole, shares = chunks(2), []
    for host in range(hosts):
        part = TrainingChunks(sampler, arrays, (1, 2), BATCH, 3, Share(host, hosts))
        part._draws = chunks._draws  # which is compiled
        shares.append(part(2))
    joined = jax.tree.map(lambda *parts: np.concatenate(parts, axis=2), *(share.rows for share in shares))
    assert_same_bits(joined, whole.rows)
    for share in shares:
        assert_same_bits(share.buckets, whole.buckets)


def test_hosts_that_cannot_share_a_batch_are_bad_input():
    with pytest.raises(BadInput, match="3 hosts cannot share a batch of 4: their number must divide it"):
        TrainingChunks(*CASES["images"], (1,), BATCH, 3, Share(0, 3))(0)
    with pytest.raises(BadInput, match="must divide"):
        Share(2, 2).of(np.zeros((1, 4), np.int32))


def test_an_evaluation_goes_through_a_split_in_its_order_and_weighs_nothing_past_its_end():
    sampler, arrays = CASES["images"]
    chunks = EvaluationChunks(sampler, arrays, BATCH, 2)
    rows = [chunks(number).rows for number in range(4)]
    targets, weights = (np.concatenate([each[name].ravel() for each in rows]) for name in ("targets", "weights"))
    np.testing.assert_array_equal(weights, np.arange(32) < N)
    np.testing.assert_array_equal(targets[:N], arrays["targets"])


def on_disk(folder, arrays):
    """The arrays as parts of memory-mapped files, two rows behind their beginning."""
    mapped = {}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.concatenate([array[:2], array]))
        mapped[name] = np.load(folder / f"{name}.npy", mmap_mode="r")[2:]
    return mapped


def test_a_part_of_a_mapped_file_travels_by_its_place_in_the_file(tmp_path):
    generator = np.random.default_rng(1)
    large = {"inputs": generator.normal(size=(4000, 5)), "targets": generator.integers(0, 9, 4000).astype(np.int32)}
    chunks = TrainingChunks(ShuffledExamples(), on_disk(tmp_path, large), (0,), 8, 2)
    content = pickle.dumps(chunks)
    assert len(content) < 2000
    copy = pickle.loads(content)
    assert all(streaming.is_mapped(array) for array in copy.arrays.values())
    assert_same_bits(dict(copy.arrays), large)
    assert_same_bits(copy(3), chunks(3))


@pytest.mark.parametrize(
    "workers", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_any_number_of_workers_reads_the_same_from_any_chunk_on(workers, tmp_path):
    sampler, arrays = CASES["images"]
    expected = [TrainingChunks(sampler, arrays, (0, 7), BATCH, 2)(number) for number in range(7)]
    chunks = TrainingChunks(sampler, on_disk(tmp_path, arrays), (0, 7), BATCH, 2)
    for first in (0, 3):  # the second time in the middle of an epoch
        iterator, close = streaming.read(chunks, first, 7, workers=workers)
        found = list(iterator)
        close()
        assert len(found) == 7 - first
        for one, other in zip(found, expected[first:], strict=True):
            assert_same_bits(tuple(one), tuple(other))


def test_where_grain_is_absent_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    sampler, arrays = CASES["images"]
    assert not streaming.streams(arrays, sampler, 1.0)
    with pytest.raises(BadInput, match=r"pip install grain, or .* --config.execution.stream_above_gib=GIB"):
        streaming.streams(arrays, sampler, 0.0)


def test_what_streams_is_what_is_larger_and_can_be():
    sampler, arrays = CASES["images"]
    size = (arrays["inputs"].nbytes + arrays["targets"].nbytes) / 2**30
    assert streaming.streams(arrays, sampler, 0)
    assert streaming.streams(arrays, sampler, 0.999 * size)
    assert not streaming.streams(arrays, sampler, size)


PROOF = """
import resource, sys
import numpy as np
from train.data import streaming
from train.data.sampling import ShuffledExamples
from train.data.streaming import TrainingChunks

path, ways = sys.argv[1], sys.argv[2]
array = np.load(path, mmap_mode="r")
chunks = TrainingChunks(ShuffledExamples(), {"inputs": array, "targets": np.zeros(len(array), np.int32)}, (0,), 64, 4)
chunks(0)  # which starts the threads that XLA needs
held = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + array.nbytes // 4, -1))
if ways == "load":
    np.array(array)
iterator, close = streaming.read(chunks, 1, 9)
print(sum(rows.rows["inputs"].shape[1] * rows.rows["inputs"].shape[2] for rows in iterator))
close()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a limit on the memory of a process")
def test_a_file_four_times_as_large_as_the_memory_that_is_left_is_read(tmp_path):
    """A gibibyte (of zeros: a file with a hole) in a process that may take no more than a quarter of it."""
    np.lib.format.open_memmap(tmp_path / "inputs.npy", "w+", np.float32, (2**18, 1024)).flush()

    def run(ways):
        root = Path(__file__).parents[3]
        environment = os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", PROOF, str(tmp_path / "inputs.npy"), ways]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)

    read = run("read")
    assert read.returncode == 0, read.stderr
    assert int(read.stdout) == 8 * 4 * 64
    assert "MemoryError" in run("load").stderr
