"""The configuration of a trial: typed, frozen, printable, and the same after a trip through JSON.

A resolved configuration is a tree. Its leaves have paths such as ``model.width``; those paths are
what a study's arms and the command line's ``--config.PATH=VALUE`` name. Imports no jax.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from models.base import BadInput, Configuration, Field, Static, Traced, describe, fields, plugin, plugin_names, unknown
from train.sections import Augmentation, Diagnostics, Execution, Groups, Initialisation, Regularisation, Seeds, Training

SECTIONS = {
    "data": ("train.data", "data set"),
    "model": ("models", "model"),
    "optimizer": ("train.optimizers", "optimizer"),
    "schedule": ("train.schedules", "schedule"),
}
"""The sections that are chosen by name: where their files lie, and what a message calls them."""

PREFIXES = {("data", "hf:"): "dataset"}
"""A name with such a prefix is the file's name and the value of this field: ``hf:imdb`` is the data set ``hf``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """The resolved configuration of a trial: everything but its seed."""

    data: Configuration
    model: Configuration
    optimizer: Configuration
    schedule: Configuration
    training: Training = dataclasses.field(default_factory=Training)
    regularisation: Regularisation = dataclasses.field(default_factory=Regularisation)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    initialisation: Initialisation = dataclasses.field(default_factory=Initialisation)
    groups: Groups = dataclasses.field(default_factory=Groups)
    diagnostics: Diagnostics = dataclasses.field(default_factory=Diagnostics)
    execution: Execution = dataclasses.field(default_factory=Execution)
    seeds: Seeds = dataclasses.field(default_factory=Seeds)

    def validate(self) -> None:
        """Sections fit each other: schedule and training, optimizer and what is wrapped around it."""
        check = getattr(self.schedule, "check", None)
        if check is not None:
            check(self.training.steps)
        average = self.regularisation
        if average.swa_every and average.swa_start >= self.training.steps:
            raise BadInput(
                f"regularisation.swa_start={average.swa_start} must be less than training.steps={self.training.steps}"
            )
        if self.optimizer.name == "lbfgs":
            self._check_line_search()
        if set(self.groups.weight_decays) - {1.0} and "weight_decay" not in fields(type(self.optimizer)):
            raise BadInput(f"groups.weight_decays needs an optimizer that decays, and {self.optimizer.name} does not")

    def _check_line_search(self) -> None:
        """A line search sets the step itself and compares losses: it fits nothing that changes either."""
        unfit = {
            "regularisation.sam_radius": self.regularisation.sam_radius,
            "regularisation.gradient_noise": self.regularisation.gradient_noise,
            "groups.patterns": ",".join(self.groups.patterns),
            "training.compute_dtype": "float16" if self.training.compute_dtype == "float16" else "",
        }
        for path, value in unfit.items():
            if value:
                wanted = {float: "it must be 0", str: "leave it out"}[type(value)]
                raise BadInput(
                    f"{path}={value} needs an optimizer without a line search: with optimizer.name=lbfgs {wanted}"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One training run.

    Attributes:
        arm: the row of the table that it belongs to.
        seed: root of all its random streams (initial weights, data order, dropout). Trials of
            equal seed are paired: they see the same data in the same order.
        config: everything else.
        number: which of its arm's tuning trials it is; None for a trial that is reported.
    """

    arm: str
    seed: int
    config: Config
    number: int | None = None

    @property
    def id(self) -> str:
        """The name of the trial in records and folders."""
        which = "" if self.number is None else f"-t{self.number}"
        return f"{self.arm}{which}-s{self.seed}"

    def root(self, stream: Literal["init", "order", "noise"]) -> int:
        """Where the trial's random streams of this kind begin."""
        seeds = self.config.seeds
        own = getattr(seeds, stream)
        return (self.seed + seeds.offset) % 2**32 if own is None else own


class Leaf(NamedTuple):
    """One value of a configuration tree, with the field that declares it."""

    value: Any
    field: Field


def leaves(config: Configuration, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every ``(path, leaf)`` of a configuration, depth first in the order of declaration."""
    for field in fields(type(config)).values():
        value = getattr(config, field.name)
        if isinstance(value, Configuration):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, Leaf(value, field)


def paths(config: Config) -> dict[str, Leaf]:
    """The leaves by path, and the name of each section that is chosen by name (``model.name``)."""
    return _paths({name: getattr(config, name) for name in fields(Config)})


def _paths(sections: Mapping[str, Configuration]) -> dict[str, Leaf]:
    """The same for sections that need not fit each other."""
    result = {path: leaf for name, section in sections.items() for path, leaf in leaves(section, f"{name}.")}
    for section, (package, _) in SECTIONS.items():
        annotation = Literal[plugin_names(package)]  # type: ignore[valid-type]
        result[f"{section}.name"] = Leaf(sections[section].name, Field("name", annotation, Static()))
    return result


def values(config: Config) -> dict[str, Any]:
    """The values by path, each section's name first."""
    named = {f"{section}.name": getattr(config, section).name for section in SECTIONS}
    return named | {path: leaf.value for path, leaf in leaves(config)}


def _section_default(section: str, name: str) -> Configuration:
    package, kind = SECTIONS[section]
    return plugin(package, name, kind=kind).Config()


def replace(config: Config, changes: Mapping[str, Any]) -> Config:
    """``config`` with the values at these paths replaced; whole sections may be replaced, too.

    A section's ``name`` comes first: it puts that section's defaults in place, and what belonged
    to the old one alone is gone.

    Raises:
        BadInput: a path does not exist, or a value has the wrong type or is out of range.
    """
    sections = {name: getattr(config, name) for name in fields(Config)}
    values: dict[str, dict[str, Any]] = {}
    for path in sorted(changes, key=lambda path: (path.count("."), not path.endswith(".name"))):
        section, _, rest = path.partition(".")
        if section not in sections:
            raise unknown("configuration path", path, paths(config))
        if not rest:
            sections[section] = changes[path]
        elif rest == "name" and section in SECTIONS:
            if changes[path] != sections[section].name:
                sections[section] = _section_default(section, changes[path])
        elif rest in fields(type(sections[section])):
            values.setdefault(section, {})[rest] = changes[path]
        else:
            raise unknown("configuration path", path, paths(config))
    # All at once: fields that must fit each other (width and heads, warm-up and steps) may change together.
    for section, content in values.items():
        try:
            sections[section] = dataclasses.replace(sections[section], **content)
        except BadInput as error:
            raise BadInput(f"{section}.{error}") from None
    return Config(**sections)


def parse(text: str, annotation: Any) -> Any:
    """The value that ``text`` spells, for an annotated type.

    Raises:
        ValueError: it spells none.
    """
    origin = get_origin(annotation)
    if origin is Literal:
        return next(choice for choice in (*get_args(annotation), text) if str(choice) == text)
    if origin in (Union, types.UnionType):
        if type(None) in get_args(annotation) and text.lower() == "none":
            return None
        *first, last = [part for part in get_args(annotation) if part is not type(None)]
        for part in first:
            with contextlib.suppress(ValueError, KeyError):
                return parse(text, part)
        return parse(text, last)
    if origin is tuple:
        # Brackets belong to a regular expression, not to the list of them.
        bare = text if get_args(annotation)[0] is str else text.strip("()[] ")
        items = [item for item in bare.split(",") if item.strip()]
        return tuple(parse(item.strip(), get_args(annotation)[0]) for item in items)
    if annotation is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
    if annotation is int:
        return int(text.replace("_", ""))
    return annotation(text)


def parse_overrides(config: Config, overrides: Sequence[tuple[str, str]], *, flag: str = "--config.") -> dict[str, Any]:
    """Typed values for overrides given as text, each by the field that it names.

    Args:
        config: the configuration that they are to change.
        overrides: pairs of path and text, as on the command line.
        flag: what stands before the path there, for messages.

    Raises:
        BadInput: unknown path, given twice, not of the field's type, or out of range.
    """
    changes: dict[str, Any] = {}
    sections: dict[str, Configuration] = {name: getattr(config, name) for name in fields(Config)}
    for path, text in sorted(_without_prefixes(overrides), key=lambda item: not item[0].endswith(".name")):
        known = _paths(sections)
        if path not in known:
            raise unknown("configuration path", path, known)
        if path in changes:
            raise BadInput(f"{flag}{path} is given twice")
        annotation = known[path].field.annotation
        try:
            changes[path] = parse(text, annotation)
        except (ValueError, KeyError):
            raise BadInput(f"{flag}{path}={text!r} must be {describe(annotation)}") from None
        if path.endswith(".name") and changes[path] != known[path].value:
            section = path.removesuffix(".name")
            sections[section] = _section_default(section, changes[path])
    replace(config, changes)
    return changes


def _without_prefixes(overrides: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The overrides with ``hf:imdb`` taken apart."""
    for path, text in overrides:
        found = [item for item in PREFIXES.items() if path == f"{item[0][0]}.name" and text.startswith(item[0][1])]
        if not found:
            yield path, text
        for (section, prefix), field in found:
            yield path, prefix.removesuffix(":")
            yield f"{section}.{field}", text.removeprefix(prefix)


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain values for JSON. Infinity is the text ``inf``."""

    def plain(value: Any) -> Any:
        if isinstance(value, Configuration):
            return {name: plain(getattr(value, name)) for name in fields(type(value))}
        return str(value) if isinstance(value, float) and math.isinf(value) else value

    result = plain(config)
    return {
        section: {"name": getattr(config, section).name, **values} if section in SECTIONS else values
        for section, values in result.items()
    }


def from_dict(values: Mapping[str, Any]) -> Config:
    """The configuration that :func:`to_dict` wrote.

    Raises:
        BadInput: unknown or absent sections, names or fields, or values out of range.
    """
    sections: dict[str, Configuration] = {}
    for section in (*SECTIONS, *values):
        if section not in fields(Config):
            raise unknown("configuration section", section, fields(Config))
        content = values.get(section)
        if not isinstance(content, Mapping) or (section in SECTIONS and "name" not in content):
            raise BadInput(f"{section}={content!r} must be a section of a configuration, its fields by name")
        content = dict(content)
        if section in SECTIONS:
            package, kind = SECTIONS[section]
            cls = plugin(package, content.pop("name"), kind=kind).Config
        else:
            cls = fields(Config)[section].annotation
        for name, value in content.items():
            if name not in fields(cls):
                raise unknown("configuration path", f"{section}.{name}", [f"{section}.{key}" for key in fields(cls)])
            if value in ("inf", "-inf") and fields(cls)[name].annotation is float:
                content[name] = float(value)
        sections[section] = cls(**content)
    return Config(**sections)  # type: ignore[arg-type]


def to_json(config: Config) -> str:
    """The configuration as one line of JSON, keys in the order of declaration."""
    return json.dumps(to_dict(config), allow_nan=False)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How two configurations differ in what a trial computes: ``path old -> new`` for each field that does.

    Where a section has another name, the name alone says so: its fields are others anyway. How trials run
    (``execution``) is no difference.

    Args:
        old: a configuration as :func:`to_dict` gives it, or JSON made of that.
        new: the same.
    """
    past, present = (json.loads(json.dumps(config)) for config in (old, new))
    result = []
    for section in dict.fromkeys([*past, *present]):
        before, after = past.get(section, {}), present.get(section, {})
        renamed = before.get("name") != after.get("name")
        for field in ["name"] if renamed else dict.fromkeys([*before, *after]):
            if section != "execution" and before.get(field, "absent") != after.get(field, "absent"):
                result.append(f"{section}.{field} {before.get(field, 'absent')} -> {after.get(field, 'absent')}")
    return result


def listing(differences: Mapping[str, Sequence[str]], *, most: int = 6) -> str:
    """Differences of several configurations in one line, each once, with the names of those that it is found in.

    Args:
        differences: those of each, by its name.
        most: how many are spelled out.
    """
    owners: dict[str, list[str]] = {}
    for name, lines in differences.items():
        for line in lines:
            owners.setdefault(line, []).append(name)
    shown = [
        f"{line} in {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for line, names in list(owners.items())[:most]
    ]
    return "; ".join([*shown, *([f"and {len(owners) - most} more"] if len(owners) > most else [])])


def digest(config: Config) -> str:
    """Twelve hexadecimal digits that name what a trial computes: all of it but ``execution``."""
    content = {key: value for key, value in to_dict(config).items() if key != "execution"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def program_key(config: Config) -> str:
    """Equal for configurations that one compiled program serves: all values but the traced ones."""
    names = {section: getattr(config, section).name for section in SECTIONS}
    static = {path: leaf.value for path, leaf in leaves(config) if not isinstance(leaf.field.kind, Traced)}
    return json.dumps([names, static], sort_keys=True)


def traced_paths(configs: Sequence[Config]) -> tuple[str, ...]:
    """Paths of the traced fields that a program for these configurations takes as arguments.

    A mechanism that is off in all of them (a dropout rate of 0 everywhere) is left out, and so is what has no
    effect without it.
    """
    columns = [dict(leaves(config)) for config in configs]
    idle = [_idle(config) for config in configs]
    result = []
    for path, leaf in columns[0].items():
        if isinstance(leaf.field.kind, Traced) and not all(path in names for names in idle):
            off = leaf.field.kind.off
            if off is None or any(column[path].value != off for column in columns):
                result.append(path)
    return tuple(result)


def _idle(config: Config) -> set[str]:
    """Paths of the fields that have no effect in this configuration, as the sections themselves say."""
    sections = {name: getattr(config, name) for name in fields(Config)}
    return {
        f"{name}.{field}" for name, section in sections.items() if hasattr(section, "idle") for field in section.idle()
    }


def bind(config: Configuration, values: Mapping[str, Any]) -> types.SimpleNamespace:
    """The fields of one section, traced ones replaced by the program's arguments where there are any."""
    return types.SimpleNamespace(**{name: values.get(name, getattr(config, name)) for name in fields(type(config))})
