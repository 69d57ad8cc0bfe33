"""Run twice, resume anywhere, lane and solo run: bit for bit, for everything that has state.

A run is cut at a step, its states go through a checkpoint on the disk, and it goes on in a population that is made
anew. Lanes of different values run side by side, and one is compared with a population of its own.
"""

from collections.abc import Iterator

import jax
import numpy as np
import pytest

from models.base import Traced, fields, plugin_names
from tests.train.optimizer_cases import SETTINGS, assert_same_bits
from train.checkpoints import Checkpoints
from train.config import Trial, program_key, replace, traced_paths
from train.directions import is_reached
from train.population import Population
from train.sections import Augmentation, Initialisation, Regularisation, Training

SMALL = {
    "mlp": ("images", {"model.width": 8, "model.normalisation": "batch", "model.dropout_rate": 0.2}),
    "cnn": ("images", {"model.channels": (4,)}),
    "resnet": ("images", {"model.depth": 8, "model.width": 4}),
    "rnn": ("images", {"model.width": 8, "model.dropout_rate": 0.2}),
    "transformer": ("images", {"model.width": 8, "model.depth": 1, "model.heads": 2, "model.feedforward": 16}),
    "text_cnn": ("sentences", {"model.embedding": 8, "model.channels": 4}),
    "tcn": ("text", {"model.width": 8, "model.depth": 2, "model.embedding": 4}),
    "ltsf_linear": ("signals", {}),
    "seq2seq": ("pairs", {"model.width": 8, "model.embedding": 4}),
    "encoder_decoder": ("pairs", {"model.width": 16, "model.depth": 1, "model.heads": 2, "model.feedforward": 32}),
}
MECHANISMS = {
    "exponential average": [{"regularisation.ema_decay": value} for value in (0.0, 0.5, 0.9)],
    "stochastic average": [
        {"regularisation.swa_every": every, "regularisation.swa_start": start, "model.normalisation": "batch"}
        for every, start in ((0, 0), (1, 2), (3, 4))
    ],
    "either average": [{}, {"regularisation.ema_decay": 0.5}, {"regularisation.swa_every": 2}],
    "noise": [
        {"regularisation.gradient_noise": eta, "regularisation.gradient_noise_decay": gamma}
        for eta, gamma in ((0.0, 0.55), (0.01, 0.55), (0.1, 1.0))
    ],
    "loss scaling": [
        {"training.compute_dtype": "float16", "training.loss_scale": scale, "training.loss_scale_interval": every}
        for scale, every in ((2.0**40, 2), (1024.0, 2), (1024.0, 2000))
    ],
    "groups": [
        {"optimizer.name": "adamw", "groups.patterns": ("hidden", "logits"), "groups.learning_rates": rates}
        for rates in ((1.0, 1.0), (0.25, 2.0), (0.0, 1.0))
    ],
    "sharpness": [{"regularisation.sam_radius": value} for value in (0.0, 0.05, 0.5)],
    "plateau": [
        {"schedule.name": "reduce_on_plateau", "schedule.average_steps": 2, "schedule.patience": 1} | rate
        for rate in ({"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 1.0})
    ],
    "initialisation": [
        {"initialisation.kernels": "orthogonal", "initialisation.gain": gain} for gain in (1.0, 0.5, 2.0)
    ],
    "parts of a batch": [
        {"training.accumulation": 2, "optimizer.learning_rate": rate, "model.dropout_rate": 0.5} for rate in (0.1, 0.3)
    ],
    "recomputation": [
        {"training.rematerialise": "everything", "optimizer.learning_rate": rate, "model.dropout_rate": 0.5}
        for rate in (0.1, 0.3)
    ],
    "whole split": [{"training.batch_size": 0, "optimizer.learning_rate": rate} for rate in (0.1, 0.3)],
    "clipping and penalties": [
        {
            f"regularisation.{name}": value
            for name, value in zip(("clip_norm", "clip_value", "l1", "l2"), values, strict=True)
        }
        for values in ((0.1, 0.1, 0.0, 0.1), (1.0, 0.01, 0.01, 0.0))
    ],
    "max norm": [{"regularisation.max_norm": value} for value in (float("inf"), 0.5)],
    # The first stops before the cut, the second after it, the third never.
    "early stopping": [
        {"regularisation.early_stopping_patience": patience, "regularisation.early_stopping_improvement": least}
        for patience, least in ((1, 100.0), (2, 100.0), (9, 0.0))
    ],
    # The first stops at its first evaluation, the last never.
    "a target": [{"training.target_metric": "loss", "training.target": target} for target in (100.0, 0.9, 0.0)],
    "penalties on logits": [
        {"regularisation.label_smoothing": smoothing, "regularisation.z_loss": z}
        for smoothing, z in ((0.0, 0.1), (0.1, 0.0), (0.2, 0.01))
    ],
    "augmentation": [
        {
            f"augmentation.{name}": value
            for name, value in zip(
                ("flip_probability", "crop_padding", "cutout_size", "mixup_alpha", "cutmix_alpha"), values, strict=True
            )
        }
        for values in ((0.5, 1, 0, 0.0, 0.0), (0.0, 0, 3, 0.4, 1.0))
    ],
    "muP": [
        {"initialisation.mup_base_width": 4, "optimizer.name": "adam", "optimizer.learning_rate": rate}
        for rate in (0.01, 0.03)
    ],
    # State within state: what each holds must come back although the others hold some too.
    "all at once": [
        {
            "optimizer.name": "schedule_free",
            "schedule.name": "reduce_on_plateau",
            "schedule.average_steps": 2,
            "schedule.patience": 1,
            "model.normalisation": "batch",
            "model.dropout_rate": 0.2,
            "training.compute_dtype": "float16",
            "training.loss_scale": 2.0**18,
            "training.loss_scale_interval": 2,
            "training.accumulation": 2,
            "regularisation.swa_every": 2,
            "regularisation.gradient_noise": 0.01,
            "regularisation.clip_norm": 1.0,
            "regularisation.early_stopping_patience": 2,
            "groups.patterns": ("logits",),
            "augmentation.mixup_alpha": 0.4,
        }
        | change
        for change in ({}, {"regularisation.early_stopping_improvement": 100.0, "regularisation.swa_start": 3})
    ],
}
SCHEDULES = {
    "constant": {"schedule.warmup_steps": 3},
    "linear": {},
    "cosine": {},
    "cosine_restarts": {},
    "step": {},
    "exponential": {},
    "inverse_square_root": {"schedule.warmup_steps": 3},
    "warmup_stable_decay": {},
    "one_cycle": {},
    "reduce_on_plateau": {"schedule.average_steps": 3, "schedule.patience": 1},
}
CUT, END, EVERY = 7, 12, 5


def trials_of(base, arms):
    return [Trial(arm=f"arm{number}", seed=number, config=replace(base, arm)) for number, arm in enumerate(arms)]


def population(trials, paths, task, strategy="sequential"):
    settings = {"execution.spread": False, "execution.strategy": strategy}
    changed = [Trial(arm=each.arm, seed=each.seed, config=replace(each.config, settings)) for each in trials]
    return Population(changed, paths, task)


def lane(states, index):
    return jax.tree.map(lambda leaf: leaf[index], states)


def stretches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The steps from one evaluation to the next."""
    ends = [step for step in range(start + 1, stop) if step % EVERY == 0] + [stop]
    yield from zip([start, *ends], ends, strict=False)


def heed(states, population, step):
    """Tell early stopping, where it is on, what an evaluation finds."""
    if not population.stops_early or step % EVERY:
        return states
    evaluation = population.evaluate(states, "validation", population.task.validation.arrays)
    finish = population.task.objective.finish
    losses = [finish(evaluation.of(number))["loss"] for number in range(len(population.trials))]
    wanted = [trial.config.training for trial in population.trials]
    reached = [
        bool(each.target_metric) and is_reached(each.target_metric, loss, each.target)
        for each, loss in zip(wanted, losses, strict=True)
    ]
    return population.observe(states, losses, step, reached)


def march(population, states, start, stop):
    """Training as the loop does it."""
    for first, last in stretches(start, stop):
        states = heed(population.advance(states, first, last)[0], population, last)
    return states


def begin(population):
    return heed(population.init(), population, 0)


def check(base, arms, task, folder):
    """All three at once, so that each program is compiled no more often than it must be."""
    trials = trials_of(base, arms)
    assert len({program_key(trial.config) for trial in trials}) == 1  # one program serves all values
    paths = traced_paths([trial.config for trial in trials])
    first, second = (population(trials, paths, task) for _ in range(2))
    states = march(first, begin(first), 0, CUT)
    checkpoints = Checkpoints(folder, [trial.id for trial in trials])
    checkpoints.save(CUT, states, {})
    whole = jax.device_get(march(first, states, CUT, END))
    restored = checkpoints.restore(jax.eval_shape(second.init))
    checkpoints.close()
    resumed = march(second, second.place(restored.states), CUT, END)
    assert_same_bits(jax.device_get(resumed), whole)
    again = march(second, begin(second), 0, END)
    assert_same_bits(jax.device_get(again), whole)
    last = len(trials) - 1
    alone = population(trials[last:], paths, task)
    solo = march(alone, begin(alone), 0, END)
    assert_same_bits(lane(jax.device_get(solo), 0), lane(whole, last))
    if "early_stopping_patience" in first.lanes.hyperparameters.get("regularisation", {}):
        assert len(set(whole.stopping.stopped_step.tolist())) == len(trials)
    for one, other in zip(
        jax.tree.leaves(lane(whole.params, 0)), jax.tree.leaves(lane(whole.params, last)), strict=True
    ):
        assert (one != other).any() or not one.any()


def test_nothing_is_left_out():
    """What is added must be added here: each traced field of these sections, each family, optimizer and schedule."""
    named = {path for arms in MECHANISMS.values() for arm in arms for path in arm}
    sections = {
        "regularisation": Regularisation,
        "augmentation": Augmentation,
        "initialisation": Initialisation,
        "training": Training,
    }
    for section, kind in sections.items():
        traced = {f"{section}.{name}" for name, field in fields(kind).items() if isinstance(field.kind, Traced)}
        assert traced - named == set()
    assert set(SMALL) == set(plugin_names("models"))
    assert set(SCHEDULES) == set(plugin_names("train.schedules"))
    optimizers = {{"nesterov": "momentum"}.get(case, case.split()[0]) for case in SETTINGS}
    assert optimizers == set(plugin_names("train.optimizers"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule(name, base, images, tmp_path):
    settings = {"schedule.name": name} | SCHEDULES[name]
    check(base, [settings, settings | {"optimizer.learning_rate": 0.3}], images, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism(name, base, images, tmp_path):
    check(base, MECHANISMS[name], images, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", SETTINGS)
def test_every_optimizer(case, base, images, tmp_path):
    name = {"nesterov": "momentum"}.get(case, case.split()[0])
    settings = {"optimizer.name": name} | {f"optimizer.{key}": value for key, value in SETTINGS[case].items()}
    other = {} if case == "lbfgs" else {"optimizer.learning_rate": 0.5 * SETTINGS[case]["learning_rate"]}
    check(base, [settings, settings | other], images, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALL)
def test_every_family(family, base, request, tmp_path):
    kind, changes = SMALL[family]
    settings = {"model.name": family, "optimizer.name": "adam", "optimizer.learning_rate": 0.01} | changes
    check(base, [settings, settings | {"optimizer.learning_rate": 0.003}], request.getfixturevalue(kind), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", MECHANISMS)
def test_lanes_that_march_in_step_are_their_solo_runs_to_rounding(name, base, images):
    """Vectorised programs add in another order; nothing else may differ."""
    trials = trials_of(base, MECHANISMS[name])
    paths = traced_paths([trial.config for trial in trials])
    together = population(trials, paths, images, "vectorised")
    states = jax.device_get(together.advance(together.init(), 0, CUT)[0])
    alone = population(trials, paths, images)
    expected = jax.device_get(alone.advance(alone.init(), 0, CUT)[0])
    for one, other in zip(jax.tree.leaves(states), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
