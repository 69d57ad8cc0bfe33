"""Early stopping decides as a loop over the values does, and keeps the weights of the best evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import BadInput
from tests.train.optimizer_cases import assert_same_bits, traced
from train.config import replace, traced_paths
from train.directions import is_reached
from train.early_stopping import begin, check_target, observe
from train.folder import Files
from train.loop import Watch, run_population
from train.population import Population
from train.step import is_active, make_step

decide = jax.jit(observe)


def by_loop(values, patience, improvement):
    """The step of the least value, and that of the stop or None, in plain Python; evaluation i is at step 10 i."""
    best, best_step, waited = np.inf, -1, 0
    for number, value in enumerate(np.float32(values)):
        if value < np.float32(best) - np.float32(improvement):
            best, best_step, waited = value, 10 * number, 0
        else:
            waited += 1
        if patience and waited >= patience:
            return best_step, 10 * number
    return best_step if patience else -1, -1


def run(values, patience, improvement=0.0, state=None, first=0):
    state = begin({"w": jnp.float32(-1)}) if state is None else state
    for number, value in enumerate(values, start=first):
        w = {"w": jnp.float32(number)}
        state = decide(state, jnp.float32(value), w, 10 * number, patience=patience, improvement=improvement)
    return state


losses = st.lists(st.floats(0, 3, width=32) | st.just(float("nan")) | st.sampled_from([1.0, 0.5]), max_size=12)


@given(losses, st.integers(0, 4), st.sampled_from([0.0, 0.25]))
def test_it_decides_as_a_loop_does(values, patience, improvement):
    state = run(values, patience, improvement)
    best_step, stopped = by_loop(values, patience, improvement)
    assert (int(state.best_step), int(state.stopped_step)) == (best_step, stopped)
    assert float(state.variables["w"]) == (best_step / 10 if best_step >= 0 else -1)


def test_it_stops_after_patience_and_stays_stopped():
    state = run([3, 2, 1, 1.5, 1.2, 1.1, 0.1, 0.01], 3)
    assert (int(state.best_step), int(state.stopped_step), float(state.best)) == (20, 50, 1.0)


def test_a_run_that_resumes_decides_the_same():
    values = [3, 2, 2.5, 2.4, 2.3, 1]
    cut = run(values[3:], 3, state=run(values[:3], 3), first=3)
    for one, other in zip(jax.tree.leaves(cut), jax.tree.leaves(run(values, 3)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_lanes_of_one_program_have_their_own_patience():
    values = jnp.float32([3, 2, 2.5, 2.4, 2.3, 2.2])
    patience = jnp.int32([0, 1, 3, 9])
    state = jax.vmap(lambda _: begin({"w": jnp.float32(-1)}))(patience)
    for number in range(6):
        each = jax.vmap(
            lambda s, p, n=number: observe(s, values[n], {"w": jnp.float32(n)}, n, patience=p, improvement=0)
        )
        state = each(state, patience)
    assert state.stopped_step.tolist() == [-1, 2, 4, -1]
    assert state.best_step.tolist() == [-1, 1, 1, 1]


def test_the_step_keeps_the_best_weights_and_evaluates_them_at_the_end(base, images):
    config = replace(base, {"regularisation.early_stopping_patience": 2, "regularisation.ema_decay": 0.5})
    step, values = make_step(config, images.shapes, images.objective), traced(config)
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(8))
    state, train, seen = step.init(jnp.uint32(0), values, batch), jax.jit(step.train), []
    for number, value in enumerate([3.0, 1.0, 2.0, 1.5]):
        assert is_active(state)
        state = train(state, values, batch, {}, jnp.int32(number))
        seen.append(step.evaluated(state, values))
        state = step.observe(state, values, jnp.float32(value), number + 1)
    assert not is_active(state)
    assert (int(state.stopping.best_step), int(state.stopping.stopped_step)) == (2, 4)
    assert_same_bits(step.evaluated(state, values), seen[3])
    assert_same_bits(step.evaluated(step.conclude(state), values), seen[1])
    assert seen[1]["params"]["logits"]["kernel"][0, 0] != seen[3]["params"]["logits"]["kernel"][0, 0]
    never = values | {"regularisation": values["regularisation"] | {"early_stopping_patience": jnp.float32(0)}}
    state = step.observe(step.init(jnp.uint32(0), never, batch), never, jnp.float32(1), 1)
    assert is_active(state)
    assert not step.conclude(state).stopping.concluded


def test_the_fields(base):
    assert not [path for path in traced_paths([base]) if "early_stopping" in path]
    on = replace(base, {"regularisation.early_stopping_patience": 2})
    names = {"regularisation.early_stopping_patience", "regularisation.early_stopping_improvement"}
    assert names <= set(traced_paths([base, on]))
    with pytest.raises(BadInput, match="early_stopping_patience=-1 must be at least 0"):
        replace(base, {"regularisation.early_stopping_patience": -1})


@pytest.mark.parametrize("strategy", ["sequential", pytest.param("vectorised", marks=pytest.mark.slow)])
def test_a_trial_that_stops_early_takes_no_more_steps_and_gives_its_best_weights(
    strategy, make_trials, images, tmp_path
):
    """One lane wants more of an improvement than there can be, so that it stops; its neighbour has no patience set."""
    impatient = {"regularisation.early_stopping_patience": 2, "regularisation.early_stopping_improvement": 100.0}
    arms = (impatient, {"optimizer.learning_rate": 0.2})
    trials = make_trials(*arms, execution__strategy=strategy, training__steps=40, training__evaluate_every=5)
    population = Population(trials, traced_paths([trial.config for trial in trials]), images)
    files = Files(tmp_path, trials, [images])
    run_population(population, files, Watch(progress=lambda _: None, interrupted=lambda: False))
    ended = {row["trial"]: row for row in files.trials.rows()}
    curves = {trial.id: [row for row in files.curves.rows() if row["trial"] == trial.id] for trial in trials}
    stopped, other = trials[0].id, trials[1].id
    steps = [int(row["step"]) for row in curves[stopped]]
    assert steps == [0, 5, 10]
    assert int(ended[stopped]["steps"]) == 10
    first = float(curves[stopped][0]["validation_loss"])
    np.testing.assert_allclose(float(ended[stopped]["validation_loss"]), first, rtol=1e-6)
    assert int(ended[other]["steps"]) == 40
    assert [int(row["step"]) for row in curves[other]] == list(range(0, 41, 5))


@pytest.mark.slow
def test_when_all_trials_have_stopped_the_rest_is_left_out(make_trials, images, tmp_path):
    impatient = {"regularisation.early_stopping_patience": 1, "regularisation.early_stopping_improvement": 100.0}
    trials = make_trials(impatient, training__steps=10**9, training__evaluate_every=5)
    population = Population(trials, traced_paths([trial.config for trial in trials]), images)
    files, done = Files(tmp_path, trials, [images]), []
    run_population(population, files, Watch(progress=done.append, interrupted=lambda: False))
    assert int(files.trials.rows()[0]["steps"]) == 5
    assert sum(done) == 10**9


def test_a_trial_at_its_target_is_over_with_the_weights_that_it_has(make_trials, images, tmp_path):
    """Without the target the same trial goes on; at the step of the stop both are the same."""
    targets = [{"training.target": value} for value in (0.0, -1.0)]
    options = {"training__steps": 40, "training__evaluate_every": 5}
    plain = make_trials({}, **options)[:1]
    whole = Files(tmp_path / "plain", plain, [images])
    calm = Watch(progress=lambda _: None, interrupted=lambda: False)
    run_population(Population(plain, (), images), whole, calm)
    curve = {int(row["step"]): float(row["validation_loss"]) for row in whole.curves.rows()}
    goal = (min(curve.values()) + curve[0]) / 2
    arrival = next(step for step, value in curve.items() if value <= goal)
    targets[0]["training.target"] = goal
    trials = make_trials(*targets, training__target_metric="loss", **options)
    chosen = [trials[0], next(trial for trial in trials if trial.config.training.target == -1.0)]
    files = Files(tmp_path / "target", chosen, [images])
    run_population(Population(chosen, traced_paths([trial.config for trial in chosen]), images), files, calm)
    ended = {row["trial"]: row for row in files.trials.rows()}
    assert 0 < arrival < 40
    assert [int(ended[trial.id]["steps"]) for trial in chosen] == [arrival, 40]
    assert {row["status"] for row in ended.values()} == {"ok"}
    np.testing.assert_allclose(float(ended[chosen[0].id]["validation_loss"]), curve[arrival], rtol=1e-6)


def test_a_target_needs_a_metric_that_the_task_reports():
    check_target("", ["loss"])
    check_target("accuracy", ["loss", "accuracy"])
    with pytest.raises(BadInput, match=r"training\.target_metric.*accuracy"):
        check_target("acuracy", ["loss", "accuracy"])
    assert is_reached("accuracy", 0.5, 0.5)
    assert not is_reached("loss", 0.5, 0.4)
    assert not is_reached("accuracy", float("nan"), 0.0)
