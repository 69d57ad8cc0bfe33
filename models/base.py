"""What every configuration and every model is made of. Imports neither jax nor flax.

A configuration is a frozen dataclass derived from :class:`Configuration`. Each of its fields says,
in its own annotation, whether it is *static* (it changes shapes or the program) or *traced* (a
number that the compiled program takes as an argument), and which values are allowed::

    width: Annotated[int, Static(ge=1)] = 512
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0

Nothing else in the code keeps a list of either kind.
"""

import ast
import dataclasses
import difflib
import functools
import importlib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin


class BadInput(ValueError):
    """Input that a person can mend. The message is one line: what is wrong, what would be right."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> BadInput:
    """The error for a name that is not among ``choices``, with the nearest of them first."""
    valid = sorted(choices)
    by_lower_case = {choice.lower(): choice for choice in valid}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.4)
    hint = f"; did you mean {by_lower_case[close[0]]!r}?" if close else "."
    return BadInput(f"unknown {kind} {name!r}{hint} Valid: {', '.join(valid) or 'none'}")


def check_divides(part: str, size: int, whole: str, total: int, *, otherwise: str = "") -> None:
    """Refuse a size that does not divide another, and name the nearest that do.

    Args:
        part: name of the field that must divide, such as ``heads``.
        size: its value, at least 1.
        whole: name of what it must divide, such as ``width``.
        total: its value, at least 1.
        otherwise: what else would be right, for the message.

    Raises:
        BadInput: there is a remainder.
    """
    if total % size == 0:
        return
    # Not every divisor: a number that was typed wrongly may have 20 digits.
    below = next((near for near in range(size, max(0, size - 10_000), -1) if total % near == 0), 1)
    above = next((near for near in range(size, min(total, size + 10_000)) if total % near == 0), total)
    nearest = f"{below}" if below == above else f"{below} and {above}"
    message = f"{part}={size} must divide {whole}={total}; nearest: {nearest}"
    raise BadInput(f"{message}, {otherwise}" if otherwise else message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Bounds:
    """Allowed range of a number (each bound optional; all elements of a tuple must satisfy it)."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def complaint(self, value: float) -> str | None:
        """Why ``value`` is out of range, or None when it is allowed."""
        if value != value:  # not math.isnan, which cannot take an int beyond the range of floats
            return "must be a number, not nan"
        if self.ge is not None and not value >= self.ge:
            return f"must be at least {self.ge}"
        if self.gt is not None and not value > self.gt:
            return f"must be greater than {self.gt}"
        if self.le is not None and not value <= self.le:
            return f"must be at most {self.le}"
        if self.lt is not None and not value < self.lt:
            return f"must be less than {self.lt}"
        if value in (math.inf, -math.inf):
            return "must be finite"
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Static(_Bounds):
    """Marks a field that changes shapes or the program: another value is another compilation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traced(_Bounds):
    """Marks a number that the compiled program takes as an argument: one program, every value.

    Attributes:
        off: the value at which the mechanism does nothing at all (dropout rate 0). When every
            trial of a population has it, the mechanism is left out of the program. It is always
            allowed, also when it is infinite (clipping at a norm of infinity).
    """

    off: float | None = None

    def complaint(self, value: float) -> str | None:
        """Why ``value`` is out of range, or None when it is allowed."""
        return None if value == self.off else super().complaint(value)


class Field(NamedTuple):
    """One field of a configuration class, read from its annotation."""

    name: str
    annotation: Any
    kind: Static | Traced | None  # None: a nested configuration


@functools.cache
def fields(cls: type) -> dict[str, Field]:
    """The fields of a configuration class by name.

    Raises:
        TypeError: a field is neither marked Static or Traced nor a nested configuration, or it is a
            tuple of a fixed length.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    result = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        annotation, marks = (hint.__origin__, hint.__metadata__) if hasattr(hint, "__metadata__") else (hint, ())
        kind = next((mark for mark in marks if isinstance(mark, Static | Traced)), None)
        nested = isinstance(annotation, type) and issubclass(annotation, Configuration)
        if kind is None and not nested:
            raise TypeError(f"{cls.__module__}.{field.name} must be annotated Static(...) or Traced(...)")
        if get_origin(annotation) is tuple and get_args(annotation)[1:] != (...,):
            raise TypeError(f"{cls.__module__}.{field.name} must be a tuple of any length: tuple[int, ...]")
        result[field.name] = Field(field.name, annotation, kind)
    return result


def describe(annotation: Any) -> str:
    """A type annotation in words for an error message: ``int``, ``one of a, b``, ``int, int, ...``."""
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(describe(part) for part in get_args(annotation))
    if get_origin(annotation) is tuple:
        item = get_args(annotation)[0]
        plural = {int: "integers", float: "numbers"}.get(item)
        return f"{plural} separated by commas" if plural else f"values separated by commas, each {describe(item)}"
    if annotation is type(None):
        return "none"
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    return words.get(annotation) or f"of type {getattr(annotation, '__name__', annotation)}"


def coerce(value: Any, annotation: Any) -> Any:
    """``value`` as the annotated type: an int becomes a float, a list a tuple, -0.0 is 0.0; nothing else changes.

    Raises:
        TypeError: the value is not of that type.
    """
    origin = get_origin(annotation)
    if origin is Literal:
        # By type as well, for True == 1 == 1.0.
        if any(type(value) is type(choice) and value == choice for choice in get_args(annotation)):
            return value
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            try:
                return coerce(value, part)
            except TypeError:
                continue
    elif origin is tuple:
        if isinstance(value, tuple | list):
            return tuple(coerce(item, get_args(annotation)[0]) for item in value)
    elif annotation is type(None):
        if value is None:
            return None
    elif annotation is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value) + 0.0  # -0.0 would be equal to 0.0 and yet written otherwise
            except OverflowError:
                raise TypeError(value) from None
    elif annotation is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(annotation, type) and isinstance(value, annotation):
        return value
    raise TypeError(value)


def admitted(field: Field, value: Any) -> Any:
    """``value`` as the field's type, once it is sure that it is one of the field's values.

    Raises:
        BadInput: it is of another type, or out of range.
    """
    try:
        value = coerce(value, field.annotation)
    except TypeError:
        raise BadInput(f"{field.name}={value!r} must be {describe(field.annotation)}") from None
    for item in value if isinstance(value, tuple) else (value,):
        is_number = isinstance(item, int | float) and not isinstance(item, bool)
        complaint = field.kind.complaint(item) if is_number and field.kind is not None else None
        if complaint:
            raise BadInput(f"{field.name}={item!r} {complaint}")
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """Base of every configuration: frozen, keyword-only, checked when it is made.

    A class named ``Config`` in a file of its own is found by that file's name: ``models/cnn.py``
    is the model ``cnn``, ``train/optimizers/adam.py`` the optimizer ``adam``.
    """

    def __post_init__(self) -> None:
        """Check type and range of every field, then what :meth:`validate` checks across fields."""
        for field in fields(type(self)).values():
            object.__setattr__(self, field.name, admitted(field, getattr(self, field.name)))
        self.validate()

    def validate(self) -> None:
        """Raise :class:`BadInput` when fields do not fit each other. Overridden where they may not."""

    @property
    def name(self) -> str:
        """The file that defines this configuration, which is its name on the command line."""
        return type(self).__module__.rpartition(".")[2]


@functools.cache
def plugin_names(package: str) -> tuple[str, ...]:
    """Names of the files of ``package`` that define a class ``Config``, found without importing them."""
    module = importlib.import_module(package)
    names = []
    for file in sorted(Path(next(iter(module.__path__))).glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.ClassDef) and node.name == "Config" for node in tree.body):
            names.append(file.stem)
    return tuple(names)


def plugin(package: str, name: str, *, kind: str) -> types.ModuleType:
    """The module ``package.name``, which defines a ``Config``.

    Raises:
        BadInput: there is no such file; the message names the nearest.
    """
    if name not in plugin_names(package):
        raise unknown(kind, name, plugin_names(package))
    return importlib.import_module(f"{package}.{name}")


SCANNED = "blocks"
"""Name of a module that is scanned over: its parameters and intermediates have the layers as their first axis."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shapes:
    """What a task declares of its inputs and outputs; a model is built from its config and these.

    Attributes:
        inputs: shape of one example without the batch axis: ``(28, 28, 1)`` for an image
            (height, width, channels), ``(64,)`` for 64 tokens.
        vocabulary: number of distinct tokens where inputs are integers, None where they are real.
        outputs: size of the last axis of the outputs (classes, or the vocabulary).
        per_position: one output for every position of the sequence (language modelling, tagging),
            or one for each example (classification).
        causal: the output at a position may depend on inputs up to that position only (language
            modelling from left to right); needs ``per_position``.
        target: most positions of the target sequence, where the task maps one sequence to another
            (translation): inputs are then a :class:`models.inputs.Pair`, ``inputs`` and ``vocabulary``
            are those of the source, and there is one output for every position of the target, causal
            in the target. None elsewhere.
    """

    inputs: tuple[int, ...]
    vocabulary: int | None
    outputs: int
    per_position: bool
    causal: bool = False
    target: int | None = None

    def __post_init__(self) -> None:
        """Check that the fields fit each other.

        Raises:
            ValueError: causal outputs, or outputs of a target, that are not one a position.
        """
        if not self.per_position and (self.causal or self.target is not None):
            raise ValueError("causal outputs and outputs of a target are one for every position: per_position=True")


class Model(NamedTuple):
    """A model as the trainer sees it: pure functions of its variables.

    ``variables`` holds ``params`` and, where the model normalises by batch, ``batch_stats``.
    ``inputs`` is an array [batch, ...], or a ``Padded`` or ``Pair`` of :mod:`models.inputs`.
    ``hyperparameters`` maps names of the config's traced fields to scalars; a field that is absent
    keeps the config's own value.

    Attributes:
        init: ``(key, inputs) -> variables``.
        apply: ``(variables, inputs, *, train, rngs, hyperparameters) -> (outputs, batch_stats)``.
        inspect: ``(variables, inputs, *, hyperparameters) -> (outputs, intermediates)``: evaluation,
            and what the layers recorded of it by name, as ``block_0/attention_weights``.
        start: ``(variables, source, *, length) -> carry``: what a sequence begins from. ``source`` is
            the batch size, or for a model of source and target the source sequences (``Padded``);
            ``length`` the most positions that will follow. Every array of a carry has the batch as
            its first axis.
        advance: ``(variables, inputs, carry, *, train, rngs, hyperparameters) -> (outputs, carry)``:
            the next positions [batch, time] of sequences that a carry holds. The outputs are those of
            ``apply`` on the whole sequence.
    """

    init: Callable[..., Mapping[str, Any]]
    apply: Callable[..., tuple[Any, Mapping[str, Any]]]
    inspect: Callable[..., tuple[Any, Mapping[str, Any]]]
    start: Callable[..., Any]
    advance: Callable[..., tuple[Any, Any]]
