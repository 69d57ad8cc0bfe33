"""Designs against their definitions, and what they refuse."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from experiments import designs
from experiments.spaces import Choice, Integers, Uniform
from models.base import BadInput

FACTORS = {"optimizer.name": ("adam", "sgd"), "model.width": (32, 64, 128)}


def test_a_grid_has_every_combination_once():
    arms = designs.grid(FACTORS)
    found = [(arm["optimizer.name"], arm["model.width"]) for arm in arms.values()]
    assert sorted(found) == sorted(itertools.product(*FACTORS.values()))
    assert next(iter(arms)) == "optimizer=adam, width=32"


def test_a_conditional_factor_exists_only_where_its_condition_holds():
    momentum = Choice((0.5, 0.9), when={"optimizer.name": "sgd"})
    arms = designs.grid({**FACTORS, "optimizer.momentum": momentum})
    assert len(arms) == 3 + 3 * 2
    for delta in arms.values():
        assert ("optimizer.momentum" in delta) == (delta["optimizer.name"] == "sgd")
    held = designs.grid({"model.width": (1, 2), "b": momentum}, baseline={"optimizer.name": "sgd"}.__getitem__)
    assert len(held) == 4
    with pytest.raises(BadInput, match=r"a condition on optimizer\.name needs that path"):
        designs.grid({"model.width": (1,), "b": momentum})


def test_the_other_designs():
    parts = {"dropout": {"model.dropout_rate": 0.0}, "decay": {"optimizer.weight_decay": 0.0}}
    assert designs.leave_one_out(parts) == {"no dropout": parts["dropout"], "no decay": parts["decay"]}
    added = designs.add_one(parts, all_together=True)
    assert list(added) == ["+ dropout", "+ decay", "+ dropout + decay"]
    assert added["+ dropout + decay"] == {**parts["dropout"], **parts["decay"]}
    alone = designs.one_at_a_time({"model.width": (1, 2), "model.depth": (3,)})
    assert list(alone.values()) == [{"model.width": 1}, {"model.width": 2}, {"model.depth": 3}]
    both = designs.two_by_two(("a", {"x": 1}), ("b", {"y": 2}))
    assert both == {"a": {"x": 1}, "b": {"y": 2}, "a + b": {"x": 1, "y": 2}}
    scaled = designs.each((1, 4), lambda k: {"training.batch_size": 16 * k, "optimizer.learning_rate": 0.1 * k**0.5})
    assert scaled == {
        "1": {"training.batch_size": 16, "optimizer.learning_rate": 0.1},
        "4": {"training.batch_size": 64, "optimizer.learning_rate": 0.2},
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: designs.grid({}), "the design is empty"),
        (lambda: designs.leave_one_out({}), "the design is empty"),
        (lambda: designs.each((), lambda k: {}), "the design is empty"),
        (lambda: designs.grid({"a": ()}), "the factor a has no values"),
        (lambda: designs.grid({"a": Uniform(0, 1)}), "a grid needs values"),
        (lambda: designs.two_by_two(("a", {"x": 1}), ("b", {"x": 2})), "two changes that come together set x"),
        (lambda: designs.two_by_two(("a", {"x": 1}), ("a", {"y": 2})), "both changes are called 'a'"),
        (lambda: designs.each((1, 1), lambda k: {"x": k}), "two arms are called '1'"),
        (lambda: designs.sampled({"a": Uniform(0, 1)}, 0), "empty"),
        (lambda: designs.sampled({"a": Uniform(0, 1)}, 2, method="sobl"), "must be one of"),
        (lambda: Uniform(1, 1), "low before high"),
        (lambda: Uniform(0, 1, log=True), "must be positive"),
        (lambda: Uniform(0, math.inf), "must be finite"),
        (lambda: Choice(()), "no values"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


def test_sobol_points_are_those_of_scipy_and_names_stay_apart():
    spaces = {"x": Uniform(0.0, 1.0), "y": Uniform(1e-4, 1.0, log=True)}
    arms = designs.sampled(spaces, 6, seed=3)
    units = qmc.Sobol(2, rng=np.random.default_rng(3)).random_base2(3)[:6]
    expected = [{"x": float(x), "y": float(np.exp(np.log(1e-4) * (1 - y)))} for x, y in units]
    assert len(arms) == 6
    for delta, other in zip(arms.values(), expected, strict=True):
        assert delta["x"] == other["x"]
        np.testing.assert_allclose(delta["y"], other["y"], rtol=1e-12)
    close = designs.named([{"x": 0.1}, {"x": 0.1 + 1e-12}, {"x": 0.1}])
    assert len(close) == 2


@given(st.floats(0, 1, exclude_max=True), st.integers(-5, 5), st.integers(1, 9))
def test_integers_lie_in_their_range(unit, low, more):
    assert low <= Integers(low, low + more).at(unit) <= low + more
    assert 1 <= Integers(1, 1 + more, log=True).at(unit) <= 1 + more


def test_integers_are_drawn_evenly_and_edges_are_known():
    counts = np.bincount([Integers(0, 3).at(unit) for unit in (np.arange(4000) + 0.5) / 4000])
    assert (counts == 1000).all()
    assert Integers(1, 8).is_edge(8)
    assert not Integers(1, 8).is_edge(7)
    rate = Uniform(1e-4, 1e-1, log=True)
    assert rate.is_edge(1.1e-4)
    assert not rate.is_edge(1e-3)
    np.testing.assert_allclose(rate.levels(4), [1e-4, 1e-3, 1e-2, 1e-1], rtol=1e-12)
    assert Choice((1, 2, 3)).is_edge(3)
    assert not Choice(("a", "b", "c")).is_edge("a")
    assert Integers(1, 3).levels(9) == (1, 2, 3)


def test_a_condition_may_allow_several_values():
    bound = Choice((0.5, 0.9), when={"optimizer.name": ("sgd", "momentum")})
    arms = designs.grid({"optimizer.name": ("adam", "sgd", "momentum"), "optimizer.momentum": bound})
    assert [len(delta) for delta in arms.values()] == [1, 2, 2, 2, 2]
