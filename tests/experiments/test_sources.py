"""Sources of chance in a report: the sentences and the numbers behind them."""

import json

import numpy as np
import pandas as pd

from experiments.report.sources import notes
from experiments.report.summary import summarise
from experiments.report.verdict import verdict_json


def summary(make_study, deviations):
    study = make_study(baseline_name="everything", arms={"init": {}, "order": {}}, claims=(), seeds=20)
    study = type(study)(**{**vars(study), "sources": ("init", "order")})
    ranks = np.linspace(-1, 1, 20)
    rows = [
        {"trial": f"{arm}-s{seed}", "arm": arm, "seed": seed, "status": "ok", "diverged_step": None}
        | {"test_accuracy": 0.9 + deviation * rank, "parameters": 1, "flops_per_step": 1.0, "train_seconds": 1.0}
        for arm, deviation in deviations.items()
        for seed, rank in enumerate(ranks)
    ]
    return study, summarise(study, pd.DataFrame(rows), command="")


def test_the_larger_source_dominates(make_study):
    study, found = summary(make_study, {"everything": 0.05, "init": 0.05, "order": 0.005})
    text = " ".join(found.notes)
    assert "init dominates" in text
    ratio = json.loads(verdict_json(found))["variance"]["sources"]
    assert [source["name"] for source in ratio] == ["init", "order"]
    np.testing.assert_allclose([source["share"] for source in ratio], [1.0, 0.01])
    assert notes(study, None) == ()


def test_like_sources_cannot_be_told_apart(make_study):
    _, found = summary(make_study, {"everything": 0.05, "init": 0.05, "order": 0.045})
    assert "No source can be said to dominate" in " ".join(found.notes)
