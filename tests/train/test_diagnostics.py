"""Diagnostics against NumPy and closed forms; they cost nothing when off, and change nothing of the training."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import models
from models import mlp, transformer
from models.base import BadInput
from models.inputs import Padded, Pair
from tests.models.families import TEXT, inputs_of
from train import diagnostics, loop
from train.config import replace, traced_paths
from train.cost import cost
from train.data.task import Batch, Train
from train.diagnostics import entropy, layer_norms, noise_scale
from train.folder import Files
from train.gradients import Loss
from train.loop import Watch, run_population
from train.outline import diagnostic_columns
from train.population import Population
from train.step import make_step

ALL = {f"diagnostics.{name}": True for name in ("norms", "activations", "curvature", "noise_scale")}


def populate(trials, task):
    return Population(trials, traced_paths([trial.config for trial in trials]), task)


def uniform(shape):
    return jnp.full(shape, 1 / shape[-1])


def test_the_entropy_of_uniform_attention_is_the_logarithm_of_its_keys():
    real = jnp.ones((2, 5))
    assert float(entropy(uniform((2, 3, 5, 7)), real)) == pytest.approx(math.log(7), rel=1e-6)
    assert float(entropy(jax.nn.one_hot(jnp.zeros((2, 3, 5), int), 7), real)) == 0


def test_entropy_leaves_out_queries_at_padding():
    weights = jnp.stack([uniform((3, 2, 4)), jax.nn.one_hot(jnp.zeros((3, 2), int), 4)], axis=2).reshape(3, 1, 4, 4)
    assert weights.shape == (3, 1, 4, 4)
    rows = np.asarray(weights, np.float64)
    each = -np.sum(rows * np.log(np.where(rows > 0, rows, 1)), axis=-1)[:, 0]
    mask = np.arange(4)[None] < np.array([4, 1, 2])[:, None]
    assert float(entropy(weights, jnp.asarray(mask, jnp.float32))) == pytest.approx(each[mask].mean(), rel=1e-6)


@pytest.mark.slow
def test_causal_uniform_attention_of_a_transformer():
    """Queries and keys of zero attend to all that they may see: the mean of log 1, ..., log n."""
    config = transformer.Config(width=16, heads=2, depth=2, feedforward=16, scan_layers=True)
    shapes = dataclasses.replace(TEXT, inputs=(6,))
    model, tokens = models.build(config, shapes), inputs_of(shapes)
    variables = model.init(jax.random.key(0), tokens)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    found = diagnostics._apart(model.inspect({"params": params}, tokens, hyperparameters={})[1])
    for layer in ("block_0", "block_1"):
        value = entropy(found[f"{layer}/attention_weights"], jnp.ones((len(tokens), 6)))
        assert float(value) == pytest.approx(np.mean(np.log(np.arange(1, 7))), rel=1e-6)


def test_norms_of_layers_are_those_of_a_loop():
    generator = np.random.default_rng(0)
    tree = {
        "hidden": {"kernel": generator.normal(size=(3, 4)), "bias": generator.normal(size=4)},
        "blocks": {"out": {"kernel": generator.normal(size=(2, 3, 3))}},
        "scale": generator.normal(size=5),
    }
    found = layer_norms(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree))
    expected = {
        "hidden": math.sqrt(sum(v**2 for leaf in tree["hidden"].values() for v in leaf.ravel())),
        "block_0/out": math.sqrt(sum(v**2 for v in tree["blocks"]["out"]["kernel"][0].ravel())),
        "block_1/out": math.sqrt(sum(v**2 for v in tree["blocks"]["out"]["kernel"][1].ravel())),
        "scale": math.sqrt(sum(v**2 for v in tree["scale"])),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-6)


def test_statistics_of_activations_and_dead_units():
    generator = np.random.default_rng(1)
    values = np.maximum(generator.normal(size=(4, 5, 6)), 0)
    values[..., 2] = 0  # dead
    mask = np.arange(5)[None] < np.array([5, 2, 1, 3])[:, None]
    values[mask, 4], values[~mask, 4] = 0, 7  # alive at padding alone: dead
    found = diagnostics._activation("x", jnp.asarray(values, jnp.float32), jnp.asarray(mask, jnp.float32))
    real = values[mask]
    assert float(found["activation_mean/x"]) == pytest.approx(real.mean(), rel=1e-5)
    assert float(found["activation_std/x"]) == pytest.approx(real.std(), rel=1e-5)
    assert float(found["dead_units/x"]) == pytest.approx(2 / 6)


def test_the_mask_is_that_of_the_side_that_recorded():
    mask = jnp.arange(5)[None] < jnp.array([2, 5])[:, None]
    pair = Pair(Padded(jnp.zeros((2, 5)), mask), Padded(jnp.zeros((2, 5)), ~mask))
    assert (diagnostics._real(pair, "encoder/block_0/residual", (2, 5)) == mask).all()
    assert (diagnostics._real(pair, "decoder/block_0/residual", (2, 5)) == ~mask).all()
    assert (diagnostics._real(jnp.zeros((2, 5)), "x", (2, 5)) == 1).all()
    assert (diagnostics._real(pair.source, "stage_0", (2, 3)) == 1).all()  # pooled: no longer those positions


def linear_loss(state, hyperparameters, batch, keys, *, in_parts=True):
    """A linear model with squared errors, of which the gradient of each item is known."""

    def value(w):
        return jnp.mean(jnp.square(batch.inputs @ w - batch.targets)) / 2, (0.0, {})

    return Loss(value, jax.value_and_grad(value, has_aux=True)), batch, {}


def test_the_noise_scale_of_a_linear_model():
    """The mean over many batches of both estimates is the square of the true gradient, and the trace of Sigma."""
    generator = np.random.default_rng(2)
    x, w = generator.normal(size=(400, 3)), np.array([0.3, -0.2, 0.5])
    y = x @ np.array([1.0, 0.0, -1.0]) + 0.5 * generator.normal(size=400)
    each = x * (x @ w - y)[:, None]
    gradient, trace = each.mean(0), np.sum(each.var(0))

    class State:
        params = jnp.asarray(w, jnp.float32)

    def squares(rows):
        batch = Batch(jnp.asarray(x, jnp.float32)[rows], jnp.asarray(y, jnp.float32)[rows], jnp.ones(16))
        return diagnostics._gradient_squares(linear_loss, State, {}, batch, {}, 4)

    rows = generator.integers(0, 400, (20_000, 16))
    found = jax.jit(jax.vmap(squares))(rows)
    small, big = (np.asarray(found[f"gradient_squares/{name}"], np.float64) for name in ("small", "big"))
    parts = each[rows[0]].reshape(4, 4, 3).mean(1)
    assert small[0] == pytest.approx(np.mean(np.sum(parts**2, 1)), rel=1e-5)
    assert big[0] == pytest.approx(np.sum(parts.mean(0) ** 2), rel=1e-4)
    estimates = noise_scale(small.mean(), big.mean(), small_batch=4, big_batch=16)
    assert estimates["noise_scale_gradient"] == pytest.approx(gradient @ gradient, rel=0.02)
    assert estimates["noise_scale_variance"] == pytest.approx(trace, rel=0.02)
    assert estimates["noise_scale"] == pytest.approx(trace / (gradient @ gradient), rel=0.03)


def test_a_noise_scale_that_says_nothing_is_nan():
    found = noise_scale(10.0, 1.0, small_batch=1, big_batch=4)
    assert found["noise_scale_gradient"] < 0
    assert np.isnan(found["noise_scale"])


def test_parts_must_divide_the_batch(make_trials, images):
    (trial,) = make_trials(diagnostics__noise_scale=True, diagnostics__noise_scale_parts=3)
    with pytest.raises(BadInput, match=r"diagnostics\.noise_scale_parts=3 must divide the size of a batch=4"):
        cost(trial.config, images)


def lowered(population):
    """The text of the training program."""
    program = jax.jit(population._over_lanes(population._lane.advance_sequential), donate_argnums=(0,))
    states = population._shapes
    shared = (population.splits.resident["train"], np.int32(0), np.int32(0))
    return program.lower(states, (population.lanes,), shared).as_text()


def test_off_costs_nothing(make_trials, images, monkeypatch):
    """The training program is the same, whether diagnostics are on, off or could not be."""
    off, on = (populate(make_trials(changes), images) for changes in ({}, ALL))
    assert not off.config.diagnostics.is_on
    text = lowered(off)
    assert text == lowered(on)
    monkeypatch.setattr(diagnostics, "make_diagnosis", lambda *_: lambda *_: {})
    assert text == lowered(populate(make_trials(), images))


@pytest.fixture(scope="module")
def both(tmp_path_factory, make_trials, images):
    """The same trials without diagnostics and with them: two lanes that differ, and one that diverges."""
    tables = {}
    arms = [{"optimizer.learning_rate": rate} for rate in (0.1, 0.02, 1e25)]
    for name, changes in (("off", {}), ("on", ALL)):
        folder = tmp_path_factory.mktemp(name)
        trials = make_trials(*(arm | changes for arm in arms), model__dropout_rate=0.2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "CHUNK_SECONDS", 0.0)
            population = populate(trials, images)
            seconds = run_population(population, Files(folder, trials, [images]), Watch(lambda _: None, lambda: False))
        tables[name] = pd.read_csv(folder / "curves.csv"), seconds, set(population._programs), trials
        tables["finals"] = pd.read_csv(folder / "trials.csv").set_index("arm")
    return tables


@pytest.mark.slow
def test_they_change_nothing_of_the_training(both):
    (off, spent_off, programs_off, _), (on, spent_on, programs_on, _) = both["off"], both["on"]
    assert "diagnose" not in spent_off
    assert spent_on["diagnose"] > 0
    assert programs_on - programs_off == {"diagnose"}  # one program for all lanes
    assert not programs_off - programs_on
    measured = ["trial", "step", "train_loss", *(name for name in off if name.startswith("validation"))]
    pd.testing.assert_frame_equal(off[measured], on[measured], check_exact=True)
    new = [name for name in on if name not in off]
    assert {name.split("/")[0] for name in new} == {
        *(f"{kind}_norm" for kind in ("gradient", "parameter", "update")),
        *("update_ratio", "activation_mean", "activation_std", "dead_units"),
        *("curvature_top", "curvature_bottom", "curvature_error"),
        *("noise_scale", "noise_scale_gradient", "noise_scale_variance"),
    }
    assert not [name for name in off if name.split("/")[0] in {n.split("/")[0] for n in new}]


@pytest.mark.slow
def test_every_lane_has_its_own_values_and_they_are_those_of_its_own_step(both, images):
    table, _, _, trials = both["on"]
    first = {arm: table[(table.arm == arm) & (table.step == 0)].iloc[0] for arm in ("arm0", "arm1")}
    for layer in ("hidden_0", "logits"):  # the same gradient, and updates as their rates are
        assert first["arm0"][f"gradient_norm/{layer}"] == pytest.approx(first["arm1"][f"gradient_norm/{layer}"])
        ratio = first["arm0"][f"update_norm/{layer}"] / first["arm1"][f"update_norm/{layer}"]
        assert ratio == pytest.approx(0.1 / 0.02, rel=1e-4)
    mine, population = table[table.arm == "arm0"].set_index("step"), populate(trials[:1], images)
    states = population.init()
    for step, stop in ((0, 5), (5, 10), (10, 12)):
        before = jax.device_get(states.params)
        following, _ = population.advance(jax.tree.map(jnp.copy, states), step, step + 1)
        for layer, arrays in before.items():
            now = [np.asarray(leaf[0], np.float64) for leaf in jax.tree.leaves(arrays)]
            later = [np.asarray(leaf[0], np.float64) for leaf in jax.tree.leaves(following.params[layer])]
            change = math.sqrt(sum(np.sum((b - a) ** 2) for a, b in zip(now, later, strict=True)))
            weight = math.sqrt(sum(np.sum(a**2) for a in now))
            row = mine.loc[step]
            assert row[f"parameter_norm/{layer}"] == pytest.approx(weight, rel=1e-5)
            assert row[f"update_norm/{layer}"] == pytest.approx(change, rel=1e-4)
            assert row[f"update_norm/{layer}"] == pytest.approx(0.1 * row[f"gradient_norm/{layer}"], rel=1e-4)
            assert row[f"update_ratio/{layer}"] == pytest.approx(change / weight, rel=1e-4)
        total = math.sqrt(sum(mine.loc[step, f"gradient_norm/{layer}"] ** 2 for layer in before))
        assert mine.loc[step, "gradient_norm"] == pytest.approx(total, rel=1e-6)
        states, _ = population.advance(states, step, stop)
    assert mine.loc[12].filter(like="update").isna().all()  # no step follows
    assert mine.loc[12].filter(like="gradient_norm").notna().all()


@pytest.mark.slow
def test_what_is_found_at_the_end_stands_in_the_final_row(both, images):
    (curves, _, _, trials), finals = both["on"], both["finals"]
    names = diagnostic_columns(trials[0].config, images)
    found = [
        name for name in curves if "_norm" in name or name.startswith(("update", "activation", "dead", "curv", "noi"))
    ]
    assert set(names) == {name for name in found if not name.startswith("update")}
    last = curves[curves.step == 12].set_index("arm")
    for arm in ("arm0", "arm1"):
        row = finals.loc[arm]
        assert row[list(names)].tolist() == last.loc[arm, list(names)].tolist()
        assert row["train_loss"] == last.loc[arm, "train_loss"]
    assert finals.loc["arm2", ["status", "train_loss", *names]].fillna("").tolist() == ["diverged"] + [""] * (
        1 + len(names)
    )


def test_the_columns_are_known_before_anything_runs(make_trials, images):
    assert diagnostic_columns(make_trials()[0].config, images) == ()
    (trial,) = make_trials({"diagnostics.norms": True, "model.width": 4})
    layers = ("hidden_0", "logits")
    assert set(diagnostic_columns(trial.config, images)) == {
        *(f"{kind}_norm/{layer}" for kind in ("gradient", "parameter") for layer in layers),
        *("gradient_norm", "parameter_norm"),
    }


def test_the_metrics_of_the_training_split_are_those_of_all_its_examples_without_dropout(make_trials, images):
    """Against the perceptron in NumPy, by its initial weights."""
    trials = make_trials(model__dropout_rate=0.5, diagnostics__training_split=True, seeds=(0, 1))
    population = populate(trials, images)
    states = population.init()
    found = population.diagnose(states, 0)
    arrays = images.train.arrays
    for lane in range(2):
        params = jax.tree.map(lambda leaf: np.asarray(leaf[lane], np.float64), states.params)  # noqa: B023
        (W, b), (V, c) = ((params[name]["kernel"], params[name]["bias"]) for name in ("hidden_0", "logits"))
        logits = np.maximum(arrays["inputs"].reshape(23, -1) @ W + b, 0) @ V + c
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        columns = population.diagnosed(found, lane, 0)
        assert columns["training_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == arrays["targets"]))
        assert columns["training_loss"] == pytest.approx(-log_p[np.arange(23), arrays["targets"]].mean(), rel=1e-5)
        assert set(columns) == set(diagnostic_columns(trials[0].config, images))
    assert set(population._programs) == {"init", "evaluate train"}


def test_small_weights_are_those_below_a_hundredth_of_the_largest():
    kernel = np.array([[1.0, -2.0], [0.0199, -0.0201], [0.0, 0.5]])
    found = diagnostics.small_weights({"layer": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(2)}})
    assert {name: float(share) for name, share in found.items()} == {"layer": pytest.approx(2 / 6)}


def test_a_training_split_without_end_is_not_measured(make_trials, images):
    (trial,) = make_trials(diagnostics__training_split=True)
    endless = dataclasses.replace(images, train=Train({"seed": np.uint32(0)}))
    with pytest.raises(BadInput, match=r"diagnostics\.training_split=true.*no whole of them"):
        diagnostics.check(trial.config, endless, 4)


@pytest.mark.slow
def test_curvature_of_a_lane_against_the_whole_hessian(make_trials, images):
    (trial,) = make_trials(diagnostics__curvature=True, diagnostics__curvature_iterations=60, model__width=4)
    population = populate((trial,), images)
    states = population.init()
    found = population.diagnosed(jax.device_get(population.diagnose(states, 0)), 0, 0)
    state, lane = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[0]), (states, population.lanes))
    source = population.splits.resident["train"]
    order = population._lane._order(population._lane._no_order(lane, source), lane, source, 0, True)
    batch = population._lane._draw(order, lane, source, 0)[0]
    step = make_step(trial.config, images.shapes, images.objective)
    loss = step.loss(state, {}, batch, {})[0]
    flat, unravel = jax.flatten_util.ravel_pytree(state.params)
    hessian = jax.jit(jax.jacfwd(jax.grad(lambda flat: loss.value(unravel(flat))[0])))(flat)
    expected = np.linalg.eigvalsh(np.asarray(hessian, np.float64))
    assert found["curvature_top"] == pytest.approx(expected[-1], rel=1e-4)
    assert found["curvature_bottom"] == pytest.approx(expected[0], rel=1e-4, abs=1e-4 * expected[-1])


def test_dead_rectifiers_are_counted(make_trials, images):
    (trial,) = make_trials(diagnostics__activations=True)
    population = populate((trial,), images)
    states = population.init()
    params = jax.tree.map(np.array, jax.device_get(states.params))
    params["hidden_0"]["bias"][0, :3] = -1e6
    found = population.diagnosed(population.diagnose(states._replace(params=params), 0), 0, 0)
    assert isinstance(trial.config.model, mlp.Config)
    assert found["dead_units/activations_0"] >= 3 / 8
    params["hidden_0"]["bias"][0, :3] = 1e6
    assert (
        population.diagnosed(population.diagnose(states._replace(params=params), 0), 0, 0)["dead_units/activations_0"]
        <= found["dead_units/activations_0"] - 3 / 8
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"execution.strategy": "vectorised"},
        {"training.accumulation": 2},
        {"training.compute_dtype": "float16", "training.loss_scale": 8.0},
        {"regularisation.sam_radius": 0.05, "regularisation.ema_decay": 0.9},
        {"augmentation.mixup_alpha": 0.3, "augmentation.flip_probability": 0.5},
        {"training.batch_size": 0, "diagnostics.noise_scale": False, "optimizer.name": "lbfgs"},
        {"model.name": "cnn", "model.normalisation": "batch"},
    ],
    ids=lambda changes: "-".join(name.rpartition(".")[2] for name in changes),
)
def test_with_whatever_else_is_on(changes, make_trials, images):
    (trial,) = make_trials({**ALL, **changes})
    population = populate((trial,), images)
    found = population.diagnosed(population.diagnose(population.init(), 0), 0, 0)
    values = {name: value for name, value in found.items() if name != "noise_scale"}
    assert np.isfinite(list(values.values())).all(), values
    assert found["curvature_top"] > 0


@pytest.mark.slow
def test_text_pairs_and_sentences(make_trials, text, pairs, sentences):
    for task, model in ((text, "transformer"), (pairs, "encoder_decoder"), (sentences, "rnn"), (pairs, "seq2seq")):
        (trial,) = make_trials(
            {**ALL, "diagnostics.curvature": False, "diagnostics.attention_entropy": True, "model.name": model}
        )
        trial = dataclasses.replace(trial, config=replace(trial.config, {"training.steps": 4}))
        population = populate((trial,), task)
        found = population.diagnosed(population.diagnose(population.init(), 0), 0, 0)
        entropies = {name for name in found if name.startswith("attention_entropy/")}
        assert bool(entropies) == (model != "rnn")
        assert all(0 < found[name] <= math.log(6) + 1e-6 for name in entropies), found
        if model == "encoder_decoder":
            assert {"attention_entropy/decoder/block_0/cross", "attention_entropy/encoder/block_0"} <= entropies
