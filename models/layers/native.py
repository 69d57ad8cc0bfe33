"""Machine code for the CPU, made while a program is traced and called by XLA.

XLA compiles for itself what it fuses, and has no fast form of some operations (a convolution inside a loop,
see ``layers/convolution.py``). For such a one, :func:`call` writes a function in LLVM's intermediate
language, compiles it with llvmlite for the processor at hand, and registers it as a custom call through
XLA's foreign function interface. The function is made for one set of shapes, as XLA's own code is.

The layout of the interface's structures is that of ``xla/ffi/api/c_api.h`` in jaxlib, whose first version
number is 0; the second one is answered with XLA's own.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from models.layers import engines
from models.layers.derivatives import is_twice_differentiable
from models.layers.partitioning import is_partitioned
from models.layers.threads import PARTS, Threads

LONG = 8e6
"""Operations from which on work is cut: a part then takes far longer than to wake a thread."""

_LOCK = threading.Lock()
_TARGETS: dict[tuple, str] = {}
"""The target that was made for a key of :func:`call`."""


def is_available() -> bool:
    """Whether machine code can be made here, and would be run: on one CPU device, where its one derivative will do."""
    plain = is_twice_differentiable() or is_partitioned()
    return not plain and jax.default_backend() == "cpu" and engines.llvm() is not None


def fits(features: int, dtype: Any) -> bool:
    """Whether machine code can be made here for arrays of this type whose last axis has so many elements."""
    if np.dtype(dtype) not in (np.float32, np.float64) or not is_available():
        return False
    return features % (engines.vector_bytes() // np.dtype(dtype).itemsize) == 0


def parts(count: int, operations: float) -> int:
    """Into how many parts the work on ``count`` items is cut, which takes so many operations."""
    return min(PARTS, count) if operations >= LONG else 1


class Body:
    """A function under construction: llvmlite's builder, and the words that kernels are written in.

    Pointers are to elements; indices and sizes count elements, as Python integers or 64-bit values.

    Attributes:
        ir: llvmlite's builder.
        threads: those that can help, of a call's own function.
        vector: the type of a vector of elements.
        lanes: elements in a vector.
    """

    def __init__(self, module: Any, function: Any, element: Any, lanes: int, threads: "Threads | None" = None) -> None:
        from llvmlite import ir

        self.threads = threads
        self._types, self._module, self._element = ir, module, element
        self.lanes = lanes
        self.vector = ir.VectorType(element, self.lanes)
        self.ir = ir.IRBuilder(function.append_basic_block())
        self.arguments = function.args

    def integer(self, value: Any) -> Any:
        """A 64-bit value."""
        return self._types.IntType(64)(value) if isinstance(value, int) else value

    def sum(self, *terms: tuple[Any, int]) -> Any:
        """Sum of index times constant over ``terms``."""
        known = sum(index * factor for index, factor in terms if isinstance(index, int))
        products = [
            index if factor == 1 else self.ir.mul(index, self.integer(factor))
            for index, factor in terms
            if not isinstance(index, int)
        ]
        return functools.reduce(self.ir.add, [*products, *([self.integer(known)] if known or not products else [])])

    def shifted(self, pointer: Any, *terms: tuple[Any, int]) -> Any:
        """The pointer to what lies so many elements on: the sum of index times constant."""
        return self.ir.gep(pointer, [self.sum(*terms)])

    @contextlib.contextmanager
    def loop(self, stop: Any, step: int = 1) -> Iterator[Any]:
        """The body of a loop over 0, step, 2 step, ... below ``stop``, which is more than 0."""
        before, start = self.ir.block, self.ir.append_basic_block("loop")
        end = self.ir.append_basic_block("end")
        self.ir.branch(start)
        self.ir.position_at_end(start)
        index = self.ir.phi(self._types.IntType(64))
        index.add_incoming(self.integer(0), before)
        yield index
        following = self.ir.add(index, self.integer(step))
        index.add_incoming(following, self.ir.block)
        self.ir.cbranch(self.ir.icmp_signed("<", following, self.integer(stop)), start, end)
        self.ir.position_at_end(end)

    @contextlib.contextmanager
    def span(self, start: Any, stop: Any) -> Iterator[Any]:
        """The body of a loop over start, start + 1, ... below ``stop``; none where there are no such indices."""
        with self.blocks(self.ir.sub(self.integer(stop), self.integer(start))) as index:
            yield self.ir.add(self.integer(start), index)

    @contextlib.contextmanager
    def blocks(self, stop: Any, step: int = 1) -> Iterator[Any]:
        """The same as :meth:`loop`, where ``stop`` may be 0 or less: then it is left out."""
        with self.ir.if_then(self.ir.icmp_signed(">", self.integer(stop), self.integer(0))), self.loop(stop, step) as i:
            yield i

    @contextlib.contextmanager
    def covering(self, total: Any, step: int) -> Iterator[Any]:
        """The body of a loop over the starts of blocks of ``step`` that cover 0 to ``total``, which is no less.

        The last block ends there, and overlaps the one before it where it must.
        """
        with self.loop(total, step) as start:
            yield self.least(start, self.ir.sub(self.integer(total), self.integer(step)))

    def least(self, a: Any, b: Any) -> Any:
        """The lesser of two indices."""
        a, b = self.integer(a), self.integer(b)
        return self.ir.select(self.ir.icmp_signed("<", a, b), a, b)

    def load(self, pointer: Any, *terms: tuple[Any, int]) -> Any:
        """The vector that starts there."""
        place = self.ir.bitcast(self.shifted(pointer, *terms), self.vector.as_pointer())
        return self.ir.load(place, align=4)

    def store(self, value: Any, pointer: Any, *terms: tuple[Any, int]) -> None:
        """Write a vector there."""
        place = self.ir.bitcast(self.shifted(pointer, *terms), self.vector.as_pointer())
        self.ir.store(value, place, align=4)

    def store_first(self, value: Any, pointer: Any, *terms: tuple[Any, int]) -> None:
        """Write the first element of a vector there."""
        element = self.ir.extract_element(value, self._types.IntType(32)(0))
        self.ir.store(element, self.shifted(pointer, *terms))

    def spread(self, pointer: Any, *terms: tuple[Any, int]) -> Any:
        """A vector that holds the one element there in every lane."""
        return self.in_all_lanes(self.ir.load(self.shifted(pointer, *terms)), self.vector)

    def in_all_lanes(self, element: Any, kind: Any) -> Any:
        """A vector of this type that holds the element in every lane."""
        types, undefined = self._types, self._types.Constant(kind, self._types.Undefined)
        one = self.ir.insert_element(undefined, element, types.IntType(32)(0))
        first = types.Constant(types.VectorType(types.IntType(32), self.lanes), [0] * self.lanes)
        return self.ir.shuffle_vector(one, undefined, first)

    def zero(self) -> Any:
        """A vector of zeros."""
        return self.constant(0.0)

    def constant(self, value: float) -> Any:
        """A vector that holds this number in every lane, rounded to the elements' type."""
        if isinstance(self._element, self._types.FloatType):
            value = float(np.float32(value))
        return self._types.Constant(self.vector, [value] * self.lanes)

    def maximum(self, a: Any, b: Any) -> Any:
        """The greater element in each lane; NaN where one of them is."""
        return self.ir.call(self._intrinsic("maximum", 2), [a, b])

    def no_less(self, a: Any, bound: Any) -> Any:
        """``a`` unless the bound is greater: one instruction, unlike :meth:`maximum`. A NaN in ``a`` stays."""
        return self.ir.select(self.ir.fcmp_ordered(">", bound, a), bound, a)

    def no_more(self, a: Any, bound: Any) -> Any:
        """``a`` unless the bound is less. A NaN in ``a`` stays."""
        return self.ir.select(self.ir.fcmp_ordered("<", bound, a), bound, a)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``, rounded once where the processor can."""
        return self.ir.call(self._intrinsic("fmuladd", 3), [a, b, c])

    def square_root(self, x: Any) -> Any:
        """The square roots, correctly rounded."""
        return self.ir.call(self._intrinsic("sqrt", 1), [x])

    def total(self, x: Any) -> Any:
        """The sum of a vector's elements, in every lane: halves are added to each other, then quarters, and so on."""
        kind, step = self._types.VectorType(self._types.IntType(32), self.lanes), self.lanes // 2
        while step:
            order = self._types.Constant(kind, [lane ^ step for lane in range(self.lanes)])
            x, step = self.ir.fadd(x, self.ir.shuffle_vector(x, x, order)), step // 2
        return x

    def nearest(self, x: Any) -> Any:
        """The nearest integers, as numbers."""
        return self.ir.call(self._intrinsic("rint", 1), [x])

    def power_of_two(self, exponent: Any) -> Any:
        """``2 ** exponent`` in single precision, of integers as numbers: they become the bits of the exponent."""
        kind = self._types.VectorType(self._types.IntType(32), self.lanes)
        whole = self.ir.fptosi(exponent, kind)
        biased = self.ir.add(whole, self._types.Constant(kind, [127] * self.lanes))
        return self.ir.bitcast(self.ir.shl(biased, self._types.Constant(kind, [23] * self.lanes)), self.vector)

    def reaches(self, first: Any, bound: Any) -> Any:
        """In which lanes ``first``, ``first`` + 1, ... is not less than ``bound``."""
        number = self._types.IntType(32)
        kind = self._types.VectorType(number, self.lanes)
        difference = self.ir.trunc(self.ir.sub(self.integer(bound), self.integer(first)), number)
        lanes = self._types.Constant(kind, list(range(self.lanes)))
        return self.ir.icmp_signed(">=", lanes, self.in_all_lanes(difference, kind))

    def transposed(self, rows: Sequence[Any]) -> list[Any]:
        """The columns of as many vectors as a vector has lanes: rounds of a perfect shuffle."""
        half, rows = self.lanes // 2, list(rows)
        kind = self._types.VectorType(self._types.IntType(32), self.lanes)
        for _ in range(self.lanes.bit_length() - 1):
            mixed = []
            for upper, lower in zip(rows[:half], rows[half:], strict=True):
                for start in (0, half):
                    order = [place for i in range(start, start + half) for place in (i, i + self.lanes)]
                    mixed.append(self.ir.shuffle_vector(upper, lower, self._types.Constant(kind, order)))
            rows = mixed
        return rows

    def accumulators(self, count: int) -> list[Any]:
        """Variables of vectors, zero at first, which the compiler keeps in registers."""
        variables = [self.ir.alloca(self.vector) for _ in range(count)]
        for variable in variables:
            self.ir.store(self.zero(), variable)
        return variables

    def add_product(self, accumulator: Any, a: Any, b: Any) -> None:
        """Add ``a * b`` to an accumulator, rounded once where the processor can."""
        self.ir.store(self.multiply_add(a, b, self.ir.load(accumulator)), accumulator)

    def clear(self, pointer: Any, count: int) -> None:
        """Write zeros."""
        byte = self._types.IntType(8)
        function = self._memory("memset", [byte.as_pointer(), byte])
        self._call_memory(function, [pointer], [byte(0)], count)

    def copy(self, source: Any, destination: Any, count: int) -> None:
        """Copy elements."""
        byte = self._types.IntType(8)
        function = self._memory("memcpy", [byte.as_pointer()] * 2)
        self._call_memory(function, [destination, source], [], count)

    def function(self, name: str, arguments: int, counts: int = 0, *, aliased: bool = False) -> "Body":
        """The body of another function, of so many pointers and then so many 64-bit numbers; see :meth:`call`.

        What is written through one pointer must not be read through another, unless they are ``aliased``.
        """
        types = self._types
        kinds = [self._element.as_pointer()] * arguments + [types.IntType(64)] * counts
        function = types.Function(self._module, types.FunctionType(types.VoidType(), kinds), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        for argument in function.args[: 0 if aliased else arguments]:
            argument.add_attribute("noalias")
        return Body(self._module, function, self._element, self.lanes)

    def call(self, other: "Body", arguments: Sequence[Any]) -> None:
        """Call another function of the same module."""
        self.ir.call(other.ir.function, arguments)

    def parallel(
        self,
        pointers: Sequence[Any],
        count: int,
        parts: int,
        write: Callable[["Body", Sequence[Any], Any, Any, Any, Any], None],
    ) -> None:
        """Do something for 0, ..., ``count`` - 1, in so many parts, which threads share.

        Args:
            pointers: what the parts take.
            count: at least ``parts``.
            parts: as :func:`parts` says.
            write: writes the function of a part: ``(body, pointers, start, stop, part, thread)``. No two parts that
                run at the same time have the same thread, which is less than ``parts``.
        """
        part = self.function("part", len(pointers), counts=4)
        write(part, part.arguments[: len(pointers)], *part.arguments[len(pointers) :])
        part.ir.ret_void()
        assert self.threads is not None
        self.threads.run(self.ir, part.ir.function, pointers, count, parts)

    def sum_of_parts(self, sums: Any, parts: int, step: int, out: Any, count: int) -> None:
        """Write the sums over parts of ``count`` elements, which lie ``step`` apart, the first part first."""
        with self.loop(count, self.lanes) as at:
            total = self.load(sums, (at, 1))
            for number in range(1, parts):
                total = self.ir.fadd(total, self.load(sums, (at, 1), (number, step)))
            self.store(total, out, (at, 1))

    def _intrinsic(self, operation: str, arguments: int) -> Any:
        """LLVM's own function of vectors."""
        suffix = "f32" if isinstance(self._element, self._types.FloatType) else "f64"
        return self._extern(f"llvm.{operation}.v{self.lanes}{suffix}", self.vector, [self.vector] * arguments)

    def _extern(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        types = self._types
        found = self._module.globals.get(name)
        return found or types.Function(self._module, types.FunctionType(result, arguments), name)

    def _memory(self, operation: str, arguments: Sequence[Any]) -> Any:
        types = self._types
        pointers = ".p0" * (2 if operation == "memcpy" else 1)
        kinds = [*arguments, types.IntType(64), types.IntType(1)]
        return self._extern(f"llvm.{operation}{pointers}.i64", types.VoidType(), kinds)

    def _call_memory(self, function: Any, pointers: Sequence[Any], values: Sequence[Any], count: int) -> None:
        types = self._types
        size = count * (4 if isinstance(self._element, types.FloatType) else 8)
        bytes_ = [self.ir.bitcast(pointer, types.IntType(8).as_pointer()) for pointer in pointers]
        self.ir.call(function, [*bytes_, *values, self.integer(size), types.IntType(1)(0)])


def call(
    key: tuple,
    write: Callable[[Body, Sequence[Any], Sequence[Any]], None],
    operands: Sequence[Any],
    results: Sequence[tuple[int, ...]],
    *,
    lanes: int | None = None,
) -> list[Any]:
    """The results of machine code, as a custom call of XLA's. Lanes of ``vmap`` go one after another.

    Args:
        key: whatever the function depends on beside the type of the operands; it is made once for each key.
        write: writes the function: ``(body, pointers to the operands, pointers to the results)``.
        operands: arrays of one type, float32, float64 or uint32, whose bits are loaded and stored as those of float32.
        results: shapes of the results, which have the same type. What is not written there is undefined.
        lanes: elements in a vector; None for as many as the processor's hold.
    """
    dtype = operands[0].dtype
    size: int = lanes or engines.vector_bytes() // dtype.itemsize
    key = (*key, str(dtype), size)
    with _LOCK:
        if key not in _TARGETS:
            _TARGETS[key] = engines.target(_text(write, dtype, size, len(operands), len(results)))
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in results]
    return list(jax.ffi.ffi_call(_TARGETS[key], shapes, vmap_method="sequential")(*operands))


def _text(write: Callable[..., None], dtype: Any, lanes: int, operands: int, results: int) -> str:
    """LLVM's text of a module with a handler, as XLA's foreign function interface calls it."""
    from llvmlite import ir

    element = ir.DoubleType() if np.dtype(dtype) == np.float64 else ir.FloatType()
    byte, number, long = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
    module = ir.Module(name="paribus")
    handler = ir.Function(module, ir.FunctionType(byte, [byte]), "handler")
    body = Body(module, handler, element, lanes, Threads(module, handler.args[0]))
    build, (frame,) = body.ir, handler.args

    def field(structure: Any, offset: int, kind: Any) -> Any:
        return build.bitcast(build.gep(structure, [long(offset)]), kind.as_pointer())

    def buffers(table: Any, count: int) -> list[Any]:
        entries = [build.load(field(table, 8 * i, byte)) for i in range(count)]
        return [build.bitcast(build.load(field(entry, 24, byte)), element.as_pointer()) for entry in entries]

    # XLA asks a handler first what it is: XLA_FFI_CallFrame.extension_start is then an XLA_FFI_Metadata_Extension.
    extension = build.load(field(frame, 8, byte))
    with build.if_then(build.icmp_unsigned("!=", build.ptrtoint(extension, long), long(0))):
        interface, metadata = build.load(field(frame, 16, byte)), build.load(field(extension, 24, byte))
        build.store(number(0), field(metadata, 24, number))
        build.store(build.load(field(interface, 36, number)), field(metadata, 28, number))
        build.store(number(0), field(metadata, 32, number))
        build.ret(byte(None))
    arguments, returned = build.load(field(frame, 72, byte)), build.load(field(frame, 112, byte))
    write(body, buffers(arguments, operands), buffers(returned, results))
    build.ret(byte(None))
    return str(module)
