"""Optimizers and schedules: bit for bit Optax's own, and those of PyTorch to float32 rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models import build
from models.base import plugin_names
from tests.train.optimizer_cases import SETTINGS, assert_same_bits, configure, gradients, plain, traced
from train.config import replace
from train.cost import cost
from train.data.task import Batch
from train.optimization import build as chain
from train.parameters import decay_mask
from train.step import make_step

IN_TORCH = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "rmsprop plain", "adadelta")
IN_TORCH += ("adam", "adam_l2", "adamw", "adamax")


def batch_of(task):
    return task.sampler.gather({k: jnp.asarray(v) for k, v in task.train.arrays.items()}, jnp.arange(8))


def test_every_optimizer_is_tested():
    assert set(plugin_names("train.optimizers")) <= {case.split()[0] for case in SETTINGS}


QUICKLY = ("sgd", "adam", "adamw")  # the others' programs together take minutes to compile


@pytest.mark.parametrize(
    "case", [case if case in QUICKLY else pytest.param(case, marks=pytest.mark.slow) for case in SETTINGS]
)
def test_three_steps_are_bit_for_bit_those_of_optax(case, base, images):
    config = configure(base, case)
    step = make_step(config, images.shapes, images.objective)
    values, batch = traced(config), batch_of(images)
    state = step.init(jnp.uint32(0), values, batch)
    reference, model = plain(case), build(config.model, images.shapes)
    params, optimizer_state = state.params, reference.init(state.params)

    def loss(params):
        logits = model.apply({"params": params}, batch.inputs, train=True, rngs={}, hyperparameters={})[0]
        items = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
        return jnp.sum(items * batch.weights) / jnp.sum(batch.weights)

    def update(params, optimizer_state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, optimizer_state = optax.with_extra_args_support(reference).update(
            gradient, optimizer_state, params, value=value, grad=gradient, value_fn=loss
        )
        return optax.apply_updates(params, updates), optimizer_state

    before = params
    train, update = (jax.jit(step.train), jax.jit(update)) if case == "lbfgs" else (step.train, update)
    for number in range(3):
        state = train(state, values, batch, {}, jnp.int32(number))
        params, optimizer_state = update(params, optimizer_state)
    assert_same_bits(state.params, params)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(params), strict=True):
        assert (a != b).any()


def torch_optimizer(torch, case, decayed, others):
    s = dict(SETTINGS[case])
    decay, rate = s.pop("weight_decay", 0.0), s["learning_rate"]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    if case.startswith("adam"):
        kind = {"adam": "Adam", "adam_l2": "Adam", "adamw": "AdamW", "adamax": "Adamax"}[case]
        return getattr(torch.optim, kind)(groups, lr=rate, betas=(s["b1"], s["b2"]), eps=s["eps"])
    if case == "adagrad":
        return torch.optim.Adagrad(groups, rate, initial_accumulator_value=s["initial_accumulator"], eps=s["eps"])
    if case == "adadelta":
        return torch.optim.Adadelta(groups, rate, rho=s["rho"], eps=s["eps"])
    if case.startswith("rmsprop"):
        momentum, centered = s.get("momentum", 0.0), s.get("centered", False)
        return torch.optim.RMSprop(groups, rate, s["decay"], s["eps"], momentum=momentum, centered=centered)
    return torch.optim.SGD(groups, rate, momentum=s.get("momentum", 0.0), nesterov=s.get("nesterov", False))


@pytest.mark.reference
@pytest.mark.parametrize("clip_norm", [None, 3.0], ids=["free", "clipped"])
@pytest.mark.parametrize("case", IN_TORCH)
def test_fifty_steps_agree_with_pytorch(case, clip_norm, base):
    torch = pytest.importorskip("torch")
    config = configure(base, case, **({"regularisation.clip_norm": clip_norm} if clip_norm else {}))
    params, sequence = gradients(50)
    theirs = jax.tree.map(lambda leaf: torch.nn.Parameter(torch.tensor(leaf)), params)
    flat = [theirs[layer][name] for layer in theirs for name in ("kernel", "bias")]
    reference = torch_optimizer(torch, case, flat[::2], flat[1::2])
    optimizer = chain(config, traced(config), params)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    clipped = 0
    for gradient in sequence:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        for parameter, value in zip(
            flat, [gradient[layer][name] for layer in theirs for name in ("kernel", "bias")], strict=True
        ):
            parameter.grad = torch.tensor(value)
        if clip_norm:
            clipped += torch.nn.utils.clip_grad_norm_(flat, clip_norm).item() > clip_norm
        reference.step()
    for ours, other in zip(jax.tree.leaves(params), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(ours, other.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert clipped == (50 if clip_norm else 0)


def test_clipping_scales_down_to_the_norm_and_leaves_smaller_gradients_alone(base):
    params, (gradient,) = gradients(1)
    norm = np.sqrt(sum((leaf.astype(np.float64) ** 2).sum() for leaf in jax.tree.leaves(gradient)))
    for limit, factor in [(norm / 4, 0.25), (norm * 2, 1.0)]:
        config = configure(base, "sgd", **{"regularisation.clip_norm": float(limit), "optimizer.weight_decay": 0.0})
        optimizer = chain(config, traced(config), params)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        for update, g in zip(jax.tree.leaves(updates), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(update, -0.3 * factor * g, rtol=2e-6)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_penalties_have_their_closed_gradients(name, base, images):
    strength, rate = 0.25, 0.5
    batch = batch_of(images)
    states = []
    for value in (0.0, strength):
        config = replace(base, {f"regularisation.{name}": value, "optimizer.learning_rate": rate})
        step = make_step(config, images.shapes, images.objective)
        start = step.init(jnp.uint32(1), traced(config), batch)
        states.append(step.train(start, traced(config), batch, {}, jnp.int32(0)))
    assert states[0].loss_sum == states[1].loss_sum  # the loss that is reported is the task's own
    for layer, params in start.params.items():
        kernel = params["kernel"]
        extra = strength * (jnp.sign(kernel) if name == "l1" else kernel)
        difference = states[1].params[layer]["kernel"] - states[0].params[layer]["kernel"]
        np.testing.assert_allclose(difference, -rate * extra, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(states[1].params[layer]["bias"], states[0].params[layer]["bias"])


def test_for_plain_descent_weight_decay_is_l2(base, images):
    batch = batch_of(images)
    results = []
    for path in ("optimizer.weight_decay", "regularisation.l2"):
        config = replace(base, {path: 0.3})
        step = make_step(config, images.shapes, images.objective)
        state = step.init(jnp.uint32(1), traced(config), batch)
        results.append(step.train(state, traced(config), batch, {}, jnp.int32(0)).params)
    for a, b in zip(jax.tree.leaves(results[0]), jax.tree.leaves(results[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_weight_decay_leaves_biases_alone_and_the_listing_says_so(base, images):
    config = replace(base, {"optimizer.weight_decay": 0.5, "optimizer.learning_rate": 0.1})
    assert cost(config, images).decayed == ("hidden_0/kernel", "logits/kernel")
    assert cost(config, images).undecayed == ("hidden_0/bias", "logits/bias")
    everything = replace(config, {"regularisation.undecayed": "^$"})
    assert cost(everything, images).undecayed == ()
    params = jax.tree.map(jnp.ones_like, gradients(1)[0])
    zero = jax.tree.map(jnp.zeros_like, params)
    for case, bias in [(config, 1.0), (everything, 0.95)]:
        optimizer = chain(case, traced(case), params)
        updates, _ = optimizer.update(zero, optimizer.init(params), params)
        new = optax.apply_updates(params, updates)
        np.testing.assert_allclose(new["hidden_0"]["kernel"], 0.95, rtol=1e-6)
        np.testing.assert_allclose(new["hidden_0"]["bias"], bias, rtol=1e-6)


def test_the_default_mask_finds_scales_and_biases_by_the_end_of_their_path():
    params = {
        "norm": {"scale": 0, "bias": 0},
        "scaled": {"kernel": 0, "recurrent_bias": 0, "embedding": 0},
        "bias": {"kernel": 0},
    }
    mask = decay_mask(params, r"(bias|scale)$")
    assert mask == {
        "norm": {"scale": False, "bias": False},
        "scaled": {"kernel": True, "recurrent_bias": False, "embedding": True},
        "bias": {"kernel": True},
    }


def test_a_padded_item_moves_nothing(base, images):
    """Gradients weigh items: what an item of weight 0 holds has no effect on the update."""
    step = make_step(base, images.shapes, images.objective)
    batch = batch_of(images)
    weights = batch.weights.at[-1].set(0.0)
    state = step.init(jnp.uint32(0), traced(base), batch)
    results = [
        step.train(state, traced(base), Batch(inputs, batch.targets, weights), {}, jnp.int32(0)).params
        for inputs in (batch.inputs, batch.inputs.at[-1].add(5.0))
    ]
    assert_same_bits(*results)


def test_schedule_free_is_evaluated_at_the_average(base, images):
    """With SGD and b1 = 0.5 the second average is known in closed form."""
    changes = {"optimizer.weight_decay": 0.0, "optimizer.b1": 0.5, "regularisation.clip_norm": 100.0}
    config = configure(base, "schedule_free sgd", **changes)
    step, values, batch = make_step(config, images.shapes, images.objective), traced(config), batch_of(images)
    start = step.init(jnp.uint32(0), values, batch)
    state = step.train(start, values, batch, {}, jnp.int32(0))
    z = state.optimizer[-1].z
    plain = configure(base, "sgd")
    reference = make_step(plain, images.shapes, images.objective)
    measured = step.measure(state, values, batch)
    # After one step the average x is z itself, for the first weight is all of the sum.
    expected = reference.measure(start._replace(params=z), {}, batch)
    np.testing.assert_allclose(measured["loss"], expected["loss"], rtol=1e-5)
    state = step.train(state, values, batch, {}, jnp.int32(1))
    x = jax.tree.map(lambda one, two: (one + two) / 2, z, state.optimizer[-1].z)
    measured, expected = step.measure(state, values, batch), reference.measure(start._replace(params=x), {}, batch)
    np.testing.assert_allclose(measured["loss"], expected["loss"], rtol=1e-5)
    assert abs(measured["loss"] - reference.measure(state, {}, batch)["loss"]) > 1e-3
