"""The longest chain of matrix products in a program that must wait for one another, counted from its jaxpr.

What cannot be computed at the same time, however many processors there are: Vaswani et al. 2017, Table 1, call it
sequential operations. A recurrent layer has a chain as long as its sequence, attention one that does not grow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend import core
from jaxtyping import Float

from models.flops import inner_jaxprs

PRODUCTS = ("dot_general", "conv_general_dilated")

Transfer = Float[np.ndarray, "results arguments"]
"""Products between an argument and a result on the longest way; the first column is of constants. -inf: no way."""


def longest(program: core.ClosedJaxpr) -> int:
    """Products and convolutions on the longest way to any result of the program.

    A scan counts its length times, a ``while`` loop of unknown length once; of several branches, the longest.

    Args:
        program: as ``jax.make_jaxpr(function)(*arguments)`` gives it.
    """
    transfer = _transfer(program.jaxpr)
    return int(max(0.0, transfer.max(initial=0.0)))


def _after(transfer: Transfer, before: Float[np.ndarray, "arguments sources"]) -> Float[np.ndarray, "results sources"]:
    """The ways through one program after those to its arguments: a matrix product with + for * and max for sum."""
    found = np.full((transfer.shape[0], before.shape[1]), -np.inf)
    for argument in np.flatnonzero(np.isfinite(transfer).any(axis=0)):  # one at a time: there may be hundreds
        np.maximum(found, transfer[:, argument, None] + before[argument], out=found)
    return found


def _transfer(jaxpr: core.Jaxpr) -> Transfer:
    """The ways from the arguments of a jaxpr to its results."""
    count = 1 + len(jaxpr.invars)
    constant = np.full(count, -np.inf)
    constant[0] = 0.0
    ways: dict[Any, np.ndarray] = {}
    for place, variable in enumerate(jaxpr.invars, 1):
        ways[variable] = np.full(count, -np.inf)
        ways[variable][place] = 0.0

    def to(atoms: Sequence[Any]) -> np.ndarray:
        found = [constant if isinstance(atom, core.Literal) else ways.get(atom, constant) for atom in atoms]
        return np.stack([constant, *found])

    for equation in jaxpr.eqns:
        results = _after(_of_equation(equation), to(equation.invars))
        ways.update(zip(equation.outvars, results, strict=True))
    return to(jaxpr.outvars)[1:]


def _of_equation(equation: Any) -> Transfer:
    """The ways through one equation; through all of it for each argument, where nothing more is known."""
    name, shape = equation.primitive.name, (len(equation.outvars), 1 + len(equation.invars))
    if name == "scan":
        return _scanned(equation)
    inner = [_transfer(sub) for value in equation.params.values() for sub in inner_jaxprs(value)]
    if name == "cond":  # whose first argument chooses the branch: what any branch does waits for it
        longest_branch = np.max(inner, axis=0)
        choice = longest_branch.max(axis=1, initial=0.0, keepdims=True)
        return np.concatenate([longest_branch[:, :1], choice, longest_branch[:, 1:]], axis=1)
    if len(inner) == 1 and inner[0].shape == shape:
        return inner[0]
    own = max((max(0.0, each.max(initial=0.0)) for each in inner), default=float(name in PRODUCTS))
    return np.full(shape, own)


def _scanned(equation: Any) -> Transfer:
    """The ways through all rounds of a scan."""
    jaxpr = equation.params["jaxpr"].jaxpr
    carried = _unsliced(equation.outvars, jaxpr.outvars)
    constants = _unsliced(equation.invars, jaxpr.invars) - carried
    body = _transfer(jaxpr)
    state = slice(1 + constants, 1 + constants + carried)
    arguments = np.full((body.shape[1], body.shape[1]), -np.inf)
    np.fill_diagonal(arguments, 0.0)
    outputs = np.full((body.shape[0] - carried, body.shape[1]), -np.inf)
    for _ in range(equation.params["length"]):
        results = _after(body, arguments)
        arguments[state] = results[:carried]
        outputs = np.maximum(outputs, results[carried:])
    return np.concatenate([arguments[state], outputs])


def _unsliced(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many variables of a scan are in its body what they are outside: those without an axis of rounds.

    Their numbers among a scan's parameters have had different names in different versions of jax.
    """
    return sum(outer.aval.ndim == inner.aval.ndim for outer, inner in zip(outside, inside, strict=True))
