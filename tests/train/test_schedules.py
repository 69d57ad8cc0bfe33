"""Schedules: the published curves at points that can be computed by hand, and PyTorch's where it has them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.base import BadInput, plugin_names
from train.config import bind, leaves, replace, traced_paths
from train.optimization import build as chain
from train.schedules import warmup
from train.schedules.cosine_restarts import lengths

WARM = {"warmup_steps": 20}
POINTS = [
    ("constant", {}, {0: 1.0, 99: 1.0}),
    ("constant", {"warmup_steps": 10}, {0: 0.0, 3: 0.3, 10: 1.0, 99: 1.0}),
    ("cosine", WARM | {"final_fraction": 0.1}, {0: 0.0, 5: 0.25, 20: 1.0, 60: 0.55, 100: 0.1}),
    ("cosine", {"final_fraction": 0.0}, {0: 1.0, 100: 0.0}),
    ("linear", WARM | {"final_fraction": 0.2}, {10: 0.5, 20: 1.0, 60: 0.6, 100: 0.2}),
    ("step", {"boundaries": (0.5, 0.75), "gamma": 0.1}, {0: 1.0, 49: 1.0, 50: 0.1, 74: 0.1, 75: 0.01, 99: 0.01}),
    ("step", WARM | {"boundaries": (0.5,), "gamma": 0.5}, {20: 1.0, 59: 1.0, 60: 0.5}),
    ("exponential", {"final_fraction": 0.01}, {0: 1.0, 50: 0.1, 100: 0.01}),
    ("inverse_square_root", {"warmup_steps": 25}, {5: 0.2, 25: 1.0, 100: 0.5}),
    ("warmup_stable_decay", WARM | {"decay_fraction": 0.25}, {10: 0.5, 20: 1.0, 80: 1.0, 90: 0.5, 100: 0.0}),
    ("warmup_stable_decay", {"decay_fraction": 0.5, "shape": "sqrt", "final_fraction": 0.2}, {50: 1.0, 62.5: 0.6}),
    ("one_cycle", {"rise_fraction": 0.4, "initial_divisor": 10.0, "final_divisor": 5.0}, {0: 0.1, 40: 1.0, 100: 0.02}),
    ("cosine_restarts", {"cycles": 2, "multiplier": 3.0}, {0: 1.0, 12.5: 0.5, 25: 1.0, 62.5: 0.5, 99.999: 0.0}),
    ("reduce_on_plateau", {"warmup_steps": 10}, {5: 0.5, 10: 1.0, 99: 1.0}),
]


def schedule(base, name, settings, steps=100):
    """The factor of the learning rate, its traced values being float32 arrays."""
    changes = {f"schedule.{key}": value for key, value in settings.items()}
    config = replace(base, {"training.steps": steps, "schedule.name": name} | changes)
    columns = dict(leaves(config))
    traced = {
        path.partition(".")[2]: jnp.float32(columns[path].value)
        for path in traced_paths([config])
        if path.startswith("schedule.")
    }
    return jax.jit(warmup.factor(name, bind(config.schedule, traced), steps))


def test_every_schedule_is_tested():
    assert set(plugin_names("train.schedules")) == {name for name, _, _ in POINTS}


@pytest.mark.parametrize(("name", "settings", "points"), POINTS)
def test_known_points(name, settings, points, base):
    factor = schedule(base, name, settings)
    for at, expected in points.items():
        assert factor(jnp.float32(at)) == pytest.approx(expected, rel=1e-5, abs=2e-6), at


@pytest.mark.parametrize("name", plugin_names("train.schedules"))
def test_a_warm_up_must_end_before_training_does(name, base):
    changes = {"training.steps": 100, "schedule.name": name}
    replace(base, changes | {"schedule.warmup_steps": 90})
    with pytest.raises(BadInput, match=r"^schedule.warmup_steps=100 must be less than training.steps=100$"):
        replace(base, changes | {"schedule.warmup_steps": 100})


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("step", {"boundaries": (0.5, 0.2)}, "rising order"),
        ("step", {"boundaries": ()}, "at least one"),
        ("step", {"gamma": 1.5}, "gamma=1.5 must be at most 1"),
        ("one_cycle", {"rise_fraction": 0.001}, "less than one step"),
        ("cosine_restarts", {"cycles": 9, "multiplier": 4.0}, "no step for the shortest cycle"),
        ("exponential", {"final_fraction": 0.0}, "greater than 0"),
        ("reduce_on_plateau", {"factor": 1.0}, "less than 1"),
    ],
)
def test_bad_input(name, settings, message, base):
    with pytest.raises(BadInput, match=message):
        schedule(base, name, settings)


@pytest.mark.parametrize(("cycles", "multiplier"), [(1, 1.0), (3, 2.0), (7, 1.0), (5, 1.5)])
def test_cycles_fill_training(cycles, multiplier, base):
    changes = {"schedule.name": "cosine_restarts", "schedule.cycles": cycles, "schedule.multiplier": multiplier}
    found = lengths(replace(base, {"training.steps": 1000} | changes).schedule, 1000)
    assert sum(found) == 1000
    assert len(found) == cycles
    np.testing.assert_allclose(np.divide(found[1:], found[:-1]), multiplier, rtol=0.02)


def test_a_plateau_reduces_the_rate_once_patience_is_over(base):
    """Losses that do not fall: averages of two, patience two; then losses that do."""
    settings = {"factor": 0.5, "patience": 2, "average_steps": 2, "final_fraction": 0.2}
    changes = {f"schedule.{key}": value for key, value in settings.items()}
    config = replace(base, {"schedule.name": "reduce_on_plateau", "optimizer.learning_rate": 1.0} | changes)
    params = {"kernel": jnp.zeros(())}
    optimizer = chain(config, {}, params)
    state, factors = optimizer.init(params), []
    for value in [5.0] * 10 + [4.0, 3.0, 2.0, 1.0]:
        updates, state = optimizer.update({"kernel": jnp.ones(())}, state, params, value=jnp.float32(value))
        factors.append(-float(updates["kernel"]))
    # The first average is the best there is; two more without improvement make the patience.
    assert factors == [1.0] * 5 + [0.5] * 4 + [0.25] * 5


def test_join_is_that_of_optax(base):
    """The cosine behind a warm-up is Optax's own of that name, bit for bit."""
    factor = schedule(base, "cosine", WARM | {"final_fraction": 0.1})
    reference = jax.jit(optax.warmup_cosine_decay_schedule(0.0, 1.0, 20, 100, jnp.float32(0.1)))
    for count in range(101):
        assert factor(jnp.int32(count)) == reference(jnp.int32(count))
