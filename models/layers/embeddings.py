"""Tables of vectors: for tokens, and for positions."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.layers.dense import matmul
from models.layers.partitioning import by_batch, gathered, rows


class Embedding(nn.Module):
    """A vector for each token (Bengio et al. 2003, "A neural probabilistic language model", section 2).

    Attributes:
        vocabulary: number of tokens.
        features: length of a vector.
        init: initialiser of ``embedding`` [vocabulary, features].
    """

    vocabulary: int
    features: int
    init: nn.initializers.Initializer

    def setup(self) -> None:
        """Make the table."""
        self.embedding = self.param("embedding", self.init, (self.vocabulary, self.features))

    def __call__(self, tokens: Int[Array, "*batch"]) -> Float[Array, "*batch features"]:
        """The vectors of these tokens."""
        return by_batch(rows(self.embedding, tokens))

    def project(
        self, tokens: Int[Array, "*batch"], kernel: Float[Array, "features outputs"]
    ) -> Float[Array, "*batch outputs"]:
        """The vectors of these tokens times a kernel.

        Where the vocabulary is much smaller than the number of tokens, the product is with the whole table, and
        its rows are gathered: ``(E W)[tokens]`` for ``E[tokens] W``.
        """
        if 2 * self.vocabulary <= tokens.size:
            return jnp.take(matmul(self.embedding, kernel), tokens, axis=0)
        return matmul(jnp.take(self.embedding, tokens, axis=0), kernel)

    def attend(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch vocabulary"]:
        """Logits of a tied output layer: inner products with every vector (Press and Wolf 2017)."""
        return matmul(x, gathered(self.embedding, 0).T)
