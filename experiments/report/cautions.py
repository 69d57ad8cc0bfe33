"""What a reader must know before believing a table."""

from collections.abc import Iterator

import pandas as pd

from experiments.formatting import count, listed
from experiments.report.rows import Row
from experiments.statistics import LEVEL
from experiments.study import Study
from experiments.verdicts import SMOKE

_UNMIXED = {"code_version": "code versions", "device": "devices", "strategy": "execution strategies"}


def cautions(study: Study, trials: pd.DataFrame, rows: tuple[Row, ...]) -> tuple[str, ...]:
    """The cautions that apply, a sentence or two each."""
    arms = [row.arm for row in rows]
    named = trials[trials["arm"].isin(arms)]
    smoke = [f"{SMOKE[0].upper()}{SMOKE[1:]}. It only shows that everything runs."] if study.preset == "smoke" else []
    return (*smoke, *_untested(rows), *_unfinished(rows), *_mixed(named), *_left_out(trials, arms))


def _untested(rows: tuple[Row, ...]) -> Iterator[str]:
    """Arms with too few seeds for a test, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.comparison is not None and not row.comparison.testable:
            reasons.setdefault(row.comparison.too_few, []).append(row.arm)
    for reason, arms in reasons.items():
        yield f"{listed(arms)}: {reason}."


def _unfinished(rows: tuple[Row, ...]) -> Iterator[str]:
    for row in rows:
        parts = unfinished(row)
        if parts:
            yield (
                f"{row.arm}: {listed(parts)}. Means and differences leave these trials out; "
                "P(better) ranks diverged and crashed ones worst."
            )
        comparison = row.comparison
        if comparison is None or comparison.better or not comparison.only_arm_failed:
            continue
        if comparison.advantage.low > 0 and comparison.p_value < LEVEL:
            yield f"{row.arm} is not set in bold, because it failed in seeds in which {comparison.than} did not."


def unfinished(row: Row) -> list[str]:
    """The counts of an arm's trials without a result: ``["1 diverged", "2 missing"]``."""
    counts = {"diverged": row.diverged, "crashed": row.crashed, "missing": row.missing}
    return [f"{number} {what}" for what, number in counts.items() if number]


def _mixed(trials: pd.DataFrame) -> Iterator[str]:
    """Records that were not all made the same way."""
    for column, plural in _UNMIXED.items():
        if column not in trials or trials[column].nunique() < 2:
            continue
        # Arms may well run by different strategies; one arm by two is a sign of an interrupted history.
        if column == "strategy" and trials.groupby("arm")[column].nunique().max() < 2:
            continue
        users = trials.groupby(column, sort=False)["arm"].unique()
        parts = [f"{value} ({', '.join(arms)})" for value, arms in users.items()]
        yield f"The trials mix {plural}: {listed(parts)}."
    yield from _other_data(trials)
    if "code_dirty" in trials and trials["code_dirty"].astype(str).str.lower().isin(["true", "1"]).any():
        number = count(int(trials["code_dirty"].astype(str).str.lower().isin(["true", "1"]).sum()), "trial")
        yield f"{number} ran with uncommitted changes, which the recorded code version does not show."


def _other_data(trials: pd.DataFrame) -> Iterator[str]:
    """Trials of one arm that saw different data: a file changed between start and resume."""
    if "data_fingerprint" not in trials:
        return
    kinds = trials.groupby("arm", sort=False)["data_fingerprint"].nunique()
    mixed = [str(arm) for arm, number in kinds.items() if number > 1]
    if mixed:
        yield f"Trials of one arm ran on different data, which the user accepted: {listed(mixed)}."


def _left_out(trials: pd.DataFrame, arms: list[str]) -> Iterator[str]:
    others = sorted({str(arm) for arm in trials["arm"]} - set(arms))
    if others:
        yield f"The records also hold trials of arms that this report leaves out: {listed(others)}."
