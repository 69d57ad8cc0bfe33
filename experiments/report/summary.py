"""Everything that a report says, as plain values; the other files of this folder only render it."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.claims import evaluate
from experiments.comparisons import compare, results
from experiments.explanations.views import Explanation
from experiments.formatting import listed, short
from experiments.recommendation import Recommendation, recommend
from experiments.registration import Registration
from experiments.report import matched, sources
from experiments.report.cautions import cautions
from experiments.report.rows import Row, UntrainedRow, curve_area, latency, row, untrained_rows
from experiments.report.tuned import Tuned
from experiments.statistics.variance import Attribution
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
        trials: the records behind all this, a row a trial; trials of arms that are not shown are left out.
        tuned: what tuning left behind; None where nothing was tuned.
        notes: what was done that a reader of the table should know, a sentence each.
        sources: what the sources of chance contribute, for a study of them; otherwise None.
        registration: what was registered before the first step; None where that is not known.
        exploratory: arms that came after the registration.
        exploratory_seeds: seeds that came after it.
        recommendation: which arm to take; None where the study does not ask.
        explanations: what trained models look at, of the trials that were explained.
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
    trials: pd.DataFrame
    tuned: Tuned | None = None
    notes: tuple[str, ...] = ()
    sources: Attribution | None = None
    registration: Registration | None = None
    exploratory: frozenset[str] = frozenset()
    exploratory_seeds: tuple[int, ...] = ()
    recommendation: Recommendation | None = None
    explanations: tuple[Explanation, ...] = ()

    @property
    def family(self) -> int:
        """Number of comparisons that the p-values are corrected for."""
        return max((row.comparison.family for row in self.rows if row.comparison is not None), default=0)

    def is_exploratory(self, verdict: Verdict) -> bool:
        """Whether a verdict rests on an arm or on seeds that came after the registration, or the claim itself did."""
        changed = self.registration is not None and "claims" in self.registration.changed
        return changed or bool(self.exploratory_seeds) or not self.exploratory.isdisjoint(verdict.claim.arms)


def summarise(
    study: Study,
    trials: pd.DataFrame,
    *,
    command: str,
    untrained: pd.DataFrame | None = None,
    tuned: Tuned | None = None,
    registration: Registration | None = None,
    curves: pd.DataFrame | None = None,
    latencies: pd.DataFrame | None = None,
    explanations: tuple[Explanation, ...] = (),
) -> Summary:
    """Draw all conclusions of a study from its records.

    Args:
        study: the declaration.
        trials: ``trials.csv``, a row a trial. Of several rows of one arm and seed the last counts.
        command: the command line that makes the report again.
        untrained: a row for each arm and each prediction without training that its data have; None for none.
        tuned: what tuning left behind; None for nothing.
        registration: what was registered before the first step; None where that is not known.
        curves: ``curves.csv``, a row a trial and evaluation, for claims on how a metric develops.
        latencies: ``latency.csv``, a row an arm and round; None where it was not measured.
        explanations: of the trials that were explained.

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
    equal = matched.matched(study, rows)
    attributed = sources.attribution(study, values)
    exploratory = frozenset(arms).difference(registration.arms) if registration else frozenset()
    seeds = sorted(set(range(study.seeds)).difference(registration.seeds)) if registration else []
    rows = tuple(
        dataclasses.replace(
            row,
            exploratory=row.arm in exploratory,
            edges=_edges_of(tuned, row.arm),
            curve_area=curve_area(row.arm, study.metric.curve, curves),
            latency=latency(row.arm, latencies),
        )
        for row in rows
    )
    table = pd.DataFrame(values).sort_index()
    costs = {row.arm: row.costs for row in rows}
    later = _later(registration, [arm for arm in arms if arm in exploratory], seeds)
    return Summary(
        study=study,
        command=command,
        rows=rows,
        untrained=() if untrained is None else untrained_rows(study, untrained),
        verdicts=evaluate(study, named, family, curves),
        values=table,
        failures=_failures(named),
        cautions=(
            *cautions(study, trials, rows),
            *matched.cautions(study, equal),
            *later,
            *_changed(registration),
            *_edges(rows, tuned),
        ),
        provenance={name: _distinct(named, name) for name in PROVENANCE if name in named},
        data={str(name): _distinct(named, str(name)) for name in named if str(name).startswith("data_")},
        configurations=_configurations(named),
        trials=named,
        tuned=tuned,
        notes=(*matched.notes(study, equal), *sources.notes(study, attributed)),
        sources=attributed,
        registration=registration,
        exploratory=exploratory,
        exploratory_seeds=tuple(seeds),
        recommendation=recommend(table, costs, study.metric) if study.recommends else None,
        explanations=explanations,
    )


def _later(registration: Registration | None, arms: list[str], seeds: list[int]) -> Iterator[str]:
    """What came after the registration."""
    what = [f"{'arm' if len(arms) == 1 else 'arms'} {listed(arms)}"] if arms else []
    what += [f"{'seed' if len(seeds) == 1 else 'seeds'} {listed([str(seed) for seed in seeds])}"] if seeds else []
    if registration and what:
        number = len(arms) + len(seeds)
        yield (
            f"Exploratory: {listed(what)} {'was' if number == 1 else 'were'} added after the study was registered "
            f"({registration.time}). Read what rests on {'it' if number == 1 else 'them'} as a question for a new "
            "study, not as a finding."
        )


def _changed(registration: Registration | None) -> Iterator[str]:
    """What of the registered terms is another now."""
    if registration and registration.changed:
        terms = listed([term.replace("_", " ") for term in registration.changed])
        yield (
            f"After the study was registered ({registration.time}), these of its terms were changed: {terms}. "
            "What rests on them is exploratory."
        )


def _edges_of(tuned: Tuned | None, arm: str) -> tuple[str, ...]:
    return tuned.winners[arm].edges if tuned is not None and arm in tuned.winners else ()


def _edges(rows: tuple[Row, ...], tuned: Tuned | None) -> Iterator[str]:
    """Winners of tuning that lie at the edge of their space."""
    found = [
        f"{row.arm} ({', '.join(f'{path} = {short(tuned.winners[row.arm].values[path])}' for path in row.edges)})"
        for row in rows
        if tuned is not None and row.edges
    ]
    if found:
        these = "this arm" if len(found) == 1 else "these arms"
        yield (
            f"The best setting lies at the edge of what was tried for {listed(found)}. A better one may lie beyond, "
            f"so {these} may be undervalued: widen the space and run again."
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
