"""Which tuning trials end early, by what evaluations on the validation split find.

A trial is compared with those of its own arm alone, at the same step. What is decided follows from the recorded
curves, so a run that was interrupted decides the same again. Values here are losses: less is better.

``median``: a trial ends when its value is worse than the median of the others'; those that have ended count with
their last value (Golovin et al. 2017, "Google Vizier", section 3.2.2, whose rule takes averages over time
instead). There is none of it in the first quarter of the steps.

``halving``: successive halving (Jamieson and Talwalkar 2016, algorithm 1), with the rungs of Li et al. 2018,
"Hyperband", algorithm 1, lines 4 to 8: of n trials the best third goes on at step T / 3^k, T the last, then a third of
those at T / 3^(k - 1), and so on. Where an arm's trials do not all run at once, those of later populations are ranked
among the earlier ones, too (Li et al. 2020, "A system for massively parallel hyperparameter tuning", algorithm 2).
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from train.config import Trial

WARM_UP = 0.25
"""Share of the steps before which the median ends nothing."""

LEAST = 3
"""Others with a value that the median needs to mean anything."""

ETA = 3
"""One of so many goes on at a rung."""

Place = tuple[str, int]
"""An arm, and which of its tuning trials."""

Curves = Mapping[Place, Mapping[int, float]]
"""Mean losses over the seeds of a configuration, by step."""


def curves(rows: Sequence[Mapping[str, str]], column: str, *, higher_is_better: bool) -> dict[Place, dict[int, float]]:
    """What ``tuning_curves.csv`` says, as losses: the mean over the seeds that have a value at a step."""
    found: dict[Place, dict[int, list[float]]] = {}
    for row in rows:
        at = found.setdefault((row["arm"], int(row["number"])), {}).setdefault(int(row["step"]), [])
        at.append(_loss(float(row[column]), higher_is_better))
    return {place: {step: statistics.fmean(all_) for step, all_ in steps.items()} for place, steps in found.items()}


def rule(
    kind: str, trials: Sequence[Trial], earlier: Curves, *, count: int, higher_is_better: bool
) -> Callable[[int, Mapping[str, float]], set[str]]:
    """The rule of one population, as :class:`train.choosing.Choosing` wants it.

    Args:
        kind: median or halving.
        trials: of the population.
        earlier: curves of the trials that ran before these.
        count: tuning trials of each arm.
        higher_is_better: direction of the values that the rule is told.
    """
    places = {trial.id: (trial.arm, trial.number or 0) for trial in trials}
    training = trials[0].config.training
    known: dict[Place, dict[int, float]] = {place: dict(steps) for place, steps in earlier.items()}
    decide = {"median": _below_median, "halving": _off_the_rung}[kind]

    def prune(step: int, values: Mapping[str, float]) -> set[str]:
        alive: dict[Place, list[float]] = {}
        for name, value in values.items():
            alive.setdefault(places[name], []).append(_loss(value, higher_is_better))
        for place, losses in alive.items():
            known.setdefault(place, {})[step] = statistics.fmean(losses)
        rungs_ = rungs(training.steps, training.evaluate_every, count)
        ended = decide(step, list(alive), known, training.steps, rungs_)
        return {name for name in values if places[name] in ended}

    return prune


def rungs(steps: int, every: int, count: int) -> tuple[int, ...]:
    """The evaluations at which all but a third end: the first at or after ``steps / 3^k``, k = ..., 2, 1.

    Args:
        steps: of a trial.
        every: steps from one evaluation to the next.
        count: trials that begin; no more rungs than leave one of them.
    """
    depth = int(math.log(count, ETA) + 1e-9)
    found = [math.ceil(steps / ETA**k / every) * every for k in range(depth, 0, -1)]
    return tuple(step for step in dict.fromkeys(found) if step < steps)


def _below_median(step: int, alive: Sequence[Place], known: Curves, steps: int, _: tuple[int, ...]) -> set[Place]:
    if step < WARM_UP * steps:
        return set()
    ended = set()
    for place in alive:
        others = [_latest(curve, step) for other, curve in known.items() if other[0] == place[0] and other != place]
        if len(others) >= LEAST and known[place][step] > statistics.median(others):
            ended.add(place)
    return ended


def _off_the_rung(step: int, alive: Sequence[Place], known: Curves, _: int, rungs_: tuple[int, ...]) -> set[Place]:
    if step not in rungs_:
        return set()
    ended = set()
    for arm in dict.fromkeys(place[0] for place in alive):
        there = [place for place, curve in known.items() if place[0] == arm and step in curve]
        ranked = sorted(there, key=lambda place: (known[place][step], place[1]))
        ended |= set(ranked[max(1, len(ranked) // ETA) :])
    return ended & set(alive)


def _latest(curve: Mapping[int, float], step: int) -> float:
    """The value at a step; of a trial that had ended by then, its last; infinity before its first."""
    before = [at for at in curve if at <= step]
    return curve[max(before)] if before else math.inf


def _loss(value: float, higher_is_better: bool) -> float:
    if not math.isfinite(value):
        return math.inf
    return -value if higher_is_better else value
