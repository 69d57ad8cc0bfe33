"""Where points come from, and what a study may declare: against scipy, and by hand."""

import itertools

import numpy as np
import pytest
from scipy.stats import qmc

from experiments.points import points
from experiments.spaces import Choice, Integers, Uniform
from experiments.study import Tuning
from experiments.tuning import search
from models.base import BadInput

RATES = Uniform(1e-3, 10.0, log=True)


@pytest.mark.parametrize(("name", "sequence"), [("sobol", qmc.Sobol), ("halton", qmc.Halton)])
def test_quasi_random_points_are_those_of_scipy(name, sequence, prepare):
    seed = search.seed_of("tuning", "tiny", "deep")
    expected = sequence(2, scramble=True, rng=seed).random(64)[:10]
    found = np.array(list(itertools.islice(points(name, 2, seed), 10)))
    np.testing.assert_array_equal(found, expected)
    space = {"optimizer.learning_rate": RATES, "regularisation.l2": Uniform(0.0, 1.0)}
    prepared = prepare(Tuning(space=space, trials=10, search=name))
    rates = [point["optimizer.learning_rate"] for point in prepared.points["deep"]]
    np.testing.assert_allclose(rates, 10 ** (-3 + 4 * expected[:, 0]), rtol=1e-12)
    np.testing.assert_allclose([point["regularisation.l2"] for point in prepared.points["deep"]], expected[:, 1])
    assert [point["optimizer.learning_rate"] for point in prepared.points["plain"]] != rates


def test_points_go_on_as_one_sequence():
    """Chunks join without a seam: each block of 128 Sobol points has one in each of 128 equal parts."""
    found = np.array(list(itertools.islice(points("sobol", 1, 3), 128)))[:, 0]
    assert sorted((found * 128).astype(int)) == list(range(128))


def test_a_grid_has_as_many_levels_as_its_budget_allows():
    spaces = {"a": Uniform(0.0, 1.0), "b": Choice(("x", "y", "z")), "c": Integers(1, 2)}
    found = list(search.grid(spaces, 25))
    assert len(found) == 24 == len({tuple(point.values()) for point in found})
    assert sorted({point["a"] for point in found}) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    with pytest.raises(BadInput, match="at least 12 points, and trials=11"):
        list(search.grid(spaces, 11))


def test_conditional_spaces_exist_where_their_condition_holds(prepare):
    """A field that one optimizer alone has is drawn for that one, without saying so."""
    space = {
        "optimizer.momentum": Uniform(
            0.1,
            0.9,
        ),
        "optimizer.name": Choice(("momentum", "adam")),
        "optimizer.learning_rate": RATES,
        "regularisation.l2": Uniform(0.1, 1.0, when={"optimizer.name": "adam"}),
        "regularisation.l1": Uniform(0.1, 1.0, when={"model.depth": 2}),
    }
    prepared = prepare(Tuning(space=space, trials=16))
    for arm, tried in prepared.points.items():
        assert len(tried) == 16
        assert {point["optimizer.name"] for point in tried} == {"momentum", "adam"}
        for point in tried:
            assert ("optimizer.momentum" in point) == (point["optimizer.name"] == "momentum")
            assert ("regularisation.l2" in point) == (point["optimizer.name"] == "adam")
            assert ("regularisation.l1" in point) == (arm == "deep")
            assert "optimizer.learning_rate" in point


def test_an_arm_has_its_own_spaces_and_no_two_points_are_the_same(prepare):
    own = {"deep": {"model.width": Choice((4, 8, 16)), "optimizer.learning_rate": None}}
    prepared = prepare(Tuning(space={"optimizer.learning_rate": RATES}, arms=own, trials=8))
    assert len(prepared.points["plain"]) == 8
    assert sorted(point["model.width"] for point in prepared.points["deep"]) == [4, 8, 16]
    assert "arm 'deep' tries 3 points instead of 8" in " ".join(prepared.remarks)
    nothing = prepare(
        Tuning(space={"optimizer.learning_rate": RATES}, arms={"deep": {"optimizer.learning_rate": None}})
    )
    assert list(nothing.points) == ["plain"]
    assert "arm 'deep' has nothing to tune" in " ".join(nothing.remarks)


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"trials": 1}, "tuning.trials=1 must be at least 2"),
        ({"seeds": 0}, "tuning.seeds=0 must be at least 1"),
        ({"space": {}}, "tuning.space is empty"),
        ({"space": {"optimizer.learning": RATES}}, "unknown path of the tuning 'optimizer.learning'; did you mean"),
        ({"space": {"optimizer.b1": Uniform(0.1, 0.5)}}, "unknown path of the tuning 'optimizer.b1'"),
        ({"space": {"data.label_noise": Uniform(0.0, 0.5)}}, "data.label_noise cannot be tuned"),
        ({"space": {"training.steps": Integers(5, 9)}}, "training.steps cannot be tuned"),
        ({"space": {"model.width": Uniform(4.0, 8.0)}}, "arm 'plain': model.width=4.0 must be an integer"),
        ({"space": {"regularisation.l2": Uniform(-1.0, 0.5)}}, "regularisation.l2=-1.0 must be at least 0"),
        ({"space": {"model.width": Integers(4, 9), "model.depth": Integers(1, 9)}, "search": "grid", "trials": 3},
         "at least 4 points, and trials=3"),
        ({"column": "test_accuracy"}, "must be a column of the validation split"),
        ({"column": "validation_bleu"}, "the task of arm 'plain' reports validation_loss, validation_accuracy"),
        ({"pruning": "median", "steps": 2}, "needs evaluations before the end"),
        ({"arms": {"wide": {}}}, "unknown arm in the study's tuning 'wide'"),
        ({"space": {"regularisation.l1": Uniform(0.0, 1.0, when={"regularisation.l2": 0}),
                    "regularisation.l2": Uniform(0.0, 1.0, when={"regularisation.l1": 0})}},
         "the conditions of regularisation.l1, regularisation.l2 depend on each other"),
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_refused(tuning, message, prepare):
    with pytest.raises(BadInput, match=message.replace("(", r"\(")) as error:
        prepare(Tuning(**{"space": {"optimizer.learning_rate": RATES}, **tuning}))
    assert "\n" not in str(error.value)


def test_seeds_of_results_are_not_those_of_the_tuning(prepare):
    tuning = Tuning(space={"optimizer.learning_rate": RATES}, seeds=3)
    prepare(tuning, seeds=1000)
    with pytest.raises(BadInput, match="trial plain-s1000 would use a seed that tuning keeps"):
        prepare(tuning, seeds=1001)
    with pytest.raises(BadInput, match="trial plain-s0 would use a seed that tuning keeps"):
        prepare(tuning, overrides=[("seeds.offset", "1002")])


def test_schedules_follow_the_length_of_a_tuning_trial(prepare):
    prepared = prepare(Tuning(space={"optimizer.learning_rate": RATES}, steps=7, trials=2))
    assert {trial.config.training.steps for trial in prepared.trials(("plain", "deep"))} == {7}
    overrides = [("schedule.name", "cosine"), ("schedule.warmup_steps", "9")]
    with pytest.raises(BadInput, match=r"tuning.steps=7: arm 'plain': .*warmup_steps=9"):
        prepare(Tuning(space={"optimizer.learning_rate": RATES}, steps=7), overrides=overrides)
