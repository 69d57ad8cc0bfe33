"""Winograd's convolution with 3x3 kernels (``layers/winograd.py``) as machine code, some tiles at a time.

The transformed tiles, their products and the sums of these stay in a core's cache: a block of tiles is transformed,
multiplied and transformed back before the next one. Zeros around the images are no part of any array; the tiles at
the border leave out what is not there.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.layers import engines, native, winograd
from models.layers.direct_tiles import REGISTERS, Phase, Run, gradient_tile, shares, sum_tile
from models.layers.native import Body

POINTS = 16
"""Of a transformed tile."""

BLOCK_BYTES = 65_536
"""Transformed tiles of a block, and what becomes of them: an eighth of a second-level cache."""

LEAST_TILES = 16
"""Of a block, lest the transformed kernel be read too often."""

Pads = tuple[tuple[int, int], ...]


class _Band(NamedTuple):
    """Neighbouring tiles of which the same elements lie within the image.

    Attributes:
        start: the first one's number.
        stop: one more than the last one's.
        inside: which of the elements of a tile, along this axis, lie within the image.
    """

    start: int
    stop: int
    inside: tuple[bool, ...]


class _Block(NamedTuple):
    """Rows of tiles, between two columns of tiles, that are computed together; and as many times below each other.

    Attributes:
        row: the first one.
        rows: their number.
        times: how often.
        columns: the first column, and one more than the last.
    """

    row: int
    rows: int
    times: int
    columns: tuple[int, int]

    @property
    def tiles(self) -> int:
        return self.rows * (self.columns[1] - self.columns[0])


class _Side(NamedTuple):
    """Images whose tiles are transformed, or that are made of transformed ones.

    Attributes:
        size: height and width.
        channels: of the images.
        origin: coordinates of the first tile's first element.
        matrix: of the transformation, applied along both axes.
    """

    size: tuple[int, int]
    channels: int
    origin: tuple[int, int]
    matrix: np.ndarray

    def bands(self, axis: int, start: int, stop: int, reach: int) -> list[_Band]:
        """The tiles from ``start`` to ``stop`` along an axis. Tiles begin at every other element."""

        def inside(tile: int) -> tuple[bool, ...]:
            return tuple(0 <= 2 * tile + self.origin[axis] + i < self.size[axis] for i in range(reach))

        groups = [(key, list(tiles)) for key, tiles in itertools.groupby(range(start, stop), inside)]
        return [_Band(tiles[0], tiles[-1] + 1, key) for key, tiles in groups]

    def row_writer(self, body: Body, name: str, rows: tuple[bool, ...], columns: tuple[int, int], skip: int) -> Body:
        """A function ``(image, points)`` that transforms a row of tiles to points ``skip`` elements apart.

        The pointer to the image is to the first column of the tiles' first row, whether it is there or not.
        """
        part = body.function(name, 2)
        image, points = part.arguments
        (left, *_), channels = columns, self.channels
        for band in self.bands(1, *columns, reach=len(rows)):
            first = 2 * band.start + self.origin[1]
            with part.loop(band.stop - band.start) as tile, part.loop(channels, part.lanes) as channel:
                patch = [
                    [
                        part.load(
                            image, (tile, 2 * channels), (channel, 1), ((i * self.size[1] + first + j) * channels, 1)
                        )
                        if row and column
                        else None
                        for j, column in enumerate(band.inside)
                    ]
                    for i, row in enumerate(rows)
                ]
                for k, value in enumerate(itertools.chain(*_on_both_axes(part, self.matrix, patch))):
                    place = ((tile, channels), (channel, 1), ((band.start - left) * channels + k * skip, 1))
                    part.store(part.zero() if value is None else value, points, *place)
        part.ir.ret_void()
        return part

    def row_reader(self, body: Body, name: str, rows: tuple[bool, ...], columns: tuple[int, int], skip: int) -> Body:
        """A function ``(points, image)`` that transforms a row of tiles back, and writes what lies in the image."""
        part = body.function(name, 2)
        points, image = part.arguments
        (left, *_), channels, reach = columns, self.channels, self.matrix.shape[1]
        for band in self.bands(1, *columns, reach=len(rows)):
            first = 2 * band.start + self.origin[1]
            with part.loop(band.stop - band.start) as tile, part.loop(channels, part.lanes) as channel:
                place = ((tile, channels), (channel, 1))
                start = (band.start - left) * channels
                patch = [
                    [part.load(points, *place, (start + (i * reach + j) * skip, 1)) for j in range(reach)]
                    for i in range(reach)
                ]
                values = _on_both_axes(part, self.matrix, patch)
                for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(band.inside)):
                    if row and column:
                        at = ((i * self.size[1] + first + j) * channels, 1)
                        part.store(values[i][j], image, (tile, 2 * channels), (channel, 1), at)
        part.ir.ret_void()
        return part

    def skip(self, block: _Block) -> int:
        """Elements from one point of a block's tiles to the next: a line of cache more, lest all fall on one place."""
        return block.tiles * self.channels + 16

    def on_rows(
        self, body: Body, block: _Block, name: str, writer: Callable[..., Body], reach: int
    ) -> Callable[[Body, Any, Any, Any], None]:
        """What transforms the rows of a block: ``(body, image, points, the block's first row)``."""
        last = block.row + block.rows * block.times
        bands = self.bands(0, block.row, last, reach)
        width = block.columns[1] - block.columns[0]
        functions = [
            writer(self, body, f"{name}_{n}", band.inside, block.columns, self.skip(block))
            for n, band in enumerate(bands)
        ]
        step = self.size[1] * self.channels

        def write(part: Body, image: Any, points: Any, first: Any) -> None:
            with part.loop(block.rows) as index:
                row = part.ir.add(part.integer(first), index)
                image_row = part.shifted(image, (row, 2 * step), (self.origin[0] * step, 1))
                points_row = part.shifted(points, (index, width * self.channels))
                arguments = [image_row, points_row] if writer is _Side.row_writer else [points_row, image_row]
                for band, function in zip(bands, functions, strict=True):
                    is_here = part.ir.and_(
                        part.ir.icmp_signed(">=", row, part.integer(band.start)),
                        part.ir.icmp_signed("<", row, part.integer(band.stop)),
                    )
                    with part.ir.if_then(is_here):
                        part.call(function, arguments)

        return write


def value(x: Any, kernel: Any, pads: Pads) -> Any:
    """Convolution of images with 3x3 kernels, zeros before and after each axis (also negative: cropped)."""
    count, *in_size, channels = x.shape
    features, lanes = kernel.shape[-1], engines.vector_bytes() // x.dtype.itemsize
    size = tuple(n + sum(pad) - 2 for n, pad in zip(in_size, pads, strict=True))
    vectors = next(n for n in (2, 3, 1) if features // lanes % n == 0)
    width = vectors * lanes
    inputs = _inputs(x, pads)
    outputs = _Side((size[0], size[1]), features, (0, 0), winograd.A_T)
    blocks = _blocks(size, (channels + features) * x.dtype.itemsize)
    scratch = [POINTS * max(side.skip(block) for block in blocks) for side in (inputs, outputs)]

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        (x_at, kernel_at), (out, v_at, m_at) = operands, results
        products = {
            pixels: sum_tile(body, f"product_{pixels}", _rows(pixels, channels, features), pixels, vectors)
            for pixels in sorted({n for block in blocks for n in shares(block.tiles, REGISTERS // vectors)})
        }
        there = [inputs.on_rows(body, b, f"there_{n}", _Side.row_writer, 4) for n, b in enumerate(blocks)]
        back = [outputs.on_rows(body, b, f"back_{n}", _Side.row_reader, 2) for n, b in enumerate(blocks)]

        def multiply(part: Body, block: _Block, v_at: Any, kernel_at: Any, m_at: Any) -> None:
            with part.loop(POINTS) as point, part.loop(features // width) as some:
                weights = part.shifted(kernel_at, (point, channels * features), (some, channels * width))
                tile = 0
                for pixels in shares(block.tiles, REGISTERS // vectors):
                    seen = part.shifted(v_at, (point, inputs.skip(block)), (tile * channels, 1))
                    into = part.shifted(m_at, (point, outputs.skip(block)), (some, width), (tile * features, 1))
                    part.call(products[pixels], [seen, weights, into])
                    tile += pixels

        def convolve(part: Body, pointers: Sequence[Any], start: Any, stop: Any, _: Any, thread: Any) -> None:
            x_at, kernel_at, out, v_at, m_at = pointers
            v_at, m_at = (part.shifted(p, (thread, n)) for p, n in zip((v_at, m_at), scratch, strict=True))
            each = _blocks_of_images(part, (x_at, out), (inputs, outputs), blocks, start, stop)
            for (block, row, (image, made)), transform, transform_back in zip(each, there, back, strict=True):
                transform(part, image, v_at, row)
                multiply(part, block, v_at, kernel_at, m_at)
                transform_back(part, made, m_at, row)

        body.parallel((x_at, kernel_at, out, v_at, m_at), count, parts, convolve)

    weights = winograd.kernels(kernel).reshape(POINTS, channels, features // width, width).swapaxes(1, 2)
    parts = native.parts(count, 8 * count * math.prod(size) * channels * features)
    shapes = ((count, *size, features), (parts * scratch[0],), (parts * scratch[1],))
    return native.call(("winograd", x.shape, features, pads), write, (x, weights), shapes)[0]


def kernel_gradient(x: Any, g: Any, pads: Pads) -> Any:
    """Gradient of the kernel [3, 3, channels, features], given that of the outputs."""
    count, channels = len(x), x.shape[-1]
    _, *size, features = g.shape
    lanes = engines.vector_bytes() // x.dtype.itemsize
    vectors = 2 if features // lanes % 2 == 0 else 1
    width, elements = vectors * lanes, POINTS * channels * features
    inputs = _inputs(x, pads)
    outputs = _Side((size[0], size[1]), features, (0, 0), winograd.A_T.T)
    blocks = _blocks(tuple(size), (channels + features) * x.dtype.itemsize)
    scratch = [POINTS * max(side.skip(block) for block in blocks) for side in (inputs, outputs)]

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        (x_at, g_at), (out, v_at, e_at, *partial) = operands, results
        sums = partial[0] if partial else out
        x_rows = [inputs.on_rows(body, b, f"x_{n}", _Side.row_writer, 4) for n, b in enumerate(blocks)]
        g_rows = [outputs.on_rows(body, b, f"g_{n}", _Side.row_writer, 2) for n, b in enumerate(blocks)]
        groups = shares(channels, REGISTERS // vectors)
        tiles = {
            (some, count): gradient_tile(
                body, f"product_{some}_{count}", tuple(range(some)), vectors, count, (0, channels), features
            )
            for some in sorted(set(groups))
            for count in sorted({block.tiles for block in blocks})
        }

        def multiply(part: Body, block: _Block, v_at: Any, e_at: Any, own: Any) -> None:
            with part.loop(POINTS) as point, part.loop(features // width) as some:
                given = part.shifted(e_at, (point, outputs.skip(block)), (some, width))
                channel = 0
                for group in groups:
                    seen = part.shifted(v_at, (point, inputs.skip(block)), (channel, 1))
                    into = part.shifted(own, (point, channels * features), (some, width), (channel * features, 1))
                    part.call(tiles[group, block.tiles], [seen, given, into, part.integer(1)])
                    channel += group

        def add(part: Body, pointers: Sequence[Any], start: Any, stop: Any, number: Any, thread: Any) -> None:
            x_at, g_at, sums, v_at, e_at = pointers
            v_at, e_at = (part.shifted(p, (thread, n)) for p, n in zip((v_at, e_at), scratch, strict=True))
            own = part.shifted(sums, (number, elements))
            part.clear(own, elements)
            each = _blocks_of_images(part, (x_at, g_at), (inputs, outputs), blocks, start, stop)
            for (block, row, (image, given)), of_x, of_g in zip(each, x_rows, g_rows, strict=True):
                of_x(part, image, v_at, row)
                of_g(part, given, e_at, row)
                multiply(part, block, v_at, e_at, own)

        body.parallel((x_at, g_at, sums, v_at, e_at), count, parts, add)
        if partial:
            body.sum_of_parts(sums, parts, elements, out, elements)

    parts = native.parts(count, 8 * count * math.prod(size) * channels * features)
    shapes = ((elements,), *((parts * n,) for n in scratch), *([(parts * elements,)] if parts > 1 else []))
    points = native.call(("winograd_kernel", x.shape, g.shape, pads), write, (x, g), shapes)[0]
    return winograd.kernels_back(points.reshape(POINTS, channels, features))


def _blocks_of_images(
    part: Body, arrays: Sequence[Any], sides: Sequence[_Side], blocks: Sequence[_Block], start: Any, stop: Any
) -> Iterator[tuple[_Block, Any, list[Any]]]:
    """Each kind of block, in the body of a loop over such blocks, in that of a loop over images: iterate to the end.

    With a block come its first row, and the pointers to the image in each of the arrays.
    """
    with part.span(start, stop) as n:
        steps = [math.prod(side.size) * side.channels for side in sides]
        images = [part.shifted(array, (n, step)) for array, step in zip(arrays, steps, strict=True)]
        for block in blocks:
            with part.loop(block.times) as index:
                yield block, part.sum((index, block.rows), (block.row, 1)), images


def _inputs(x: Any, pads: Pads) -> _Side:
    """The images [batch, height, width, channels] that a convolution sees."""
    (above, _), (left, _) = pads
    return _Side((x.shape[1], x.shape[2]), x.shape[3], (-above, -left), winograd.B_T)


def _blocks(size: tuple[int, ...], bytes_of_one: int) -> list[_Block]:
    """The tiles of outputs of this size in blocks.

    Args:
        size: height and width.
        bytes_of_one: of what belongs to one point of one tile.
    """
    height, width = ((n + 1) // 2 for n in size)
    most = max(LEAST_TILES, BLOCK_BYTES // (POINTS * bytes_of_one))
    ends = list(itertools.accumulate(shares(width, most), initial=0))
    result = []
    for columns in itertools.pairwise(ends):
        rows = min(height, most // (columns[1] - columns[0]))
        times, rest = divmod(height, rows)
        result.append(_Block(0, rows, times, columns))
        if rest:
            result.append(_Block(height - rest, rest, 1, columns))
    return result


def _rows(pixels: int, channels: int, features: int) -> Phase:
    """A product of a matrix of so many rows, each of which is a tile's channels."""
    return Phase([Run(0, channels, 0)], (1, pixels), (0, channels), 0, (0, features))


def _on_both_axes(body: Body, matrix: np.ndarray, grid: list[list[Any]]) -> list[list[Any]]:
    """``matrix @ grid @ matrix.T`` of vectors, None being a zero."""
    columns = [_along(body, matrix, column) for column in zip(*grid, strict=True)]
    return [_along(body, matrix, row) for row in zip(*columns, strict=True)]


def _along(body: Body, matrix: np.ndarray, values: Sequence[Any]) -> list[Any]:
    """A matrix of 0, 1 and -1 times vectors."""

    def combined(coefficients: np.ndarray) -> Any:
        terms = [(c, v) for c, v in zip(coefficients, values, strict=True) if c and v is not None]
        terms.sort(key=lambda term: -term[0])
        if not terms:
            return None
        (sign, first), *others = terms
        total = first if sign > 0 else body.ir.fsub(body.zero(), first)
        return functools.reduce(
            lambda total, term: (body.ir.fadd if term[0] > 0 else body.ir.fsub)(total, term[1]), others, total
        )

    return [combined(row) for row in matrix]
