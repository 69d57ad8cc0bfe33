"""Where the values of a field may lie: for designs that draw them and for tuning that searches them.

Every space maps a number of [0, 1) to a value, so that one generator of points (pseudo-random, Sobol,
Halton, a regular grid) serves all.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from models.base import BadInput


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space(abc.ABC):
    """What all spaces have.

    Attributes:
        when: the space exists only where these paths have these values, e.g.
            ``{"optimizer.name": "sgd"}`` for a momentum; several values of one path as a tuple.
    """

    when: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def exists(self, value_of: Callable[[str], Any]) -> bool:
        """Whether its condition holds, given the values of the paths."""
        return all(
            value_of(path) in (wanted if isinstance(wanted, tuple | list | set | frozenset) else (wanted,))
            for path, wanted in self.when.items()
        )

    @abc.abstractmethod
    def at(self, unit: float) -> Any:
        """The value at ``unit`` of [0, 1)."""

    @abc.abstractmethod
    def levels(self, count: int) -> tuple[Any, ...]:
        """At most ``count`` values spread evenly, ends among them, without repetition."""

    @abc.abstractmethod
    def is_edge(self, value: Any) -> bool:
        """Whether a best value here suggests that a better one lies outside: it is nearly an end of the range."""


@dataclasses.dataclass(frozen=True)
class Uniform(Space):
    """Real numbers from ``low`` to ``high``, evenly, or evenly in their logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        """Check the range."""
        _check(self, self.low, self.high, log=self.log)

    def at(self, unit: float) -> float:
        """The value at ``unit`` of [0, 1)."""
        if self.log:
            return float(math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low))))
        return float(self.low + unit * (self.high - self.low))

    def levels(self, count: int) -> tuple[float, ...]:
        """``count`` values spread evenly, ends among them."""
        inner = [self.at(i / (count - 1)) for i in range(1, count - 1)]
        return (float(self.low), *inner, float(self.high)) if count > 1 else (self.at(0.5),)

    def is_edge(self, value: float) -> bool:
        """Whether it lies in the outer twentieth of the range."""
        return not self.at(0.05) <= value <= self.at(0.95)


@dataclasses.dataclass(frozen=True)
class Integers(Space):
    """Whole numbers from ``low`` to ``high``, both included, evenly, or evenly in their logarithm."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        """Check the range."""
        _check(self, self.low, self.high, log=self.log)

    def at(self, unit: float) -> int:
        """The value at ``unit`` of [0, 1)."""
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(self.high, max(self.low, round(math.exp(low + unit * (high - low)))))
        return min(self.high, self.low + int(unit * (self.high - self.low + 1)))

    def levels(self, count: int) -> tuple[int, ...]:
        """At most ``count`` values spread evenly, ends among them."""
        units = [i / (count - 1) for i in range(count)] if count > 1 else [0.5]
        return tuple(dict.fromkeys(self.at(unit) for unit in units))

    def is_edge(self, value: int) -> bool:
        """Whether it is an end of the range."""
        return value in (self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Choice(Space):
    """One of some values. Give numbers in order: the first and the last are then the edges."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Check that there is something to choose from."""
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise BadInput("a choice has no values")

    def at(self, unit: float) -> Any:
        """The value at ``unit`` of [0, 1)."""
        return self.values[min(len(self.values) - 1, int(unit * len(self.values)))]

    def levels(self, count: int) -> tuple[Any, ...]:
        """All values, whatever the count: choices have no middle."""
        return self.values

    def is_edge(self, value: Any) -> bool:
        """Whether it is the first or last of more than two ordered numbers."""
        numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in self.values)
        return numbers and len(self.values) > 2 and value in (min(self.values), max(self.values))


def _check(space: Any, low: float, high: float, *, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadInput(f"{type(space).__name__}({low}, {high}): the range must be finite, low before high")
    if log and low <= 0:
        raise BadInput(f"{type(space).__name__}({low}, {high}, log=True): the range must be positive")
