"""Where the trials of a study run: in this process, or by packs on a cluster."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.arguments import LAUNCH
from experiments.launchers.engine import Engine, Resources
from experiments.launchers.options import Ray, Slurm
from models.base import BadInput, unknown

KINDS: dict[str, type | None] = {"local": None, "slurm": Slurm, "ray": Ray}
"""The launchers, and what each is asked for beside resources."""

SBATCH = "sbatch."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """Where to run, and what to ask for there.

    Attributes:
        kind: local, slurm or ray.
        pack_trials: trials of a pack at the most; 0 for whole populations.
        resources: of each pack.
        options: of the cluster; None for this process.
    """

    kind: str = "local"
    pack_trials: int = 0
    resources: Resources = dataclasses.field(default_factory=Resources)
    options: Slurm | Ray | None = None

    def __post_init__(self) -> None:
        """Numbers in their range."""
        if self.pack_trials < 0:
            raise BadInput(f"{LAUNCH}pack_trials={self.pack_trials} must be at least 0")

    def launcher(self, folder: Path, *, data_dir: str | Path | None, deterministic: bool) -> Any:
        """What runs trials: :class:`experiments.launchers.local.Local`, or a head with an engine.

        Raises:
            BadInput: the engine is not installed or cannot be reached.
        """
        from experiments.launchers.head import Head
        from experiments.launchers.local import Local

        if self.options is None:
            return Local(folder)
        directory = None if data_dir is None else str(Path(data_dir).resolve())
        engine = self.engine(folder)
        return Head(engine, folder, pack_trials=self.pack_trials, data_dir=directory, deterministic=deterministic)

    def occupy_no_accelerator(self) -> None:
        """Where packs compute elsewhere, this process computes on its CPU: a pack may run on the same machine.

        Call it before jax runs anything.
        """
        if self.options is not None:
            jax.config.update("jax_platforms", "cpu")

    def engine(self, folder: Path) -> Engine:
        """The engine of a cluster.

        Raises:
            BadInput: it is not installed or cannot be reached.
        """
        if isinstance(self.options, Slurm):
            from experiments.launchers.slurm import SlurmJobs

            return SlurmJobs(folder, self.resources, self.options)
        from experiments.launchers.ray_tasks import RayTasks

        assert self.options is not None
        return RayTasks(self.resources, self.options)


def declared(kind: str, pairs: Sequence[tuple[str, str]]) -> Launch:
    """What a command line declares.

    Args:
        kind: of ``--launcher``.
        pairs: names and values of ``--launch.NAME=VALUE``; ``sbatch.NAME`` is any parameter of sbatch.

    Raises:
        BadInput: there is no such launcher or name, or a value is none.
    """
    if kind not in KINDS:
        raise unknown("launcher", kind, KINDS)
    options = KINDS[kind]
    if options is None and pairs:
        raise BadInput(f"{LAUNCH}{pairs[0][0]} is for trials that run elsewhere: name a --launcher, slurm or ray")
    parts: dict[type, dict[str, Any]] = {each: {} for each in (Launch, Resources, options or Slurm)}
    types: dict[str, tuple[type, Any]] = {"pack_trials": (Launch, int)}
    types |= {each.name: (owner, each.type) for owner in list(parts)[1:] for each in dataclasses.fields(owner)}
    extra: dict[str, str] = {}
    for name, text in pairs:
        if kind == "slurm" and name.startswith(SBATCH):
            extra[name.removeprefix(SBATCH)] = text
            continue
        if name not in types or name == "sbatch":
            raise unknown("launch option", f"{LAUNCH}{name}", [f"{LAUNCH}{each}" for each in types if each != "sbatch"])
        owner, kind_of_value = types[name]
        try:
            parts[owner][name] = kind_of_value(text)
        except ValueError:
            words = {int: "an integer", float: "a number"}
            raise BadInput(f"{LAUNCH}{name}={text} must be {words[kind_of_value]}") from None
    if extra:
        parts[Slurm]["sbatch"] = extra
    chosen = None if options is None else options(**parts[options])
    return Launch(kind=kind, resources=Resources(**parts[Resources]), options=chosen, **parts[Launch])
