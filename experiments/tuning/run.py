"""Tuning, in order: the trials of every arm, the best of each, ``tuning.json``; then a plan with the winners.

Every trial has its row in ``tuning.csv`` and its curve in ``tuning_curves.csv``. ``tuning.json`` is written when all
are there, arm by arm for arms that come later; from then on nothing is tuned again.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.plan import Plan, spaces_document, tuning_document
from experiments.tuning import adaptive, pruning, selection, storages
from experiments.tuning.adaptive import ArmSearch, Row
from experiments.tuning.declaration import Prepared
from experiments.tuning.selection import Winner
from models.base import BadInput
from train.choosing import Choosing
from train.config import Config, Trial, replace, to_dict
from train.cost import Cost
from train.records import Table, write_atomically

logger = logging.getLogger("paribus")

POLL_SECONDS = 5.0
"""Between two looks at what other machines have done."""

Execute = Callable[[Sequence[Trial]], Table]
"""Trains tuning trials that have no row yet; gives their table."""


def tune(
    prepared: Prepared, folder: Path, execute: Execute, storage: str | None, interrupted: Callable[[], None]
) -> None:
    """Run what is left of the tuning, and write ``tuning.json``.

    Args:
        prepared: what is declared.
        folder: of the study.
        execute: trains trials.
        storage: URL of the storage of an adaptive search; None for a file in the folder.
        interrupted: raises once a stop has been asked for.
    """
    path = folder / "tuning.json"
    winners = selection.read(path)
    new = [arm for arm in prepared.arms if arm not in winners]
    if not new:
        shutil.rmtree(folder / "tuning_checkpoints", ignore_errors=True)  # a run may have been killed before it did
        return
    arms = [arm for arm in new if arm in prepared.spaces]
    winners |= {arm: Winner({}, None, None, (), 0, {}) for arm in new if arm not in prepared.spaces}
    if prepared.points is not None:
        table = execute(prepared.trials(arms))
        points = {arm: list(enumerate(prepared.points[arm])) for arm in arms}
    else:
        table, points = _adaptively(prepared, arms, folder, execute, storage, interrupted)
    rows = table.rows()
    for arm in arms:
        own = [row for row in rows if row["arm"] == arm]
        space, higher = prepared.spaces[arm].spaces, prepared.compared.higher_is_better
        winner = selection.choose(own, points[arm], space, seeds=prepared.tuning.seeds, higher_is_better=higher)
        winners[arm] = winner
        _tell(arm, winner, prepared)
    for arm in prepared.same:
        winners[arm] = dataclasses.replace(winners[prepared.study.baseline_name], trials=0, statuses={})
    steps = max(space.config.training.steps for space in prepared.spaces.values())
    write_atomically(path, selection.content(prepared.tuning, prepared.compared, steps, winners))
    shutil.rmtree(folder / "tuning_checkpoints", ignore_errors=True)


def with_winners(plan: Plan, folder: Path) -> Plan:
    """The plan with each arm's declared configuration changed to the one that tuning chose.

    Raises:
        BadInput: some arm has not been tuned yet.
    """
    if plan.study.tuning is None:
        return plan
    path = folder / "tuning.json"
    winners = selection.read(path)
    lacking = [arm for arm in plan.configs if arm not in winners]
    if lacking:
        raise BadInput(f"{path} does not say what was chosen for {', '.join(lacking)}: run without --report_only first")
    configs = {arm: replace(config, winners[arm].winner) for arm, config in plan.configs.items()}
    trials = tuple(dataclasses.replace(trial, config=configs[trial.arm]) for trial in plan.trials)
    return dataclasses.replace(plan, configs=configs, trials=trials)


def work_planned(prepared: Prepared, expected: Mapping[Config, Cost], plan: Plan, folder: Path | None = None) -> float:
    """Floating-point operations of the tuning, from the declared configurations: an estimate, where widths are tuned.

    Args:
        prepared: what is declared.
        expected: what a trial of each declared configuration costs.
        plan: with the declared configurations.
        folder: of the study, where arms that have been tuned are not to count; None to count all.
    """
    done = {} if folder is None else selection.read(folder / "tuning.json")
    return sum(
        expected[plan.configs[arm]].flops_per_step * space.config.training.steps * prepared.count(arm)
        for arm, space in prepared.spaces.items()
        if arm not in done
    ) * float(prepared.tuning.seeds)


class Judging(NamedTuple):
    """How tuning trials are judged, as plain values.

    Attributes:
        column: of the validation split, by which configurations are compared.
        higher_is_better: its direction.
        pruning: the rule by which trials end early.
        count: tuning trials of each arm.
    """

    column: str
    higher_is_better: bool
    pruning: str
    count: int

    def choosing(self, *curves: Callable[[], Sequence[Mapping[str, str]]]) -> Callable[[Sequence[Trial]], Choosing]:
        """What the loop is to be told of the trials of one population.

        Args:
            curves: what gives the rows of tuning trials so far, for the rule to compare with.
        """

        def told(trials: Sequence[Trial]) -> Choosing:
            if self.pruning == "none":
                return Choosing(self.column)
            mine = {trial.id for trial in trials}
            others = [row for rows in curves for row in rows() if row["trial"] not in mine]
            higher = self.higher_is_better
            earlier = pruning.curves(others, self.column, higher_is_better=higher)
            rule = pruning.rule(self.pruning, trials, earlier, count=self.count, higher_is_better=higher)
            return Choosing(self.column, rule)

        return told


def judging(prepared: Prepared) -> Judging:
    """How the tuning trials of a study are judged."""
    return Judging(*prepared.compared, prepared.tuning.pruning, prepared.tuning.trials)


def _adaptively(
    prepared: Prepared,
    arms: Sequence[str],
    folder: Path,
    execute: Execute,
    storage: str | None,
    interrupted: Callable[[], None],
) -> tuple[Table, dict[str, list[tuple[int, Mapping[str, Any]]]]]:
    """Ask, train, tell, until every arm has had its trials."""
    seeds, higher = prepared.tuning.seeds, prepared.compared.higher_is_better
    owner = _owner(folder) if storage else ""
    with storages.opened(storage or f"sqlite:///{(folder / 'tuning.db').resolve()}") as database:
        searches = {
            arm: ArmSearch(
                prepared.spaces[arm],
                prepared.tuning.search,
                _name(prepared, arm),
                trials=prepared.tuning.trials,
                storage=database,
                owner=owner,
            )
            for arm in arms
        }
        table = execute([])
        waiting = 0
        with _alive(list(searches.values()) if storage else []):
            while left := sum(search.left() for search in searches.values()):
                interrupted()
                rows = table.rows()
                for search in searches.values():
                    search.reclaim()
                batches = {
                    arm: search.batch([row for row in rows if row["arm"] == arm], seeds)
                    for arm, search in searches.items()
                }
                if any(batches.values()):
                    table = execute(
                        [
                            trial
                            for arm, batch in batches.items()
                            for number, drawn in batch
                            for trial in prepared.spaces[arm].trials(number, drawn, seeds)
                        ]
                    )
                    rows = table.rows()
                    for arm, batch in batches.items():
                        for number, _ in batch:
                            own = [row for row in rows if row["arm"] == arm and int(row["number"]) == number]
                            searches[arm].tell(number, own, higher_is_better=higher)
                else:
                    if left != waiting:
                        logger.info("waiting for %d tuning trials of other machines", left)
                    waiting = left
                    time.sleep(POLL_SECONDS)
        told = {arm: search.told() for arm, search in searches.items()}
    _take_over(table, told)
    return table, {arm: [(number, drawn) for number, drawn, _ in found] for arm, found in told.items()}


def _owner(folder: Path) -> str:
    """Who works in a folder: a name that stays with it, so that its trials are found again from another machine."""
    path = folder / "tuning_worker.txt"
    if not path.exists():
        write_atomically(path, f"{socket.gethostname()}-{secrets.token_hex(4)}\n")
    return path.read_text(encoding="utf-8").strip()


@contextlib.contextmanager
def _alive(searches: Sequence[ArmSearch]) -> Iterator[None]:
    """Give signs of life meanwhile, whatever trains."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(adaptive.BEAT_SECONDS):
            try:
                for search in searches:
                    search.beat()
            except Exception as error:  # who works here will say so, when the storage is needed next
                logger.debug("no sign of life could be given: %s", type(error).__name__)

    for search in searches:
        search.beat()
    thread = threading.Thread(target=beat, daemon=True)
    if searches:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if searches:
            thread.join()


def _take_over(table: Table, told: Mapping[str, Sequence[tuple[int, Mapping[str, Any], Sequence[Row]]]]) -> None:
    """Give the table of these arms the rows that count: also of other machines, and none that was given up."""
    counted = {row["trial"]: row for found in told.values() for *_, rows in found for row in rows}
    have = {row["trial"] for row in table.rows()}
    foreign = [row for trial, row in counted.items() if trial not in have]
    if foreign:
        table.admit(dict.fromkeys(column for row in foreign for column in row))
        table.put(foreign, key="trial")
    table.keep(lambda row: row["arm"] not in told or row["trial"] in counted)


def _name(prepared: Prepared, arm: str) -> str:
    """The search of an arm, by all that it depends on."""
    study = prepared.study
    space = prepared.spaces[arm]
    declared = tuning_document(prepared.tuning) or {}
    shared = {key: value for key, value in declared.items() if key not in ("space", "arms")}
    content = [shared, spaces_document(space.spaces), to_dict(space.config)]
    key = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return f"{study.name} {study.preset} {arm} {key}"


def _tell(arm: str, winner: Winner, prepared: Prepared) -> None:
    """Say what was chosen, and what a reader should worry about."""
    column = prepared.compared.column
    values = ", ".join(
        f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}"
        for path, value in winner.winner.items()
    )
    if winner.value is None:
        logger.warning("tuning: no trial of arm %s trained to its end; it keeps the first point, %s", arm, values)
        return
    logger.info("tuning: %s of %d: %s (%s %.4g)", arm, winner.trials, values, column, winner.value)
    for path in winner.edges:
        logger.warning(
            "tuning: %s: the best %s, %s, lies at the edge of its space; a better one may lie outside",
            arm,
            path,
            winner.winner[path],
        )
