"""Layer normalisation as machine code for the CPU: one pass over each row, forward and backward.

XLA makes a pass over the array of each mean, and of each sum that a gradient needs. Here a row stays in the
processor's first cache while all is made of it, and the backward pass adds up the gradients of scale and bias
meanwhile. What it keeps of the forward pass are two numbers a row.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.layers import engines, native
from models.layers.native import Body

_OPERATIONS = 25
"""Time for an element, in that of an operation of a product."""

_BLOCK = 64
"""Rows whose contributions to scale and bias are added up by themselves first: long sums lose digits."""


def fits(x: Any, scale: Any, bias: Any) -> bool:
    """Whether the machine code can be made for arrays of these shapes and types."""
    kinds = {array.dtype for array in (x, scale, bias)}
    if len(kinds) > 1 or x.dtype not in (np.float32, np.float64) or not x.size or not native.is_available():
        return False
    return _lanes(x) >= 16 // np.dtype(x.dtype).itemsize


def value(x: Any, scale: Any, bias: Any, *, epsilon: float) -> tuple[Any, Any, Any]:
    """``scale (x - mean) / sqrt(variance + epsilon) + bias``, and mean and factor of each row, [*batch].

    Args:
        x: [*batch, features].
        scale: [features].
        bias: [features].
        epsilon: what is added to the biased variance.
    """
    rows, features = math.prod(x.shape[:-1]), x.shape[-1]

    def normalised(part: Body, pointers: Sequence[Any], start: Any, stop: Any, _: Any, __: Any) -> None:
        x_at, scale_at, bias_at, out, means, factors = pointers
        with part.span(start, stop) as row:
            own = part.shifted(x_at, (row, features))
            total, squares = part.accumulators(2)
            with part.loop(features, part.lanes) as column:
                part.ir.store(part.ir.fadd(part.ir.load(total), part.load(own, (column, 1))), total)
            mean = _mean(part, total, features)
            with part.loop(features, part.lanes) as column:
                centred = part.ir.fsub(part.load(own, (column, 1)), mean)
                part.add_product(squares, centred, centred)
            variance = part.ir.fadd(_mean(part, squares, features), part.constant(epsilon))
            factor = part.ir.fdiv(part.constant(1.0), part.square_root(variance))
            into = part.shifted(out, (row, features))
            with part.loop(features, part.lanes) as column:
                y = part.ir.fmul(part.ir.fsub(part.load(own, (column, 1)), mean), factor)
                y = part.multiply_add(y, part.load(scale_at, (column, 1)), part.load(bias_at, (column, 1)))
                part.store(y, into, (column, 1))
            part.store_first(mean, means, (row, 1))
            part.store_first(factor, factors, (row, 1))

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        body.parallel((*operands, *results), rows, parts, normalised)

    parts = native.parts(rows, _OPERATIONS * x.size)
    shapes = (x.shape, x.shape[:-1], x.shape[:-1])
    key = ("layer_norm", x.shape, epsilon)
    return tuple(native.call(key, write, (x, scale, bias), shapes, lanes=_lanes(x)))


def gradients(x: Any, scale: Any, means: Any, factors: Any, g: Any) -> tuple[Any, Any, Any]:
    """The gradients of x, scale and bias, given that of the result, and what :func:`value` gave for each row."""
    rows, features = math.prod(x.shape[:-1]), x.shape[-1]

    def pulled(part: Body, pointers: Sequence[Any], start: Any, stop: Any, number: Any, _: Any) -> None:
        *row_pointers, sums, blocks = pointers
        sums, block_sums = (part.shifted(array, (number, 2 * features)) for array in (sums, blocks))
        of_row = _row_gradient(part, features)
        part.clear(sums, 2 * features)
        with part.blocks(part.ir.sub(stop, start), _BLOCK) as done:
            first = part.ir.add(start, done)
            part.clear(block_sums, 2 * features)
            with part.span(first, part.least(stop, part.ir.add(first, part.integer(_BLOCK)))) as row:
                steps = (features, 0, 1, 1, features, features)
                places = [part.shifted(p, (row, step)) for p, step in zip(row_pointers, steps, strict=True)]
                part.call(of_row, [*places, block_sums])
            _add(part, sums, block_sums, 2 * features)

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        dx, dscale, dbias, sums, blocks = results
        body.parallel((*operands, dx, sums, blocks), rows, parts, pulled)
        for number, out in enumerate((dscale, dbias)):
            body.sum_of_parts(body.shifted(sums, (number, features)), parts, 2 * features, out, features)

    parts = native.parts(rows, _OPERATIONS * x.size)
    scratch = (parts * 2 * features,)
    shapes = (x.shape, (features,), (features,), scratch, scratch)
    key = ("layer_norm_gradients", x.shape)
    dx, dscale, dbias, *_ = native.call(key, write, (x, scale, means, factors, g), shapes, lanes=_lanes(x))
    return dx, dscale, dbias


def _row_gradient(body: Body, features: int) -> Body:
    """A function ``(x, scale, mean, factor, g, dx, sums)`` of one row, which adds to the sums of scale and bias."""
    part = body.function("row", 7)
    x, scale, mean_at, factor_at, g, dx, sums = part.arguments
    ir, (along_one, along_y) = part.ir, part.accumulators(2)
    mean, factor = part.spread(mean_at, (0, 1)), part.spread(factor_at, (0, 1))

    def normalised(column: Any) -> Any:
        return ir.fmul(ir.fsub(part.load(x, (column, 1)), mean), factor)

    def slope(column: Any) -> Any:
        return ir.fmul(part.load(g, (column, 1)), part.load(scale, (column, 1)))

    with part.loop(features, part.lanes) as column:
        y, given, own = normalised(column), part.load(g, (column, 1)), slope(column)
        ir.store(ir.fadd(ir.load(along_one), own), along_one)
        part.add_product(along_y, own, y)
        part.store(part.multiply_add(given, y, part.load(sums, (column, 1))), sums, (column, 1))
        part.store(ir.fadd(part.load(sums, (column, 1), (features, 1)), given), sums, (column, 1), (features, 1))
    one, other = _mean(part, along_one, features), _mean(part, along_y, features)
    with part.loop(features, part.lanes) as column:
        rest = ir.fsub(ir.fsub(slope(column), one), ir.fmul(normalised(column), other))
        part.store(ir.fmul(rest, factor), dx, (column, 1))
    ir.ret_void()
    return part


def _add(body: Body, into: Any, other: Any, count: int) -> None:
    """Add an array to another."""
    with body.loop(count, body.lanes) as at:
        body.store(body.ir.fadd(body.load(into, (at, 1)), body.load(other, (at, 1))), into, (at, 1))


def _mean(body: Body, total: Any, features: int) -> Any:
    """Of a row, in every lane, from an accumulator with the sums of its vectors."""
    return body.ir.fmul(body.total(body.ir.load(total)), body.constant(1 / features))


def _lanes(x: Any) -> int:
    """Elements in a vector: as many as the processor's hold, or fewer, so that they divide the features."""
    return math.gcd(engines.vector_bytes() // x.dtype.itemsize, x.shape[-1])
