"""Stochastic weight averaging, gradient noise and the elastic net against closed forms and other libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from tests.train.optimizer_cases import assert_same_bits, traced
from train import regularisers
from train.config import replace, traced_paths
from train.step import make_step, step_keys


def run(base, task, steps=1, seed=1, **settings):
    """The states after each of some steps on different batches of 8, the first being the start."""
    config = replace(base, {path.replace("__", "."): value for path, value in settings.items()})
    step, values = make_step(config, task.shapes, task.objective), traced(config)
    arrays = jax.tree.map(jnp.asarray, dict(task.train.arrays))
    batches = [task.sampler.gather(arrays, (jnp.arange(8) + 5 * number) % 23) for number in range(steps)]
    states, train = [step.init(jnp.uint32(seed), values, batches[0])], jax.jit(step.train)
    for number, batch in enumerate(batches):
        keys = step_keys(seed, values, number)
        states.append(train(states[-1], values, batch, keys, jnp.int32(number)))
    return step, values, batches, states


@pytest.mark.slow
def test_stochastic_averaging_takes_every_c_th_weights(base, images):
    """Steps 3, 5 and 7 of 8 have part in the average; before it, an evaluation takes the weights themselves."""
    step, values, batches, states = run(
        base, images, 8, regularisation__swa_every=2, regularisation__swa_start=3, optimizer__learning_rate=0.5
    )
    *_, free = run(base, images, 8, optimizer__learning_rate=0.5)
    assert_same_bits(states[8].params, free[8].params)  # training itself does not change
    average = jax.tree.map(
        lambda *parts: np.mean(np.float64(parts), axis=0), *(free[number].params for number in (3, 5, 7))
    )
    found = step.evaluated(states[8], values)["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, average)
    assert_same_bits(step.evaluated(states[2], values)["params"], states[2].params)
    assert_same_bits(step.evaluated(states[3], values)["params"], states[3].params)
    loss = step.measure(free[8]._replace(average=states[8].average), values, batches[0])["loss"]
    assert loss != step.measure(free[8], {}, batches[0])["loss"]


@pytest.mark.slow
def test_the_average_has_its_own_statistics_of_batch_normalisation(base, images):
    """With momentum 0 they are those of the averaged weights on the last batch."""
    normalised = {"model__normalisation": "batch", "model__norm_momentum": 0.0}
    step, values, batches, states = run(base, images, 4, regularisation__swa_every=1, **normalised)
    variables = step.evaluated(states[4], values)
    assert not np.allclose(variables["params"]["hidden_0"]["kernel"], states[4].params["hidden_0"]["kernel"])
    x = np.float64(batches[3].inputs).reshape(8, -1)
    hidden = x @ np.float64(variables["params"]["hidden_0"]["kernel"]) + np.float64(
        variables["params"]["hidden_0"]["bias"]
    )
    stats = variables["batch_stats"]["norm_0"]
    np.testing.assert_allclose(stats["mean"], hidden.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stats["var"], hidden.var(0, ddof=1), rtol=1e-5)
    assert not np.allclose(stats["mean"], states[4].batch_stats["norm_0"]["mean"], atol=1e-4)


def test_noise_has_the_published_variance_and_a_stream_of_its_own():
    """Of a million zeros: mean 0 and variance eta / (1 + t)^gamma, for each step another draw."""
    zeros = {"a": jnp.zeros((1000, 500)), "b": jnp.zeros(500_000)}
    draws = []
    for step in (0, 9):
        key = step_keys(3, {"regularisation": {regularisers.NOISE: 0.3}}, step)[regularisers.NOISE]
        link = regularisers.noise(0.3, 0.55, key, step)
        noisy, _ = link.update(zeros, link.init(zeros))
        values = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(noisy)]).astype(np.float64)
        variance = 0.3 / (1 + step) ** 0.55
        assert abs(values.mean()) < 5 * np.sqrt(variance / 1e6)
        np.testing.assert_allclose(values.var(), variance, rtol=5 * np.sqrt(2 / 1e6))
        draws.append(values / np.sqrt(variance))
    assert abs(np.mean(draws[0] * draws[1])) < 5e-3
    assert abs(np.mean(draws[0][:500_000] * draws[0][500_000:])) < 1e-2


def test_noise_is_added_after_clipping_and_is_the_same_again(base, images):
    rate = base.optimizer.learning_rate
    noisy = {"regularisation__gradient_noise": 4.0, "regularisation__clip_norm": 1e-6}
    start, state = run(base, images, **noisy)[-1]
    again, other = (run(base, images, seed=seed, **noisy)[-1] for seed in (1, 2))
    assert_same_bits(state, again[1])
    moved = [np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (state.params, start.params)), strict=True)]
    assert np.std(np.concatenate(moved)) == pytest.approx(2 * rate, rel=0.1)
    others = [np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (other[1].params, other[0].params)), strict=True)]
    assert abs(np.corrcoef(np.concatenate(moved), np.concatenate(others))[0, 1]) < 0.2


@pytest.mark.slow
def test_noise_of_variance_zero_changes_nothing(base, images):
    """A lane without noise in a program with it."""
    config = replace(base, {"regularisation.gradient_noise": 1.0})
    step, values = make_step(config, images.shapes, images.objective), traced(config)
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(8))
    none = {"regularisation": values["regularisation"] | {regularisers.NOISE: jnp.float32(0)}}
    start = step.init(jnp.uint32(0), values, batch)
    keys = step_keys(0, values, 0)
    silent = step.train(start, values | none, batch, keys, jnp.int32(0))
    plain = make_step(base, images.shapes, images.objective)
    expected = plain.train(plain.init(jnp.uint32(0), traced(base), batch), traced(base), batch, {}, jnp.int32(0))
    assert_same_bits(silent.params, expected.params)


def test_what_belongs_to_a_mechanism_that_is_off_is_not_in_the_program(base):
    swa = replace(base, {"regularisation.swa_every": 2})
    noise = replace(base, {"regularisation.gradient_noise": 0.1})
    assert not [path for path in traced_paths([base]) if "swa" in path or "noise" in path]
    assert {"regularisation.swa_every", "regularisation.swa_start"} <= set(traced_paths([base, swa]))
    assert "regularisation.gradient_noise_decay" in traced_paths([noise, base])


def test_l1_and_l2_together_are_the_elastic_net():
    """The minimum of a linear model's loss with both penalties is scikit-learn's."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 8)).astype(np.float32)
    y = x @ np.float32([3, -2, 1, 0.5, 0, 0, 0, 0]) + 0.1 * generator.normal(size=60).astype(np.float32)
    l1, l2 = 0.4, 0.3
    values = {"l1": jnp.float32(l1), "l2": jnp.float32(l2)}

    def loss(params):
        error = jnp.asarray(x) @ params["linear"]["kernel"] - y
        return jnp.mean(jnp.square(error)) / 2 + regularisers.penalty(params, values, r"(bias|scale)$")

    def step(params, number):
        rate = 0.2 / (1 + number / 200)
        return jax.tree.map(lambda w, g: w - rate * g, params, jax.grad(loss)(params)), None

    found = jax.lax.scan(step, {"linear": {"kernel": jnp.zeros(8)}}, jnp.arange(20000.0))[0]["linear"]["kernel"]
    model = linear_model.ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), fit_intercept=False, tol=1e-10)
    np.testing.assert_allclose(found, model.fit(np.float64(x), np.float64(y)).coef_, atol=2e-3)
    assert np.abs(model.coef_[4:]).max() < 0.05 < np.abs(model.coef_[:3]).min()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regularisation.swa_every": 1, "regularisation.swa_start": 12}, "swa_start=12 must be less than training"),
        ({"regularisation.swa_every": 1, "regularisation.ema_decay": 0.9}, "are two averages"),
        ({"regularisation.swa_every": -1}, "swa_every=-1 must be at least 0"),
        ({"regularisation.gradient_noise": -0.1}, "gradient_noise=-0.1 must be at least 0"),
        ({"optimizer.name": "lbfgs", "regularisation.gradient_noise": 0.1}, "without a line search"),
    ],
)
def test_wrong_values_are_one_line(changes, message, base):
    with pytest.raises(BadInput, match=message) as error:
        replace(base, changes)
    assert "\n" not in str(error.value)
