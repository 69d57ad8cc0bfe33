"""Rows of tokens that lie in a file in any type of integers."""

import dataclasses

import jax.numpy as jnp

from train.data.sampling import ShuffledExamples, Split
from train.data.task import Batch


@dataclasses.dataclass(frozen=True)
class TokenExamples(ShuffledExamples):
    """Shuffled examples whose inputs become int32 as a batch is put together."""

    def assemble(self, rows: Split) -> Batch:
        """The batch of these rows."""
        batch = super().assemble(rows)
        return batch._replace(inputs=batch.inputs.astype(jnp.int32))
