"""Whether arms that were to be as large, or as expensive, as the baseline are so."""

import dataclasses
import math

from experiments import formatting
from experiments.report.rows import Row
from experiments.study import Study

_NAMES = {
    "parameters": "number of parameters",
    "flops_per_step": "number of FLOPs per step",
    "train_seconds": "training time",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matched:
    """One arm against the baseline in what was to be equal.

    Attributes:
        arm: its name.
        path: the field that was solved for; None where the study names none for this arm.
        ratio: the arm's size over the baseline's.
        equal: whether it lies within the tolerance.
    """

    arm: str
    path: str | None
    ratio: float
    equal: bool


def matched(study: Study, rows: tuple[Row, ...]) -> tuple[Matched, ...]:
    """How each arm compares; nothing where the study matches nothing."""
    matching = study.matching
    if matching is None:
        return ()
    sizes = {
        row.arm: row.train_seconds.mean if matching.equal == "train_seconds" else getattr(row, matching.equal)
        for row in rows
    }
    reference = sizes[study.baseline_name]
    found = []
    for arm in study.arms:
        ratio = sizes[arm] / reference if reference > 0 else math.nan
        equal = abs(ratio - 1) <= matching.tolerance
        found.append(Matched(arm=arm, path=matching.by.get(arm), ratio=ratio, equal=equal))
    return tuple(found)


def notes(study: Study, found: tuple[Matched, ...]) -> tuple[str, ...]:
    """What was matched, in a sentence."""
    matching = study.matching
    solved = [f"{each.arm} by {each.path} ({each.ratio:.3f})" for each in found if each.path and each.equal]
    if matching is None or not solved:
        return ()
    return (
        f"Matched to the {_NAMES[matching.equal]} of {study.baseline_name} within {matching.tolerance:.1%}, with the "
        f"ratio that was reached: {formatting.listed(solved)}.",
    )


def cautions(study: Study, found: tuple[Matched, ...]) -> tuple[str, ...]:
    """Which arms are not equal to the baseline, in a sentence."""
    matching = study.matching
    unequal = [
        f"{each.arm} ({'not recorded' if math.isnan(each.ratio) else f'{each.ratio:.2f} times'})"
        for each in found
        if not each.equal
    ]
    if matching is None or not unequal:
        return ()
    return (f"Not matched to {study.baseline_name} in {_NAMES[matching.equal]}: {formatting.listed(unequal)}.",)
