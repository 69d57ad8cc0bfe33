"""What runs packs elsewhere, as the head of a study sees it."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from experiments.launchers.packs import Pack, Progress
from models.base import BadInput

State = Literal["queued", "running", "gone"]
"""Of a pack: ``gone`` is one that no machine runs or will run, whether it ended or was killed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources:
    """What each pack asks for.

    Attributes:
        cpus: cores.
        gpus: accelerators; 0 runs it on the CPU.
        memory_gib: memory; 0 for the cluster's default.
    """

    cpus: int = 1
    gpus: int = 0
    memory_gib: float = 0.0

    def __post_init__(self) -> None:
        """Numbers in their range."""
        for name, least in (("cpus", 1), ("gpus", 0), ("memory_gib", 0)):
            if getattr(self, name) < least:
                raise BadInput(f"--launch.{name}={getattr(self, name)} must be at least {least}")

    def __str__(self) -> str:
        """In words."""
        parts = [f"{self.cpus} CPU core{'s' if self.cpus > 1 else ''}"]
        parts += [f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}"] if self.gpus else []
        parts += [f"{self.memory_gib:g} GiB"] if self.memory_gib else []
        return ", ".join(parts)


class Engine(abc.ABC):
    """Runs packs. What it knows of them it may forget: a new one asks the cluster again."""

    @abc.abstractmethod
    def submit(self, packs: Sequence[Pack]) -> None:
        """Have these run, unless they do already.

        Raises:
            BadInput: the cluster refuses them, or cannot be reached.
        """

    @abc.abstractmethod
    def states(self, packs: Sequence[Pack]) -> Mapping[str, tuple[State, str]]:
        """For each pack, by name: its state, and where it is in a few words, e.g. the job and its node."""

    def progress(self, pack: Pack) -> Progress:
        """How far a pack is."""
        return pack.progress()

    def fate(self, pack: Pack) -> str:
        """What became of a pack that is gone and was not done, in a few words; empty where nobody knows.

        Raises:
            BadInput: somebody called it off, so it is not to run again unasked.
        """
        return ""

    @abc.abstractmethod
    def leave(self, packs: Sequence[Pack]) -> str:
        """The head goes. Returns what becomes of the packs, and what a person can do; empty where none is with it."""

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """The study is over."""
