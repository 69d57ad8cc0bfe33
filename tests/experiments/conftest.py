"""Made-up studies and records with the columns of ``trials.csv`` and ``curves.csv``."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from experiments.report import summarise
from experiments.study import About, Better, Metric, Study

ACCURACY = Metric.on_test("accuracy")
BITS = Metric.on_test("bits_per_character")
# Mean, parameters, FLOPs per step, seconds.
ARMS = {
    "mlp": (0.941, 669_706, 8.1e8, 6.2),
    "cnn": (0.972, 54_410, 3.4e9, 14.8),
    "lstm": (0.956, 87_050, 2.1e9, 31.0),
    "transformer": (0.944, 104_330, 4.6e9, 40.3),
}
STEPS = range(0, 501, 50)
COMMAND = "python -m experiments --experiment=architectures --preset=cpu --workdir=elsewhere"


def study_of(**changes) -> Study:
    values = {
        "name": "architectures",
        "preset": "cpu",
        "about": About(
            group="Architectures",
            claim="A small CNN reads digits better than a fully connected network.",
            source="LeCun et al. (1998), figure 9",
            time={"cpu": "two minutes on 2 cores"},
        ),
        "baseline_name": "mlp",
        "baseline": SimpleNamespace(),
        "arms": {"cnn": {"model.name": "cnn"}, "lstm": {"model.name": "lstm"}, "transformer": {"model.width": 64}},
        "seeds": 8,
        "metric": ACCURACY,
        "claims": (
            Better(
                statement="The CNN is more accurate than the MLP with at most a third of its parameters.",
                source="LeCun et al. (1998)",
                arm="cnn",
                than="mlp",
                parameters_at_most=1 / 3,
            ),
        ),
        "notes": ("5,000 digits instead of 60,000.",),
    }
    return Study(**{**values, **changes})


def records_of(study: Study, *, effects=None, noise=0.004, lost=()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and curves of ``study``; ``lost`` holds (arm, seed, status)."""
    generator = np.random.default_rng(7)
    failed = {(arm, seed): status for arm, seed, status in lost}
    shared = generator.normal(0, noise, study.seeds)
    trials, curves = [], []
    for arm in (study.baseline_name, *study.arms):
        mean, parameters, flops, seconds = ARMS.get(arm, ARMS["mlp"])
        mean = (effects or {}).get(arm, mean)
        for seed in range(study.seeds):
            final = mean + shared[seed] + generator.normal(0, noise)
            status = failed.get((arm, seed), "ok")
            trial = {"trial": f"{arm}-s{seed}", "arm": arm, "seed": seed}
            trials.append(
                trial
                | {
                    "status": status,
                    "diverged_step": 120 if status == "diverged" else None,
                    "steps": STEPS[-1],
                    "parameters": parameters,
                    "flops_per_step": flops,
                    "train_seconds": seconds + generator.normal(0, 0.1),
                    study.metric.column: final if status == "ok" else None,
                    "config": json.dumps({"model": {"name": arm}}),
                    "config_hash": f"{arm}{seed}",
                    "code_version": "0f3c9a1",
                    "code_dirty": False,
                    "python": "3.11.9",
                    "jax": "0.10.2",
                    "device": "cpu",
                    "xla_flags": None,
                    "strategy": "sequential",
                    "data_name": "mnist_5000",
                    "data_licence": "CC BY-SA 3.0",
                }
            )
            for step in STEPS:
                alive = status == "ok" or step < 120
                value = final - (0.8 * np.exp(-step / 60) + generator.normal(0, noise)) * (step < STEPS[-1])
                curves.append(
                    trial | {"step": step, "seconds": step / 10, study.metric.curve: value if alive else None}
                )
    return pd.DataFrame(trials), pd.DataFrame(curves)


@pytest.fixture(scope="session")
def make_study():
    return study_of


@pytest.fixture(scope="session")
def make_records():
    return records_of


@pytest.fixture
def summary_of(make_study, make_records):
    """The summary of a study; what is no change of the study goes to ``summarise``."""

    def summary(*, effects=None, noise=0.004, lost=(), columns=None, registration=None, tuned=None, **changes):
        study = make_study(**changes)
        trials, curves = make_records(study, effects=effects, noise=noise, lost=lost)
        trials = trials.assign(**(columns(trials) if columns else {}))
        return summarise(study, trials, command=COMMAND, registration=registration, tuned=tuned, curves=curves)

    return summary
