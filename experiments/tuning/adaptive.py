"""Points from Optuna, which learns from what earlier ones came to: asked for in batches, which train as populations.

``tpe`` is the tree-structured Parzen estimator (Bergstra et al. 2011, section 4), ``gp`` a Gaussian process. What is
asked and told lies in a database: a file in the study's folder, or whatever a URL names, which several machines may
share. What a sampler draws depends on the database, the number of the trial and the path alone, so that a study
which is opened again goes on where it was, and no draw comes twice.
"""

import contextlib
import copy
import logging
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.spaces import Choice, Integers, Space, Uniform
from experiments.tuning import search
from experiments.tuning.arm_spaces import ArmSpace
from experiments.tuning.declaration import Prepared
from models.base import BadInput

logger = logging.getLogger("paribus")

BATCH = 8
"""Points that are asked for at a time: lanes of a population."""

STARTUP = 8
"""Points that are drawn at random before a sampler has something to learn from."""

REFUSED = 100
"""Points in a row that no configuration may have, after which the search gives up."""

LOST = 4.0
"""A trial of another machine that has run for so many times as long as the longest one is taken for lost."""

Row = Mapping[str, str]


def check_storage(url: str | None, prepared: Prepared | None) -> None:
    """Refuse a text that is no URL of a database, or that nothing would use.

    Raises:
        BadInput: it is, or what speaks to such a database is not installed.
    """
    if url is None:
        return
    if prepared is None or prepared.points is not None:
        raise BadInput("tuning_storage is for searches that learn: it needs a tuning with --tuning_search=tpe or gp")
    import sqlalchemy.exc

    try:
        sqlalchemy.make_url(url).get_dialect().import_dbapi()
    except sqlalchemy.exc.ArgumentError:
        raise BadInput(f"tuning_storage={url!r} must be a URL such as sqlite:///tuning.db") from None
    except ImportError as error:
        raise BadInput(f"tuning_storage={url!r} needs a package that is not installed: {error}") from None


@contextlib.contextmanager
def opened(url: str) -> Iterator[Any]:
    """The database of a URL.

    Raises:
        BadInput: it cannot be reached.
    """
    import optuna
    import sqlalchemy.exc

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = optuna.storages.RDBStorage(url)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise BadInput(f"tuning_storage={url!r} cannot be used: {' '.join(str(error).split())[:200]}") from None
    try:
        yield storage
    finally:
        storage.engine.dispose()


class ArmSearch:
    """The search of one arm, in its database.

    Args:
        space: what is tuned.
        search: tpe or gp.
        name: of the arm's search in the database: equal for equal declarations alone.
        trials: points that it may try, all machines together.
        storage: the database.
        owner: who works here, where the database is shared: trials of others are left alone. Empty: nobody else does.
    """

    def __init__(self, space: ArmSpace, search: str, name: str, *, trials: int, storage: Any, owner: str) -> None:
        import optuna

        self._optuna = optuna
        self.space, self._search, self._trials, self._owner = space, search, trials, owner
        self._name = name
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
        mine = [trial for trial in self._running() if self._is_mine(trial)]
        if mine and all(there.get(trial.number, 0) >= seeds for trial in mine):
            return [(trial.number, self._values(trial.number)) for trial in mine]
        found = [(trial.number, self._values(trial.number)) for trial in mine]
        refused = 0
        while len(found) < BATCH:
            number = self._ask()
            if number is None:
                break
            values = self._values(number)
            try:
                self.space.with_values(values)
                found.append((number, values))
                refused = 0
            except BadInput:
                self._study.tell(number, state=self._state("FAIL"))
                refused += 1
                if refused == REFUSED:
                    raise
        return found

    def tell(self, number: int, rows: Sequence[Row], *, higher_is_better: bool) -> None:
        """What a point came to: its rows of ``tuning.csv``, one a seed."""
        trial = self._trial(number)
        if self._all()[number].state.is_finished():  # by another machine, which took it for lost
            return
        trial.set_user_attr("rows", [dict(row) for row in rows])
        values = [float(row["value"]) for row in rows if row["status"] in ("ok", "pruned")]
        loss = float("inf")
        if len(values) == len(rows):
            loss = statistics.fmean(values) * (-1 if higher_is_better else 1)
        if len(values) == len(rows) and any(row["status"] == "pruned" for row in rows):
            trial.report(loss, step=max(int(row["steps"]) for row in rows))
            self._study.tell(number, state=self._state("PRUNED"), skip_if_finished=True)
        else:
            self._study.tell(number, loss, skip_if_finished=True)

    def told(self) -> list[tuple[int, dict[str, Any], list[Row]]]:
        """Number, values and rows of every point that is finished, on whatever machine."""
        done = [trial for trial in self._all() if trial.state.is_finished() and "rows" in trial.user_attrs]
        return [(trial.number, self._values(trial.number), trial.user_attrs["rows"]) for trial in done]

    def awaited(self) -> int:
        """How many points train on other machines; those that seem lost are this machine's from now on."""
        running = [trial for trial in self._running() if not self._is_mine(trial)]
        spans = [trial.duration.total_seconds() for trial in self._all() if trial.duration is not None]
        for trial in running:
            begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            if time.time() - begun > LOST * max(spans, default=3600.0) + 60:
                logger.warning(
                    "%s: trial %d of %s seems lost; it runs here", self._name, trial.number, _owner_of(trial)
                )
                self._trial(trial.number).set_user_attr("owner", self._owner)
        return len(running)

    def _ask(self) -> int | None:
        """A new trial's number; None where all are taken."""
        if sum(trial.state != self._state("FAIL") for trial in self._all()) >= self._trials:
            return None
        following = len(self._all())
        self._study.sampler = self._sampler(following, "")
        trial = self._study.ask()
        # Another machine may have asked at the same moment; the numbers say who was first.
        before = [each for each in self._all() if each.number < trial.number and each.state != self._state("FAIL")]
        if len(before) >= self._trials:
            self._study.tell(trial.number, state=self._state("FAIL"))
            return None
        if self._owner:
            trial.set_user_attr("owner", self._owner)
        return trial.number

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

    def _running(self) -> list[Any]:
        return [trial for trial in self._all() if trial.state == self._state("RUNNING")]

    def _is_mine(self, trial: Any) -> bool:
        return _owner_of(trial) == self._owner

    def _state(self, name: str) -> Any:
        return self._optuna.trial.TrialState[name]


def _owner_of(trial: Any) -> str:
    return trial.user_attrs.get("owner", "")
