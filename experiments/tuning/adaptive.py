"""Points from Optuna, which learns from what earlier ones came to: asked for in batches, which train as populations.

``tpe`` is the tree-structured Parzen estimator (Bergstra et al. 2011, section 4), ``gp`` a Gaussian process. What is
asked and told lies in a storage: a file in the study's folder, or whatever a URL names, which several machines may
share. What a sampler draws depends on the storage, the number of the trial and the path alone, so that a study
which is opened again goes on where it was, and no draw comes twice.

Workers that share a storage hold no lock while they train. What makes them agree:

* A storage numbers trials in one order for all, and never takes back that a trial has finished.
* The search is the first so many trials, by number, that have not failed. Who asks beyond them withdraws.
* A trial is its asker's alone. Where that one gives no sign of life any longer, another fails the trial, which gives
  its place back; what its asker may still come to then counts for nothing.
* The search is over when all of the first so many have finished: whoever sees that sees the same trials.
"""

import contextlib
import copy
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.spaces import Choice, Integers, Space, Uniform
from experiments.tuning import search
from experiments.tuning.arm_spaces import ArmSpace
from models.base import BadInput

logger = logging.getLogger("paribus")

BATCH = 8
"""Points that are asked for at a time: lanes of a population."""

STARTUP = 8
"""Points that are drawn at random before a sampler has something to learn from."""

REFUSED = 100
"""Points in a row that no configuration may have, after which the search gives up."""

BEAT_SECONDS = 15.0
"""Between two signs of life of a worker."""

LOST_SECONDS = 120.0
"""A worker that has given no sign of life for so long, by the clock of who looks, is taken for lost."""

Row = Mapping[str, str]


class ArmSearch:
    """The search of one arm, in its database.

    Args:
        space: what is tuned.
        search: tpe or gp.
        name: of the arm's search in the storage: equal for equal declarations alone.
        trials: points that it may try, all machines together.
        storage: where it lies.
        owner: who works here, where the storage is shared: trials of others are left alone. Empty: nobody else does.
    """

    def __init__(self, space: ArmSpace, search: str, name: str, *, trials: int, storage: Any, owner: str) -> None:
        import optuna

        self._optuna = optuna
        self.space, self._search, self._trials, self._owner = space, search, trials, owner
        self._name = name
        self._signs: dict[int, tuple[Any, float]] = {}
        self._study = optuna.create_study(
            storage=storage, study_name=name, load_if_exists=True, direction="minimize", sampler=self._sampler(-1, "")
        )

    def batch(self, rows: Sequence[Row], seeds: int) -> list[tuple[int, dict[str, Any]]]:
        """Number and values of the points to train next: abandoned ones first, then new ones.

        Args:
            rows: of ``tuning.csv``, of this arm: points that are there with all their seeds need no training.
            seeds: of each point.
        """
        there: dict[int, int] = {}
        for row in rows:
            there[int(row["number"])] = there.get(int(row["number"]), 0) + 1
        counted = {trial.number for trial in self._counted()}
        found, refused = [], 0
        for trial in self._running():
            if not self._is_mine(trial):
                continue
            if trial.number in counted:
                found += self._drawn(trial.number)
            else:  # asked for beyond the budget, and killed before it was withdrawn
                self._fail(trial.number)
        if found and all(there.get(number, 0) >= seeds for number, _ in found):
            return found
        while len(found) < BATCH:
            number = self._ask()
            if number is None:
                break
            for _, values in self._drawn(number):
                try:
                    self.space.with_values(values)
                    found.append((number, values))
                    refused = 0
                except BadInput:
                    self._fail(number)
                    refused += 1
                    if refused == REFUSED:
                        raise
        return found

    def tell(self, number: int, rows: Sequence[Row], *, higher_is_better: bool) -> None:
        """What a point came to: its rows of ``tuning.csv``, one a seed."""
        values = [float(row["value"]) for row in rows if row["status"] in ("ok", "pruned")]
        loss = float("inf")
        if len(values) == len(rows):
            loss = statistics.fmean(values) * (-1 if higher_is_better else 1)
        try:
            if self._all()[number].state.is_finished():
                raise self._optuna.exceptions.UpdateFinishedTrialError
            trial = self._trial(number)
            trial.set_user_attr("rows", [dict(row) for row in rows])
            if len(values) == len(rows) and any(row["status"] == "pruned" for row in rows):
                trial.report(loss, step=max(int(row["steps"]) for row in rows))
                self._study.tell(number, state=self._state("PRUNED"), skip_if_finished=True)
            else:
                self._study.tell(number, loss, skip_if_finished=True)
        except self._optuna.exceptions.UpdateFinishedTrialError:
            logger.warning("%s: trial %d had been given up by another machine: it does not count", self._name, number)

    def told(self) -> list[tuple[int, dict[str, Any], list[Row]]]:
        """Number, values and rows of every point that counts and is finished, on whatever machine."""
        done = [trial for trial in self._counted() if trial.state.is_finished()]
        return [(trial.number, self._values(trial.number), trial.user_attrs["rows"]) for trial in done]

    def left(self) -> int:
        """How many points of the search have not finished, or have not been asked for; of none, it is over."""
        return self._trials - sum(trial.state.is_finished() for trial in self._counted())

    def beat(self) -> None:
        """Give a sign of life."""
        self._study.set_user_attr(f"beat of {self._owner}", time.time())

    def reclaim(self) -> None:
        """Fail the trials of those who give no sign of life any longer: others take their place.

        What is looked at is whether the signs change while the clock here goes on: clocks of machines differ.
        """
        signs = self._study.user_attrs
        for trial in self._running():
            if self._is_mine(trial):
                continue
            sign = _owner_of(trial), signs.get(f"beat of {_owner_of(trial)}")
            seen, since = self._signs.get(trial.number, (None, 0.0))
            if sign != seen:
                self._signs[trial.number] = sign, time.monotonic()
            elif time.monotonic() - since > LOST_SECONDS:
                logger.warning("%s: trial %d of %s seems lost; another replaces it", self._name, trial.number, sign[0])
                self._fail(trial.number)

    def _ask(self) -> int | None:
        """A new trial's number; None where all are taken."""
        if len(self._counted()) >= self._trials:
            return None
        self._study.sampler = self._sampler(len(self._all()), "")
        trial = self._study.ask()
        if self._owner:
            with contextlib.suppress(self._optuna.exceptions.UpdateFinishedTrialError):
                trial.set_user_attr("owner", self._owner)
        # Another machine may have asked at the same moment; the numbers say who was first.
        if trial.number not in {each.number for each in self._counted()}:
            self._fail(trial.number)
            return None
        return trial.number

    def _fail(self, number: int) -> None:
        """Take a trial out of the search, unless it has finished."""
        with contextlib.suppress(self._optuna.exceptions.UpdateFinishedTrialError):  # since then
            self._study.tell(number, state=self._state("FAIL"), skip_if_finished=True)

    def _drawn(self, number: int) -> list[tuple[int, dict[str, Any]]]:
        """Number and values of a trial; nothing where another machine has given it up meanwhile."""
        try:
            return [(number, self._values(number))]
        except self._optuna.exceptions.UpdateFinishedTrialError:
            return []

    def _values(self, number: int) -> dict[str, Any]:
        """The values of a trial; those that it has not yet are drawn."""
        trial = self._trial(number)

        def choose(path: str, space: Space) -> Any:
            self._study.sampler = self._sampler(number, path)
            if isinstance(space, Uniform):
                return trial.suggest_float(path, space.low, space.high, log=space.log)
            if isinstance(space, Integers):
                return trial.suggest_int(path, space.low, space.high, log=space.log)
            assert isinstance(space, Choice)
            return space.values[trial.suggest_categorical(path, tuple(range(len(space.values))))]

        return self.space.draw(choose)

    def _sampler(self, number: int, path: str) -> Any:
        samplers = self._optuna.samplers
        if self._search == "gp":  # which draws all values of a trial at once
            return samplers.GPSampler(seed=search.seed_of(self._name, number), n_startup_trials=STARTUP)
        seed = search.seed_of(self._name, number, path)
        return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)

    def _trial(self, number: int) -> Any:
        found = self._all()[number]
        if found.state.is_finished():
            return copy.deepcopy(found)  # which answers with the values that it had
        return self._optuna.trial.Trial(self._study, found._trial_id)

    def _all(self) -> list[Any]:
        return self._study.get_trials(deepcopy=False)

    def _counted(self) -> list[Any]:
        """The trials that make up the search, finished or not."""
        return [trial for trial in self._all() if trial.state != self._state("FAIL")][: self._trials]

    def _running(self) -> list[Any]:
        return [trial for trial in self._all() if trial.state == self._state("RUNNING")]

    def _is_mine(self, trial: Any) -> bool:
        return _owner_of(trial) == self._owner

    def _state(self, name: str) -> Any:
        return self._optuna.trial.TrialState[name]


def _owner_of(trial: Any) -> str:
    return trial.user_attrs.get("owner", "")
