"""Loss scaling: how gradients survive the narrow range of float16.

A float16 has no number between 0 and 6e-8, and many gradients lie there. So the loss is multiplied by
S before the backward pass, and the gradients, by then in 32 bits, are divided by it (Micikevicius et
al. 2018, "Mixed Precision Training", section 3.2). S is dynamic, as the paper proposes and PyTorch's
``GradScaler`` does: a step whose gradients overflowed is not taken, and S is halved; after enough steps
in a row without overflow it is doubled. bfloat16 has the range of float32 and needs none of this.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree


class LossScale(NamedTuple):
    """The state of loss scaling; a part of the trial's state, so it is in every checkpoint.

    Attributes:
        scale: S, a power of two at least 1 unless it began as none.
        good_steps: steps in a row without overflow since S last changed.
        skipped: steps that were not taken, for their gradients overflowed.
    """

    scale: Float[Array, ""]
    good_steps: Int[Array, ""]
    skipped: Int[Array, ""]


def begin(scale: Any) -> LossScale:
    """The state before the first step."""
    return LossScale(jnp.asarray(scale, jnp.float32), jnp.int32(0), jnp.int32(0))


def is_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every number of a tree is finite."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def update(state: LossScale, finite: Bool[Array, ""], interval: Any) -> LossScale:
    """The state after a step whose gradients were finite, or not.

    S never falls below 1: what overflows there is no matter of scaling.

    Args:
        state: before the step.
        finite: whether all gradients were.
        interval: good steps in a row after which S doubles; S stays within float32.
    """
    good = jnp.where(finite, state.good_steps + 1, 0)
    grows = good >= interval
    grown = jnp.where(grows, jnp.minimum(2 * state.scale, 2.0**126), state.scale)
    scale = jnp.where(finite, grown, jnp.maximum(state.scale / 2, 1.0))
    return LossScale(scale, jnp.where(grows, 0, good), state.skipped + ~finite)


def has_failed(state: LossScale, finite: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether a step overflowed though the loss was not scaled up any more: the trial has diverged.

    Args:
        state: before the step.
        finite: whether all gradients were.
    """
    return ~finite & (state.scale <= 1)
