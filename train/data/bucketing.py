"""Batches of examples of similar length, so that little is computed at padding."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from models.inputs import Padded, Pair
from train.data.sampling import Key, ShuffledExamples, Split, Step
from train.data.task import Batch

_SCHEDULE = 0
"""Seed of the order of the widths, which is the same for every trial."""


class Epoch(NamedTuple):
    """The order of one epoch.

    Attributes:
        examples: the examples, bucket after bucket, shuffled inside each.
        batches: the order in which the batches that are cut from them come.
        skipped: where in ``examples`` those lie that no batch takes this time.
    """

    examples: Int[Array, " examples"]
    batches: Int[Array, " batches"]
    skipped: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class BucketedExamples:
    """Goes through the examples in batches of similar length, in an order that is new in every epoch.

    A split is as :class:`train.data.sampling.ShuffledExamples` has it, with ``inputs`` a ``Padded`` or a
    ``Pair``, its examples sorted by bucket, and ``ends`` int32 [buckets], the number of examples in
    each bucket and those before it. In an epoch the examples are shuffled inside their buckets and cut into
    batches one after another; a batch on the border of two buckets has the greater width. The batches
    come in a random order. n mod batch_size neighbouring examples, others in every epoch, are left out.

    The examples of a batch depend on (key, step); its width depends on the step alone. So lanes of
    different seeds that march in step have the same width at every step, and each computes one branch.

    Attributes:
        widths: positions of each bucket, ascending in every part: ``((20,), (40,))`` for ``Padded``;
            ``((20, 22), (40, 45))``, source and target, for ``Pair``.
    """

    widths: tuple[tuple[int, ...], ...]

    @property
    def buckets(self) -> int:
        """Number of widths."""
        return len(self.widths)

    def check(self, arrays: Split, *, batch_size: int) -> None:
        """Check, before anything is traced, that batches of this size can be drawn.

        Raises:
            BadInput: there are fewer examples than a batch holds.
        """
        ShuffledExamples().check(arrays, batch_size=batch_size)

    def train_size(self, arrays: Split) -> int:
        """Number of examples of the split."""
        return arrays["targets"].shape[0]

    def order(self, arrays: Split, key: Key, step: Step, *, batch_size: int) -> Epoch:
        """The order of the epoch that ``step`` lies in."""
        examples = self.train_size(arrays)
        epoch = step // self.epoch_steps(arrays, batch_size=batch_size)
        places = jnp.arange(examples, dtype=jnp.int32)
        bucket = jnp.sum(places[:, None] >= jnp.asarray(arrays["ends"])[None, :], axis=1, dtype=jnp.int32)
        chance = jax.random.bits(jax.random.fold_in(key, epoch), (examples,))
        schedule: Any = jax.random.fold_in(jax.random.key(_SCHEDULE), epoch)
        left_out = examples % batch_size
        return Epoch(
            jnp.lexsort((chance, bucket)).astype(jnp.int32),
            jax.random.permutation(schedule, examples // batch_size).astype(jnp.int32),
            jax.random.randint(jax.random.fold_in(schedule, 1), (), 0, examples - left_out + 1, dtype=jnp.int32),
        )

    def draw(self, order: Epoch, arrays: Split, key: Key, step: Step, *, batch_size: int) -> Int[Array, " batch"]:
        """The indices of this step's batch."""
        del key
        places = self._places(order, arrays, step, jnp.arange(batch_size, dtype=jnp.int32), batch_size)
        return jnp.take(order.examples, places, mode="clip")

    def bucket(self, order: Epoch, arrays: Split, step: Step, *, batch_size: int) -> Int[Array, ""]:
        """The bucket of the batch of this step: that of its last example."""
        last = self._places(order, arrays, step, jnp.int32(batch_size - 1), batch_size)
        return jnp.sum(last >= arrays["ends"], dtype=jnp.int32)

    def evaluation_bucket(self, arrays: Split, positions: Int[Array, " batch"]) -> Int[Array, ""]:
        """The bucket of the last of these examples that is real."""
        last = jnp.minimum(jnp.max(positions), self.evaluation_size(arrays) - 1)
        return jnp.sum(last >= arrays["ends"], dtype=jnp.int32)

    def narrowed(self, batch: Batch, bucket: int) -> Batch:
        """The batch cut to the width of a bucket."""

        def cut(padded: Padded, width: int) -> Padded:
            return Padded(padded.values[:, :width], padded.mask[:, :width])

        width = self.widths[bucket]
        if not isinstance(batch.inputs, Pair):
            return batch._replace(inputs=cut(batch.inputs, width[0]))
        inputs = Pair(cut(batch.inputs.source, width[0]), cut(batch.inputs.target, width[1]))
        return Batch(inputs, batch.targets[:, : width[1]], batch.weights[:, : width[1]])

    def gather(self, arrays: Split, indices: Int[Array, " batch"]) -> Batch:
        """The examples at these indices, as wide as the widest."""
        return ShuffledExamples().gather(arrays, indices)

    def epoch_steps(self, arrays: Split, *, batch_size: int) -> int:
        """Batches of an epoch."""
        return ShuffledExamples().epoch_steps(arrays, batch_size=batch_size)

    def fetch(self, arrays: Split, indices: Int[np.ndarray, " batch"]) -> Split:
        """The rows at these indices, as wide as the widest."""
        return ShuffledExamples().fetch(arrays, indices)

    def fetch_evaluation(self, arrays: Split, positions: Int[np.ndarray, " batch"]) -> Split:
        """The rows at these positions; weight 0 at or past the end of the split."""
        return ShuffledExamples().fetch_evaluation(arrays, positions)

    def assemble(self, rows: Split) -> Batch:
        """The batch of these rows."""
        return ShuffledExamples().assemble(rows)

    def evaluation_size(self, arrays: Split) -> int:
        """Number of examples of the split."""
        return self.train_size(arrays)

    def evaluation_batch(self, arrays: Split, positions: Int[Array, " batch"]) -> Batch:
        """The examples at these positions; weight 0 at or past the end of the split."""
        return ShuffledExamples().evaluation_batch(arrays, positions)

    def _places(self, order: Epoch, arrays: Split, step: Step, offset: Any, batch_size: int) -> Any:
        """Where in the epoch's order the examples at ``offset`` of this step's batch stand."""
        examples = self.train_size(arrays)
        place = order.batches[step % order.batches.shape[0]] * batch_size + offset
        return jnp.where(place >= order.skipped, place + examples % batch_size, place)


def best_widths(lengths: Int[np.ndarray, " examples"], buckets: int) -> tuple[int, ...]:
    """The widths of at most ``buckets`` buckets that leave the fewest padded positions, ascending.

    The last one is the greatest length. Found by dynamic programming over the lengths.

    Args:
        lengths: of the training examples, each at least 1.
        buckets: how many widths there may be.
    """
    counts = np.bincount(lengths)
    within = np.cumsum(counts)
    most = counts.size - 1
    sizes = np.arange(most + 1)
    # best[w]: positions of all examples no longer than w, padded to the best widths, the last of which is w.
    best = within * sizes
    choices = []
    for _ in range(buckets - 1):
        cost = np.where(sizes[:, None] < sizes[None, :], best[:, None] + (within - within[:, None]) * sizes, best)
        choices.append(np.argmin(cost, axis=0))
        best = np.min(cost, axis=0)
    widths = [most]
    for choice in reversed(choices):
        widths.append(int(choice[widths[-1]]))
    return tuple(sorted({width for width in widths if width > 0}))


def by_bucket(
    lengths: Int[np.ndarray, " examples"], widths: Sequence[int]
) -> tuple[Int[np.ndarray, " examples"], Int[np.ndarray, " buckets"]]:
    """The examples in the order of their buckets, as they came inside each; and ``ends``.

    Args:
        lengths: of the examples, none above the last width.
        widths: of the buckets, ascending.
    """
    bucket = np.searchsorted(np.asarray(widths), lengths)
    return np.argsort(bucket, kind="stable"), np.cumsum(np.bincount(bucket, minlength=len(widths))).astype(np.int32)


def padded(sequences: Sequence[Sequence[int]], width: int) -> Padded:
    """Sequences as one array of this width, cut where they are longer; 0 at padding."""
    lengths = np.array([min(len(sequence), width) for sequence in sequences], np.int32)
    mask: Any = np.arange(width) < lengths[:, None]
    values = np.zeros(mask.shape, np.int32)
    values[mask] = np.fromiter(itertools.chain.from_iterable(sequence[:width] for sequence in sequences), np.int32)
    return Padded(cast(Any, values), mask)
