"""Everything that a report says, as plain values; the other files of this folder only render it."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.claims import evaluate
from experiments.comparisons import compare, results
from experiments.report.cautions import cautions
from experiments.report.rows import Row, UntrainedRow, row, untrained_rows
from experiments.study import Study
from experiments.verdicts import Verdict

PROVENANCE = (
    "code_version",
    "code_dirty",
    "python",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax",
    "numpy",
    "device",
    "xla_flags",
    "strategy",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial that did not finish: its status, and the step of the first NaN where it diverged."""

    trial: str
    arm: str
    seed: int
    status: str
    step: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """A study's result.

    Attributes:
        study: its declaration.
        command: what makes this report again.
        rows: baseline first, then the arms in their order.
        untrained: what stands below them: predictions without training.
        verdicts: one for each claim.
        values: the metric by seed (rows) and arm (columns); NaN where a trial failed or is missing.
        failures: the trials that did not finish.
        cautions: what a reader must know before believing the table, a sentence or two each.
        provenance: distinct values of each provenance column.
        data: distinct values of each column of facts on the data.
        configurations: each arm's resolved configuration (of its first seed), as JSON text.
    """

    study: Study
    command: str
    rows: tuple[Row, ...]
    untrained: tuple[UntrainedRow, ...]
    verdicts: tuple[Verdict, ...]
    values: pd.DataFrame
    failures: tuple[Failure, ...]
    cautions: tuple[str, ...]
    provenance: Mapping[str, tuple[str, ...]]
    data: Mapping[str, tuple[str, ...]]
    configurations: Mapping[str, str]

    @property
    def family(self) -> int:
        """Number of comparisons that the p-values are corrected for."""
        return max((row.comparison.family for row in self.rows if row.comparison is not None), default=0)


def summarise(study: Study, trials: pd.DataFrame, *, command: str, untrained: pd.DataFrame | None = None) -> Summary:
    """Draw all conclusions of a study from its records.

    Args:
        study: the declaration.
        trials: ``trials.csv``, a row a trial. Of several rows of one arm and seed the last counts.
        command: the command line that makes the report again.
        untrained: a row for each arm and each prediction without training that its data have; None for none.

    Raises:
        BadInput: the metric is no column of ``trials``.
    """
    trials = trials.drop_duplicates(["arm", "seed"], keep="last")
    arms = (study.baseline_name, *study.arms)
    named = trials[trials["arm"].isin(arms)]
    recorded = results(named, study.metric)
    values = {arm: recorded.get(arm, pd.Series(dtype=np.float64)) for arm in arms}
    family = compare(study, named)
    rows = tuple(row(arm, study, named[named["arm"] == arm], values[arm], family) for arm in arms)
    return Summary(
        study=study,
        command=command,
        rows=rows,
        untrained=() if untrained is None else untrained_rows(study, untrained),
        verdicts=evaluate(study, named, family),
        values=pd.DataFrame(values).sort_index(),
        failures=_failures(named),
        cautions=cautions(study, trials, rows),
        provenance={name: _distinct(named, name) for name in PROVENANCE if name in named},
        data={str(name): _distinct(named, str(name)) for name in named if str(name).startswith("data_")},
        configurations=_configurations(named),
    )


def _failures(trials: pd.DataFrame) -> tuple[Failure, ...]:
    failed = trials[trials["status"] != "ok"]
    steps = pd.to_numeric(failed["diverged_step"], errors="coerce")
    columns = (failed["trial"], failed["arm"], failed["seed"], failed["status"], steps)
    return tuple(
        Failure(
            trial=str(trial),
            arm=str(arm),
            seed=int(seed),
            status=str(status),
            step=None if math.isnan(step) else int(step),
        )
        for trial, arm, seed, status, step in zip(*columns, strict=True)
    )


def _distinct(trials: pd.DataFrame, column: str) -> tuple[str, ...]:
    return tuple(str(value) for value in trials[column].dropna().unique())


def _configurations(trials: pd.DataFrame) -> dict[str, str]:
    """Each arm's configuration of its first seed; the others differ from it in the seed alone."""
    if "config" not in trials:
        return {}
    first = trials.dropna(subset=["config"]).sort_values("seed", kind="stable").drop_duplicates("arm")
    return {str(arm): _indented(config) for arm, config in zip(first["arm"], first["config"], strict=True)}


def _indented(config: Any) -> str:
    """JSON set out in lines; anything else as it is, since a report must not fail for it."""
    try:
        return json.dumps(json.loads(config), indent=2)
    except (TypeError, ValueError):
        return str(config)
