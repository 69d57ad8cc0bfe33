"""Every optimizer with settings of its own, and the same one straight from Optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

from train.config import leaves, replace, traced_paths

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


def plain(case, rate_factor=None, decay_factor=None):
    """The same optimizer straight from Optax, every value a float32 scalar; rates and decay multiplied."""
    s = {key: jnp.float32(value) if type(value) is float else value for key, value in SETTINGS[case].items()}
    if rate_factor is not None:
        s |= {name: s[name] * jnp.float32(rate_factor) for name in ("learning_rate", "adam_learning_rate") if name in s}
        s |= {"weight_decay": s["weight_decay"] * jnp.float32(decay_factor)} if "weight_decay" in s else {}
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


def gradients(steps):
    generator = np.random.default_rng(3)
    shapes = {"hidden_0": {"kernel": (5, 4), "bias": (4,)}, "logits": {"kernel": (4, 3), "bias": (3,)}}

    def draw():
        return jax.tree.map(
            lambda shape: generator.normal(size=shape).astype(np.float32), shapes, is_leaf=lambda x: type(x) is tuple
        )

    return draw(), [draw() for _ in range(steps)]


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
