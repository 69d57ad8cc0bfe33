"""The train step is pure, learns, and is tied to no platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import plugin_names
from tests.lowering import PLATFORMS, lowered
from train.config import Trial, leaves, replace, traced_paths
from train.parameters import path_name
from train.population import Population
from train.step import make_step

FAMILIES = {
    "mlp": ("images", {"model.width": 8}),
    "cnn": ("images", {"model.channels": (4,)}),
    "resnet": ("images", {"model.depth": 8, "model.width": 4}),
    "rnn": ("images", {"model.width": 8}),
    "transformer": (
        "images",
        {"model.width": 8, "model.depth": 1, "model.heads": 2, "model.feedforward": 16},
    ),
    "text_cnn": ("sentences", {"model.embedding": 8, "model.channels": 4, "model.dropout_rate": 0.0}),
    "tcn": ("text", {"model.width": 8, "model.depth": 2, "model.embedding": 4}),
    "ltsf_linear": ("signals", {}),
    "seq2seq": ("pairs", {"model.width": 8, "model.embedding": 4}),
    "encoder_decoder": (
        "pairs",
        {
            "model.width": 16,
            "model.depth": 1,
            "model.heads": 2,
            "model.feedforward": 32,
            "model.dropout_rate": 0.0,
            "model.norm_position": "pre",
        },
    ),
}
"""By family: the task that it is tried on, and a size that compiles fast."""

QUICK = ("mlp", "cnn", "rnn", "transformer")
ALL_ON = {
    "optimizer.name": "adamw",
    "schedule.name": "cosine",
    "schedule.warmup_steps": 3,
    "regularisation.label_smoothing": 0.1,
    "regularisation.l1": 1e-4,
    "regularisation.l2": 1e-4,
    "regularisation.clip_norm": 1.0,
}


def configure(base, family, **changes):
    return replace(base, {"model.name": family} | FAMILIES[family][1] | changes)


def traced(config):
    values: dict = {}
    for path in traced_paths([config]):
        section, _, name = path.partition(".")
        values.setdefault(section, {})[name] = jnp.float32(dict(leaves(config))[path].value)
    return values


def batch_of(task):
    return task.sampler.gather(jax.tree.map(jnp.asarray, dict(task.train.arrays)), jnp.arange(8))


def test_every_family_is_tested():
    assert set(plugin_names("models")) <= set(FAMILIES)


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=() if name in ("mlp", "cnn") else pytest.mark.slow) for name in FAMILIES],
)
def test_every_family_fits_one_batch(family, base, request):
    task = request.getfixturevalue(FAMILIES[family][0])
    config = configure(base, family, **{"optimizer.name": "adam", "optimizer.learning_rate": 0.01})
    step, values, batch = make_step(config, task.shapes, task.objective), traced(config), batch_of(task)
    state = start = jax.jit(step.init)(jnp.uint32(0), values, batch)
    train = jax.jit(step.train)
    losses = []
    for number in range(40):
        state = train(state._replace(loss_sum=jnp.float32(0)), values, batch, {}, jnp.int32(number))
        losses.append(float(state.loss_sum))
    assert losses[-1] < 0.5 * losses[0]
    assert state.diverged_step == -1
    measured = jax.jit(step.measure)(state, values, batch)
    assert measured["loss"] / measured["weight"] < losses[0]
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), start.params, state.params)
    still = [path_name(path) for path, has_moved in jax.tree_util.tree_leaves_with_path(moved) if not has_moved]
    assert not still, f"these parameters have no gradient: {still}"


def test_the_step_is_a_pure_function_of_its_arguments(base, images):
    config = configure(base, "mlp", **ALL_ON, **{"model.dropout_rate": 0.1})
    step, values, batch = make_step(config, images.shapes, images.objective), traced(config), batch_of(images)
    state = jax.jit(step.init)(jnp.uint32(0), values, batch)
    before = jax.tree.map(np.array, state)
    train = jax.jit(step.train)
    keys = [{"dropout": jax.random.key(seed)} for seed in (1, 1, 2)]
    first, again, other = (train(state, values, batch, key, jnp.int32(5)) for key in keys)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, state))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert first.loss_sum != other.loss_sum  # another key drops other units


def test_a_step_in_bfloat16_keeps_its_state_in_32_bits_and_stays_near(base, images):
    losses = []
    for dtype in ("float32", "bfloat16"):
        config = configure(base, "mlp", **{"training.compute_dtype": dtype})
        step, values, batch = make_step(config, images.shapes, images.objective), traced(config), batch_of(images)
        state = jax.jit(step.init)(jnp.uint32(0), values, batch)
        train = jax.jit(step.train)
        for number in range(10):
            state = train(state, values, batch, {}, jnp.int32(number))
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}
        losses.append(float(state.loss_sum))
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert losses[1] != losses[0]


def test_the_first_step_whose_loss_is_not_finite_is_kept(base, images):
    step, values, batch = make_step(base, images.shapes, images.objective), traced(base), batch_of(images)
    state = jax.jit(step.init)(jnp.uint32(0), values, batch)
    train = jax.jit(step.train)
    bad = batch._replace(inputs=batch.inputs.at[0].set(jnp.nan))
    for number, (given, expected) in enumerate([(batch, -1), (bad, 1), (batch, 1), (bad, 1)]):
        state = train(state, values, given, {}, jnp.int32(number))
        assert state.diverged_step == expected


def test_measuring_drops_nothing_and_needs_no_key(base, images):
    config = configure(base, "mlp", **{"model.dropout_rate": 0.5})
    plain = make_step(base, images.shapes, images.objective)
    step, batch = make_step(config, images.shapes, images.objective), batch_of(images)
    state = jax.jit(step.init)(jnp.uint32(0), traced(config), batch)
    found, expected = jax.jit(step.measure)(state, traced(config), batch), jax.jit(plain.measure)(state, {}, batch)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        *(
            pytest.param(family, kind, marks=() if family in QUICK else pytest.mark.slow)
            for family, (kind, _) in FAMILIES.items()
        ),
        ("rnn", "text"),
        ("transformer", "text"),
    ],
)
def test_the_step_and_the_whole_program_lower_for_every_platform(family, kind, base, request):
    task = request.getfixturevalue(kind)
    dropout = {"model.dropout_rate": 0.1} if family != "ltsf_linear" else {}  # where there is any, it is called so
    config = configure(base, family, **ALL_ON, **dropout, **{"execution.spread": False})
    step, values, batch = make_step(config, task.shapes, task.objective), traced(config), batch_of(task)
    state = jax.eval_shape(step.init, jnp.uint32(0), values, batch)
    keys = {"dropout": jax.random.key(0)}
    exported = lowered(jax.jit(step.train), state, values, batch, keys, jnp.int32(0))
    assert exported.platforms == PLATFORMS

    trials = [Trial(arm="a", seed=seed, config=config) for seed in (0, 1)]
    population = Population(trials, traced_paths([config]), task)
    states = jax.eval_shape(
        lambda lanes: jax.vmap(lambda lane: step.init(lane.seed, values, batch))(lanes), population.lanes
    )
    bounds = (np.int32(0), np.int32(3))
    for strategy, function in [
        ("sequential", population._lane.advance_sequential),
        ("vectorised", population._lane.advance_vectorised),
    ]:
        population.strategy = strategy
        program = jax.jit(population._over_lanes(function))
        shared = (dict(task.train.arrays), *bounds)
        exported = lowered(program, states, (population.lanes,), shared)
        assert exported.platforms == PLATFORMS
