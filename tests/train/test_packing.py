"""Packing: lanes that have finished cost nothing, and a population that is too large is run in parts."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import packing
from train.config import traced_paths
from train.packing import DoesNotFit, available_bytes, gain, halves, is_out_of_memory, needed_bytes, slots
from train.population import Population
from train.preparation import Preparation
from train.resumption import Group

ARMS = tuple({"optimizer.learning_rate": rate} for rate in (0.1, 0.2, 0.3, 0.4))


def populate(trials, task):
    return Population(trials, traced_paths([trial.config for trial in trials]), task)


def train(population, *cuts, finished=None):
    """The states after training up to each cut in turn; lanes that have ``finished`` are packed away at the first."""
    states, start = population.init(), 0
    for stop in cuts:
        states, _ = population.advance(states, start, stop)
        if finished and start == 0:
            assert population.compact(finished)
            assert not population.compact(finished)
        start = stop
    return jax.device_get(states)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_lanes_that_go_on_are_dealt_out_evenly(devices):
    for finished in itertools.product([False, True], repeat=8):
        places = slots(finished, devices, "sequential")
        assert sorted(places) == list(range(8))
        loads = [sum(not finished[lane] for lane in part) for part in np.reshape(places, (devices, -1))]
        assert max(loads) - min(loads) <= 1
        best = -(-finished.count(False) // devices)
        if best:
            there = max(sum(not finished[lane] for lane in part) for part in np.arange(8).reshape(devices, -1))
            assert gain(range(8), places, finished, devices, "sequential") == there / best


@pytest.mark.parametrize("devices", [1, 2])
def test_slots_of_a_batched_program_are_halved(devices):
    for finished in itertools.product([False, True], repeat=8):
        places = slots(finished, devices, "vectorised")
        on = finished.count(False)
        assert len(places) == max(devices, next(size for size in (8, 4, 2, 1, 0) if on > size // 2 or not size))
        assert len(set(places)) == len(places)
        assert {lane for lane in range(8) if not finished[lane]} <= set(places)
        assert gain(range(8), places, finished, devices, "vectorised") == 8 / len(places)


@pytest.mark.parametrize("strategy", ["sequential", pytest.param("vectorised", marks=pytest.mark.slow)])
def test_what_goes_on_is_not_changed_by_what_is_packed_away(strategy, make_trials, images):
    """Two of four lanes diverge at once, both on the first device."""
    wild = [{"optimizer.learning_rate": 1e25}] * 2 + list(ARMS[2:])
    trials = make_trials(*wild, execution__strategy=strategy)
    population = populate(trials, images)
    plain = train(population, 6, 12)
    packed = train(population, 6, 12, finished=[True, True, False, False])
    assert plain.diverged_step.tolist()[2:] == [-1, -1]
    assert max(plain.diverged_step[:2]) < 6
    assert len(population._slots) == (4 if strategy == "sequential" else 2)
    for ours, theirs in zip(jax.tree.leaves(packed), jax.tree.leaves(plain), strict=True):
        if strategy == "sequential":
            assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()
        else:
            np.testing.assert_array_equal(ours[:2], theirs[:2])
            np.testing.assert_allclose(ours[2:], theirs[2:], rtol=2e-5, atol=2e-6)


def test_nothing_changes_where_nothing_is_gained(make_trials, images):
    population = populate(make_trials(*ARMS), images)
    assert not population.compact([False] * 4)
    assert not population.compact([True, False, True, False])  # a lane on each device, as it would be
    assert not population.compact([True] * 4)
    assert population._slots is None


def test_memory_is_that_of_the_states_and_the_greediest_program():
    states = jax.ShapeDtypeStruct((1000,), np.float32)
    square = jax.ShapeDtypeStruct((300, 300), np.float32)
    donates = jax.jit(lambda x: x + 1, donate_argnums=0).lower(states).compile()
    returns = jax.jit(lambda y: y + 1).lower(square).compile()
    holds = jax.jit(lambda y: jnp.sin(jnp.sin(y @ y) @ y)[0]).lower(square).compile()
    slack = 2**15  # code, and what the backend adds
    for programs, bytes_each in (
        ({}, 0),
        ({"a": donates}, 0),
        ({"b": returns}, 360_000),
        ({"a": donates, "c": holds}, 360_000),
    ):
        needed = needed_bytes(4000, programs)
        assert 4000 + bytes_each <= needed < 4000 + 3 * bytes_each + slack
    assert needed_bytes(2000, {}) == 2000


def test_free_memory():
    cpu = jax.devices("cpu")[0]
    free = available_bytes(cpu, 1)
    assert free is not None
    assert 2**26 < free < 2**44
    assert abs(2 * (available_bytes(cpu, 2) or 0) - free) < 2**30
    statistics = {"bytes_limit": 100, "bytes_in_use": 30}
    assert available_bytes(types.SimpleNamespace(platform="gpu", memory_stats=lambda: statistics), 1) == 70
    assert available_bytes(types.SimpleNamespace(platform="gpu", memory_stats=lambda: None), 1) is None


def test_a_control_group_bounds_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_CGROUP", tmp_path / "memory.max")
    resident = packing.psutil.Process().memory_info().rss
    (tmp_path / "memory.max").write_text(f"{resident + 2**26}\n")
    assert 2**25 < (available_bytes(jax.devices("cpu")[0], 1) or 0) <= 2**26 + 2**20
    (tmp_path / "memory.max").write_text("max\n")
    assert (available_bytes(jax.devices("cpu")[0], 1) or 0) > 2**26


def test_a_population_that_does_not_fit_says_so(make_trials, images, monkeypatch):
    population = populate(make_trials(*ARMS[:2]), images)
    population.compile()
    population.check_memory()
    monkeypatch.setattr(packing, "available_bytes", lambda *_: 1000)
    with pytest.raises(DoesNotFit, match=r"2 trials need .* GiB on each device; 0.00 are free"):
        population.check_memory()
    alone = populate(make_trials(ARMS[0]), images)
    alone._programs = population._programs
    alone.check_memory()


def test_halves_are_all_of_it(make_trials):
    trials = tuple(make_trials(seeds=range(5)))
    assert halves(trials) == [trials[:3], trials[3:]]
    assert halves(trials[:2]) == [trials[:1], trials[1:2]]


def test_running_out_of_memory_is_recognised():
    assert is_out_of_memory(DoesNotFit("2 trials"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes"))
    assert not is_out_of_memory(RuntimeError("no luck"))


class Made(Population):
    """Stands for a population; one of seed 3 cannot be made."""

    def __init__(self, members):
        self.trials = members.trials
        if self.trials[0].seed == 3:
            raise ValueError("no luck")


def test_the_next_population_is_prepared_while_this_one_runs(make_trials):
    first, second, bad, other = (Group((trial,), (), None) for trial in make_trials(seeds=(1, 2, 3, 4)))
    made = []
    preparation = Preparation(lambda members: made.append(members) or Made(members))
    assert preparation.take(first, second).trials == first.trials
    preparation._thread.submit(lambda: None).result()
    assert made == [first, second]
    assert preparation.take(second, bad).trials == second.trials
    assert made.count(second) == 1
    with pytest.raises(ValueError, match="no luck"):
        preparation.take(bad, first)
    assert preparation.take(other, None).trials == other.trials  # the plan changed: what was begun is dropped
    assert preparation.seconds > 0
    preparation.close()
