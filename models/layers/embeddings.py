"""Tables of vectors: for tokens, and for positions."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Embedding(nn.Module):
    """A vector for each token.

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
        return jnp.take(self.embedding, tokens, axis=0)

    def attend(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch vocabulary"]:
        """Logits of a tied output layer: inner products with every vector (Press and Wolf 2017)."""
        return x @ self.embedding.T
