"""Tuning from the command line: spaces as text, and changes of what a study declares.

--tune.optimizer.learning_rate=log:1e-4:1e-1     a range, even in its logarithm
--tune.model.dropout_rate=0:0.5                  a range
--tune.model.width=64,128,256                    some values
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from experiments.plan import Plan
from experiments.spaces import Choice, Integers, Space, Uniform
from experiments.study import Tuning
from models.base import BadInput, describe, unknown
from train.config import parse, paths

SPELLING = "LOW:HIGH, log:LOW:HIGH or values with commas"

Changes = Mapping[str, Any] | Sequence[tuple[str, Any]]
"""Spaces by path (a space, or its text), and fields of the declaration by name, such as ``trials``."""


def changed(plan: Plan, *, tune: bool, changes: Changes) -> Plan:
    """The plan with the tuning that was asked for.

    Args:
        plan: of a study, which may declare a tuning.
        tune: false: nothing is tuned.
        changes: of the declaration, or what makes one.

    Raises:
        BadInput: they contradict each other, or do not say what is tuned or how.
    """
    pairs = list(changes.items() if isinstance(changes, Mapping) else changes)
    if not tune:
        if pairs:
            raise BadInput(f"--notune and {_flag(*pairs[0])} contradict each other: give one of the two")
        return dataclasses.replace(plan, study=dataclasses.replace(plan.study, tuning=None))
    if not pairs:
        return plan
    space: dict[str, Space] = {}
    settings: dict[str, Any] = {}
    for name, value in pairs:
        if name in space or name in settings:
            raise BadInput(f"{_flag(name, value).partition('=')[0]} is given twice")
        if "." in name:
            space[name] = value if isinstance(value, Space) else _space(plan, name, str(value))
        else:
            settings[name] = _setting(name, value)
    declared = plan.study.tuning
    if declared is None and not space:
        raise BadInput(
            f"study {plan.study.name} declares no tuning; say what is tuned with --tune.PATH={SPELLING.split(',')[0]}"
        )
    old = declared or Tuning(space={})
    tuning = dataclasses.replace(old, space={**old.space, **space}, **settings)
    return dataclasses.replace(plan, study=dataclasses.replace(plan.study, tuning=tuning))


def words(*, tune: bool, changes: Changes) -> list[str]:
    """The flags that ask for the same."""
    pairs = changes.items() if isinstance(changes, Mapping) else changes
    return ([] if tune else ["--notune"]) + [_flag(name, value) for name, value in pairs]


def _flag(name: str, value: Any) -> str:
    return f"--tune.{name}={spelled(value)}" if "." in name else f"--tuning_{name}={value}"


def spelled(space: Any) -> str:
    """How a space is spelled."""
    if isinstance(space, Choice):
        return ",".join(str(value) for value in space.values)
    if isinstance(space, Uniform | Integers):
        return f"{'log:' if space.log else ''}{space.low}:{space.high}"
    return str(space)


def _setting(name: str, value: Any) -> Any:
    """A field of the declaration, from its value or its text."""
    hints = get_type_hints(Tuning)
    names = [field.name for field in dataclasses.fields(Tuning) if field.name not in ("space", "arms")]
    if name not in names:
        raise unknown("field of the tuning", name, names)
    if not isinstance(value, str):
        return value
    try:
        found = parse(value, hints[name])
    except (ValueError, KeyError):
        raise BadInput(f"--tuning_{name}={value!r} must be {describe(hints[name])}") from None
    choices = get_args(hints[name])
    if get_origin(hints[name]) is Literal and found not in choices:
        raise unknown(f"--tuning_{name}", value, choices)
    return found


def _space(plan: Plan, path: str, text: str) -> Space:
    """The space that a text spells, of the type of its field."""
    known = {name: leaf for config in plan.configs.values() for name, leaf in paths(config).items()}
    if path not in known:
        raise unknown("path in --tune.", path, known)
    annotation = known[path].field.annotation
    wrong = BadInput(f"--tune.{path}={text!r} must be {SPELLING}, each {describe(annotation)}")
    is_log, bare = text.startswith("log:"), text.removeprefix("log:")
    try:
        parts = [[parse(text, annotation) for text in part.split(",")] for part in bare.split(":")]
    except (ValueError, KeyError):
        raise wrong from None
    if len(parts) == 1 and not is_log:
        return Choice(tuple(parts[0]))
    kind = {int: Integers, float: Uniform}.get(type(parts[0][0]))
    if len(parts) != 2 or kind is None or any(len(part) != 1 for part in parts):
        raise wrong
    try:
        return kind(parts[0][0], parts[1][0], log=is_log)
    except BadInput as error:
        raise BadInput(f"--tune.{path}: {error}") from None
