"""Tiles of a product as machine code: their results stay in the processor's registers until they are whole.

A tile of results (some rows, or pixels, times one to three vectors of features) stays in registers while all that it
comes from is multiplied and added: two loads for two products. ``layers/direct.py`` makes convolutions of them,
``layers/direct_winograd.py`` those of Winograd's form.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from models.layers.native import Body

REGISTERS = 12
"""Vectors of sums at a time; of AVX2's sixteen registers the others hold what is multiplied."""


class Run(NamedTuple):
    """Neighbouring inputs that one output sees.

    Attributes:
        place: of the first, from the input under output (0, 0).
        count: number of them.
        row: of the first one's weights.
    """

    place: int
    count: int
    row: int


class Phase(NamedTuple):
    """Outputs at equal distances, which see the inputs in the same pattern.

    Attributes:
        runs: what each sees, from where it stands.
        size: number of outputs along each axis.
        steps: distance of the inputs under neighbouring outputs, along each axis.
        start: of the first output.
        out_steps: distance of neighbouring outputs, along each axis.
    """

    runs: list[Run]
    size: tuple[int, int]
    steps: tuple[int, int]
    start: int
    out_steps: tuple[int, int]


def sum_tile(body: Body, name: str, phase: Phase, pixels: int, vectors: int) -> Body:
    """A function ``(inputs, weights, outputs)`` that computes some outputs of a row, and some vectors of each."""
    tile = body.function(name, 3)
    x, weights, out = tile.arguments
    width = vectors * tile.lanes
    sums = tile.accumulators(pixels * vectors)

    def add(run: Run, index: Any) -> None:
        factors = [tile.load(weights, (index, width), (run.row * width + v * tile.lanes, 1)) for v in range(vectors)]
        for pixel in range(pixels):
            spread = tile.spread(x, (index, 1), (run.place + pixel * phase.steps[1], 1))
            for v, factor in enumerate(factors):
                tile.add_product(sums[pixel * vectors + v], spread, factor)

    for run in _merged(phase.runs):
        unrolled = run.count if run.count <= 16 else next(n for n in (8, 6, 5, 4, 3, 2, 1) if run.count % n == 0)
        with tile.loop(run.count, unrolled) as first:
            for index in range(unrolled):
                add(run, tile.sum((first, 1), (index, 1)))
    for pixel in range(pixels):
        for v in range(vectors):
            total = tile.ir.load(sums[pixel * vectors + v])
            tile.store(total, out, (pixel * phase.out_steps[1] + v * tile.lanes, 1))
    tile.ir.ret_void()
    return tile


def gradient_tile(
    body: Body, name: str, pattern: tuple[int, ...], vectors: int, columns: int, steps: tuple[int, int], features: int
) -> Body:
    """A function ``(inputs, gradients, kernel's gradient, rows)`` that adds to some elements of the last.

    Args:
        body: of the module.
        name: of the function.
        pattern: the inputs under these elements of the kernel, from the first one's.
        vectors: of features.
        columns: outputs in a row.
        steps: distance of the inputs under neighbouring outputs, along each axis.
        features: number of all features.
    """
    tile = body.function(name, 3, counts=1)
    x, g, out, rows = tile.arguments
    sums = tile.accumulators(len(pattern) * vectors)
    with tile.loop(rows) as row, tile.loop(columns) as column:
        output = ((row, columns * features), (column, features))
        factors = [tile.load(g, *output, (v * tile.lanes, 1)) for v in range(vectors)]
        for element, place in enumerate(pattern):
            spread = tile.spread(x, (row, steps[0]), (column, steps[1]), (place, 1))
            for v, factor in enumerate(factors):
                tile.add_product(sums[element * vectors + v], spread, factor)
    for element in range(len(pattern)):
        for v in range(vectors):
            place = (element * features + v * tile.lanes, 1)
            total = tile.ir.load(sums[element * vectors + v])
            tile.store(tile.ir.fadd(tile.load(out, place), total), out, place)
    tile.ir.ret_void()
    return tile


def shares(total: int, most: int) -> list[int]:
    """Numbers of at most ``most``, as equal as can be, that add up to ``total``."""
    parts = math.ceil(total / most)
    return [total // parts + (part < total % parts) for part in range(parts)]


def _merged(runs: Sequence[Run]) -> list[Run]:
    """The same, with those joined that follow each other both in the inputs and in the weights."""
    result: list[Run] = []
    for run in runs:
        last = result[-1] if result else None
        if last and (last.place + last.count, last.row + last.count) == (run.place, run.row):
            result[-1] = last._replace(count=last.count + run.count)
        else:
            result.append(run)
    return result
