"""A piece of a matrix product as machine code, its results in the processor's registers."""

from collections.abc import Sequence
from typing import Any

from models.layers.native import Body

UNROLLED = 8
"""Terms of a sum between two tests whether it has ended."""


def vectors_of(width: int, lanes: int) -> int:
    """How many vectors side by side a tile should have: two, three or one, whichever divides the width."""
    return next(n for n in (2, 3, 1) if width // lanes % n == 0)


def side_by_side(width: int, lanes: int) -> list[tuple[int, ...]]:
    """Where vectors begin that cover a row of so many elements: those of each tile.

    The last vector ends with the row, and overlaps the one before it where it must.
    """
    starts = [min(start, width - lanes) for start in range(0, width, lanes)]
    count = vectors_of(len(starts) * lanes, lanes)
    return [tuple(starts[first : first + count]) for first in range(0, len(starts), count)]


def product_tile(
    body: Body,
    name: str,
    rows: int,
    vectors: Sequence[int],
    *,
    left: tuple[int, int],
    right: int,
    out: int,
    added: bool = False,
) -> Body:
    """A function ``(left, right, out, count)``: ``out[r] = sum over k < count of left[r, k] right[k]``.

    The k-th of ``right`` and a row of ``out`` are vectors, which may overlap; a count is at least 1.

    Args:
        body: of the module.
        name: of the function.
        rows: of the tile.
        vectors: where those in a row of it begin.
        left: elements between the rows of the left matrix, and between its columns.
        right: elements between the rows of the right one.
        out: elements between the rows of the result.
        added: the function is ``(left, right, out, base, count)``, and ``base``, laid out as ``out``, is added.
    """
    tile = body.function(name, 4 if added else 3, counts=1)
    left_at, right_at, out_at, *base, count = tile.arguments
    sums = tile.accumulators(rows * len(vectors))

    def add(k: Any) -> None:
        factors = [tile.load(right_at, (k, right), (start, 1)) for start in vectors]
        for row in range(rows):
            spread = tile.spread(left_at, (k, left[1]), (row * left[0], 1))
            for v, factor in enumerate(factors):
                tile.add_product(sums[row * len(vectors) + v], spread, factor)

    whole = tile.ir.sub(count, tile.ir.srem(count, tile.integer(UNROLLED)))
    with tile.blocks(whole, UNROLLED) as first:
        for k in range(UNROLLED):
            add(tile.sum((first, 1), (k, 1)))
    with tile.span(whole, count) as k:
        add(k)
    for row in range(rows):
        for v, start in enumerate(vectors):
            place = (row * out + start, 1)
            total = tile.ir.load(sums[row * len(vectors) + v])
            tile.store(tile.ir.fadd(tile.load(base[0], place), total) if added else total, out_at, place)
    tile.ir.ret_void()
    return tile
