"""What is tuned in one arm: which spaces exist, and what a point of them makes of its configuration."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.spaces import Space
from experiments.study import Tuning
from models.base import BadInput, Configuration, admitted, fields, plugin, unknown
from train.config import SECTIONS, Config, Trial, paths, replace, values

FIRST_SEED = 1000
"""Of the tuning trials; those of the results lie below it."""

FIXED = ("data.", "execution.", "diagnostics.", "seeds.", "training.steps", "training.evaluate_every")
"""What cannot be tuned: it would change by what trials are judged, or nothing of what they compute."""


@dataclasses.dataclass(frozen=True)
class ArmSpace:
    """What is tuned in one arm.

    Attributes:
        arm: its name.
        config: the declared configuration, with the steps of a tuning trial.
        spaces: by path; one after those that decide whether it exists.
    """

    arm: str
    config: Config
    spaces: Mapping[str, Space]

    def draw(self, choose: Callable[[str, Space], Any]) -> dict[str, Any]:
        """The values of a point: of the spaces that exist, given the values that were drawn before.

        Args:
            choose: the value of a path in its space.
        """
        declared, drawn = values(self.config), {}
        for path, space in self.spaces.items():
            met = space.exists(lambda name: drawn.get(name, declared.get(name)))
            name = drawn.get(f"{path.partition('.')[0]}.name")
            if met and _has(_section(self.config, path, name), path):
                drawn[path] = choose(path, space)
        return drawn

    def at(self, unit: Iterable[float]) -> dict[str, Any]:
        """The values at a point of the unit cube."""
        units = dict(zip(self.spaces, unit, strict=True))
        return self.draw(lambda path, space: space.at(float(units[path])))

    def with_values(self, drawn: Mapping[str, Any]) -> Config:
        """The configuration of a point.

        Raises:
            BadInput: these values do not go together.
        """
        return replaced(self.config, drawn, f"tuning: arm {self.arm!r}")

    def trials(self, number: int, drawn: Mapping[str, Any], seeds: int) -> list[Trial]:
        """The tuning trials of a point, one a seed."""
        config = self.with_values(drawn)
        return [
            Trial(arm=self.arm, number=number, seed=seed, config=config)
            for seed in range(FIRST_SEED, FIRST_SEED + seeds)
        ]


def of_arm(tuning: Tuning, arm: str, config: Config) -> ArmSpace:
    """What the declaration means for an arm: its own spaces replace the common ones, and those that it cannot have go.

    Raises:
        BadInput: conditions go round in a circle, or an end of a space is no value of its field.
    """
    own = tuning.arms.get(arm, {})
    wanted = {path: space for path, space in {**tuning.space, **own}.items() if space is not None}
    possible = {
        path: space
        for path, space in wanted.items()
        if any(_has(each, path) for each in _sections(config, path, wanted))
    }
    for path, space in possible.items():
        _check_ends(arm, path, space, [each for each in _sections(config, path, wanted) if _has(each, path)])
    ordered: dict[str, Space] = {}
    while len(ordered) < len(possible):
        ready = [path for path in possible if path not in ordered and not _needs(path, possible) - set(ordered)]
        if not ready:
            circle = ", ".join(path for path in possible if path not in ordered)
            raise BadInput(f"tuning: arm {arm!r}: the conditions of {circle} depend on each other")
        ordered[ready[0]] = possible[ready[0]]
    return ArmSpace(arm, config, ordered)


def check_paths(tuning: Tuning, configs: Mapping[str, Config], spaces: Mapping[str, ArmSpace]) -> None:
    """Every path that is declared must be one that an arm has, and that may be tuned.

    Raises:
        BadInput: one is not.
    """
    declared = {path: tuple(spaces) for path in tuning.space}
    declared |= {
        path: (arm,)
        for arm, own in tuning.arms.items()
        for path, space in own.items()
        if space is not None and arm in spaces
    }
    for path, arms in declared.items():
        if path.startswith(FIXED):
            raise BadInput(
                f"tuning: {path} cannot be tuned: all trials are judged by the same data, after as many steps"
            )
        if not any(path in spaces[arm].spaces for arm in arms):
            raise unknown("path of the tuning", path, {name for arm in arms for name in paths(configs[arm])})


def replaced(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    """The configuration with other values; where they do not fit, the message begins with ``where``."""
    try:
        return replace(config, changes)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def _needs(path: str, spaces: Mapping[str, Space]) -> set[str]:
    """The tuned paths that decide whether a space exists."""
    name = f"{path.partition('.')[0]}.name"
    return ({*spaces[path].when, name} - {path}) & set(spaces)


def _sections(config: Config, path: str, spaces: Mapping[str, Space]) -> Iterator[type[Configuration] | None]:
    """What the section of a path may be: the arm's own, or one of those that its tuned name may choose."""
    names = spaces.get(f"{path.partition('.')[0]}.name")
    for name in (None,) if names is None else names.levels(2):
        yield _section(config, path, name)


def _section(config: Config, path: str, name: str | None) -> type[Configuration] | None:
    section = path.partition(".")[0]
    if section not in fields(Config):
        return None
    if name is None:
        return type(getattr(config, section))
    package, kind = SECTIONS[section]
    return plugin(package, name, kind=kind).Config


def _has(section: type[Configuration] | None, path: str) -> bool:
    head, _, field = path.partition(".")
    return section is not None and (field in fields(section) or (field == "name" and head in SECTIONS))


def _check_ends(arm: str, path: str, space: Space, sections: Sequence[type[Configuration] | None]) -> None:
    """The ends of a range, and all choices, must be values of the field."""
    field = path.partition(".")[2]
    for section in sections:
        for value in space.levels(2) if section is not None and field in fields(section) else ():
            try:
                admitted(fields(section)[field], value)
            except BadInput as error:
                raise BadInput(f"tuning: arm {arm!r}: {path.partition('.')[0]}.{error}") from None
