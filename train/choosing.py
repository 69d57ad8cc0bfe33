"""What the loop is told of trials that are run to choose a configuration, not to be reported."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple


class Choosing(NamedTuple):
    """How tuning trials are judged. The loop then reads no test split.

    Attributes:
        column: of the validation split, by which configurations are compared.
        prune: told a step and, by trial, what the evaluation at it found of the trials that still train; says
            which of them end there. None: all train to their end. It must be a function of what it was told, for a
            run that resumes tells it all of that again.
    """

    column: str
    prune: Callable[[int, Mapping[str, float]], Collection[str]] | None = None
