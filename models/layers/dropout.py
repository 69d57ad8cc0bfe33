"""Dropout whose rate may be a number that the compiled program takes as an argument."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

# A threshold of 16 bits lets one random word of 32 bits serve two elements.
_LEVELS = 1 << 16


def keep_mask(key: jax.Array, threshold: jax.Array, shape: tuple[int, ...]) -> Bool[Array, "*shape"]:
    """Independent Bernoulli draws, true with probability ``1 - threshold / 2**16``.

    Args:
        key: random key.
        threshold: uint32 scalar in [0, 2**16); an element is dropped when its 16 bits are below it.
        shape: shape of the mask.
    """
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 2),), jnp.uint32)
    keep = jnp.concatenate([(words & (_LEVELS - 1)) >= threshold, (words >> 16) >= threshold])
    return keep[:size].reshape(shape)


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014, JMLR 15, section 4 and 10): ``y = m x / p``.

    ``m`` is 0 or 1 and ``p`` the probability of 1. The rate is rounded to a multiple of 2**-16 and
    ``p`` is the probability after rounding, so that the expectation of ``y`` is ``x`` exactly.
    Random numbers come from the stream ``dropout``.

    Attributes:
        shared_axes: axes of ``x`` along which one draw serves every element: time for variational
            dropout (Gal and Ghahramani 2016, section 4), all but the batch for stochastic depth
            (Huang et al. 2016, section 3, with the scale in training instead of at test time).
    """

    shared_axes: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self, x: Float[Array, "*shape"], rate: float | Float[Array, ""], *, train: bool
    ) -> Float[Array, "*shape"]:
        """Drop elements of ``x``.

        Args:
            x: activations.
            rate: probability of dropping, in [0, 1). A Python 0.0 leaves the mechanism out of the
                program; a traced 0 returns ``x`` bit for bit.
            train: whether to drop at all.
        """
        if not train or (isinstance(rate, int | float) and rate == 0):
            return x
        # A rate that rounds to 1 would divide by zero.
        threshold = jnp.clip(jnp.round(jnp.asarray(rate) * _LEVELS), 0, _LEVELS - 1)
        scale = (_LEVELS / (_LEVELS - threshold)).astype(x.dtype)
        shape = tuple(1 if axis in self.shared_axes else size for axis, size in enumerate(x.shape))
        keep = keep_mask(self.make_rng("dropout"), threshold.astype(jnp.uint32), shape)
        return jnp.where(keep, x * scale, jnp.zeros((), x.dtype))
