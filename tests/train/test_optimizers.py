"""Optimizers and schedules: bit for bit Optax's own, and those of PyTorch to float32 rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models import build
from models.base import BadInput, plugin_names
from train.config import leaves, replace, traced_paths
from train.cost import cost
from train.data.task import Batch
from train.step import _optimizer, decay_mask, make_step

SETTINGS = {
    "sgd": {"learning_rate": 0.3, "weight_decay": 0.02},
    "momentum": {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.02},
    "nesterov": {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.02, "nesterov": True},
    "adam": {"learning_rate": 0.01, "b1": 0.85, "b2": 0.99, "eps": 1e-6},
    "adamw": {"learning_rate": 0.01, "b1": 0.85, "b2": 0.99, "eps": 1e-6, "weight_decay": 0.1},
}
MASK = {"hidden_0": {"kernel": True, "bias": False}, "logits": {"kernel": True, "bias": False}}


def configure(base, case, **changes):
    name = "momentum" if case == "nesterov" else case
    settings = {f"optimizer.{key}": value for key, value in SETTINGS[case].items()}
    return replace(base, {"optimizer.name": name} | settings | changes)


def traced(config):
    """The traced values as arrays, as a population hands them over."""
    values: dict = {}
    columns = dict(leaves(config))
    for path in traced_paths([config]):
        section, _, name = path.partition(".")
        values.setdefault(section, {})[name] = jnp.float32(columns[path].value)
    return values


def plain(case):
    """The same optimizer straight from Optax, every value a float32 scalar."""
    s = {key: jnp.float32(value) for key, value in SETTINGS[case].items() if key != "nesterov"}
    if case == "adam":
        return optax.adam(s["learning_rate"], s["b1"], s["b2"], s["eps"])
    if case == "adamw":
        return optax.adamw(s["learning_rate"], s["b1"], s["b2"], s["eps"], weight_decay=s["weight_decay"], mask=MASK)
    if case == "sgd":
        inner = optax.sgd(s["learning_rate"])
    else:
        inner = optax.sgd(s["learning_rate"], s["momentum"], nesterov=case == "nesterov")
    return optax.chain(optax.add_decayed_weights(s["weight_decay"], MASK), inner)


def batch_of(task):
    return task.sampler.gather({k: jnp.asarray(v) for k, v in task.train.arrays.items()}, jnp.arange(8))


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_every_optimizer_is_tested():
    assert set(plugin_names("train.optimizers")) <= set(SETTINGS)


@pytest.mark.parametrize("case", SETTINGS)
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

    for number in range(3):
        state = step.train(state, values, batch, {}, jnp.int32(number))
        updates, optimizer_state = reference.update(jax.grad(loss)(params), optimizer_state, params)
        params = optax.apply_updates(params, updates)
    assert_same_bits(state.params, params)


def gradients(steps):
    generator = np.random.default_rng(3)
    shapes = {"hidden_0": {"kernel": (5, 4), "bias": (4,)}, "logits": {"kernel": (4, 3), "bias": (3,)}}

    def draw():
        return jax.tree.map(
            lambda shape: generator.normal(size=shape).astype(np.float32), shapes, is_leaf=lambda x: type(x) is tuple
        )

    return draw(), [draw() for _ in range(steps)]


def torch_optimizer(torch, case, decayed, others):
    s = dict(SETTINGS[case])
    decay = s.pop("weight_decay", 0.0)
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    if case in ("adam", "adamw"):
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[case]
        return kind(groups, lr=s["learning_rate"], betas=(s["b1"], s["b2"]), eps=s["eps"])
    return torch.optim.SGD(
        groups, lr=s["learning_rate"], momentum=s.get("momentum", 0.0), nesterov=s.get("nesterov", False)
    )


@pytest.mark.reference
@pytest.mark.parametrize("clip_norm", [None, 3.0], ids=["free", "clipped"])
@pytest.mark.parametrize("case", SETTINGS)
def test_fifty_steps_agree_with_pytorch(case, clip_norm, base):
    torch = pytest.importorskip("torch")
    config = configure(base, case, **({"regularisation.clip_norm": clip_norm} if clip_norm else {}))
    params, sequence = gradients(50)
    theirs = jax.tree.map(lambda leaf: torch.nn.Parameter(torch.tensor(leaf)), params)
    flat = [theirs[layer][name] for layer in theirs for name in ("kernel", "bias")]
    reference = torch_optimizer(torch, case, flat[::2], flat[1::2])
    optimizer = _optimizer(config, traced(config), params)
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
        optimizer = _optimizer(config, traced(config), params)
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
        optimizer = _optimizer(case, traced(case), params)
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


def factor(base, name, steps, at, **settings):
    """The learning rate of one step of descent on a gradient of 1, over the peak."""
    settings = {f"schedule.{key}": value for key, value in settings.items()}
    config = replace(base, {"training.steps": steps, "schedule.name": name} | settings)
    optimizer = _optimizer(config, traced(config), {"kernel": jnp.zeros(())})
    counts = jax.tree.map(lambda leaf: jnp.full_like(leaf, at), optimizer.init({"kernel": jnp.zeros(())}))
    updates, _ = optimizer.update({"kernel": jnp.ones(())}, counts, {"kernel": jnp.zeros(())})
    return float(-updates["kernel"]) / config.optimizer.learning_rate


@pytest.mark.parametrize(
    ("name", "settings", "at", "expected"),
    [
        ("constant", {}, 0, 1.0),
        ("constant", {}, 99, 1.0),
        ("constant", {"warmup_steps": 10}, 0, 0.0),
        ("constant", {"warmup_steps": 10}, 3, 0.3),
        ("constant", {"warmup_steps": 10}, 10, 1.0),
        ("constant", {"warmup_steps": 10}, 99, 1.0),
        ("warmup_cosine", {"warmup_steps": 20, "final_fraction": 0.1}, 0, 0.0),
        ("warmup_cosine", {"warmup_steps": 20, "final_fraction": 0.1}, 5, 0.25),
        ("warmup_cosine", {"warmup_steps": 20, "final_fraction": 0.1}, 20, 1.0),
        ("warmup_cosine", {"warmup_steps": 20, "final_fraction": 0.1}, 60, 0.55),  # half way down
        ("warmup_cosine", {"warmup_steps": 20, "final_fraction": 0.1}, 100, 0.1),
        ("warmup_cosine", {"warmup_steps": 0, "final_fraction": 0.0}, 0, 1.0),
        ("warmup_cosine", {"warmup_steps": 0, "final_fraction": 0.0}, 100, 0.0),
    ],
)
def test_schedules(name, settings, at, expected, base):
    assert factor(base, name, 100, at, **settings) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["constant", "warmup_cosine"])
def test_a_warm_up_must_end_before_training_does(name, base):
    changes = {"training.steps": 100, "schedule.name": name}
    replace(base, changes | {"schedule.warmup_steps": 99})
    with pytest.raises(BadInput, match=r"^schedule.warmup_steps=100 must be less than training.steps=100$"):
        replace(base, changes | {"schedule.warmup_steps": 100})


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
