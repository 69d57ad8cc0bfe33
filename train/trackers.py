"""Trackers: the rows of ``curves.csv`` as they come, also for TensorBoard or Weights & Biases.

One run a trial. The records stay the truth: a tracker is told what has been written there, and nothing is read back.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from models.base import BadInput, unknown
from train.config import Trial, to_dict


@runtime_checkable
class Tracker(Protocol):
    """What the loop tells a tracker of a population's trials."""

    def begin(self, trial: Trial, step: int) -> None:
        """A trial begins, or goes on: rows up to ``step`` are there, those beyond it come again. -1: none is there."""
        ...

    def write(self, trial: Trial, step: int, values: Mapping[str, float]) -> None:
        """What an evaluation found, by column."""
        ...

    def conclude(self, trial: Trial, step: int, values: Mapping[str, float]) -> None:
        """What the final evaluation found, by column."""
        ...

    def close(self) -> None:
        """The population has ended, or was broken off."""
        ...


class TensorBoard:
    """Event files, one folder a trial: ``tensorboard --logdir=WORKDIR/NAME/tensorboard``.

    Args:
        folder: of the study.

    Raises:
        BadInput: tensorboardX is absent.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise BadInput("--tracker=tensorboard needs tensorboardX: pip install tensorboardX") from None
        self._make: Callable[..., Any] = SummaryWriter
        self._folder = folder / "tensorboard"
        self._writers: dict[str, Any] = {}

    def begin(self, trial: Trial, step: int) -> None:
        """Open the trial's file; TensorBoard hides what earlier files hold beyond ``step``."""
        # Files are named by the second in which they begin: without a suffix the second run within one overwrites.
        writer = self._make(str(self._folder / trial.id), purge_step=step + 1, filename_suffix=f".{step + 1}")
        writer.add_text("config", f"```\n{json.dumps(to_dict(trial.config), indent=1)}\n```", 0)
        self._writers[trial.id] = writer

    def write(self, trial: Trial, step: int, values: Mapping[str, float]) -> None:
        """A point of each column's curve."""
        for name, value in values.items():
            self._writers[trial.id].add_scalar(name, value, step)
        self._writers[trial.id].flush()

    def conclude(self, trial: Trial, step: int, values: Mapping[str, float]) -> None:
        """A point of each metric, under ``final``."""
        self.write(trial, step, {f"final/{name}": value for name, value in values.items()})

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


class WeightsAndBiases:
    """Runs of Weights & Biases, one a trial, grouped by study.

    Project, server, and whether runs stay on this machine (``WANDB_MODE=offline``) are wandb's own settings; the
    project is ``paribus`` unless ``WANDB_PROJECT`` says otherwise. Its files lie in ``WORKDIR/NAME/wandb``.

    Args:
        folder: of the study.

    Raises:
        BadInput: wandb is absent, or has nobody logged in and is to send runs to a server.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import wandb
        except ImportError:
            raise BadInput("--tracker=wandb needs wandb: pip install wandb") from None
        found = wandb.setup().settings  # of the environment and of wandb's own files
        if found.mode == "online" and not wandb.login(prompt=False):
            raise BadInput("--tracker=wandb: nobody is logged in; run `wandb login`, or set WANDB_MODE=offline")
        self._wandb: Any = wandb
        self._project = found.project or "paribus"
        self._folder = folder
        self._runs: dict[str, Any] = {}

    def begin(self, trial: Trial, step: int) -> None:
        """Start the trial's run, or go on with it.

        Raises:
            BadInput: wandb refuses; it says why.
        """
        settings = self._wandb.Settings(silent=True, console="off", x_disable_stats=True)
        try:
            # ``create_new``: beside those of the other trials.
            self._runs[trial.id] = self._wandb.init(
                id=self._identity(trial, fresh=step < 0),
                resume="allow",
                project=self._project,
                group=self._folder.name,
                name=trial.id,
                config={"arm": trial.arm, "seed": trial.seed, **to_dict(trial.config)},
                dir=str(self._folder),
                settings=settings,
                reinit="create_new",
            )
        except self._wandb.errors.Error as error:
            reason = " ".join(str(error).split())
            raise BadInput(f"--tracker=wandb: {reason}; WANDB_MODE=offline needs no server") from None

    def _identity(self, trial: Trial, *, fresh: bool) -> str:
        """The run's name for wandb: a new one for a trial that begins, the same again for one that goes on."""
        path = self._folder / "wandb" / f"{trial.id}.id"
        if fresh or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
        return path.read_text(encoding="utf-8")

    def write(self, trial: Trial, step: int, values: Mapping[str, float]) -> None:
        """A point of each column's curve."""
        self._runs[trial.id].log(dict(values), step=step)

    def conclude(self, trial: Trial, step: int, values: Mapping[str, float]) -> None:
        """The run's summary, under ``final``."""
        del step
        self._runs[trial.id].summary.update({f"final/{name}": value for name, value in values.items()})

    def close(self) -> None:
        """End the runs."""
        for run in self._runs.values():
            run.finish()
        self._runs.clear()


TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
"""Trackers by name."""


def make(names: Sequence[str], folder: Path) -> tuple[Tracker, ...]:
    """The trackers of these names, for a study whose records lie in ``folder``. Nothing is written yet.

    Raises:
        BadInput: a name is unknown, or the library is absent.
    """
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS)
    return tuple(TRACKERS[name](folder) for name in dict.fromkeys(names))
