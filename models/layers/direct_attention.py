"""Attention as machine code for the CPU: one head at a time, so that its scores stay in the processor's caches.

XLA keeps the scores of all heads in memory between the two products, the softmax and their gradients, and writes
queries, keys and values out in another order for its products of many matrices. Here they are read where they lie.

Weights are kept transposed, [batch, heads, keys, queries]: a vector holds neighbouring queries, so that maxima and
sums over keys need no exchange between the lanes of a vector. The last vector of a head, and the last block of
queries, overlap the one before them where sizes are no multiples. Only for single precision.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from models.layers import engines, native, vector_functions
from models.layers.native import Body
from models.layers.products import product_tile, side_by_side

LEAST_LANES = 4
"""Fewer queries, or shorter heads, are left to XLA's operations."""

ROWS = 4
"""Rows of a tile of a product: with two vectors each, as many sums as hide the time that a sum takes."""


class Heads(NamedTuple):
    """How many heads there are, and the lengths of a key and of a value."""

    count: int
    key: int
    value: int


class _Sizes(NamedTuple):
    batch: int
    queries: int
    keys: int
    heads: int
    key: int
    value: int
    causal: bool
    joined: bool
    """Whether queries, keys and values are one array: at each position first all queries, then keys, then values."""
    lanes: int
    """Elements in a vector: no more than a head has, or there are queries."""
    width: int
    """Queries in a block: one or two vectors."""

    @property
    def steps(self) -> tuple[int, int, int]:
        """Elements from one position to the next, of queries, keys and values."""
        key, value = self.heads * self.key, self.heads * self.value
        step = 2 * key + value
        return (step, step, step) if self.joined else (key, key, value)

    def apart(self, body: Body, pointers: Sequence[Any]) -> Sequence[Any]:
        """Pointers to queries, keys and values, given those to the arrays."""
        if not self.joined:
            return pointers
        return [body.shifted(pointers[0], (place * self.heads, self.key)) for place in range(3)]


def fits(queries: Any, keys: Any, values: Any) -> bool:
    """Whether the machine code can be made for arrays of these shapes and types."""
    kinds = {array.dtype for array in (queries, keys, values)}
    heads = {array.shape[2] for array in (queries, keys, values)}
    if kinds != {np.dtype(np.float32)} or len(heads) > 1 or not native.is_available():
        return False
    return keys.shape[1] >= ROWS and _lanes(queries, values) >= LEAST_LANES


def value(queries: Any, keys: Any, values: Any, lengths: Any, *, causal: bool) -> tuple[Any, Any]:
    """``softmax(Q K^T / sqrt(key_size)) V``, and the weights transposed: [batch, heads, keys, queries].

    Args:
        queries: [batch, queries, heads, key_size].
        keys: [batch, keys, heads, key_size].
        values: [batch, keys, heads, value_size].
        lengths: real keys of each sequence, as numbers of the type of the others.
        causal: query t sees keys up to t only.
    """
    return _value(_sizes(queries, keys, values, causal), (queries, keys, values), lengths)


def joined_value(joined: Any, lengths: Any, heads: Heads, *, causal: bool) -> tuple[Any, Any]:
    """The same of queries, keys and values beside each other: [batch, time, heads * (2 key_size + value_size)]."""
    return _value(_joined_sizes(joined, heads, causal), (joined,), lengths)


def _value(sizes: _Sizes, arrays: Sequence[Any], lengths: Any) -> tuple[Any, Any]:
    out_shape = (sizes.batch, sizes.queries, sizes.heads, sizes.value)
    weights_shape = (sizes.batch, sizes.heads, sizes.keys, sizes.queries)
    shapes = (out_shape, weights_shape, (sizes.key * sizes.queries,))
    write = functools.partial(_write_value, sizes)
    out, weights, _ = native.call(("attention", *sizes), write, (*arrays, lengths), shapes, lanes=sizes.lanes)
    return out, weights


def gradients(queries: Any, keys: Any, values: Any, weights: Any, g: Any, *, causal: bool) -> tuple[Any, Any, Any]:
    """The gradients of queries, keys and values, given that of the result and the transposed weights."""
    found = _gradients(_sizes(queries, keys, values, causal), (queries, keys, values), weights, g)
    return found[0], found[1], found[2]


def joined_gradient(joined: Any, weights: Any, g: Any, heads: Heads, *, causal: bool) -> Any:
    """The gradient of queries, keys and values beside each other, as :func:`joined_value` takes them."""
    return _gradients(_joined_sizes(joined, heads, causal), (joined,), weights, g)[0]


def _gradients(sizes: _Sizes, arrays: Sequence[Any], weights: Any, g: Any) -> list[Any]:
    scratch = ((sizes.value * sizes.queries,), (sizes.keys * sizes.queries,))
    shapes = (*(array.shape for array in arrays), *scratch)
    write = functools.partial(_write_gradients, sizes)
    operands = (*arrays, weights, g)
    return native.call(("attention_gradients", *sizes), write, operands, shapes, lanes=sizes.lanes)[: len(arrays)]


def _sizes(queries: Any, keys: Any, values: Any, causal: bool) -> _Sizes:
    batch, count, heads, key = queries.shape
    lanes = _lanes(queries, values)
    width = lanes * (2 if count >= 2 * lanes else 1)
    return _Sizes(batch, count, keys.shape[1], heads, key, values.shape[-1], causal, False, lanes, width)


def _joined_sizes(joined: Any, heads: Heads, causal: bool) -> _Sizes:
    return _sizes(*parts_of(joined, heads), causal)._replace(joined=True)


def parts_of(joined: Any, heads: Heads) -> tuple[Any, Any, Any]:
    """Shapes and types of queries, keys and values that lie beside each other in an array."""
    queries, values = (
        jax.ShapeDtypeStruct((*joined.shape[:2], heads.count, size), joined.dtype) for size in (heads.key, heads.value)
    )
    return queries, queries, values


def _lanes(queries: Any, values: Any) -> int:
    """Elements in a vector: a power of two, as many as the processor's vectors, the queries and a head have."""
    least = min(engines.vector_bytes() // 4, *queries.shape[1::2], values.shape[-1])
    return 1 << (least.bit_length() - 1) if least else 0


def _write_value(sizes: _Sizes, body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
    (*arrays, lengths), (out, weights, scratch) = operands, results
    queries, keys, values = sizes.apart(body, arrays)
    query_step, key_step, value_step = sizes.steps
    heads, vectors, out_step = sizes.heads, sizes.width // body.lanes, sizes.heads * sizes.value
    transpose = _transpose(body, "transpose", sizes.queries, query_step, sizes.key, 1 / math.sqrt(sizes.key))
    scores = _scores(body, sizes, key_step)
    softmax = _softmax(body, sizes, vectors)
    mix = _by_rows(body, "mix", sizes.width, sizes.value, left=(1, sizes.queries), right=value_step, out=out_step)
    with body.loop(sizes.batch) as n:
        length = body.ir.fptosi(body.ir.load(body.shifted(lengths, (n, 1))), body.integer(0).type)
        with body.loop(heads) as head:
            asked = body.shifted(queries, (n, sizes.queries * query_step), (head, sizes.key))
            offered = body.shifted(keys, (n, sizes.keys * key_step), (head, sizes.key))
            given = body.shifted(values, (n, sizes.keys * value_step), (head, sizes.value))
            mixed = body.shifted(out, (n, sizes.queries * out_step), (head, sizes.value))
            own = body.shifted(weights, (n, heads * sizes.keys * sizes.queries), (head, sizes.keys * sizes.queries))
            body.call(transpose, [asked, scratch])
            with body.covering(sizes.queries, sizes.width) as first:
                bound = _bound(body, sizes, first)
                seen = body.least(length, bound)
                block = body.shifted(own, (first, 1))
                with body.covering(bound, ROWS) as key:
                    place = body.shifted(offered, (key, key_step))
                    into = body.shifted(block, (key, sizes.queries))
                    body.call(scores, [place, body.shifted(scratch, (first, 1)), into, body.integer(sizes.key)])
                body.call(softmax, [block, first, seen])
                # With nothing to be seen the first weight is zero.
                count = body.ir.select(body.ir.icmp_signed(">", seen, body.integer(0)), seen, body.integer(1))
                mix(block, given, body.shifted(mixed, (first, out_step)), count)


def _write_gradients(sizes: _Sizes, body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
    (*arrays, weights, g), (*gradients, scratch, dscores) = operands, results
    queries, keys, values = sizes.apart(body, arrays)
    dqueries, dkeys, dvalues = sizes.apart(body, gradients)
    query_step, key_step, value_step = sizes.steps
    heads, vectors, out_step = sizes.heads, sizes.width // body.lanes, sizes.heads * sizes.value
    transpose = _transpose(body, "transpose", sizes.queries, out_step, sizes.value, 1.0)
    slopes = _scores(body, sizes, value_step)
    through = _softmax_gradient(body, sizes, vectors)
    along, across = (sizes.queries, 1), (1, sizes.queries)
    by_query = _by_rows(body, "by_query", sizes.width, sizes.key, left=across, right=key_step, out=query_step)
    to_keys = _by_rows(body, "to_keys", ROWS, sizes.key, left=along, right=query_step, out=key_step)
    to_values = _by_rows(body, "to_values", ROWS, sizes.value, left=along, right=out_step, out=value_step)
    with body.loop(sizes.batch) as n, body.loop(heads) as head:
        by_queries = (n, sizes.queries * query_step), (head, sizes.key)
        by_keys = (n, sizes.keys * key_step), (head, sizes.key)
        by_values = (n, sizes.keys * value_step), (head, sizes.value)
        own = body.shifted(weights, (n, heads * sizes.keys * sizes.queries), (head, sizes.keys * sizes.queries))
        slope = body.shifted(g, (n, sizes.queries * out_step), (head, sizes.value))
        body.call(transpose, [slope, scratch])
        with body.covering(sizes.queries, sizes.width) as first:
            bound = _bound(body, sizes, first)
            block = body.shifted(dscores, (first, 1))
            with body.covering(bound, ROWS) as key:
                place = body.shifted(values, *by_values, (key, value_step))
                into = body.shifted(block, (key, sizes.queries))
                body.call(slopes, [place, body.shifted(scratch, (first, 1)), into, body.integer(sizes.value)])
            body.call(through, [body.shifted(own, (first, 1)), block, bound])
            into = body.shifted(dqueries, *by_queries, (first, query_step))
            by_query(block, body.shifted(keys, *by_keys), into, bound)
        with body.covering(sizes.keys, ROWS) as key:
            # A causal query before a key has no weight there.
            start = body.least(key, sizes.queries - 1) if sizes.causal else body.integer(0)
            count = body.ir.sub(body.integer(sizes.queries), start)
            row = (key, sizes.queries), (start, 1)
            asked = body.shifted(queries, *by_queries, (start, query_step))
            to_keys(body.shifted(dscores, *row), asked, body.shifted(dkeys, *by_keys, (key, key_step)), count)
            given = body.shifted(slope, (start, out_step))
            to_values(body.shifted(own, *row), given, body.shifted(dvalues, *by_values, (key, value_step)), count)


def _bound(body: Body, sizes: _Sizes, first: Any) -> Any:
    """Keys that a block of queries may see, were all of them real."""
    if not sizes.causal:
        return body.integer(sizes.keys)
    return body.least(body.ir.add(first, body.integer(max(sizes.width, ROWS))), sizes.keys)


def _scores(body: Body, sizes: _Sizes, step: int) -> Body:
    """A tile of the product of rows of keys or values, ``step`` apart, with what is transposed: [size, queries]."""
    starts = range(0, sizes.width, body.lanes)
    return product_tile(body, "scores", ROWS, starts, left=(step, 1), right=sizes.queries, out=sizes.queries)


def _by_rows(body: Body, name: str, rows: int, size: int, *, left: tuple[int, int], right: int, out: int) -> Any:
    """A function that writes the product of ``rows`` rows with a matrix [count, size], tile by tile."""
    groups = [(starts[0], tuple(start - starts[0] for start in starts)) for starts in side_by_side(size, body.lanes)]
    tiles = {
        pattern: product_tile(body, f"{name}_{number}", ROWS, pattern, left=left, right=right, out=out)
        for number, pattern in enumerate(dict.fromkeys(pattern for _, pattern in groups))
    }

    def write(left_at: Any, right_at: Any, out_at: Any, count: Any) -> None:
        for row in range(0, rows, ROWS):
            for column, pattern in groups:
                rows_at = body.shifted(left_at, (row * left[0], 1))
                into = body.shifted(out_at, (row * out + column, 1))
                body.call(tiles[pattern], [rows_at, body.shifted(right_at, (column, 1)), into, count])

    return write


def _transpose(body: Body, name: str, rows: int, step: int, size: int, factor: float) -> Body:
    """A function from rows [rows, size], ``step`` elements apart, to ``factor`` times their transpose [size, rows]."""
    part = body.function(name, 2)
    source, out = part.arguments
    with part.covering(rows, part.lanes) as row, part.covering(size, part.lanes) as column:
        lines = [part.load(source, (row, step), (column, 1), (i * step, 1)) for i in range(part.lanes)]
        for i, line in enumerate(part.transposed(lines)):
            part.store(part.ir.fmul(line, part.constant(factor)), out, (column, rows), (row, 1), (i * rows, 1))
    part.ir.ret_void()
    return part


def _softmax(body: Body, sizes: _Sizes, vectors: int) -> Body:
    """A function ``(scores of a block of queries, number of the first, keys seen)``: the weights in their place."""
    part = body.function("softmax", 1, counts=2)
    scores, first, seen = part.arguments
    largest, total = part.accumulators(vectors), part.accumulators(vectors)
    lowest = part.constant(float(np.finfo(np.float32).min))
    for v in range(vectors):
        part.ir.store(lowest, largest[v])

    def place(key: Any, v: int) -> tuple[Any, ...]:
        return (key, sizes.queries), (v * part.lanes, 1)

    def visible(key: Any, v: int, value: Any, other: Any) -> Any:
        if not sizes.causal:
            return value
        own = part.ir.add(first, part.integer(v * part.lanes))
        return part.ir.select(part.reaches(own, key), value, other)

    with part.span(0, seen) as key:
        for v in range(vectors):
            score = visible(key, v, part.load(scores, *place(key, v)), lowest)
            part.ir.store(part.no_less(score, part.ir.load(largest[v])), largest[v])
    with part.span(0, seen) as key:
        for v in range(vectors):
            score = part.ir.fsub(part.load(scores, *place(key, v)), part.ir.load(largest[v]))
            weight = visible(key, v, vector_functions.exp(part, score), part.zero())
            part.store(weight, scores, *place(key, v))
            part.ir.store(part.ir.fadd(part.ir.load(total[v]), weight), total[v])
    factors = [part.ir.fdiv(part.constant(1.0), part.ir.load(total[v])) for v in range(vectors)]
    with part.span(0, seen) as key:
        for v, factor in enumerate(factors):
            part.store(part.ir.fmul(part.load(scores, *place(key, v)), factor), scores, *place(key, v))
    with part.span(seen, sizes.keys) as key:
        for v in range(vectors):
            part.store(part.zero(), scores, *place(key, v))
    part.ir.ret_void()
    return part


def _softmax_gradient(body: Body, sizes: _Sizes, vectors: int) -> Body:
    """A function ``(weights of a block, gradients of the weights, keys)``: the gradients of the scores in their place.

    ``p (dp - sum over keys of p dp) / sqrt(key_size)``; zero behind the keys that are given.
    """
    part = body.function("softmax_gradient", 2, counts=1)
    weights, slopes, keys = part.arguments
    totals = part.accumulators(vectors)

    def place(key: Any, v: int) -> tuple[Any, ...]:
        return (key, sizes.queries), (v * part.lanes, 1)

    with part.span(0, keys) as key:
        for v in range(vectors):
            part.add_product(totals[v], part.load(weights, *place(key, v)), part.load(slopes, *place(key, v)))
    factor = part.constant(1 / math.sqrt(sizes.key))
    sums = [part.ir.load(total) for total in totals]
    with part.span(0, keys) as key:
        for v in range(vectors):
            centred = part.ir.fsub(part.load(slopes, *place(key, v)), sums[v])
            weight = part.ir.fmul(part.load(weights, *place(key, v)), factor)
            part.store(part.ir.fmul(weight, centred), slopes, *place(key, v))
    with part.span(keys, sizes.keys) as key:
        for v in range(vectors):
            part.store(part.zero(), slopes, *place(key, v))
    part.ir.ret_void()
    return part
