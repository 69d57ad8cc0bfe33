"""Second derivatives: a mode of tracing without what has a first derivative alone.

Machine code and a GPU's fused kernels bring a gradient written by hand, which jax cannot differentiate again.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_TWICE: contextvars.ContextVar[bool] = contextvars.ContextVar("twice", default=False)


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """What is traced within has the plain forms of all layers, which can be differentiated more than once.

    It computes the same up to rounding, more slowly. The gradient must be traced within, not the model alone. Holds
    for the thread that enters it.
    """
    token = _TWICE.set(True)
    try:
        yield
    finally:
        _TWICE.reset(token)


def is_twice_differentiable() -> bool:
    """Whether what is being traced must be differentiable twice."""
    return _TWICE.get()
