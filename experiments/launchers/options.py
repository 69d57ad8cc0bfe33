"""What each cluster is asked for beside the resources of a pack."""

import dataclasses
from collections.abc import Mapping

from models.base import BadInput


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slurm:
    """Of an array of jobs.

    Attributes:
        partition: to run in; empty for the default.
        account: that pays; empty for the default.
        constraint: features that nodes must have; empty for none.
        minutes: time after which a job is queued again and goes on from its checkpoint.
        parallel: jobs that run at a time at the most.
        signal_seconds: how long before its end a job is told to save.
        sbatch: further parameters of sbatch, by their long names.
    """

    partition: str = ""
    account: str = ""
    constraint: str = ""
    minutes: int = 60
    parallel: int = 256
    signal_seconds: int = 90
    sbatch: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Numbers in their range."""
        for name in ("minutes", "parallel", "signal_seconds"):
            if getattr(self, name) < 1:
                raise BadInput(f"--launch.{name}={getattr(self, name)} must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ray:
    """Of a cluster of Ray.

    Attributes:
        address: of one that runs already, e.g. ``auto`` or ``ray://head:10001``; empty starts one on this machine.
    """

    address: str = ""
