"""A profile: what the devices and the host do in a few steps, for the standard viewers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax

STEPS = 5
"""Steps of a profile: enough to tell one step from the next, few enough for a viewer to hold."""


@contextlib.contextmanager
def trace(folder: Path) -> Iterator[None]:
    """Record what runs within. It must have come to its end when the context is left.

    ``folder/plugins/profile/<time>/`` then holds ``*.xplane.pb`` for TensorBoard's profile plugin and XProf
    (``tensorboard --logdir=folder``), and ``perfetto_trace.json.gz``, which https://ui.perfetto.dev opens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with jax.profiler.trace(folder, create_perfetto_trace=True):
        yield
