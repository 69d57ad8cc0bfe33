"""Populations: a lane is a solo run, whatever its neighbours do and however the lanes run."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from models.flops import inner_jaxprs
from train.config import program_key, traced_paths
from train.data.task import Test, Validation
from train.packing import group, study_traced_paths
from train.population import Population

WAYS = [
    ("vectorised", True),
    ("sequential", True),
    pytest.param("vectorised", False, marks=pytest.mark.slow),
    pytest.param("sequential", False, marks=pytest.mark.slow),
]
ways = pytest.mark.parametrize(("strategy", "spread"), WAYS)
ARMS = (
    {"optimizer.learning_rate": 0.05},
    {"optimizer.learning_rate": 0.3, "model.dropout_rate": 0.25},
    {"optimizer.weight_decay": 0.1, "regularisation.clip_norm": 0.5},
)
COMPILED = "/jax/core/compile/backend_compile_duration"


TRACED = (
    "model.dropout_rate",
    "model.norm_momentum",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "regularisation.clip_norm",
)
PROGRAMS: dict[tuple, dict] = {}


def populate(trials, task):
    """A population that takes the compiled programs of an earlier one of the same shape, to save time.

    That it may is part of what is tested: a program takes all that distinguishes trials as arguments.
    """
    population = Population(trials, TRACED, task)
    key = (program_key(population.config), population.layout.mesh.size, len(population.lanes.seed))
    population._programs = PROGRAMS.setdefault(key, {})
    return population


def train(population, *cuts):
    """The states after training up to each of the cuts in turn, on the host."""
    states, start = population.init(), 0
    for stop in cuts:
        states, _ = population.advance(states, start, stop)
        start = stop
    return jax.device_get(states)


def lane(states, index):
    return jax.tree.map(lambda leaf: leaf[index], states)


def assert_same_bits(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.fixture(scope="module")
def solo(make_trials, images):
    """Each arm trained on its own, one after another on one device."""
    trials = make_trials(*ARMS, execution__strategy="sequential", execution__spread=False)
    assert set(traced_paths([trial.config for trial in trials])) == set(TRACED)
    return [train(populate([trial], images), 12) for trial in trials]


@ways
def test_a_lane_is_a_solo_run(strategy, spread, make_trials, images, solo):
    """Three lanes, on two devices where they are spread: one is padding."""
    trials = make_trials(*ARMS, execution__strategy=strategy, execution__spread=spread)
    population = populate(trials, images)
    assert population.layout.mesh.size == (2 if spread else 1)
    assert population.execution == f"{strategy} x {'2 devices' if spread else '1 device'}"
    states = train(population, 12)
    assert len(states.diverged_step) == (4 if spread else 3)
    for index, alone in enumerate(solo):
        assert_close(lane(states, index), lane(alone, 0))
    assert not np.allclose(solo[0].params["logits"]["kernel"], solo[1].params["logits"]["kernel"])


@pytest.mark.parametrize("strategy", ["vectorised", "sequential"])
def test_padding_takes_no_step(strategy, make_trials, images):
    population = populate(make_trials(*ARMS, execution__strategy=strategy), images)
    assert population.lanes.padding.tolist() == [False, False, False, True]
    fresh, trained = train(population), train(population, 12)
    assert_same_bits(lane(fresh, 3), lane(trained, 3))


@ways
def test_results_do_not_depend_on_how_the_steps_are_cut(strategy, spread, make_trials, images):
    population = populate(make_trials(*ARMS, execution__strategy=strategy, execution__spread=spread), images)
    whole = train(population, 5, 10, 12)  # as often as the sum of losses is emptied
    for cuts in [(1, 5, 10, 12), (2, 3, 5, 6, 7, 8, 9, 10, 11, 12), (5, 5, 10, 11, 12, 12)]:
        assert_same_bits(train(population, *cuts), whole)


@ways
def test_a_lane_that_diverges_is_flagged_and_leaves_its_neighbours_bit_identical(strategy, spread, make_trials, images):
    wild_arms = (ARMS[0], ARMS[1] | {"optimizer.learning_rate": 1e25}, ARMS[2])
    calm, wild = (
        populate(make_trials(*arms, execution__strategy=strategy, execution__spread=spread), images)
        for arms in (ARMS, wild_arms)
    )
    expected, states = train(calm, 12), train(wild, 12)
    for index in (0, 2):
        assert_same_bits(lane(states, index), lane(expected, index))
    flagged = states.diverged_step.tolist()
    assert flagged[0] == flagged[2] == -1
    assert 0 < flagged[1] < 12
    # The flagged step is the first whose loss is not finite.
    for step in range(1, flagged[1] + 1):
        assert np.isfinite(train(wild, step).loss_sum[1])
    assert not np.isfinite(train(wild, flagged[1] + 1).loss_sum[1])
    # From there on it stands still.
    assert_same_bits(lane(train(wild, flagged[1] + 1), 1).params, lane(states, 1).params)


def sorts(jaxpr, in_branch=False):
    """Of each sort in a program, whether it stands in a branch."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "sort":
            yield in_branch
        for value in equation.params.values():
            for inner in inner_jaxprs(value):
                yield from sorts(inner, in_branch or equation.primitive.name == "cond")


@pytest.mark.parametrize("strategy", ["vectorised", "sequential"])
def test_an_order_is_found_in_one_place_and_only_where_an_epoch_begins(strategy, make_trials, images):
    """A permutation sorts. Side by side, too, lanes keep the branch, for all are at the same step."""
    population = Population(make_trials(*ARMS), TRACED, images, strategy)
    function = getattr(population._lane, f"advance_{strategy}")
    shared = (population.splits.training_shape(), np.int32(0), np.int32(9))
    program = jax.make_jaxpr(population._over_lanes(function))(population._shapes, (population.lanes,), shared)
    alone = list(sorts(jax.make_jaxpr(lambda key: jax.random.permutation(key, 23))(jax.random.key(0)).jaxpr))
    assert alone
    assert list(sorts(program.jaxpr)) == [True] * len(alone)


@pytest.mark.parametrize(
    ("items", "batch_size", "asked", "expected"),
    [
        (500, 64, 500, 64),  # 8 batches of 63 would do: 64 is hardly more, and what trains
        (500, 96, 500, 63),  # more than stays in the caches
        (256, 64, 250, 64),
        (100, 64, 500, 50),  # 28% more would be in vain
        (11, 12, 500, 11),
        (40, 64, 16, 14),  # as many as configured, at most
        (40, 14, 16, 14),
    ],
)
def test_batches_of_an_evaluation(items, batch_size, asked, expected, make_trials, images):
    [trial] = make_trials(training__evaluation_batch_size=asked)
    splits = Population([trial], TRACED, images).splits
    splits._batch_size = batch_size
    assert splits.evaluation_batch({"targets": np.zeros(items, np.int32)}) == expected


def test_advance_donates_the_states_it_is_given(make_trials, images):
    population = populate(make_trials(*ARMS, execution__strategy="vectorised"), images)
    old = population.init()
    new, pulse = population.advance(old, 0, 3)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))
    evaluation = population.evaluate(new, "validation", images.validation.arrays)
    population.advance(new, 3, 5)
    assert pulse.tolist() == [-1] * 4  # outlives the states
    assert np.isfinite(np.asarray(evaluation.loss_sum)).all()
    assert evaluation.diverged_step.tolist() == [-1] * 4


def test_arms_of_equal_seed_share_initial_weights_and_data(make_trials, images):
    """A tiny rate moves nothing, so that the losses show the data order; other seeds, other order."""
    arms = ({"optimizer.learning_rate": 1e-12}, {"optimizer.learning_rate": 2e-12, "optimizer.weight_decay": 0.1})
    one, two, *_ = trials = make_trials(*arms, seeds=(0, 1), execution__strategy="vectorised")
    population = populate([one, two, trials[2]], images)
    fresh, after = train(population), train(population, 3)
    first, other, second = range(3)
    assert_same_bits(lane(fresh.params, first), lane(fresh.params, second))
    assert after.loss_sum[first] == after.loss_sum[second]
    assert not np.array_equal(*(lane(fresh.params, i)["hidden_0"]["kernel"] for i in (first, other)))
    assert after.loss_sum[first] != after.loss_sum[other]


@pytest.mark.parametrize(
    "name", ["mlp", *[pytest.param(name, marks=pytest.mark.slow) for name in ("cnn", "rnn", "transformer")]]
)
def test_initial_weights_are_the_same_bits_however_well_their_program_is_optimised(name, make_trials, images):
    trials = make_trials({}, model__name=name)
    population = Population(trials, traced_paths([trials[0].config]), images)
    shared = (population.splits.example(), population._initial)
    slowly = jax.jit(population._over_lanes(population._lane.init)).lower(population.lanes, (), shared).compile()
    assert_same_bits(population.init(), slowly(population.lanes, (), shared))


@pytest.fixture
def compilations():
    """Counts what XLA compiles while it is active, by nothing but the events that jax reports."""
    counted = collections.Counter()

    def listen(event, seconds, **_):
        counted[event] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield counted
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("strategy", ["vectorised", "sequential"])
def test_one_compilation_serves_every_value(strategy, make_trials, images, compilations):
    """Rates, decays, dropout and seeds vary; there is one program each to begin, to train, to evaluate each split."""
    arms = [
        {"optimizer.learning_rate": rate, "optimizer.weight_decay": decay, "model.dropout_rate": dropout}
        for rate, decay, dropout in [(0.1, 0.0, 0.0), (0.2, 0.1, 0.0), (0.1, 0.0, 0.5), (0.05, 0.01, 0.1)]
    ]
    trials = make_trials(*arms, seeds=(0, 3), execution__strategy=strategy)
    (members,) = group(trials)
    assert members == trials
    ((key, traced),) = study_traced_paths(trials).items()
    assert key == program_key(trials[0].config)
    population = Population(trials, traced, images)
    compilations.clear()
    states = population.init()
    population.compile()
    assert compilations[COMPILED] == 4
    for start, stop in [(0, 1), (1, 5), (5, 12)]:
        states, _ = population.advance(states, start, stop)
        population.evaluate(states, "validation", images.validation.arrays)
    jax.block_until_ready(states)
    assert compilations[COMPILED] == 4
    assert set(population._programs) == {"init", "advance", "evaluate test", "evaluate validation"}


def test_tuning_trials_have_the_program_of_as_many_trials_that_count(make_trials, images):
    """So the cache of compiled programs gives it back; with other numbers of trials it is another program."""
    rate = "optimizer.learning_rate"
    tuning = make_trials({rate: 0.1}, {rate: 0.2}, seeds=(1000, 1001))
    counting, fewer = make_trials({rate: 0.1}, seeds=(0, 1, 2, 3)), make_trials({rate: 0.1}, seeds=(0, 1))
    first, same, other = (
        populate(trials, images).training_program()[0].as_text() for trials in (tuning, counting, fewer)
    )
    assert first == same != other


def test_splits_of_one_shape_share_a_program(make_trials, images):
    """And each is measured on its own examples: exchanged, they exchange what is found."""
    arrays = {name: np.flip(value, 0).copy() for name, value in images.validation.arrays.items()}
    arrays["targets"] = np.roll(arrays["targets"], 1)
    found = {}
    for own, other in ((images.validation.arrays, arrays), (arrays, images.validation.arrays)):
        task = dataclasses.replace(images, validation=Validation(own), test=Test(other))
        trials = make_trials(seeds=(0, 3))
        population = Population(trials, study_traced_paths(trials)[program_key(trials[0].config)], task)
        population.compile()
        assert set(population._programs) == {"init", "advance", "evaluate validation"}
        states = population.init()
        found[own is arrays] = [
            population.evaluate(states, "validation", own),
            population.evaluate(states, "test", other),
        ]
    assert_same_bits(found[False], found[True][::-1])
    with pytest.raises(AssertionError):
        assert_same_bits(*found[False])


def test_static_values_make_groups_and_traced_ones_do_not(make_trials):
    trials = make_trials(
        {"model.width": 8}, {"model.width": 9}, {"optimizer.learning_rate": 0.5}, {"model.dropout_rate": 0.5}
    )
    assert [[t.arm for t in members] for members in group(trials)] == [["arm0", "arm2", "arm3"], ["arm1"]]


def test_groups_have_at_most_max_lanes(make_trials):
    trials = make_trials(seeds=tuple(range(5)), execution__max_lanes=2)
    assert [[t.seed for t in members] for members in group(trials)] == [[0, 1], [2, 3], [4]]


def test_a_population_is_named_by_its_trials(make_trials, images):
    names = [
        populate(trials, images).id
        for trials in (
            make_trials({}, seeds=(0, 1)),
            make_trials({}, seeds=(0, 1)),
            make_trials({}, seeds=(0, 2)),
            make_trials({"optimizer.learning_rate": 0.2}, seeds=(0, 1)),
        )
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert all(name.startswith("arm0-") for name in names)


@pytest.mark.parametrize("size", [4, 250])
def test_an_evaluation_counts_every_item_once(size, make_trials, images):
    """Sums over the split do not depend on the batches that it is cut into."""
    population = populate(make_trials(*ARMS[:2], training__evaluation_batch_size=size), images)
    states = population.init()
    evaluation = population.evaluate(states, "validation", images.validation.arrays)
    whole = images.sampler.gather(images.validation.arrays, jnp.arange(11))
    expected = population.step.measure(lane(states, 0), {}, whole)
    for name, value in expected.items():
        np.testing.assert_allclose(evaluation.sums[name][0], value, rtol=1e-5)
    assert evaluation.sums["weight"].tolist() == [11, 11]


def test_a_batch_larger_than_the_data_is_bad_input(make_trials, images):
    with pytest.raises(BadInput, match="batch_size=24 must be at most 23"):
        populate(make_trials(training__batch_size=24), images)
