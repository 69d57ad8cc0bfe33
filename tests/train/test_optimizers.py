"""Optimizers and schedules: bit for bit Optax's own, and those of PyTorch to float32 rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from models import build
from models.base import plugin_names
from train.config import leaves, replace, traced_paths
from train.cost import cost
from train.data.task import Batch
from train.step import _optimizer, decay_mask, make_step

_MOMENTS = {"b1": 0.85, "b2": 0.99, "eps": 1e-6}
SETTINGS = {
    "sgd": {"learning_rate": 0.3, "weight_decay": 0.02},
    "momentum": {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.02},
    "nesterov": {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.02, "nesterov": True},
    "adagrad": {"learning_rate": 0.1, "initial_accumulator": 0.1, "eps": 1e-12},
    "rmsprop": {"learning_rate": 0.01, "decay": 0.9, "eps": 1e-6, "momentum": 0.5, "centered": True},
    "rmsprop plain": {"learning_rate": 0.01, "decay": 0.9, "eps": 1e-6},
    "adadelta": {"learning_rate": 0.5, "rho": 0.8, "eps": 1e-5},
    "adam": {"learning_rate": 0.01} | _MOMENTS,
    "adam_l2": {"learning_rate": 0.01, "weight_decay": 0.1} | _MOMENTS,
    "adamw": {"learning_rate": 0.01, "weight_decay": 0.1} | _MOMENTS,
    "amsgrad": {"learning_rate": 0.01} | _MOMENTS,
    "nadam": {"learning_rate": 0.01} | _MOMENTS,
    "adamax": {"learning_rate": 0.01} | _MOMENTS,
    "lamb": {"learning_rate": 0.01, "weight_decay": 0.1} | _MOMENTS,
    "lars": {"learning_rate": 0.5, "momentum": 0.8, "trust_coefficient": 0.01, "weight_decay": 0.02},
    "lion": {"learning_rate": 0.01, "b1": 0.85, "b2": 0.95, "weight_decay": 0.1},
    "adafactor": {"learning_rate": 0.05, "decay_rate": 0.7, "min_dim_size_to_factor": 4, "weight_decay": 0.01},
    "muon": {
        "learning_rate": 0.02,
        "adam_learning_rate": 0.01,
        "beta": 0.9,
        "b1": 0.8,
        "b2": 0.95,
        "weight_decay": 0.1,
    },
    "schedule_free": {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
    "schedule_free sgd": {"learning_rate": 0.05, "b1": 0.8, "weight_decay": 0.1, "base": "sgd"},
    "lbfgs": {"memory_size": 5, "line_search_steps": 10},
}
IN_TORCH = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "rmsprop plain", "adadelta")
IN_TORCH += ("adam", "adam_l2", "adamw", "adamax")
MASK = {"hidden_0": {"kernel": True, "bias": False}, "logits": {"kernel": True, "bias": False}}


def configure(base, case, **changes):
    name = {"nesterov": "momentum"}.get(case, case.split()[0])
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
    s = {key: jnp.float32(value) if type(value) is float else value for key, value in SETTINGS[case].items()}
    rate, decay = s.pop("learning_rate", None), s.pop("weight_decay", 0.0)
    decayed = optax.add_decayed_weights(decay, MASK)

    def muon():
        dimensions = {
            "hidden_0": {"kernel": contrib.MuonDimensionNumbers((0,), (1,)), "bias": None},
            "logits": {"kernel": None, "bias": None},
        }
        return contrib.muon(
            rate,
            beta=s["beta"],
            adam_b1=s["b1"],
            adam_b2=s["b2"],
            weight_decay=decay,
            weight_decay_mask=MASK,
            adam_weight_decay=decay,
            adam_learning_rate=s["adam_learning_rate"],
            muon_weight_dimension_numbers=dimensions,
        )

    def schedule_free(base):
        return contrib.schedule_free(base, rate, b1=s["b1"])

    return {
        "sgd": lambda: optax.chain(decayed, optax.sgd(rate)),
        "momentum": lambda: optax.chain(decayed, optax.sgd(rate, s["momentum"])),
        "nesterov": lambda: optax.chain(decayed, optax.sgd(rate, s["momentum"], nesterov=True)),
        "adagrad": lambda: optax.adagrad(rate, s["initial_accumulator"], s["eps"]),
        "rmsprop": lambda: optax.rmsprop(rate, eps_in_sqrt=False, **s),
        "rmsprop plain": lambda: optax.rmsprop(rate, eps_in_sqrt=False, **s),
        "adadelta": lambda: optax.adadelta(rate, **s),
        "adam": lambda: optax.adam(rate, **s),
        "adam_l2": lambda: optax.chain(decayed, optax.adam(rate, **s)),
        "adamw": lambda: optax.adamw(rate, weight_decay=decay, mask=MASK, **s),
        "amsgrad": lambda: optax.amsgrad(rate, **s),
        "nadam": lambda: optax.nadam(rate, **s),
        "adamax": lambda: optax.adamax(rate, **s),
        "lamb": lambda: optax.lamb(rate, weight_decay=decay, mask=MASK, **s),
        "lars": lambda: optax.lars(rate, decay, MASK, s["trust_coefficient"], 0.0, MASK, s["momentum"]),
        "lion": lambda: optax.lion(rate, weight_decay=decay, mask=MASK, **s),
        "adafactor": lambda: optax.adafactor(rate, weight_decay_rate=decay, weight_decay_mask=MASK, **s),
        "muon": muon,
        "schedule_free": lambda: schedule_free(
            optax.adamw(rate, b1=0.0, b2=s["b2"], eps=s["eps"], weight_decay=decay, mask=MASK)
        ),
        "schedule_free sgd": lambda: schedule_free(optax.chain(decayed, optax.sgd(rate))),
        "lbfgs": lambda: optax.lbfgs(
            memory_size=s["memory_size"],
            linesearch=optax.scale_by_zoom_linesearch(s["line_search_steps"], initial_guess_strategy="one"),
        ),
    }[case]()


def batch_of(task):
    return task.sampler.gather({k: jnp.asarray(v) for k, v in task.train.arrays.items()}, jnp.arange(8))


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


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
