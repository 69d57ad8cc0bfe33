"""Rows of the records: where each comes from, those of trials that crashed, and confusions of classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train import provenance
from train.config import Trial, digest, to_json, values


def origin(trial: Trial, facts: Mapping[str, Any], strategy: str) -> dict[str, Any]:
    """What made a row: configuration, code, packages and device, how it ran, and the data's own facts."""
    return {
        "config_hash": digest(trial.config),
        **provenance.collect(),
        "strategy": strategy,
        **{f"data_{name}": value for name, value in facts.items()},
        "config": to_json(trial.config),
    }


def head(trial: Trial) -> dict[str, Any]:
    """What a row begins with: whose it is."""
    number = {} if trial.number is None else {"number": trial.number}
    return {"trial": trial.id, "arm": trial.arm, "seed": trial.seed, **number}


def confusion_rows(trial: Trial, matrix: Any, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each pair of true and predicted class that occurs on the test split, with names where they have any."""
    counts = np.asarray(matrix)
    return [
        {
            "trial": trial.id,
            "true": int(true),
            "predicted": int(predicted),
            **({"true_name": classes[true], "predicted_name": classes[predicted]} if classes else {}),
            "count": int(counts[true, predicted]),
        }
        for true, predicted in np.argwhere(counts > 0)
    ]


def crashed_rows(trials: Sequence[Trial], error: BaseException) -> list[dict[str, Any]]:
    """Rows for trials whose population crashed: they stay in the table, with what went wrong."""
    return [
        {
            **head(trial),
            "status": "crashed",
            **values(trial.config),
            "config_hash": digest(trial.config),
            **provenance.collect(),
            "error": " ".join(str(error).split())[:500] or type(error).__name__,
            "config": to_json(trial.config),
        }
        for trial in trials
    ]
