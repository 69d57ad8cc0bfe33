"""Loss scaling: float16 trains like float32, and a step that overflows is left out and does not end the trial."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.base import BadInput
from tests.train.optimizer_cases import assert_same_bits, traced
from train import precision
from train.config import replace, traced_paths
from train.step import make_step


@pytest.fixture(scope="module")
def half(base, images):
    """``(step, values, batch, start, train)`` in float16, the loss scaled by 2^10 at first, doubled every 3 steps."""
    changes = {"training.compute_dtype": "float16", "training.loss_scale": 1024.0, "training.loss_scale_interval": 3}
    config = replace(base, {"optimizer.name": "adam", "regularisation.ema_decay": 0.5} | changes)
    step, values = make_step(config, images.shapes, images.objective), traced(config)
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(8))
    return step, values, batch, step.init(jnp.uint32(0), values, batch), jax.jit(step.train)


def with_scale(state, scale, good=0):
    return state._replace(loss_scale=precision.begin(scale)._replace(good_steps=jnp.int32(good)))


def test_half_precision_trains_like_single_precision(half, base, images):
    _, values, batch, start, train = half
    plain = make_step(replace(base, {"optimizer.name": "adam"}), images.shapes, images.objective)
    single = traced(replace(base, {"optimizer.name": "adam"}))
    state, reference = start, plain.init(jnp.uint32(0), single, batch)
    reference_train = jax.jit(plain.train)
    for number in range(10):
        state = train(state, values, batch, {}, jnp.int32(number))
        reference = reference_train(reference, single, batch, {}, jnp.int32(number))
    assert state.loss_sum == pytest.approx(float(reference.loss_sum), rel=5e-3)
    assert state.loss_sum != reference.loss_sum
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}
    assert state.loss_scale.scale == 1024 * 2**3
    assert (int(state.loss_scale.skipped), int(state.diverged_step)) == (0, -1)


def test_the_scale_does_not_show_in_the_result_where_nothing_over_or_underflows(half):
    _, values, batch, start, train = half
    one, other = (train(with_scale(start, scale), values, batch, {}, jnp.int32(0)) for scale in (64.0, 256.0))
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_step_that_overflows_is_left_out(half):
    """With a loss times 2^40 every gradient is infinite: nothing moves but the scale, and training goes on."""
    _, values, batch, start, train = half
    state = train(with_scale(start, 2.0**40, good=2), values, batch, {}, jnp.int32(0))
    for name in ("params", "optimizer", "average", "batch_stats"):
        assert_same_bits(getattr(state, name), getattr(start, name))
    assert (float(state.loss_scale.scale), int(state.loss_scale.good_steps)) == (2.0**39, 0)
    assert (int(state.loss_scale.skipped), int(state.diverged_step)) == (1, -1)
    assert np.isfinite(state.loss_sum)
    for number in range(1, 40):
        state = train(state, values, batch, {}, jnp.int32(number))
    assert state.diverged_step == -1
    assert 10 < state.loss_scale.skipped < 40
    assert (state.params["logits"]["kernel"] != start.params["logits"]["kernel"]).any()


def test_overflow_without_scaling_is_divergence_and_so_is_a_loss_that_is_not_finite(half):
    _, values, batch, start, train = half
    large = batch._replace(inputs=batch.inputs * 60000)  # 6e4 is the largest float16
    state = train(with_scale(start, 1.0), values, large, {}, jnp.int32(4))
    assert state.diverged_step == 4
    state = train(start, values, batch._replace(inputs=batch.inputs.at[0].set(jnp.nan)), {}, jnp.int32(5))
    assert state.diverged_step == 5


def test_the_rule_of_the_scale():
    state = precision.begin(8.0)
    scales = []
    for finite in (True, True, False, True, True, True, False, False, False, False, False):
        failed = precision.has_failed(state, jnp.bool_(finite))
        state = precision.update(state, jnp.bool_(finite), 2)
        scales.append((float(state.scale), bool(failed)))
    assert [scale for scale, _ in scales] == [8, 16, 8, 8, 16, 16, 8, 4, 2, 1, 1]
    assert [failed for _, failed in scales] == [False] * 10 + [True]
    assert int(state.skipped) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"regularisation.sam_radius": 0.1}, {"training.accumulation": 2}, {"model.normalisation": "batch"}],
    ids=["sam", "parts", "batch norm"],
)
def test_half_precision_goes_with_everything_else(changes, base, images):
    """An overflow in the second gradient of sharpness-aware minimisation is found, too."""
    config = replace(base, {"training.compute_dtype": "float16", "training.batch_size": 8} | changes)
    reference = replace(config, {"training.compute_dtype": "float32"})
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(8))
    states = []
    for each in (config, reference):
        step, values = make_step(each, images.shapes, images.objective), traced(each)
        state, train = step.init(jnp.uint32(0), values, batch), jax.jit(step.train)
        for number in range(12):
            state = train(state, values, batch, {}, jnp.int32(number))
        states.append(state)
    assert states[0].diverged_step == -1
    for one, other in zip(jax.tree.leaves(states[0].params), jax.tree.leaves(states[1].params), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, atol=0.1)


def test_scaling_is_in_the_program_only_with_float16(base, images):
    assert not [path for path in traced_paths([base]) if "loss_scale" in path]
    step = make_step(base, images.shapes, images.objective)
    batch = images.sampler.gather(jax.tree.map(jnp.asarray, dict(images.train.arrays)), jnp.arange(8))
    assert step.init(jnp.uint32(0), traced(base), batch).loss_scale == {}
    with pytest.raises(BadInput, match="float16 needs an optimizer without a line search"):
        replace(base, {"training.compute_dtype": "float16", "optimizer.name": "lbfgs"})
