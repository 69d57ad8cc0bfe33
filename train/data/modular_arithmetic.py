"""Equations ``a o b = c`` over a small set: all of them, some for training (Power et al. 2022, "Grokking").

The numbers 0 to p - 1 are tokens, and so are the operation (p) and the sign of equality (p + 1). A model reads the
four tokens ``a o b =`` and is scored on what follows the last: loss and accuracy are of the answer alone,
as in the paper. Operations modulo p are those of its appendix A.1.1, those of the group S5 have the 120
permutations of five things as their elements (numbered in lexicographic order; ``x y`` takes y first).

All equations are put in one order, by the sha256 of ``<data seed> <number>``; the first
``round(train_fraction * all)`` train (so smaller fractions are part of larger ones) and the others
take turns to test and to validate, from the end. The paper's one held-out set is these two together. The mirror
image of a training equation may be held out, as in the paper; the record counts those.
"""

import dataclasses
import hashlib
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int

from models.base import BadInput, Configuration, Shapes, Static
from train.data.generated import assembled
from train.data.task import Batch, Task

FILES = ()

_POLYNOMIALS = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "x2_y2": lambda x, y: x**2 + y**2,
    "x2_xy_y2": lambda x, y: x**2 + x * y + y**2,
    "x2_xy_y2_x": lambda x, y: x**2 + x * y + y**2 + x,
    "x3_xy": lambda x, y: x**3 + x * y,
    "x3_xy2_y": lambda x, y: x**3 + x * y**2 + y,
}
_GROUP = ("s5", "s5_conjugate", "s5_aba")
_SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
_ELEMENTS = 120  # of S5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Which table is to be learnt, and how much of it is shown.

    Attributes:
        operation: add, subtract, multiply, divide (b != 0), divide_or_subtract (a / b where b is odd, else
            a - b), the polynomials x^2 + y^2 and so on, s5 (a b), s5_conjugate (a b a^-1), s5_aba.
        modulus: p; the group S5 has its own 120 elements.
        train_fraction: share of all equations that train.
        data_seed: chooses which.
    """

    operation: Annotated[
        Literal[
            "add",
            "subtract",
            "multiply",
            "divide",
            "divide_or_subtract",
            "x2_y2",
            "x2_xy_y2",
            "x2_xy_y2_x",
            "x3_xy",
            "x3_xy2_y",
            "s5",
            "s5_conjugate",
            "s5_aba",
        ],
        Static(),
    ] = "add"
    modulus: Annotated[int, Static(ge=2, le=1000)] = 97
    train_fraction: Annotated[float, Static(gt=0, lt=1)] = 0.5
    data_seed: Annotated[int, Static(ge=0, lt=2**32)] = 0

    def validate(self) -> None:
        """Division needs an inverse of every number but 0, and every split an equation."""
        if self.operation.startswith("divide") and any(self.modulus % k == 0 for k in range(2, self.modulus)):
            raise BadInput(f"modulus={self.modulus} must be a prime with operation={self.operation}")
        total = self.equations
        train = round(self.train_fraction * total)
        if not 1 <= train <= total - 2:
            raise BadInput(
                f"train_fraction={self.train_fraction} of {total} equations must leave 1 to train on, and 2 others"
            )

    @property
    def equations(self) -> int:
        """How many equations there are."""
        if self.operation in _GROUP:
            return _ELEMENTS**2
        return self.modulus * (self.modulus - self.operation.startswith("divide"))


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of naming the answer. ``data_dir`` is not needed."""
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.sampling import ShuffledExamples

    del data_dir
    equations = table(config.operation, config.modulus)
    elements = _ELEMENTS if config.operation in _GROUP else config.modulus
    parts = split(equations, config)
    seen = {(a, b) for a, b, _ in parts["train"].tolist()}
    held_out = np.concatenate([parts["validation"], parts["test"]])
    return assembled(
        config.name,
        {name: _arrays(part, elements) for name, part in parts.items()},
        shapes=Shapes(inputs=(4,), vocabulary=elements + 2, outputs=elements + 2, per_position=True, causal=True),
        objective=objectives.answers(),
        sampler=ShuffledExamples(),
        source="Power et al. 2022, appendix A.1",
        extra={
            **{f"{name}_examples": len(part) for name, part in parts.items()},
            "equations": len(equations),
            "chance_accuracy": 1 / elements,
            "held_out_mirrored_in_train": sum((b, a) in seen for a, b, _ in held_out.tolist()),
        },
        show=lambda example: _show(example, config),
    )


def table(operation: str, modulus: int) -> Int[np.ndarray, "equations 3"]:
    """Every equation as a, b and c, in the order of a and then b."""
    if operation in _GROUP:
        return _group_table(operation)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(modulus), np.arange(modulus), indexing="ij"))
    if operation.startswith("divide"):
        x, y = x[y != 0], y[y != 0]
        inverse = np.array([0, *(pow(number, -1, modulus) for number in range(1, modulus))])
        quotient = x * inverse[y]
        result = quotient if operation == "divide" else np.where(y % 2 == 1, quotient, x - y)
    else:
        result = _POLYNOMIALS[operation](x, y)
    return np.stack([x, y, result % modulus], axis=-1)


def _group_table(operation: str) -> Int[np.ndarray, "14400 3"]:
    """The products of S5: ``(x y)(i) = x(y(i))``."""
    elements = np.array(list(itertools.permutations(range(5))))
    number = {tuple(element): index for index, element in enumerate(elements.tolist())}
    first, second = (axis.ravel() for axis in np.meshgrid(np.arange(_ELEMENTS), np.arange(_ELEMENTS), indexing="ij"))
    a, b = elements[first], elements[second]
    result = np.take_along_axis(a, b, axis=1)
    if operation != "s5":
        last = np.argsort(a, axis=1) if operation == "s5_conjugate" else a
        result = np.take_along_axis(result, last, axis=1)
    return np.stack([first, second, [number[tuple(row)] for row in result.tolist()]], axis=-1)


def split(equations: Int[np.ndarray, "equations 3"], config: Config) -> dict[str, Int[np.ndarray, "part 3"]]:
    """The equations of each split, in the order from which the splits are cut."""
    rank = [hashlib.sha256(f"{config.data_seed} {number}".encode()).digest() for number in range(len(equations))]
    order = sorted(range(len(equations)), key=rank.__getitem__)
    train = round(config.train_fraction * len(equations))
    held_out = order[: train - 1 : -1]
    return {
        "train": equations[order[:train]],
        "validation": equations[held_out[1::2]],
        "test": equations[held_out[::2]],
    }


def _arrays(equations: Int[np.ndarray, "part 3"], elements: int) -> dict[str, Any]:
    a, b, c = equations.T
    inputs = np.stack([a, np.full_like(a, elements), b, np.full_like(a, elements + 1)], axis=-1)
    targets, weights = np.zeros(inputs.shape, np.int32), np.zeros(inputs.shape, np.float32)
    targets[:, -1], weights[:, -1] = c, 1
    return {"inputs": inputs.astype(np.int32), "targets": targets, "weights": weights}


def _show(example: Batch, config: Config) -> str:
    """The equation: permutations as where 01234 go."""
    a, b, c = (int(number) for number in (example.inputs[0], example.inputs[2], example.targets[3]))
    if config.operation in _GROUP:
        elements = ["".join(map(str, element)) for element in itertools.permutations(range(5))]
        return f"{elements[a]} {config.operation} {elements[b]} = {elements[c]}"
    return f"{a} {_SYMBOLS.get(config.operation, config.operation)} {b} = {c} (mod {config.modulus})"
