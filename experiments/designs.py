"""Designs: which arms a study has, made from a few factors.

A **delta** is what an arm changes of the baseline: values by path, ``{"model.width": 512}``, or whole sections,
``{"model": cnn.Config()}``. Every function here returns arms by name, as ``Study.arms`` takes them::

    arms = designs.leave_one_out({"dropout": {"model.dropout_rate": 0.0}, "decay": {"optimizer.weight_decay": 0.0}})
    arms = designs.grid({"optimizer.learning_rate": (1e-3, 1e-2), "model.depth": (2, 4)})
    arms = designs.each((1, 2, 4), lambda k: {"training.batch_size": 64 * k, "optimizer.learning_rate": 1e-3 * k})
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from experiments.spaces import Choice, Space
from models.base import BadInput

Delta = Mapping[str, Any]
Arms = dict[str, Delta]


def leave_one_out(without: Mapping[str, Delta]) -> Arms:
    """One arm for each part of the baseline, without it.

    Args:
        without: for each part, what takes it out of the baseline.
    """
    _check_some(without, "leave_one_out")
    return {f"no {part}": dict(delta) for part, delta in without.items()}


def add_one(parts: Mapping[str, Delta], *, all_together: bool = False) -> Arms:
    """One arm for each part, added to the baseline alone; with ``all_together`` one more that has them all.

    Raises:
        BadInput: there is no part, or two parts that come together set one path.
    """
    _check_some(parts, "add_one")
    arms: Arms = {f"+ {part}": dict(delta) for part, delta in parts.items()}
    if all_together:
        arms[f"+ {' + '.join(parts)}"] = _joined(parts.values())
    return arms


def one_at_a_time(factors: Mapping[str, Sequence[Any]]) -> Arms:
    """For each path each value, all other paths as the baseline has them.

    Args:
        factors: values by path. Leave out the baseline's own.
    """
    _check_levels(factors)
    return named([{path: value} for path, values in factors.items() for value in values])


def grid(factors: Mapping[str, Sequence[Any] | Space], *, baseline: Callable[[str], Any] | None = None) -> Arms:
    """Every combination of the factors' values.

    A factor that is a :class:`~experiments.spaces.Choice` with ``when`` exists only in the combinations in which the
    other paths have those values: a momentum only where the optimizer is SGD.

    Args:
        factors: values by path.
        baseline: the value of a path in the baseline, for conditions on paths that are no factors.

    Raises:
        BadInput: a factor without values, or a condition on an unknown path.
    """
    _check_levels(factors)
    free = {path: values for path, values in factors.items() if not _is_bound(values)}
    bound = {path: values for path, values in factors.items() if _is_bound(values)}
    deltas = [dict(zip(free, levels, strict=True)) for levels in itertools.product(*map(_levels, free.values()))]
    for path, values in bound.items():
        holds = [_exists(values, delta, baseline) for delta in deltas]
        deltas = [
            {**delta, **({path: value} if held else {})}
            for delta, held in zip(deltas, holds, strict=True)
            for value in (_levels(values) if held else (None,))
        ]
    return named(deltas)


def two_by_two(first: tuple[str, Delta], second: tuple[str, Delta]) -> Arms:
    """Two changes of the baseline: each alone and both together; with the baseline a paired 2x2.

    A claim :class:`~experiments.study.Interaction` asks whether both together give more than the sum of each.

    Args:
        first: a name and what it changes.
        second: the same.

    Raises:
        BadInput: both set one path, or have one name.
    """
    (one, delta), (other, change) = first, second
    if one == other:
        raise BadInput(f"two_by_two: both changes are called {one!r}")
    return {one: dict(delta), other: dict(change), f"{one} + {other}": _joined([delta, change])}


def each(values: Iterable[Any], delta: Callable[[Any], Delta], *, name: Callable[[Any], str] = str) -> Arms:
    """An arm for each value of a factor; its delta is any expression of the value.

    Raises:
        BadInput: two values have one name, or there is none.
    """
    values = list(values)
    _check_some(values, "each")
    names = [name(value) for value in values]
    if len(set(names)) < len(names):
        raise BadInput(f"each: two arms are called {next(each for each in names if names.count(each) > 1)!r}")
    return {label: dict(delta(value)) for label, value in zip(names, values, strict=True)}


def sampled(
    spaces: Mapping[str, Space],
    count: int,
    *,
    seed: int = 0,
    method: str = "sobol",
    baseline: Callable[[str], Any] | None = None,
) -> Arms:
    """Arms at points drawn from spaces, pseudo-randomly or evenly spread (scrambled Sobol or Halton points).

    Args:
        spaces: by path.
        count: number of arms.
        seed: of the draw.
        method: random, sobol or halton.
        baseline: as for :func:`grid`.

    Raises:
        BadInput: no space, fewer than one arm, or an unknown method.
    """
    _check_some(spaces, "sampled")
    if count < 1:
        raise BadInput(f"a design of {count} points is empty; ask for at least 1")
    from experiments.points import points  # late: numpy is not needed to list studies

    drawn = itertools.islice(points(method, len(spaces), seed), count)
    deltas = [conditional(spaces, row.tolist(), baseline) for row in drawn]
    return named(deltas)


def conditional(
    spaces: Mapping[str, Space], units: Sequence[float], baseline: Callable[[str], Any] | None = None
) -> dict[str, Any]:
    """The values of the spaces at a point of the unit cube; a space whose condition does not hold has none."""
    drawn = {path: space.at(unit) for (path, space), unit in zip(spaces.items(), units, strict=True)}
    return {path: value for path, value in drawn.items() if _exists(spaces[path], drawn, baseline)}


def named(deltas: Sequence[Delta]) -> Arms:
    """Arms called by what they change: ``width=512, dropout_rate=0.1``; each delta once.

    Numbers have four digits, or as many as keep two names apart. A path is called by its last word unless two have
    the same, or two sections do.
    """
    different = {str(sorted(delta.items())): dict(delta) for delta in deltas}.values()
    last = [path.rpartition(".")[2] for path in dict.fromkeys(path for delta in different for path in delta)]
    names: list[str] = []
    for digits in range(4, 18):
        names = [_name(delta, last, digits) for delta in different]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, different, strict=True))


def _name(delta: Delta, last: Sequence[str], digits: int) -> str:
    def shown(path: str) -> str:
        head, _, tail = path.rpartition(".")
        return head if tail == "name" else tail if last.count(tail) == 1 else path

    return ", ".join(
        f"{shown(path)}={f'{value:.{digits}g}' if isinstance(value, float) else value}" for path, value in delta.items()
    )


def _joined(deltas: Iterable[Delta]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for delta in deltas:
        both = sorted(set(result) & set(delta))
        if both:
            raise BadInput(f"two changes that come together set {both[0]}")
        result |= delta
    return result


def _check_some(content: Any, design: str) -> None:
    if not content:
        raise BadInput(f"{design}: the design is empty; give at least one part")


def _check_levels(factors: Mapping[str, Any]) -> None:
    _check_some(factors, "design")
    for path, values in factors.items():
        if not _levels(values):
            raise BadInput(f"the factor {path} has no values")


def _levels(values: Sequence[Any] | Space) -> Sequence[Any]:
    if isinstance(values, Choice):
        return values.values
    if isinstance(values, Space):
        raise BadInput(f"a grid needs values, not {values}; write Choice((...)) or a tuple")
    return values


def _is_bound(values: Sequence[Any] | Space) -> bool:
    """Whether a factor exists only beside some values of others."""
    return isinstance(values, Space) and bool(values.when)


def _exists(values: Sequence[Any] | Space, delta: Delta, baseline: Callable[[str], Any] | None) -> bool:
    """Whether a factor exists beside the other values of an arm."""

    def value_of(path: str) -> Any:
        if path not in delta and baseline is None:
            raise BadInput(f"a condition on {path} needs that path among the factors")
        return delta[path] if path in delta else baseline(path)  # type: ignore[misc]

    return not isinstance(values, Space) or values.exists(value_of)
