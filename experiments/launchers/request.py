"""What a launcher is asked to do."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.progress import StudyProgress
from experiments.tuning.run import Judging
from train.config import Config, Trial
from train.cost import Cost
from train.data.task import Task
from train.folder import Files
from train.loop import Watch


class Request(NamedTuple):
    """Trials to run: those of a study that have no record yet.

    Attributes:
        trials: all that shall be there in the end.
        tasks: of each configuration.
        expected: what a trial of each configuration costs.
        files: where records and checkpoints go.
        progress: told how far it is.
        watch: what is told and asked while trials run.
        judging: how trials are judged, where they are run to choose a configuration.
        chosen: those of the trials that are run now; None for all. Programs are those of all of them.
    """

    trials: Sequence[Trial]
    tasks: Mapping[Config, Task]
    expected: Mapping[Config, Cost]
    files: Files
    progress: StudyProgress
    watch: Watch
    judging: Judging | None = None
    chosen: Sequence[Trial] | None = None
