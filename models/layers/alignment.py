"""Attention of a recurrent decoder on its source: additive and multiplicative scores.

Additive: Bahdanau, Cho and Bengio 2015, "Neural machine translation by jointly learning to align and
translate", section 3.1 and appendix A.1.2. Multiplicative: Luong, Pham and Manning 2015, "Effective
approaches to attention-based neural machine translation", section 3.1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from models.layers.recurrence import wide


def normalise(
    scores: Float[Array, "batch *queries source"], mask: Bool[Array, "batch source"]
) -> Float[Array, "batch *queries source"]:
    """``exp(e_ij) / sum_k exp(e_ik)`` over the real positions (Bahdanau et al. 2015, equation 6), 0 at the others.

    Computed in at least 32 bits.
    """
    scores = scores.astype(wide(scores.dtype))
    mask = mask.reshape(mask.shape[0], *(1,) * (scores.ndim - 2), mask.shape[1])
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1)
    # Where no position is real, softmax would share the weight among padding.
    return jnp.where(mask, weights, jnp.zeros((), weights.dtype))


def additive_scores(
    queries: Float[Array, "batch *queries units"],
    keys: Float[Array, "batch source units"],
    vector: Float[Array, " units"],
) -> Float[Array, "batch *queries source"]:
    """``e_ij = v . tanh(q_i + k_j)`` with ``q_i = W_a s_{i-1}``, ``k_j = U_a h_j`` (Bahdanau et al. 2015, A.1.2)."""
    middle = (1,) * (queries.ndim - 2)
    keys = keys.reshape(keys.shape[0], *middle, *keys.shape[1:])
    features = jnp.tanh(queries[..., None, :].astype(keys.dtype) + keys)
    return jnp.matmul(features, vector, preferred_element_type=wide(keys.dtype))


def multiplicative_scores(
    queries: Float[Array, "batch queries units"], keys: Float[Array, "batch source units"]
) -> Float[Array, "batch queries source"]:
    """``e_ij = q_i . k_j``: ``k_j`` is ``h_j`` (dot) or ``W_a h_j`` (general; Luong et al. 2015, equation 8)."""
    return jnp.einsum("bqu,bsu->bqs", queries.astype(keys.dtype), keys, preferred_element_type=wide(keys.dtype))


def contexts(
    weights: Float[Array, "batch queries source"], values: Float[Array, "batch source features"]
) -> Float[Array, "batch queries features"]:
    """``c_i = sum_j alpha_ij h_j`` (Bahdanau et al. 2015, equation 5)."""
    return jnp.matmul(weights.astype(values.dtype), values)
