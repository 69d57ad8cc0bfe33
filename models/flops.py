"""Floating-point operations of a program, counted from its jaxpr.

XLA's own cost analysis counts the body of a loop once whatever its trip count, so a recurrent
network would seem as cheap as one of its steps. Here a scan counts its length times.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core


def count(function: Callable[..., Any], *arguments: Any) -> float:
    """Operations of the matrix products and convolutions in one call (a multiply-add is two).

    Element-wise work is left out, as is usual where models are compared (Kaplan et al. 2020,
    section 2.1), and so is what no result depends on, which XLA removes (the gradient with respect
    to a network's inputs). A ``while`` loop of unknown length counts once; of several branches, the
    dearest.

    Args:
        function: a function of arrays, traced but not compiled or run.
        arguments: its arguments, or their shapes (``jax.ShapeDtypeStruct``).
    """
    return of_program(jax.make_jaxpr(function)(*arguments))


def of_program(program: core.ClosedJaxpr) -> float:
    """The same of a function that is traced already: ``jax.make_jaxpr(function)(*arguments)``."""
    return _count(program.jaxpr, [True] * len(program.jaxpr.outvars))


def _count(jaxpr: core.Jaxpr, wanted: Sequence[bool]) -> float:
    """Operations that the wanted ones of the results depend on."""
    live = {id(variable) for variable, is_wanted in zip(jaxpr.outvars, wanted, strict=True) if is_wanted}
    total = 0.0
    for equation in reversed(jaxpr.eqns):
        used = [id(variable) in live for variable in equation.outvars]
        if any(used) or equation.effects:
            total += _equation(equation, used)
            live.update(map(id, equation.invars))
    return total


def _equation(equation: Any, used: Sequence[bool]) -> float:
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2.0 * depth * equation.outvars[0].aval.size
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * (kernel.size / outputs) * equation.outvars[0].aval.size
    # The results of a loop's body feed its next round, so all of them may be needed.
    is_loop = name in ("scan", "while")
    inner = [
        _count(sub, [True] * len(sub.outvars) if is_loop or len(sub.outvars) != len(used) else used)
        for value in equation.params.values()
        for sub in inner_jaxprs(value)
    ]
    if name == "cond":
        return max(inner)
    return sum(inner) * (equation.params["length"] if name == "scan" else 1)


def inner_jaxprs(value: Any) -> list[core.Jaxpr]:
    """The jaxprs that a parameter of an equation holds (bodies of loops, branches, calls)."""
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    if isinstance(value, tuple | list):
        return [sub for item in value for sub in inner_jaxprs(item)]
    return []
