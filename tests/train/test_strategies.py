"""How lanes run is measured where that is asked for, once on a machine."""

import json
import math

import pytest

from models.base import BadInput
from train import strategies
from train.config import replace, traced_paths
from train.devices import cache_folder
from train.population import Population

MEASURED = {"execution__strategy": "measured"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def make(make_trials, images):
    """A function from a strategy to a population, the trials, and the ways for which it was called."""
    trials = make_trials({}, {"optimizer.learning_rate": 0.2}, **MEASURED)
    asked = []

    def population(way):
        asked.append(way)
        return Population(trials, traced_paths([trial.config for trial in trials]), images, way)

    return population, trials[0].config, asked


@pytest.mark.parametrize(
    ("strategy", "backend", "way"),
    [
        ("auto", "cpu", "sequential"),
        ("auto", "gpu", "measured"),
        ("measured", "cpu", "measured"),
        ("vectorised", "cpu", "vectorised"),
        ("sequential", "gpu", "sequential"),
    ],
)
def test_what_is_asked_for(strategy, backend, way, base):
    config = replace(base, {"execution.strategy": strategy})
    assert strategies.wanted(config, backend) == way
    assert strategies.expected(config, backend, 4) == {"measured": "to be measured"}.get(way, way)


def test_an_unknown_strategy_is_refused(base):
    with pytest.raises(BadInput, match="strategy"):
        replace(base, {"execution.strategy": "fast"})


@pytest.mark.parametrize("fastest", strategies.WAYS)
def test_the_faster_way_is_taken_and_remembered(make, monkeypatch, fastest):
    population, config, asked = make
    monkeypatch.setattr(strategies, "_milliseconds", lambda made: 1.0 if made.strategy == fastest else 2.0)
    monkeypatch.setattr(strategies, "_compiled", lambda made: made)
    assert strategies.population(population, config, 2).strategy == fastest
    assert asked == ["sequential", "vectorised"]
    assert strategies.expected(config, "cpu", 2) == f"{fastest}, as measured"
    assert strategies.expected(config, "cpu", 3) == "to be measured"
    asked.clear()
    assert strategies.population(population, config, 2).strategy == fastest
    assert asked == [fastest]
    (kept,) = json.loads((cache_folder() / "strategies.json").read_text()).values()
    assert kept[fastest] < max(kept.values())


def test_a_lone_lane_is_not_measured(make):
    population, config, asked = make
    strategies.population(population, config, 1)
    assert asked == ["sequential"]


@pytest.mark.slow
def test_a_measurement_trains_each_way(make):
    population, config, asked = make
    made = strategies.population(population, config, 2)
    assert asked == list(strategies.WAYS)
    (kept,) = json.loads((cache_folder() / "strategies.json").read_text()).values()
    assert all(0 < kept[way] < 1e4 for way in strategies.WAYS)
    assert made.strategy == min(kept, key=kept.get)
    assert "advance" in made._programs


@pytest.mark.slow
def test_a_way_that_does_not_fit_is_not_taken(make, monkeypatch):
    population, config, _ = make
    original = Population.compile

    def compile_(self):
        if self.strategy == "sequential":
            raise MemoryError
        monkeypatch.setattr(Population, "check_memory", lambda self: None)
        original(self)

    monkeypatch.setattr(Population, "compile", compile_)
    monkeypatch.setattr(strategies, "SECONDS", 0.0)
    assert strategies.population(population, config, 2).strategy == "vectorised"
    (kept,) = json.loads((cache_folder() / "strategies.json").read_text()).values()
    assert kept["sequential"] == math.inf


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": {"sequential": 1}}'])
def test_a_damaged_file_counts_as_none(content, make, monkeypatch):
    population, config, asked = make
    (cache_folder()).mkdir(parents=True)
    (cache_folder() / "strategies.json").write_text(content)
    monkeypatch.setattr(strategies, "_milliseconds", lambda made: 1.0)
    strategies.population(population, config, 2)
    assert asked == list(strategies.WAYS)
    assert strategies.expected(config, "cpu", 2) == "sequential, as measured"


def test_other_errors_are_not_hidden(make, monkeypatch):
    population, config, _ = make

    def broken(self):
        raise RuntimeError("no luck")

    monkeypatch.setattr(Population, "compile", broken)
    with pytest.raises(RuntimeError, match="no luck"):
        strategies.population(population, config, 2)
