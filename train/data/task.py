"""What a data set hands over: a task, with its splits kept apart by type.

A task is arrays and a few pure functions of them. Arrays small enough live on the device; a batch
is gathered inside the compiled program from indices that are a pure function of (order key, step).
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from models.base import Shapes

if TYPE_CHECKING:
    from train.objectives import Objective

Arrays = Mapping[str, Any]
"""The arrays of a split by name: NumPy's, and traced ones inside the compiled program."""


class Batch(NamedTuple):
    """A batch. ``weights`` (float32) is 1 for a real item and 0 for padding.

    For classification: inputs ``[batch, ...]``, targets and weights ``[batch]``; for language
    modelling: all three ``[batch, time]``, targets being the inputs one position later.
    """

    inputs: Any
    targets: Any
    weights: Any


@runtime_checkable
class Sampler(Protocol):
    """How items are drawn from a split. All methods but the sizes and the check are traced by jax."""

    def check(self, arrays: Arrays, *, batch_size: int) -> None:
        """Raise :class:`BadInput` when batches of this size cannot be drawn from the training split."""
        ...

    def train_size(self, arrays: Arrays) -> int:
        """Number of distinct training items: indices that :meth:`gather` takes are below it."""
        ...

    def start(self, arrays: Arrays, key: Any, step: Any, *, batch_size: int) -> Any:
        """What drawing needs at ``step``, as a pure function of its arguments (a permutation, or nothing)."""
        ...

    def draw(self, carry: Any, arrays: Arrays, key: Any, step: Any, *, batch_size: int) -> tuple[Any, Any]:
        """What :meth:`start` gives at ``step + 1``, and the indices of this step's batch, int32 ``[batch]``."""
        ...

    def gather(self, arrays: Arrays, indices: Any) -> Batch:
        """The training batch at these indices."""
        ...

    def evaluation_size(self, arrays: Arrays) -> int:
        """Number of items that one evaluation of a split goes through, each exactly once."""
        ...

    def evaluation_batch(self, arrays: Arrays, positions: Any) -> Batch:
        """The evaluation items at ``positions`` int32 ``[batch]``; weight 0 at or past the size."""
        ...


@dataclasses.dataclass(frozen=True)
class Train:
    """The split that trains. Nothing else may be fitted to, not even a vocabulary or a mean."""

    arrays: Arrays


@dataclasses.dataclass(frozen=True)
class Validation:
    """The split that chooses: learning rates, when to stop, everything."""

    arrays: Arrays


class Test:
    """The split that is read once, at the end.

    Its arrays are not an attribute: they come out of :meth:`open`, which asks for the capability
    that only ``train.loop``'s final evaluation makes.
    """

    __test__ = False  # not a pytest class

    def __init__(self, arrays: Arrays) -> None:
        self.__arrays = arrays

    def open(self, capability: "FinalEvaluation") -> Arrays:
        """The arrays, for the final evaluation.

        Raises:
            TypeError: ``capability`` is not a :class:`FinalEvaluation`.
        """
        if not isinstance(capability, FinalEvaluation):
            raise TypeError("the test split is opened by the final evaluation alone")
        return self.__arrays


class FinalEvaluation:
    """The right to read a test split; made in one place, after training has ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A learning problem: shapes, splits, objective, metrics.

    Attributes:
        name: the data set's name.
        shapes: what a model must take and give.
        objective: what is minimised and what is reported (see ``train.objectives``).
        sampler: how items are drawn.
        train, validation, test: the splits.
        facts: what a record should say of the data: sizes, source, fingerprint (sha256 of the
            arrays), and whatever a reader would ask.
    """

    name: str
    shapes: Shapes
    objective: "Objective"
    sampler: Sampler
    train: Train
    validation: Validation
    test: Test
    facts: Mapping[str, str | int | float]
