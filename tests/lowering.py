"""Lowering a program for backends that are not at hand."""

import jax
from jax import export

from models.layers import engines

PLATFORMS = ("cpu", "cuda", "tpu")


def lowered(function, *arguments, platforms=PLATFORMS):
    """The jitted ``function`` for each of these backends. The machine code that it calls on CPU is accepted by name."""
    jax.eval_shape(function, *arguments)  # names the machine code
    accepted = [export.DisabledSafetyCheck.custom_call(target) for target in engines.targets()]
    return export.export(function, platforms=platforms, disabled_checks=accepted)(*arguments)
