"""The variants of the LSTM that Greff et al. compare: what it loses when a part is taken out.

Source: Greff, Srivastava, Koutník, Steunebrink and Schmidhuber 2015, "LSTM: A Search Space Odyssey"
(IEEE TNNLS 28(10), 2017), sections 2 and 3.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.layers.recurrence import wide
from models.layers.scan import scan

Variant = Literal[
    "none",
    "no_input_gate",
    "no_forget_gate",
    "no_output_gate",
    "no_input_activation",
    "no_output_activation",
    "coupled_gates",
    "full_gate_recurrence",
]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
"""In the paper's words: none, NIG, NFG, NOG, NIAF, NOAF, CIFG and FGR. NP is none without peepholes."""

_ABSENT = {
    "no_input_gate": "input_gate",
    "no_forget_gate": "forget_gate",
    "no_output_gate": "output_gate",
    "coupled_gates": "forget_gate",
}


def blocks(variant: Variant) -> tuple[str, ...]:
    """The parts of a variant that have weights, in the order in which the weights lie."""
    parts = ("input_gate", "forget_gate", "candidate", "output_gate")
    return tuple(part for part in parts if part != _ABSENT.get(variant))


def gates(variant: Variant) -> tuple[str, ...]:
    """The gates among the blocks: those that may have a peephole."""
    return tuple(part for part in blocks(variant) if part != "candidate")


def lstm_variant(
    projected: Float[Array, "time batch blocks"],
    weights: Mapping[str, Array],
    initial: tuple[Array, ...],
    keep: Float[Array, "batch hidden"] | None,
    *,
    variant: Variant,
    with_gates: bool = False,
) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """An LSTM of the paper's section 2, with the change that its section 3 calls ``variant``.

    With ``a = W x_t + R h_{t-1} + b`` for each block::

        i = sigmoid(a_i + p_i c_{t-1})        1 without input gate
        f = sigmoid(a_f + p_f c_{t-1})        1 without forget gate; 1 - i with coupled gates
        z = tanh(a_z)                         a_z without input activation
        c_t = z i + c_{t-1} f
        o = sigmoid(a_o + p_o c_t)            1 without output gate
        h_t = tanh(c_t) o                     c_t o without output activation

    Full gate recurrence adds ``(i, f, o)_{t-1} V`` to the sums of the three gates. Peepholes are
    there where the weights hold them. (The paper writes z for the candidate and y for h.)

    Args:
        projected: the input's contribution ``W x + b``, blocks side by side in the order of :func:`blocks`.
        weights: ``recurrent_kernel`` [hidden, blocks * hidden]; ``peepholes`` [gates, hidden] in the order
            of :func:`gates`, if any; ``gate_kernel`` [3 * hidden, 3 * hidden] of full gate recurrence.
        initial: ``(h_0, c_0)``, and ``(i, f, o)_0`` [batch, 3 * hidden] with full gate recurrence.
        keep: factor of ``h_{t-1}`` in its product; none where it is None.
        variant: one of VARIANTS.
        with_gates: give the gates' values too.

    Returns:
        The states at every step, each [time, batch, ...], in the order of ``initial``; and the values
        of the blocks by name, if asked for.
    """
    step = functools.partial(_step, variant=variant, with_gates=with_gates)
    kernels = {name: weights[name] for name in ("recurrent_kernel", "gate_kernel") if name in weights}
    first = tuple(part.astype(wide(projected.dtype)) for part in initial)
    result: Any = scan(step, kernels, (weights.get("peepholes"), keep), first, projected)
    return result[1]


def _step(times: Any, constants: Any, carry: Any, x: Any, *, variant: Variant, with_gates: bool) -> tuple[Any, Any]:
    peepholes, keep = constants
    h, c, *before = carry
    names = blocks(variant)
    sums = x + times("recurrent_kernel", h if keep is None else h * keep.astype(h.dtype))
    a = dict(zip(names, jnp.split(sums, len(names), axis=-1), strict=True))
    if before:
        more = jnp.split(times("gate_kernel", before[0]), 3, axis=-1)
        a |= {name: a[name] + part for name, part in zip(gates(variant), more, strict=True)}

    def gate(name: str, cell: Any) -> Any:
        """The gate's value; None where the variant has none, which stands for 1."""
        if name not in a:
            return None
        if peepholes is None:
            return jax.nn.sigmoid(a[name])
        return jax.nn.sigmoid(a[name] + peepholes[gates(variant).index(name)][None] * cell)

    i: Any = gate("input_gate", c)
    f: Any = gate("forget_gate", c)
    if variant == "coupled_gates":
        f = 1 - i
    z = a["candidate"] if variant == "no_input_activation" else jnp.tanh(a["candidate"])
    c = (z if i is None else z * i) + (c if f is None else c * f)
    o: Any = gate("output_gate", c)
    h = c if variant == "no_output_activation" else jnp.tanh(c)
    h = h if o is None else h * o
    values = {"input_gate": i, "forget_gate": f, "candidate": z, "output_gate": o}
    values = {name: value for name, value in values.items() if value is not None}
    carry = (h, c)
    if before:
        carry += (jnp.concatenate([values[name] for name in gates(variant)], axis=-1),)
    return carry, (carry, values if with_gates else {})
