"""Whether what a study compares is recorded, told before anything runs."""

import dataclasses

import pytest

from experiments import feasibility, plan
from experiments.study import Better, Metric
from models.base import BadInput
from train import data

SHARPNESS = Metric(column="curvature_top", label="sharpness", curve="curvature_top", higher_is_better=False)


def check(study):
    """The check of a study's metrics."""
    resolved = plan.resolve(study)
    feasibility.check_metric(resolved, {config: data.load(config.data, None) for config in resolved.configs.values()})


def changed(metric=None, claims=(), **changes):
    """The smoke preset of a study with another metric, other claims and a baseline with changes."""
    study = plan.load("architectures", "smoke")
    baseline = dataclasses.replace(study.baseline, **changes)
    arms = {"narrow": {"model.width": 4}}
    return dataclasses.replace(study, metric=metric or study.metric, claims=claims, baseline=baseline, arms=arms)


def test_a_metric_may_be_a_diagnostic_that_is_on():
    off = changed(SHARPNESS)
    with pytest.raises(BadInput, match="arm 'mlp': study architectures compares curvature_top, and with data set"):
        check(off)
    check(changed(SHARPNESS, diagnostics=dataclasses.replace(off.baseline.diagnostics, curvature=True)))


@pytest.mark.parametrize("column", ["parameters", "train_seconds", "train_loss", "validation_loss", "test_accuracy"])
def test_a_metric_may_be_what_every_trial_records(column):
    check(changed(Metric(column=column, label=column, curve="train_loss", higher_is_better=False)))


@pytest.mark.parametrize("names", [{"column": "test_bleu"}, {"curve": "validation_bleu"}, {"column": "strategy"}])
def test_a_metric_of_a_claim_is_checked_for_its_arms(names):
    whole = {"column": "test_loss", "label": "loss", "curve": "validation_loss", "higher_is_better": False} | names
    claim = Better(statement="x", source="y", arm="narrow", than="mlp", metric=Metric(**whole))
    with pytest.raises(BadInput, match=f"arm 'narrow': study architectures compares {next(iter(names.values()))}"):
        check(changed(claims=(claim,)))
