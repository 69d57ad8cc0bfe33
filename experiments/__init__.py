"""What is compared, and what may be concluded. This room knows `train/`.

``experiments.run(name, ...)`` does from Python what ``python -m experiments --experiment=NAME`` does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.runner import Result

__all__ = ["run"]


def run(name: str, **options: Any) -> "Result":
    """Run a study, or go on with it; see :func:`experiments.runner.run` for the options.

    jax is imported here, not with the package, so that ``--help`` and ``--list`` answer at once.
    """
    from experiments import runner

    return runner.run(name, **options)
