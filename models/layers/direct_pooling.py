"""Maxima of windows that lie side by side, and their gradient, as machine code for the CPU.

XLA vectorises these along the channels, and hardly does with fewer than 16: with 8, the gradient alone
took twice as long as all convolutions of a small network together.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from models.layers import engines, native
from models.layers.native import Body

Size = tuple[int, int]
"""Height and width of a window in pixels."""


def value(x: Any, size: Size) -> Any:
    """The maximum of each window; NaN where the window has one."""
    count, height, width, channels = x.shape

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        for window, pixel in _windows(body, x.shape, size):
            places = _places(size, width * channels, channels)
            elements = [body.load(operands[0], *window, (place, 1)) for place in places]
            largest = elements[0]
            for element in elements[1:]:
                largest = body.maximum(largest, element)
            body.store(largest, results[0], *pixel)

    shape = (count, height // size[0], width // size[1], channels)
    return native.call(("maximum", x.shape, size), write, (x,), (shape,))[0]


def gradient(x: Any, g: Any, size: Size) -> Any:
    """The gradient of the images: that of a maximum goes to the first in its window, rows before columns."""
    _, height, width, channels = x.shape

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        if height % size[0] or width % size[1]:
            body.clear(results[0], x.size)
        for window, pixel in _windows(body, x.shape, size):
            places = _places(size, width * channels, channels)
            first, *others = (body.load(operands[0], *window, (place, 1)) for place in places)
            largest, is_greater = first, []
            for element in others:
                is_greater.append(body.ir.fcmp_ordered(">", element, largest))
                largest = body.ir.select(is_greater[-1], element, largest)
            given, nothing = body.load(operands[1], *pixel), body.zero()
            # From the last element on: one that is greater than all before it wins, unless a later one is.
            for place, greater in zip(reversed(places[1:]), reversed(is_greater), strict=True):
                body.store(body.ir.select(greater, given, nothing), results[0], *window, (place, 1))
                given = body.ir.select(greater, nothing, given)
            body.store(given, results[0], *window, (places[0], 1))

    return native.call(("maximum_gradient", x.shape, size), write, (x, g), (x.shape,))[0]


def _windows(body: Body, shape: tuple[int, ...], size: Size) -> Iterator[tuple[tuple, tuple]]:
    """Once, inside loops over images, rows, columns and vectors: where a window starts, and where its maximum goes."""
    count, height, width, channels = shape
    rows, columns = height // size[0], width // size[1]
    with (
        body.loop(count) as n,
        body.loop(rows) as row,
        body.loop(columns) as column,
        body.loop(channels // body.lanes) as block,
    ):
        window = (n, height * width * channels), (row, size[0] * width * channels), (column, size[1] * channels)
        pixel = (n, rows * columns * channels), (row, columns * channels), (column, channels)
        yield (*window, (block, body.lanes)), (*pixel, (block, body.lanes))


def _places(size: Size, row: int, pixel: int) -> list[int]:
    """Of a window's elements, from its first: rows before columns."""
    return [i * row + j * pixel for i, j in itertools.product(*map(range, size))]


LONGEST = 128
"""Positions of a sequence up to which the maximum over all of them is machine code, which holds each of them."""


def fits_over_time(x: Any) -> bool:
    """Whether :func:`over_time` can be taken of sequences [batch, time, features]."""
    _, time, features = x.shape
    whole = features - features % (engines.vector_bytes() // x.dtype.itemsize) if native.is_available() else 0
    return whole > 0 and time <= LONGEST and native.fits(whole, x.dtype)


def over_time(x: Any) -> Any:
    """The maximum of each feature over the positions [batch, time, features]; NaN where one is."""
    count, time, features = x.shape

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        for n, start in _features(body, count, features):
            sequence = body.shifted(operands[0], (n, time * features), (start, 1))
            body.store(_largest(body, sequence, time, features), results[0], (n, features), (start, 1))

    return native.call(("over_time", x.shape), write, (x,), ((count, features),))[0]


def over_time_gradient(x: Any, g: Any) -> Any:
    """The gradient of the sequences: that of a maximum goes to the first position that has it."""
    count, time, features = x.shape

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        nothing = body.zero()
        for n, start in _features(body, count, features):
            sequence = body.shifted(operands[0], (n, time * features), (start, 1))
            into = body.shifted(results[0], (n, time * features), (start, 1))
            largest, left = _largest(body, sequence, time, features), body.load(operands[1], (n, features), (start, 1))
            for position in range(time):
                element = body.load(sequence, (position, features))
                found = body.ir.fcmp_ordered("==", element, largest)
                body.store(body.ir.select(found, left, nothing), into, (position, features))
                left = body.ir.select(found, nothing, left)  # a later one that is equal gets nothing

    return native.call(("over_time_gradient", x.shape), write, (x, g), (x.shape,))[0]


def _largest(body: Body, sequence: Any, time: int, features: int) -> Any:
    largest = body.load(sequence, (0, features))
    for position in range(1, time):
        largest = body.maximum(largest, body.load(sequence, (position, features)))
    return largest


def _features(body: Body, count: int, features: int) -> Iterator[tuple[Any, Any]]:
    """Once, inside loops over sequences and vectors of features: which sequence, and the first feature.

    The last vector ends with the last feature: where they are no multiple, it computes some again, to the same.
    """
    with body.loop(count) as n, body.loop(-(-features // body.lanes)) as block:
        yield n, body.least(body.ir.mul(block, body.integer(body.lanes)), features - body.lanes)
