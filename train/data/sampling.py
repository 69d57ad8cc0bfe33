"""How items are drawn from a split: the implementations of :class:`train.data.task.Sampler`.

Every draw is a pure function of (key, step), so a run resumes at any step with nothing saved.
Files of samplers import jax; the builders of tasks import them when called, so that a list of the data sets does not.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, UInt32

from models.base import BadInput
from train.data.task import Batch

Split = Mapping[str, Any]
Key = PRNGKeyArray | UInt32[Array, "2"]
Step = Int[Array, ""] | int
Take = Callable[[Any, Any], Any]


def on_device(array: Array | np.ndarray, indices: Any) -> Array:
    """The rows of an array at these indices, traced by jax; an index past the end gives the last one."""
    return jnp.take(array, indices, axis=0, mode="clip")


def on_host(array: np.ndarray, indices: Any) -> np.ndarray:
    """The same by NumPy, of an array that may be memory-mapped."""
    return np.take(np.asarray(array), indices, axis=0, mode="clip")


@dataclasses.dataclass(frozen=True)
class ShuffledExamples:
    """Goes through the examples in an order that is new in every epoch.

    A split is ``inputs`` [n, ...], or a ``Padded`` or ``Pair`` of such arrays, and ``targets`` [n], or
    [n, time] with ``weights`` [n, time] that are 0 at padding. Epoch e takes the examples in the order
    ``permutation(fold_in(key, e), n)``. Only whole batches are drawn: the n mod batch_size
    examples that are left at an epoch's end are dropped, and the next epoch shuffles all n again.
    """

    def check(self, arrays: Split, *, batch_size: int) -> None:
        """Check, before anything is traced, that batches of this size can be drawn.

        Raises:
            BadInput: there are fewer examples than a batch holds.
        """
        size = self.train_size(arrays)
        if batch_size > size:
            raise BadInput(f"batch_size={batch_size} must be at most {size}, the number of training examples")

    def train_size(self, arrays: Split) -> int:
        """Number of examples of the split."""
        return arrays["targets"].shape[0]

    def order(self, arrays: Split, key: Key, step: Step, *, batch_size: int) -> Int[Array, " examples"]:
        """The order of the epoch that ``step`` lies in, int32 [n]."""
        examples = self.train_size(arrays)
        epoch = step // self.epoch_steps(arrays, batch_size=batch_size)
        return jax.random.permutation(jax.random.fold_in(key, epoch), examples).astype(jnp.int32)

    def draw(
        self, order: Int[Array, " examples"], arrays: Split, key: Key, step: Step, *, batch_size: int
    ) -> Int[Array, " batch"]:
        """The indices of this step's batch: its part of the order."""
        del key
        batch = step % self.epoch_steps(arrays, batch_size=batch_size)
        return jax.lax.dynamic_slice_in_dim(order, batch * batch_size, batch_size)

    def gather(self, arrays: Split, indices: Int[Array, " batch"]) -> Batch:
        """The examples at these indices, each of weight 1 where the split says nothing else."""
        return self.assemble(self._rows(arrays, indices, on_device))

    def epoch_steps(self, arrays: Split, *, batch_size: int) -> int:
        """Batches of an epoch."""
        return self.train_size(arrays) // batch_size

    def fetch(self, arrays: Split, indices: Int[np.ndarray, " batch"]) -> Split:
        """The rows at these indices."""
        return self._rows(arrays, indices, on_host)

    def fetch_evaluation(self, arrays: Split, positions: Int[np.ndarray, " batch"]) -> Split:
        """The rows at these positions; weight 0 at or past the end of the split."""
        size = self.evaluation_size(arrays)
        rows = self.fetch(arrays, np.minimum(positions, size - 1))
        real = (positions < size).astype(np.float32)
        weights = rows.get("weights", np.ones(positions.shape, np.float32))
        return {**rows, "weights": weights * real.reshape(-1, *[1] * (weights.ndim - 1))}

    def assemble(self, rows: Split) -> Batch:
        """The batch of these rows, each of weight 1 where they say nothing else."""
        weights = rows.get("weights", jnp.ones(rows["targets"].shape[:1], jnp.float32))
        return Batch(rows["inputs"], rows["targets"], weights)

    def _rows(self, arrays: Split, indices: Any, take: Take) -> Split:
        names = [name for name in ("inputs", "targets", "weights") if name in arrays]
        return {name: jax.tree.map(lambda leaf: take(leaf, indices), arrays[name]) for name in names}

    def evaluation_size(self, arrays: Split) -> int:
        """Number of examples of the split."""
        return self.train_size(arrays)

    def evaluation_batch(self, arrays: Split, positions: Int[Array, " batch"]) -> Batch:
        """The examples at these positions; weight 0 at or past the end of the split."""
        real = positions < self.evaluation_size(arrays)
        batch = self.gather(arrays, positions)
        return batch._replace(weights=jnp.where(real.reshape(-1, *[1] * (batch.weights.ndim - 1)), batch.weights, 0))


class WithReplacement(abc.ABC):
    """Draws of which none depends on another, so that nothing is carried from one step to the next."""

    @abc.abstractmethod
    def train_size(self, arrays: Split) -> int:
        """Number of indices that name an item of the split."""

    def check(self, arrays: Split, *, batch_size: int) -> None:
        """Nothing can be wrong: batches of any size can be drawn."""
        del arrays, batch_size

    def epoch_steps(self, arrays: Split, *, batch_size: int) -> int:
        """As many as there can be: nothing is kept from one draw to the next."""
        del arrays, batch_size
        return 2**31 - 1

    def order(self, arrays: Split, key: Key, step: Step, *, batch_size: int) -> tuple[()]:
        """Nothing: a draw needs only the key and the step."""
        del arrays, key, step, batch_size
        return ()

    def draw(self, order: tuple[()], arrays: Split, key: Key, step: Step, *, batch_size: int) -> Int[Array, " batch"]:
        """The items of this step, all equally likely."""
        del order
        key = jax.random.fold_in(key, step)
        return jax.random.randint(key, (batch_size,), 0, self.train_size(arrays), dtype=jnp.int32)


@dataclasses.dataclass(frozen=True)
class Windows(WithReplacement):
    """Cuts windows out of one long sequence, for models that predict the next token.

    A split is ``tokens`` [n] of any type of integers, and, for an evaluation, what else is known of each
    token (the ``characters`` that it spells). A training window starts anywhere, drawn uniformly with
    replacement with ``fold_in(key, step)``, as in nanoGPT.

    An evaluation predicts every token but the first exactly once. Window k starts at token k x stride.
    The first one counts all its targets, each later one the targets that the window before it did not
    reach: the last ``stride`` of them, predicted from ``length - stride + 1`` tokens at least; the others
    have weight 0, and so has what lies past the end (Press et al. 2021, "Shortformer", section 2, has both
    this and windows that do not overlap). Without a stride, windows do not overlap, and a token early
    in its window is predicted from a short context; that is part of the metric.

    Attributes:
        length: tokens in a window, which is the context that a model sees.
        stride: tokens from the start of one evaluation window to the next, at most ``length``; None: ``length``.
    """

    length: int
    stride: int | None = None

    def check(self, arrays: Split, *, batch_size: int) -> None:
        """Check, before anything is traced, that there is a whole window to draw.

        Raises:
            BadInput: the training split is no longer than a window.
        """
        del batch_size  # drawn with replacement: any number will do
        if self.train_size(arrays) < 1:
            tokens = arrays["tokens"].shape[0]
            raise BadInput(f"a context of {self.length} must be shorter than the training split of {tokens} tokens")

    def train_size(self, arrays: Split) -> int:
        """Number of places where a window and the token behind it fit."""
        return arrays["tokens"].shape[0] - self.length

    def gather(self, arrays: Split, indices: Int[Array, " batch"]) -> Batch:
        """The windows that start at these tokens, all three parts [batch, length], of weight 1."""
        places = indices[:, None] + jnp.arange(self.length + 1, dtype=jnp.int32)[None, :]
        return self.assemble({"tokens": on_device(arrays["tokens"], places)})

    def fetch(self, arrays: Split, indices: Int[np.ndarray, " batch"]) -> Split:
        """The tokens of the windows that start here, and the one behind each, [batch, length + 1]."""
        places = np.asarray(indices, np.int64)[:, None] + np.arange(self.length + 1)
        return {"tokens": on_host(arrays["tokens"], places)}

    def fetch_evaluation(self, arrays: Split, positions: Int[np.ndarray, " batch"]) -> Split:
        """The windows at these positions, with their weights and what else is known of their targets."""
        size, stride = self.evaluation_size(arrays), self.stride or self.length
        starts = np.minimum(np.asarray(positions, np.int64), size) * stride
        place = np.arange(1, self.length + 1)
        targets = starts[:, None] + place
        real = (targets < arrays["tokens"].shape[0]) & (positions < size)[:, None]
        fresh = (positions == 0)[:, None] | (place > self.length - stride)
        lengths = {name: on_host(array, targets) for name, array in arrays.items() if name != "tokens"}
        weights = (real & fresh).astype(np.float32)
        return {**self.fetch(arrays, starts), "weights": weights, "lengths": lengths}

    def assemble(self, rows: Split) -> Batch:
        """The windows of these tokens, of weight 1 where the rows say nothing else."""
        tokens = rows["tokens"].astype(jnp.int32)
        weights = rows.get("weights", jnp.ones((tokens.shape[0], self.length), jnp.float32))
        return Batch(tokens[:, :-1], tokens[:, 1:], weights, rows.get("lengths"))

    def evaluation_size(self, arrays: Split) -> int:
        """Number of windows that hold every token but the first as a target.

        ``1 + ceil((n - 1 - length) / stride)``, at least 1; 0 where there is no target.
        """
        targets = arrays["tokens"].shape[0] - 1
        return 0 if targets < 1 else 1 + max(0, -((self.length - targets) // (self.stride or self.length)))

    def evaluation_batch(self, arrays: Split, positions: Int[Array, " batch"]) -> Batch:
        """The windows at these positions; weight 0 for what is read again or lies past the end of the split."""
        # A position past the end is pulled back before it is multiplied, so that it cannot overflow.
        size, stride = self.evaluation_size(arrays), self.stride or self.length
        starts = jnp.minimum(positions, size) * stride
        place = jnp.arange(1, self.length + 1, dtype=jnp.int32)[None, :]
        targets = starts[:, None] + place
        real = (targets < arrays["tokens"].shape[0]) & (positions < size)[:, None]
        fresh = (positions == 0)[:, None] | (place > self.length - stride)
        lengths = {name: jnp.take(array, targets, mode="clip") for name, array in arrays.items() if name != "tokens"}
        batch = self.gather(arrays, starts)
        return batch._replace(weights=(real & fresh).astype(jnp.float32), lengths=lengths)
