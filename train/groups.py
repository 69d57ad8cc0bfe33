"""Groups of parameters: the same optimizer with another rate and another decay for each.

A group's optimizer is ``build`` with its learning rate and its weight decay multiplied, and all of them
together are Optax's ``partition``. Where there is one group only, it is the optimizer itself.
"""

import re
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import PyTree

from models.base import BadInput
from train.parameters import check_found, names

REST = "rest"
"""The group of the parameters that no pattern finds."""


class Factors(NamedTuple):
    """What the learning rate and the weight decay of a group are multiplied by."""

    learning_rate: Any
    weight_decay: Any


def labels(params: PyTree, patterns: tuple[str, ...]) -> PyTree:
    """For each parameter the number of the pattern that finds it, as text, or ``rest``.

    Raises:
        BadInput: a pattern finds no parameter, or two find the same one.
    """
    paths = names(params)
    for pattern in patterns:
        check_found("groups.patterns", pattern, paths)
    result = []
    for path in paths:
        found = [number for number, pattern in enumerate(patterns) if re.search(pattern, path)]
        if len(found) > 1:
            both = " and ".join(repr(patterns[number]) for number in found[:2])
            raise BadInput(f"groups.patterns: {both} both find {path}; every parameter belongs to one group")
        result.append(str(found[0]) if found else REST)
    assert len(result) == len(paths)  # every parameter once
    return jax.tree.structure(params).unflatten(result)


def split(params: PyTree, groups: Any, scaling: PyTree | None) -> tuple[PyTree, dict[str, Factors]]:
    """The label of each parameter, and the factors of each label.

    Args:
        params: arrays, or shapes.
        groups: the section, whose factors may be traced.
        scaling: the factors of each parameter that come from elsewhere (see :mod:`train.mup`), two numbers known
            before the program runs; None where there are none.
    """
    tree = labels(params, groups.patterns)
    of_label = {REST: Factors(1.0, 1.0)}
    for number in range(len(groups.patterns)):
        of_label[str(number)] = Factors(groups.learning_rates[number], groups.weight_decays[number])
    if scaling is not None:
        flat, structure = jax.tree.flatten(tree)
        combined: dict[str, Factors] = {}
        for place, (label, own) in enumerate(zip(flat, structure.flatten_up_to(scaling), strict=True)):
            flat[place] = f"{label} x {own.learning_rate:g} x {own.weight_decay:g}"
            combined[flat[place]] = Factors(*(_product(a, b) for a, b in zip(of_label[label], own, strict=True)))
        tree, of_label = structure.unflatten(flat), combined
    used = set(jax.tree.leaves(tree))
    return tree, {label: factors for label, factors in of_label.items() if label in used}


def _product(one: Any, other: Any) -> Any:
    """The product of two factors; where one is 1 as a Python number, the other, so that nothing is computed."""
    if isinstance(one, float) and one == 1:
        return other
    return one if isinstance(other, float) and other == 1 else one * other


def optimizer(
    build: Callable[..., optax.GradientTransformation],
    section: types.SimpleNamespace,
    learning_rate: Callable[..., Any],
    mask: PyTree,
    tree: PyTree,
    factors: Mapping[str, Factors],
) -> optax.GradientTransformation:
    """The optimizer of all groups.

    Args:
        build: of the optimizer's file.
        section: its fields, traced ones as tracers.
        learning_rate: ``(count, peak=None) -> rate``.
        mask: of weight decay.
        tree: the label of each parameter.
        factors: by label.
    """
    if set(factors) == {REST}:
        return build(section, learning_rate, mask)

    def of_group(own: Factors) -> optax.GradientTransformation:
        def rate(count: Any, peak: Any = None) -> Any:
            return _product(learning_rate(count, peak), own.learning_rate)

        values = dict(vars(section))
        if "weight_decay" in values and not _is_off(values["weight_decay"]):
            values["weight_decay"] = _product(values["weight_decay"], own.weight_decay)
        return build(types.SimpleNamespace(**values), rate, mask)

    return optax.partition({label: of_group(own) for label, own in factors.items()}, tree)


def _is_off(weight_decay: Any) -> bool:
    """Whether no trial of the population decays; a number that the program takes is never off."""
    return isinstance(weight_decay, float) and weight_decay == 0


def each_group(state: Any, params: PyTree, tree: PyTree, function: Callable[[Any, PyTree], PyTree]) -> PyTree:
    """``function(state, params)`` of each group, put together again.

    Args:
        state: of :func:`optimizer` with more than one group.
        params: of all groups.
        tree: the label of each parameter.
        function: gives a tree like the params that it is given, which hold one group.
    """
    result = params
    for label, inner in state.inner_states.items():
        mask = jax.tree.map(lambda own, label=label: own == label, tree)
        masked = jax.tree.map(lambda own, leaf: leaf if own else optax.MaskedNode(), mask, params)
        found = function(inner.inner_state, masked)
        result = jax.tree.map(lambda own, new, old: new if own else old, mask, found, result)
    return result
