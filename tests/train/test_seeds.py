"""Streams that begin elsewhere: what is held fixed is equal, what is not differs; divisions of a data set."""

import jax
import numpy as np
import pytest

from experiments import plan
from models.base import BadInput
from train import config as configuration
from train.config import Trial, traced_paths
from train.data import digits, sotu
from train.data.division import divided
from train.packing import group
from train.population import Population


@pytest.fixture(scope="module")
def base():
    changes = {"training.steps": 4, "training.evaluate_every": 2, "model.dropout_rate": 0.5, "model.width": 8}
    return configuration.replace(plan.load("architectures", "smoke").baseline, changes)


@pytest.fixture(scope="module")
def task():
    return digits.load(digits.Config(), None)


def trial(base, seed, **seeds):
    return Trial(arm="a", seed=seed, config=configuration.replace(base, {f"seeds.{k}": v for k, v in seeds.items()}))


def states(base, task, trials, steps):
    population = Population(trials, traced_paths([each.config for each in trials]), task)
    state = population.init()
    if steps:
        state, _ = population.advance(state, 0, steps)
    return jax.device_get(state.params)


def lane(tree, number):
    return np.concatenate([leaf[number].ravel() for leaf in jax.tree.leaves(tree)])


@pytest.mark.slow
def test_an_offset_is_another_seed_and_one_stream_alone_can_be_held(base, task):
    trials = [
        trial(base, 0),
        trial(base, 5),
        trial(base, 0, offset=5),
        trial(base, 5, init=0),
        trial(base, 5, init=0, order=0),
        trial(base, 5, init=0, order=0, noise=0),
    ]
    begun, trained = states(base, task, trials, 0), states(base, task, trials, 2)
    np.testing.assert_array_equal(lane(trained, 1), lane(trained, 2))
    assert (lane(begun, 0) != lane(begun, 1)).any()
    for number in (3, 4, 5):
        np.testing.assert_array_equal(lane(begun, number), lane(begun, 0))
    np.testing.assert_array_equal(lane(trained, 5), lane(trained, 0))
    different = [lane(trained, number) for number in (0, 1, 3, 4)]
    for one in range(4):
        for other in range(one):
            assert (different[one] != different[other]).any()


def test_seeds_share_a_program_and_divisions_a_population_only_with_their_own(base):
    assert len(group([trial(base, 0), trial(base, 1, init=3), trial(base, 2, offset=9)])) == 1
    parts = group([trial(base, seed, split="seed") for seed in (0, 1, 0)] + [trial(base, 0)])
    assert [len(part) for part in parts] == [2, 1, 1]


def test_a_division_deals_out_the_same_examples(task):
    one, same, other = divided(task, 1), divided(task, 1), divided(task, 2)

    def rows(split):
        return np.concatenate([np.asarray(array).reshape(len(array), -1) for array in split.arrays.values()], 1)

    pooled = [np.sort(np.concatenate([rows(each.train), rows(each.validation)]), 0) for each in (task, one, other)]
    np.testing.assert_array_equal(pooled[0], pooled[1])
    np.testing.assert_array_equal(pooled[0], pooled[2])
    np.testing.assert_array_equal(rows(one.train), rows(same.train))
    assert (rows(one.validation) != rows(other.validation)).any()
    assert rows(one.train).shape == rows(task.train).shape
    assert one.test is task.test


def test_windows_of_one_text_are_not_dealt_out():
    with pytest.raises(BadInput, match=r"seeds\.split=seed deals out single examples, and data set 'sotu' is not"):
        divided(sotu.load(sotu.Config(), None), 0)
