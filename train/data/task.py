"""What a data set hands over: a task, with its splits kept apart by type.

A task is arrays and a few pure functions of them. Arrays small enough live on the device; a batch
is gathered inside the compiled program from indices that are a pure function of (order key, step).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from models.base import Shapes

if TYPE_CHECKING:
    from train.objectives import Objective

Arrays = Mapping[str, Any]
"""The arrays of a split by name: NumPy's, and traced ones inside the compiled program."""


class Batch(NamedTuple):
    """A batch. ``weights`` (float32) is 1 for a real item and 0 for padding.

    For classification: inputs ``[batch, ...]``, targets and weights ``[batch]``; for language
    modelling: all three ``[batch, time]``, targets being the inputs one position later. Where tokens
    spell more than one character or byte, an evaluation's ``lengths`` say how many, by name, [batch, time].
    """

    inputs: Any
    targets: Any
    weights: Any
    lengths: Any = None


@runtime_checkable
class Sampler(Protocol):
    """How items are drawn from a split. All methods but the sizes and the check are traced by jax."""

    def check(self, arrays: Arrays, *, batch_size: int) -> None:
        """Raise :class:`BadInput` when batches of this size cannot be drawn from the training split."""
        ...

    def train_size(self, arrays: Arrays) -> int:
        """Number of distinct training items: indices that :meth:`gather` takes are below it."""
        ...

    def epoch_steps(self, arrays: Arrays, *, batch_size: int) -> int:
        """For how many steps, from a multiple of it on, :meth:`order` gives the same."""
        ...

    def order(self, arrays: Arrays, key: Any, step: Any, *, batch_size: int) -> Any:
        """What the draws of the epoch of ``step`` share, a function of the key (a permutation, or nothing)."""
        ...

    def draw(self, order: Any, arrays: Arrays, key: Any, step: Any, *, batch_size: int) -> Any:
        """The indices of this step's batch, int32 ``[batch]``, where :meth:`order` is this at ``step``."""
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


@runtime_checkable
class BucketedSampler(Sampler, Protocol):
    """A sampler whose batches have one of a few widths; the program holds a branch for each.

    Which branch a step takes must not depend on the key, so that lanes which march in step take it together.
    """

    @property
    def buckets(self) -> int:
        """Number of widths; the last bucket is as wide as what :meth:`gather` gives."""
        ...

    def bucket(self, order: Any, arrays: Arrays, step: Any, *, batch_size: int) -> Any:
        """The bucket of the batch that :meth:`draw` gives at ``step`` with this order."""
        ...

    def evaluation_bucket(self, arrays: Arrays, positions: Any) -> Any:
        """The bucket of the evaluation items at these positions."""
        ...

    def narrowed(self, batch: Batch, bucket: int) -> Batch:
        """The batch cut to the width of a bucket; nothing real is lost if it is the batch's own."""
        ...


@runtime_checkable
class StreamedSampler(Sampler, Protocol):
    """A sampler of splits that may stay on the host: a few rows of one make a batch on the device.

    ``assemble(fetch(arrays, indices))`` is ``gather(arrays, indices)``, and ``assemble(fetch_evaluation(arrays,
    positions))`` is ``evaluation_batch(arrays, positions)``, both to the last bit. Every array that is fetched has
    the batch as its first axis, so that parts of a batch can be joined. The arrays may be memory-mapped: only the
    rows that are asked for are read.
    """

    def fetch(self, arrays: Arrays, indices: Any) -> Arrays:
        """What the training items at these indices are made of, read on the host as NumPy arrays."""
        ...

    def fetch_evaluation(self, arrays: Arrays, positions: Any) -> Arrays:
        """The same for the evaluation items at these positions; weight 0 at or past the size."""
        ...

    def assemble(self, rows: Arrays) -> Batch:
        """The batch that fetched rows are made into; traced by jax."""
        ...


@dataclasses.dataclass(frozen=True)
class Train:
    """The split that trains. Nothing else may be fitted to, not even a vocabulary or a mean."""

    arrays: Arrays


@dataclasses.dataclass(frozen=True)
class Validation:
    """The split that chooses: learning rates, when to stop, everything.

    Attributes:
        arrays: of the split.
        references: what decoded outputs are compared with, in the order of the arrays; see :class:`Decoding`.
    """

    arrays: Arrays
    references: Sequence[str] = ()


class Test:
    """The split that is read once, at the end.

    Its arrays and references are no attributes: they come out of :meth:`open` and :meth:`open_references`,
    which ask for the capability that only :mod:`train.conclusion` makes, for the final evaluation.
    """

    __test__ = False  # not a pytest class

    def __init__(self, arrays: Arrays, references: Sequence[str] = ()) -> None:
        self.__arrays = arrays
        self.__references = references

    def shapes(self) -> Mapping[str, Any]:
        """The arrays' shapes and types, without their content: enough to compile what will read them."""
        import jax  # not above: the command line's help does without it

        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), dict(self.__arrays))

    def open(self, capability: "FinalEvaluation") -> Arrays:
        """The arrays, for the final evaluation.

        Raises:
            TypeError: ``capability`` is not a :class:`FinalEvaluation`.
        """
        _check(capability)
        return self.__arrays

    def open_references(self, capability: "FinalEvaluation") -> Sequence[str]:
        """What decoded outputs are compared with, for the final evaluation.

        Raises:
            TypeError: ``capability`` is not a :class:`FinalEvaluation`.
        """
        _check(capability)
        return self.__references


class FinalEvaluation:
    """The right to read a test split; made in one place, after training has ended."""


def _check(capability: object) -> None:
    if not isinstance(capability, FinalEvaluation):
        raise TypeError("the test split is opened by the final evaluation alone")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a task of source and target is decoded, token after token, at the final evaluation.

    Attributes:
        begin: the token that a target begins with.
        end: the token that ends it.
        pad: the token behind the end.
        steps: most tokens that are decoded.
        beams: hypotheses of a beam search; 1 decodes greedily.
        length_penalty: alpha of the beam search (see :class:`models.beam_search.Beam`).
        score: ``(tokens [examples, steps], references) -> {metric: value}``.
        metrics: names of the metrics that :attr:`score` gives.
    """

    begin: int
    end: int
    pad: int
    steps: int
    beams: int
    length_penalty: float
    score: Callable[[Any, Sequence[str]], Mapping[str, float]]
    metrics: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A learning problem: shapes, splits, objective, metrics. Equal to itself alone.

    Attributes:
        name: the data set's name.
        shapes: what a model must take and give.
        objective: what is minimised and what is reported (see ``train.objectives``).
        sampler: how items are drawn.
        train, validation, test: the splits.
        facts: what a record should say of the data: sizes, source, fingerprint (sha256 of the
            arrays), and whatever a reader would ask.
        show: one example as a person reads it: text, or an image (uint8 [height, width] or
            [height, width, 3]). It takes a :class:`Batch` of NumPy arrays that have no batch axis. None: by
            the shapes alone (see ``experiments.describe``).
        untrained: predictions without training, by name, that stand beside the models in every table
            (for a forecast: that all stays as it is). Each is ``(arrays, positions) -> outputs`` for the
            evaluation items at ``positions``, traced by jax, and is measured by the same objective (see
            ``train.untrained``).
        decoding: how outputs become sequences at the final evaluation; None where they do not.
        initial: arrays that parameters begin from, by a regular expression that is searched for in their paths
            (``layers_0/bias``); where such an array is NaN, the model's own beginning stays.
        classes: names of the classes in the order of their numbers; empty where they have none but their numbers.
        spell: a token as text, for the tokens of the inputs and, where there is a target, for those of it; empty where
            tokens are no text.
    """

    name: str
    shapes: Shapes
    objective: "Objective"
    sampler: Sampler
    train: Train
    validation: Validation
    test: Test
    facts: Mapping[str, str | int | float]
    show: Callable[[Batch], Any] | None = None
    untrained: Mapping[str, Callable[[Arrays, Any], Any]] = dataclasses.field(default_factory=dict)
    decoding: Decoding | None = None
    initial: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = ()
    spell: tuple[Callable[[int], str], ...] = ()
