"""Convolution of images as machine code: the direct sum, with its results in the processor's registers.

A tile of outputs (some pixels of a row times one to three vectors of features) stays in registers
while all that it sees is multiplied and added: two loads for two products, no matrix of patches, no
memory but for one image padded with zeros. This is the scheme of Georganas et al. 2018, "Anatomy of
High-Performance Deep Learning Convolutions on SIMD Architectures", sections II.B to II.D; theirs keeps
channels in blocks in memory, here the arrays stay [batch, height, width, channels].

All three functions do as many operations as the direct sum. Each output is summed in the order of the
kernel's elements; the gradient of a kernel is summed over some rows, then over these sums, and where the
work is long over the images of each part, then over the parts.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax import lax

from models.layers import engines, native
from models.layers.direct_tiles import REGISTERS, Phase, Run, gradient_tile, shares, sum_tile
from models.layers.native import Body
from models.layers.patches import Geometry

GROUP_BYTES = 16_384
"""Rows of inputs and outputs that a kernel's gradient goes over again and again: half of a first-level cache."""

GROUP_OUTPUTS = 64
"""At least so many, for after each group the sums are added to what lies in memory."""


def value(x: Any, kernel: Any, geometry: Geometry) -> Any:
    """Convolution of images [batch, height, width, channels]."""
    x, geometry = _cropped(x, geometry)
    channels, (kernel_height, kernel_width) = x.shape[-1], kernel.shape[:2]
    rows, columns = geometry.out_size(x.shape[1:3], (kernel_height, kernel_width))
    step = _padded_size(x, geometry)[1] * channels
    (stride, across), (dilation, across_dilation) = geometry.strides, geometry.dilation
    runs = [
        Run(i * dilation * step + j * across_dilation * channels, channels, (i * kernel_width + j) * channels)
        for i in range(kernel_height)
        for j in range(kernel_width)
    ]
    features = kernel.shape[-1]
    phase = Phase(runs, (rows, columns), (stride * step, across * channels), 0, (columns * features, features))
    return _correlated(x, kernel.reshape(-1, features), geometry.pads, [phase], (rows, columns))


def input_gradient(g: Any, kernel: Any, size: tuple[int, ...], geometry: Geometry) -> Any:
    """Gradient of the images, whose height and width are ``size``, given that of the outputs.

    The inputs whose coordinates are equal modulo the strides see the same elements of the kernel: for
    them it is a convolution of stride 1 with these elements.
    """
    _, kernel_width, channels, features = kernel.shape
    rows, columns = (_seen(size[axis], kernel.shape[axis], axis, geometry) for axis in (0, 1))
    pads = tuple(_reach(line, n) for line, n in ((rows, g.shape[1]), (columns, g.shape[2])))
    g, padded = _cropped(g, Geometry((1, 1), pads, (1, 1)))
    step = _padded_size(g, padded)[1] * features
    phases = []
    for y, (height, up) in enumerate(rows):
        for x, (width, left) in enumerate(columns):
            runs = [
                Run(
                    (i_at + pads[0][0]) * step + (j_at + pads[1][0]) * features,
                    features,
                    (i * kernel_width + j) * features,
                )
                for i, i_at in up
                for j, j_at in left
            ]
            strides = geometry.strides
            out_steps = (strides[0] * size[1] * channels, strides[1] * channels)
            start = (y * size[1] + x) * channels
            phases.append(Phase(sorted(runs), (height, width), (step, features), start, out_steps))
    weights = kernel.swapaxes(2, 3).reshape(-1, channels)
    return _correlated(g, weights, padded.pads, phases, (size[0], size[1]))


def kernel_gradient(x: Any, g: Any, kernel_shape: tuple[int, ...], geometry: Geometry) -> Any:
    """Gradient of the kernel, given that of the outputs."""
    x, geometry = _cropped(x, geometry)
    kernel_height, kernel_width, channels, features = kernel_shape
    _, rows, columns, _ = g.shape
    height, width = _padded_size(x, geometry)
    step = width * channels
    (stride, across), (dilation, across_dilation) = geometry.strides, geometry.dilation
    places = [
        i * dilation * step + j * across_dilation * channels + c
        for i in range(kernel_height)
        for j in range(kernel_width)
        for c in range(channels)
    ]

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        (x_at, g_at), (out, scratch, *partial) = operands, results
        sums = partial[0] if partial else out
        vectors = 2 if features // body.lanes % 2 == 0 else 1
        width_of_block = vectors * body.lanes
        blocks = _blocks(places, kernel_width * channels, REGISTERS // vectors)
        tiles = {
            pattern: gradient_tile(
                body, f"tile_{n}", pattern, vectors, columns, (stride * step, across * channels), features
            )
            for n, pattern in enumerate(dict.fromkeys(pattern for _, pattern in blocks))
        }
        fitting = GROUP_BYTES // (x.dtype.itemsize * (stride * step + columns * features))
        group = min(rows, max(fitting, math.ceil(GROUP_OUTPUTS / columns)))

        def add(part: Body, pointers: Sequence[Any], start: Any, stop: Any, number: Any, thread: Any) -> None:
            x_at, g_at, sums, scratch = pointers
            own, scratch = part.shifted(sums, (number, elements)), part.shifted(scratch, (thread, padded))
            part.clear(own, elements)
            images = _images(part, x_at, scratch, x.shape, geometry.pads, start, stop)
            with images as (image, n), part.loop(rows, group) as row:
                lines = part.least(part.ir.sub(part.integer(rows), row), group)
                with part.loop(features // width_of_block) as block:
                    seen = part.shifted(image, (row, stride * step))
                    given = part.shifted(
                        g_at, (n, rows * columns * features), (row, columns * features), (block, width_of_block)
                    )
                    for first, pattern in blocks:
                        into = part.shifted(own, (block, width_of_block), (first, features))
                        part.call(tiles[pattern], [part.shifted(seen, (places[first], 1)), given, into, lines])

        body.parallel((x_at, g_at, sums, scratch), len(x), parts, add)
        if partial:
            body.sum_of_parts(sums, parts, elements, out, elements)

    elements, padded = math.prod(kernel_shape), height * step if any(map(any, geometry.pads)) else 1
    parts = native.parts(len(x), 2 * len(x) * rows * columns * elements)
    key = ("kernel_gradient", x.shape, kernel_shape, geometry)
    shapes = ((elements,), (parts * padded,), *([(parts * elements,)] if parts > 1 else []))
    return native.call(key, write, (x, g), shapes)[0].reshape(kernel_shape)


def transposed_product(x: Any, g: Any) -> Any:
    """``transpose(x) @ g`` of matrices: the gradient of a kernel of one element, over images of one column."""
    (rows, inputs), features = x.shape, g.shape[-1]
    once = Geometry((1, 1), ((0, 0), (0, 0)), (1, 1))
    images = x.reshape(1, rows, 1, inputs), g.reshape(1, rows, 1, features)
    return kernel_gradient(*images, (1, 1, inputs, features), once).reshape(inputs, features)


def _correlated(
    x: Any, weights: Any, pads: tuple[tuple[int, int], ...], phases: Sequence[Phase], out_size: tuple[int, int]
) -> Any:
    """Outputs [batch, *out_size, features]: sums of what each one sees times ``weights`` [rows, features]."""
    count, *_, channels = x.shape
    rows, features = weights.shape
    lanes = engines.vector_bytes() // x.dtype.itemsize
    vectors = next(n for n in (2, 3, 1) if features // lanes % n == 0)
    width = vectors * lanes  # features of a tile
    out_image = math.prod(out_size) * features

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        (x_at, weights_at), (out, scratch) = operands, results
        tiles = [_tiles(body, f"tile_{n}", phase, vectors) for n, phase in enumerate(phases)]

        def sum_up(part: Body, pointers: Sequence[Any], start: Any, stop: Any, _: Any, thread: Any) -> None:
            x_at, weights_at, out, scratch = pointers
            scratch = part.shifted(scratch, (thread, padded))
            with _images(part, x_at, scratch, x.shape, pads, start, stop) as (image, n):
                for phase, pieces in zip(phases, tiles, strict=True):
                    with part.loop(features // width) as block, part.loop(phase.size[0]) as row:
                        block_weights = part.shifted(weights_at, (block, rows * width))
                        column = 0
                        for pixels, tile in pieces:
                            seen = part.shifted(image, (row, phase.steps[0]), (column, phase.steps[1]))
                            place = (
                                (row, phase.out_steps[0]),
                                (block, width),
                                (phase.start + column * phase.out_steps[1], 1),
                            )
                            into = part.shifted(out, (n, out_image), *place)
                            part.call(tile, [seen, block_weights, into])
                            column += pixels

        body.parallel((x_at, weights_at, out, scratch), count, parts, sum_up)

    height, breadth = _padded_size(x, Geometry((1, 1), pads, (1, 1)))
    padded = height * breadth * channels if any(map(any, pads)) else 1
    seen_by_all = sum(math.prod(phase.size) * sum(run.count for run in phase.runs) for phase in phases)
    parts = native.parts(count, 2 * count * features * seen_by_all)
    blocks = weights.reshape(rows, features // width, width).swapaxes(0, 1)
    shape = (count, *out_size, features)
    key = ("correlated", x.shape, shape, pads, repr(phases))
    return native.call(key, write, (x, blocks), (shape, (parts * padded,)))[0]


def _tiles(body: Body, name: str, phase: Phase, vectors: int) -> list[tuple[int, Body]]:
    """The tiles that a row of a phase is cut into: pixels of each, and its function."""
    sizes = shares(phase.size[1], REGISTERS // vectors)
    functions = {pixels: sum_tile(body, f"{name}_{pixels}", phase, pixels, vectors) for pixels in dict.fromkeys(sizes)}
    return [(pixels, functions[pixels]) for pixels in sizes]


@contextlib.contextmanager
def _images(
    body: Body,
    x: Any,
    scratch: Any,
    shape: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    start: Any,
    stop: Any,
) -> Iterator[tuple[Any, Any]]:
    """The body of a loop over the images from ``start`` on: a pointer to one, with its zeros around, and its number."""
    _, height, width, channels = shape
    (above, below), (left, right) = pads
    step = (left + width + right) * channels
    padded = any((above, below, left, right))
    if padded:
        body.clear(scratch, (above + height + below) * step)
    with body.span(start, stop) as n:
        image = body.shifted(x, (n, height * width * channels))
        if padded:
            with body.loop(height) as row:
                line = body.shifted(image, (row, width * channels))
                body.copy(
                    line, body.shifted(scratch, (row, step), (above * step + left * channels, 1)), width * channels
                )
        yield (scratch if padded else image), n


def _seen(size: int, kernel_size: int, axis: int, geometry: Geometry) -> list[tuple[int, list[tuple[int, int]]]]:
    """For each remainder of an input's coordinate modulo the stride: how many such inputs there are, and who sees them.

    The latter as pairs: an element of the kernel, and the output under which it sees the first such input.
    """
    stride, (before, _), dilation = geometry.along(axis)
    result = []
    for remainder in range(min(stride, size)):
        places = [divmod(remainder + before - i * dilation, stride) for i in range(kernel_size)]
        seen = [(i, place) for i, (place, rest) in enumerate(places) if not rest]
        result.append((math.ceil((size - remainder) / stride), seen))
    return result


def _reach(line: list[tuple[int, list[tuple[int, int]]]], size: int) -> tuple[int, int]:
    """Zeros before and after ``size`` outputs, so that every one that :func:`_seen` names exists."""
    places = [(place, place + count - 1) for count, seen in line for _, place in seen]
    first, last = min((place for place, _ in places), default=0), max((place for _, place in places), default=0)
    return max(0, -first), max(0, last - size + 1)


def _blocks(places: Sequence[int], run: int, most: int) -> list[tuple[int, tuple[int, ...]]]:
    """Elements of the kernel in blocks: the first one's number, and where each one's input is from the first one's.

    Args:
        places: of the inputs under all elements.
        run: number of elements in a row of the kernel; a block does not go beyond it unless it is short.
        most: elements in a block.
    """
    rows = len(places) // run
    sizes = shares(run, most) * rows if 2 * run > most else shares(len(places), most)
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    return [
        (start, tuple(place - places[start] for place in places[start : start + size]))
        for start, size in zip(starts, sizes, strict=True)
    ]


def _padded_size(x: Any, geometry: Geometry) -> tuple[int, int]:
    """Height and width with the zeros around."""
    return x.shape[1] + sum(geometry.pads[0]), x.shape[2] + sum(geometry.pads[1])


def _cropped(x: Any, geometry: Geometry) -> tuple[Any, Geometry]:
    """The same without pads of less than zero."""
    for axis, (before, after) in enumerate(geometry.pads, start=1):
        x = lax.slice_in_dim(x, max(0, -before), x.shape[axis] - max(0, -after), axis=axis)
    pads = tuple((max(0, before), max(0, after)) for before, after in geometry.pads)
    return x, geometry._replace(pads=pads)
