"""Rows of the records that are not of a lane on its way: what is confused with what, and trials that crashed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train import provenance
from train.config import Trial, digest, to_json, values


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
            "trial": trial.id,
            "arm": trial.arm,
            "seed": trial.seed,
            "status": "crashed",
            **values(trial.config),
            "config_hash": digest(trial.config),
            **provenance.collect(),
            "error": " ".join(str(error).split())[:500] or type(error).__name__,
            "config": to_json(trial.config),
        }
        for trial in trials
    ]
