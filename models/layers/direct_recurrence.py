"""The recurrences of the LSTM and the GRU as machine code for the CPU: all steps of a sequence in one call.

XLA's loop starts a dozen operations in each step, each of which is done in microseconds, and the states go through
memory between them. Here a step is a product, whose sums are in registers, and one pass over the cells. Only for
single precision. The equations are those of ``layers/recurrence.py``.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.layers import engines, native, vector_functions
from models.layers.native import Body
from models.layers.products import product_tile, vectors_of

SUMS = 12
"""Vectors of a product's sums at a time, which stay in registers: of six sequences, with two vectors each."""


def fits(projected: Any, kernel: Any) -> bool:
    """Whether the machine code can be made for arrays of these shapes and types."""
    if {projected.dtype, kernel.dtype} != {np.dtype(np.float32)} or not projected.size:
        return False
    return native.fits(kernel.shape[0], np.float32)


def lstm(projected: Any, kernel: Any, h: Any, c: Any, *keep: Any, with_gates: bool = True) -> tuple[Any, ...]:
    """States and cells [time, batch, hidden], and the gates [time, batch, 4 hidden] behind their nonlinearities.

    Args:
        projected: the inputs' contributions [time, batch, 4 hidden].
        kernel: [hidden, 4 hidden].
        h: the state before the first step [batch, hidden].
        c: the cell before the first step.
        keep: factor of the state in the product [batch, hidden]; without it 1.
        with_gates: whether the gates are given.
    """
    time, batch, gates = projected.shape
    hidden = gates // 4

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        (inputs, panels, h_0, c_0, *factor), (states, cells, gated, scratch) = operands, results
        product = _product(body, batch, hidden, gates, added=True)
        step = _step(body, batch, hidden)
        multiply = _multiply(body, batch * hidden) if factor else None
        with body.loop(time) as t:
            is_first = body.ir.icmp_signed("==", t, body.integer(0))
            before = body.ir.sub(t, body.integer(1))
            state = body.ir.select(is_first, h_0, body.shifted(states, (before, batch * hidden)))
            cell = body.ir.select(is_first, c_0, body.shifted(cells, (before, batch * hidden)))
            if multiply:
                body.call(multiply, [state, factor[0], scratch])
                state = scratch
            now = body.shifted(gated, (t, batch * gates)) if with_gates else gated
            product(state, panels, now, body.shifted(inputs, (t, batch * gates)))
            places = [body.shifted(array, (t, batch * hidden)) for array in (cells, states)]
            body.call(step, [now, cell, *places])

    of_gates = projected.shape if with_gates else (batch, gates)
    shapes = ((time, batch, hidden), (time, batch, hidden), of_gates, (batch * hidden,))
    operands = (projected, _panels(kernel), h, c, *keep)
    found = native.call(("lstm", projected.shape, len(keep), with_gates), write, operands, shapes)
    return tuple(found[: 3 if with_gates else 2])


def lstm_gradient(g: Any, cells: Any, gates: Any, kernel: Any, c: Any, *others: Any, with_cells: bool) -> tuple:
    """Gradients of the sums at the gates [time, batch, 4 hidden], of the first state and of the first cell.

    Args:
        g: gradient of the states [time, batch, hidden].
        cells: as :func:`lstm` gave them.
        gates: as :func:`lstm` gave them.
        kernel: [hidden, 4 hidden].
        c: the cell before the first step.
        others: the gradient of the cells, where there is one, and ``keep``, where there is one.
        with_cells: whether there is a gradient of the cells.
    """
    time, batch, hidden = cells.shape

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        (slopes, cells_at, gated, panels, c_0, *rest), (sums, dh, dc) = operands, results
        factor = rest[1:] if with_cells else rest
        product = _product(body, batch, 4 * hidden, hidden, added=False)
        step = _step_back(body, batch, hidden, with_cells=with_cells)
        multiply = _multiply(body, batch * hidden) if factor else None
        body.clear(dh, batch * hidden)
        body.clear(dc, batch * hidden)
        with body.loop(time) as steps:
            t = body.ir.sub(body.integer(time - 1), steps)
            is_first = body.ir.icmp_signed("==", t, body.integer(0))
            before = body.shifted(cells_at, (body.ir.sub(t, body.integer(1)), batch * hidden))
            given = [body.shifted(array, (t, batch * hidden)) for array in (slopes, cells_at, *rest[:with_cells])]
            into = body.shifted(sums, (t, batch * 4 * hidden))
            now = body.shifted(gated, (t, batch * 4 * hidden))
            body.call(step, [now, body.ir.select(is_first, c_0, before), into, dh, dc, *given])
            product(into, panels, dh)
            if multiply:
                body.call(multiply, [dh, factor[0], dh])

    shapes = (gates.shape, (batch, hidden), (batch, hidden))
    operands = (g, cells, gates, _panels(kernel.T), c, *others)
    return tuple(native.call(("lstm_gradient", cells.shape, with_cells, len(others)), write, operands, shapes))


def gru(projected: Any, kernel: Any, bias: Any, h: Any, *keep: Any, with_gates: bool = True) -> tuple[Any, ...]:
    """States [time, batch, hidden], and [time, batch, 4 hidden]: reset gates, update gates, candidates and a_n.

    Args:
        projected: the inputs' contributions [time, batch, 3 hidden].
        kernel: [hidden, 3 hidden].
        bias: of the recurrent product [3 hidden].
        h: the state before the first step [batch, hidden].
        keep: factor of the state in the product [batch, hidden]; without it 1.
        with_gates: whether the gates are given.
    """
    time, batch, sums = projected.shape
    hidden = sums // 3

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        (inputs, panels, shift, h_0, *factor), (states, summed, scratch, *gated) = operands, results
        product = _product(body, batch, hidden, sums, added=False)
        step = _gru_step(body, batch, hidden, with_gates=with_gates)
        multiply = _multiply(body, batch * hidden) if factor else None
        with body.loop(time) as t:
            is_first = body.ir.icmp_signed("==", t, body.integer(0))
            before = body.shifted(states, (body.ir.sub(t, body.integer(1)), batch * hidden))
            before = state = body.ir.select(is_first, h_0, before)
            if multiply:
                body.call(multiply, [state, factor[0], scratch])
                state = scratch
            product(state, panels, summed)
            now = body.shifted(inputs, (t, batch * sums)), body.shifted(states, (t, batch * hidden))
            gates = [body.shifted(array, (t, batch * 4 * hidden)) for array in gated]
            body.call(step, [summed, shift, before, *now, *gates])

    shapes = [(time, batch, hidden), (batch * sums,), (batch * hidden,)]
    if with_gates:
        shapes.append((time, batch, 4 * hidden))
    operands = (projected, _panels(kernel), bias, h, *keep)
    states, _, _, *gates = native.call(("gru", projected.shape, len(keep), with_gates), write, operands, shapes)
    return states, *gates


def gru_gradient(g: Any, before: Any, gates: Any, kernel: Any, *keep: Any) -> tuple[Any, Any, Any]:
    """Gradients of the recurrent product and of the inputs [time, batch, 3 hidden], and of the first state.

    Args:
        g: gradient of the states [time, batch, hidden].
        before: the state before each step [time, batch, hidden].
        gates: as :func:`gru` gave them.
        kernel: [hidden, 3 hidden].
        keep: as :func:`gru` took it.
    """
    time, batch, hidden = before.shape

    def write(body: Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        (slopes, states, gated, panels, *factor), (sums, inputs, dh, scratch) = operands, results
        product = _product(body, batch, 3 * hidden, hidden, added=not factor)
        step = _gru_step_back(body, batch, hidden)
        multiply = _multiply(body, batch * hidden, added=True) if factor else None
        body.clear(dh, batch * hidden)
        with body.loop(time) as steps:
            t = body.ir.sub(body.integer(time - 1), steps)
            given = [body.shifted(array, (t, batch * hidden)) for array in (slopes, states)]
            into = [body.shifted(array, (t, batch * 3 * hidden)) for array in (sums, inputs)]
            body.call(step, [body.shifted(gated, (t, batch * 4 * hidden)), *given, dh, *into, scratch])
            if multiply:
                product(into[0], panels, dh)
                body.call(multiply, [dh, factor[0], dh, scratch])
            else:
                product(into[0], panels, dh, scratch)

    shapes = (*[(time, batch, 3 * hidden)] * 2, (batch, hidden), (batch * hidden,))
    operands = (g, before, gates, _panels(kernel.T), *keep)
    da, dx, first, _ = native.call(("gru_gradient", before.shape, len(keep)), write, operands, shapes)
    return da, dx, first


def _panels(kernel: Any) -> Any:
    """The kernel [rows, columns] as blocks of columns, each of which a tile reads in one go."""
    rows, columns = kernel.shape
    lanes = engines.vector_bytes() // 4
    width = vectors_of(columns, lanes) * lanes
    return kernel.reshape(rows, columns // width, width).swapaxes(0, 1)


def _product(body: Body, batch: int, inputs: int, columns: int, *, added: bool) -> Any:
    """A function that writes the product of a matrix [batch, inputs] and a kernel in panels."""
    vectors = vectors_of(columns, body.lanes)
    rows = math.ceil(batch / math.ceil(batch / (SUMS // vectors)))
    width = vectors * body.lanes
    starts = range(0, width, body.lanes)
    tile = product_tile(body, "product", rows, starts, left=(inputs, 1), right=width, out=columns, added=added)

    def write(left: Any, panels: Any, out: Any, *base: Any) -> None:
        with body.loop(columns // width) as panel, body.covering(batch, rows) as row:
            place = (row, columns), (panel, width)
            from_rows = body.shifted(left, (row, inputs))
            from_panel = body.shifted(panels, (panel, inputs * width))
            places = [body.shifted(pointer, *place) for pointer in (out, *base)]
            body.call(tile, [from_rows, from_panel, *places, body.integer(inputs)])

    return write


def _multiply(body: Body, count: int, *, added: bool = False) -> Body:
    """A function ``(a, b, out)`` that writes the elementwise product; ``out`` may be ``a``.

    With ``added`` it is ``(a, b, out, base)``, and ``base`` is added.
    """
    part = body.function("multiply", 4 if added else 3, aliased=True)
    a, b, out, *base = part.arguments
    with part.loop(count, part.lanes) as at:
        factors = part.load(a, (at, 1)), part.load(b, (at, 1))
        total = part.multiply_add(*factors, part.load(base[0], (at, 1))) if added else part.ir.fmul(*factors)
        part.store(total, out, (at, 1))
    part.ir.ret_void()
    return part


def _step(body: Body, batch: int, hidden: int) -> Body:
    """A function ``(sums at the gates, cells before, cells, states)``; the gates take the place of the sums."""
    part = body.function("step", 4)
    sums, before, cells, states = part.arguments
    ir = part.ir
    with part.loop(batch) as row, part.loop(hidden, part.lanes) as column:
        places = [((row, 4 * hidden), (column, 1), (gate * hidden, 1)) for gate in range(4)]
        i, f, g, o = (part.load(sums, *place) for place in places)
        i, f, o = (vector_functions.sigmoid(part, gate) for gate in (i, f, o))
        g = vector_functions.tanh(part, g)
        place = (row, hidden), (column, 1)
        c = part.multiply_add(f, part.load(before, *place), ir.fmul(i, g))
        part.store(c, cells, *place)
        part.store(ir.fmul(o, vector_functions.tanh(part, c)), states, *place)
        for gate, at in zip((i, f, g, o), places, strict=True):
            part.store(gate, sums, *at)
    part.ir.ret_void()
    return part


def _step_back(body: Body, batch: int, hidden: int, *, with_cells: bool) -> Body:
    """A function ``(gates, cells before, out, dh, dc, gradient of the states, cells, that of the cells if any)``.

    ``out`` are the gradients of the sums at the gates. ``dh`` and ``dc`` come from the step after this one;
    ``dc`` is replaced by that of the cells before.
    """
    part = body.function("step_back", 7 + with_cells)
    gates, before, out, dh_at, dc_at, slopes, cells, *cell_slopes = part.arguments
    ir, one = part.ir, part.constant(1.0)

    def times(*factors: Any) -> Any:
        product = factors[0]
        for factor in factors[1:]:
            product = ir.fmul(product, factor)
        return product

    with part.loop(batch) as row, part.loop(hidden, part.lanes) as column:
        place = (row, hidden), (column, 1)
        at = [((row, 4 * hidden), (column, 1), (gate * hidden, 1)) for gate in range(4)]
        i, f, g, o = (part.load(gates, *where) for where in at)
        dh = ir.fadd(part.load(dh_at, *place), part.load(slopes, *place))
        dc = part.load(dc_at, *place)
        if with_cells:
            dc = ir.fadd(dc, part.load(cell_slopes[0], *place))
        squashed = vector_functions.tanh(part, part.load(cells, *place))
        dc = part.multiply_add(times(dh, o), ir.fsub(one, ir.fmul(squashed, squashed)), dc)
        gradients = (
            times(dc, g, i, ir.fsub(one, i)),
            times(dc, part.load(before, *place), f, ir.fsub(one, f)),
            times(dc, i, ir.fsub(one, ir.fmul(g, g))),
            times(dh, squashed, o, ir.fsub(one, o)),
        )
        for gradient, where in zip(gradients, at, strict=True):
            part.store(gradient, out, *where)
        part.store(ir.fmul(dc, f), dc_at, *place)
    part.ir.ret_void()
    return part


def _gru_step(body: Body, batch: int, hidden: int, *, with_gates: bool) -> Body:
    """A function ``(products, bias, states before, inputs, states, gates if wanted)``."""
    part = body.function("step", 5 + with_gates)
    products, bias, before, inputs, states, *gates = part.arguments
    ir = part.ir
    with part.loop(batch) as row, part.loop(hidden, part.lanes) as column:
        blocks = [((column, 1), (gate * hidden, 1)) for gate in range(4)]
        places = [((row, 3 * hidden), *block) for block in blocks[:3]]
        a_r, a_u, a_n = (
            ir.fadd(part.load(products, *place), part.load(bias, *block))
            for place, block in zip(places, blocks, strict=False)
        )
        x_r, x_u, x_n = (part.load(inputs, *place) for place in places)
        r, u = (vector_functions.sigmoid(part, ir.fadd(x, a)) for x, a in ((x_r, a_r), (x_u, a_u)))
        n = vector_functions.tanh(part, part.multiply_add(r, a_n, x_n))
        place = (row, hidden), (column, 1)
        part.store(part.multiply_add(u, ir.fsub(part.load(before, *place), n), n), states, *place)
        if with_gates:
            for gate, block in zip((r, u, n, a_n), blocks, strict=True):
                part.store(gate, gates[0], (row, 4 * hidden), *block)
    part.ir.ret_void()
    return part


def _gru_step_back(body: Body, batch: int, hidden: int) -> Body:
    """A function ``(gates, gradient of the states, states before, dh, da, dx, carried)``.

    ``da`` and ``dx`` are the gradients of the product and of the inputs. ``dh`` comes from the step after this one;
    ``carried`` is what of it passes by the product.
    """
    part = body.function("step_back", 7)
    gates, slopes, before, dh_at, da, dx, carried = part.arguments
    ir, one = part.ir, part.constant(1.0)
    with part.loop(batch) as row, part.loop(hidden, part.lanes) as column:
        place = (row, hidden), (column, 1)
        r, u, n, a_n = (part.load(gates, (row, 4 * hidden), (column, 1), (gate * hidden, 1)) for gate in range(4))
        dh = ir.fadd(part.load(dh_at, *place), part.load(slopes, *place))
        rest = ir.fmul(dh, ir.fsub(one, u))
        dn = ir.fmul(rest, ir.fsub(one, ir.fmul(n, n)))
        du = ir.fmul(rest, ir.fmul(ir.fsub(part.load(before, *place), n), u))
        dr = ir.fmul(ir.fmul(dn, a_n), ir.fmul(r, ir.fsub(one, r)))
        for array, new in ((da, ir.fmul(dn, r)), (dx, dn)):
            for block, gradient in enumerate((dr, du, new)):
                part.store(gradient, array, (row, 3 * hidden), (column, 1), (block * hidden, 1))
        part.store(ir.fmul(dh, u), carried, *place)
    part.ir.ret_void()
    return part
