"""Intermediates by name: what a layer computes on the way, kept when somebody asks for it."""

from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array

COLLECTION = "intermediates"


def record(module: nn.Module, name: str, value: Callable[[], Array]) -> None:
    """Keep a value under ``name`` of this module when intermediates are asked for (``Model.inspect``).

    Otherwise ``value`` is not called, and nothing of it is in the program.

    Args:
        module: the module that computes it.
        name: such as ``attention_weights``; the module's own path comes before it.
        value: a function that gives the array.
    """
    if module.is_mutable_collection(COLLECTION) and not module.is_initializing():
        recorded = value()
        module.sow(COLLECTION, name, recorded, reduce_fn=lambda _, new: new, init_fn=lambda: recorded)
