"""The sampler of generated tasks: every training example is new, and made inside the compiled program.

An example is a pure function of a row of random 32-bit words. One call of the generator a batch compiles and runs
several times faster than a draw for each part of each example.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, Int32, UInt32

from train.data.sampling import ShuffledExamples, Split, WithReplacement
from train.data.task import Batch

EXAMPLES = 2**31 - 1
"""How many training examples there are: one for each index that an int32 can name."""

_BLOCK = 1000  # examples made at once: bounds the memory, and one program serves splits of every size


@dataclasses.dataclass(frozen=True)
class FreshExamples(WithReplacement):
    """Draws an index for each example of a batch, and makes the example from it.

    The training split is ``seed`` (uint32, no axes). Example i of it is made from the words
    ``bits(fold_in(key(seed), i))``, and the indices of a step are drawn uniformly with
    ``fold_in(key, step)``: a pure function of (key, step), so trials of equal seed see the same examples in the
    same order. A million draws meet an example again about 230 times. The validation and test splits are
    fixed arrays, read as :class:`ShuffledExamples` reads them.

    Attributes:
        example: from ``words`` random words to ``inputs``, ``targets`` and, where not every target counts,
            ``weights``.
        words: how many of them an example takes.
    """

    example: Callable[[Any], Mapping[str, Any]]
    words: int

    def train_size(self, arrays: Split) -> int:
        """Number of indices that name an example."""
        return EXAMPLES if "seed" in arrays else ShuffledExamples().train_size(arrays)

    def gather(self, arrays: Split, indices: Int[Array, " batch"]) -> Batch:
        """The examples of these names, made here for the training split."""
        if "seed" not in arrays:
            return ShuffledExamples().gather(arrays, indices)
        made = self.made(arrays["seed"], indices)
        weights = made.get("weights", jnp.ones(indices.shape, jnp.float32))
        return Batch(made["inputs"], made["targets"], weights)

    def evaluation_size(self, arrays: Split) -> int:
        """Number of examples of a fixed split."""
        return self.train_size(arrays)

    def evaluation_batch(self, arrays: Split, positions: Int[Array, " batch"]) -> Batch:
        """The examples at these positions of a fixed split; weight 0 at or past its end."""
        return ShuffledExamples().evaluation_batch(arrays, positions)

    def made(self, seed: UInt32[Array | np.ndarray, ""], indices: Int[Array, " batch"]) -> Mapping[str, Any]:
        """The examples of these names from this seed, by part; each has the batch as its first axis."""
        root = jax.random.key(seed)
        keys = jax.vmap(lambda index: jax.random.fold_in(root, index))(indices)
        words = jax.vmap(lambda key: jax.random.bits(key, (self.words,), jnp.uint32))(keys)
        return jax.vmap(self.example)(words)

    def fixed(self) -> Callable[[np.uint32, int], dict[str, Any]]:
        """``(seed, size)`` -> the first ``size`` examples from that seed, as NumPy arrays.

        They are made on the CPU whatever the accelerator.
        """
        # Run a few times only: unoptimised it compiles six times faster, and integers come out the same.
        make = jax.jit(self.made, compiler_options={"xla_backend_optimization_level": 0})

        def first(seed: np.uint32, size: int) -> dict[str, Any]:
            with jax.default_device(jax.local_devices(backend="cpu")[0]):
                starts = range(0, size, _BLOCK)
                blocks = [jax.device_get(make(seed, start + jnp.arange(_BLOCK, dtype=jnp.int32))) for start in starts]
            return jax.tree.map(lambda *parts: np.concatenate(parts)[:size], *blocks)

        return first


def below(words: UInt32[Array, "*n"], bound: int | Array) -> Int32[Array, "*n"]:
    """Integers uniform from 0 to bound - 1, but for a bias of less than bound / 2^32."""
    return (words % jnp.asarray(bound, jnp.uint32)).astype(jnp.int32)


def unit(words: UInt32[Array, "*n"]) -> Float32[Array, "*n"]:
    """Numbers uniform on [0, 1), multiples of 2^-24."""
    return (words >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def distinct(words: UInt32[Array, " count"], size: int) -> Int32[Array, " count"]:
    """Different numbers below ``size``, one a word, every ordered choice equally probable.

    The next is the r-th of those not taken yet: r + #{j : c_j - j <= r} with those taken, c_0 < c_1 < ....
    Sorting all numbers by random bits would do the same for a hundred times the work.
    """
    count = words.shape[0]
    order = jnp.arange(count, dtype=jnp.int32)

    def take(taken: Any, draw: Any) -> tuple[Any, Any]:
        number, word = draw
        r = below(word, size - number)
        r += jnp.sum(taken - order <= r, dtype=jnp.int32)
        return jnp.sort(taken.at[count - 1].set(r)), r

    return jax.lax.scan(take, jnp.full(count, 2**30, jnp.int32), (order, words))[1]
