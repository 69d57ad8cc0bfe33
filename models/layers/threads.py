"""Threads of XLA's that help with the work of one custom call (see ``layers/native.py``).

The work comes in parts. The call asks XLA's pool for helpers, and begins; whoever is free takes the next part, so that
nobody waits for a helper that the pool has no thread for. A helper may begin when all has been done: what the threads
share is freed by the last of them.

The layout of the interface's structures is that of ``xla/ffi/api/c_api.h`` in jaxlib: the functions of ``XLA_FFI_Api``
follow its first 48 bytes.
"""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

PARTS = 4
"""Into how many parts long work is cut, so that as many threads can share it; the results do not depend on how many."""

# Offsets into what the threads share; after them come the pointers that a part takes.
_NEXT, _DONE, _HOLDERS, _THREADS, _POINTERS = 0, 4, 8, 12, 16

_FUNCTIONS = {"XLA_FFI_Error_Destroy": 2, "XLA_FFI_ThreadPool_Schedule": 11}
_ERROR_DESTROY, _SCHEDULE = (48 + 8 * place for place in _FUNCTIONS.values())


@functools.cache
def are_available(folder: str | None = None) -> bool:
    """Whether the functions are where this module takes them to be, as the header says that comes with jaxlib.

    Args:
        folder: of the header; None for jaxlib's.
    """
    try:
        header = (Path(folder or jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    except OSError:
        return False
    found = re.findall(r"_XLA_FFI_API_STRUCT_FIELD\((XLA_FFI_\w+)\);", header)
    return all(found[place : place + 1] == [name] for name, place in _FUNCTIONS.items())


class Threads:
    """Those that can help with a call.

    Args:
        module: of the call's function.
        frame: the function's argument, an ``XLA_FFI_CallFrame``.
    """

    def __init__(self, module: Any, frame: Any) -> None:
        from llvmlite import ir

        self._ir, self._module, self._frame = ir, module, frame
        self._byte, self._number, self._long = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)

    def run(self, build: Any, part: Any, pointers: Sequence[Any], count: int, parts: int) -> None:
        """Write what runs all parts, and waits for them.

        Args:
            build: where it is written.
            part: a function of the pointers and four numbers: start, stop, part, thread.
            pointers: given to every part.
            count: what the starts and stops divide.
            parts: how many.
        """
        long = self._long
        if parts == 1:
            build.call(part, [*pointers, long(0), long(count), long(0), long(0)])
            return
        helpers = self._ir.GlobalVariable(self._module, self._number, "helpers")
        helpers.linkage, helpers.initializer = "internal", self._number(0)
        self._setter(helpers)
        work = self._work(part, [pointer.type for pointer in pointers], count, parts)
        wanted = build.load(helpers)
        with build.if_else(build.icmp_signed(">", wanted, self._number(0))) as (shared, alone):
            with shared:
                self._shared(build, work, pointers, wanted, parts)
            with alone:
                for number in range(parts):
                    span = [long(number * count // parts), long((number + 1) * count // parts)]
                    build.call(part, [*pointers, *span, long(number), long(0)])

    def _setter(self, helpers: Any) -> None:
        """The function that tells how many threads may help."""
        function = self._function("paribus_share", self._ir.VoidType(), [self._number])
        build = self._ir.IRBuilder(function.append_basic_block())
        build.store(function.args[0], helpers)
        build.ret_void()

    def _shared(self, build: Any, work: Any, pointers: Sequence[Any], wanted: Any, parts: int) -> None:
        """What asks for helpers, works, and waits until all parts are done."""
        long, number = self._long, self._number
        size = long(_POINTERS + 8 * len(pointers))
        memory = build.call(self._function("malloc", self._byte, [long]), [size])
        for offset, value in ((_NEXT, 0), (_DONE, 0), (_HOLDERS, 1), (_THREADS, 1)):
            build.store(number(value), self._field(build, memory, offset, number))
        for place, pointer in enumerate(pointers):
            build.store(pointer, self._field(build, memory, _POINTERS + 8 * place, pointer.type))
        drop = self._drop()
        self._ask(build, memory, self._task(work, drop), drop, wanted)
        build.call(work, [memory, long(0)])
        done = self._field(build, memory, _DONE, number)
        wait, end = build.append_basic_block("wait"), build.append_basic_block("all_done")
        turn = build.append_basic_block("turn")
        build.branch(wait)
        build.position_at_end(wait)
        build.cbranch(build.icmp_signed("<", build.load_atomic(done, "acquire", 4), number(parts)), turn, end)
        build.position_at_end(turn)
        build.call(self._function("SwitchToThread" if os.name == "nt" else "sched_yield", number, []), [])
        build.branch(wait)
        build.position_at_end(end)
        build.call(drop, [memory])

    def _ask(self, build: Any, memory: Any, task: Any, drop: Any, wanted: Any) -> None:
        """What asks XLA's pool for helpers; one that it has no pool for is not needed either."""
        long, byte, number = self._long, self._byte, self._number
        interface = build.load(self._field(build, self._frame, 16, byte))
        context = build.load(self._field(build, self._frame, 24, byte))
        kind = self._ir.FunctionType(byte, [long.as_pointer()]).as_pointer()
        with build.goto_entry_block():
            given = build.alloca(long, 5)
        before, ask, end = build.block, build.append_basic_block("ask"), build.append_basic_block("asked")
        build.branch(ask)
        build.position_at_end(ask)
        index = build.phi(number)
        index.add_incoming(number(0), before)
        build.atomic_rmw("add", self._field(build, memory, _HOLDERS, number), number(1), "acq_rel")
        values = (long(40), long(0), *(build.ptrtoint(value, long) for value in (context, task, memory)))
        for place, value in enumerate(values):
            build.store(value, build.gep(given, [long(place)]))
        error = build.call(build.load(self._field(build, interface, _SCHEDULE, kind)), [given])
        with build.if_then(build.icmp_unsigned("!=", build.ptrtoint(error, long), long(0))):
            for place, value in enumerate((long(24), long(0), build.ptrtoint(error, long))):
                build.store(value, build.gep(given, [long(place)]))
            build.call(build.load(self._field(build, interface, _ERROR_DESTROY, kind)), [given])
            build.call(drop, [memory])
        following = build.add(index, number(1))
        index.add_incoming(following, build.block)
        build.cbranch(build.icmp_signed("<", following, wanted), ask, end)
        build.position_at_end(end)

    def _work(self, part: Any, kinds: Sequence[Any], count: int, parts: int) -> Any:
        """The function ``(memory, thread)`` that does parts as long as there are any."""
        long, number = self._long, self._number
        function = self._function("work", self._ir.VoidType(), [self._byte, long])
        memory, thread = function.args
        build = self._ir.IRBuilder(function.append_basic_block())
        take, do, end = (build.append_basic_block(name) for name in ("take", "do", "end"))
        build.branch(take)
        build.position_at_end(take)
        mine = build.atomic_rmw("add", self._field(build, memory, _NEXT, number), number(1), "acq_rel")
        build.cbranch(build.icmp_signed("<", mine, number(parts)), do, end)
        build.position_at_end(do)
        place = build.zext(mine, long)
        start = build.udiv(build.mul(place, long(count)), long(parts))
        stop = build.udiv(build.mul(build.add(place, long(1)), long(count)), long(parts))
        pointers = [
            build.load(self._field(build, memory, _POINTERS + 8 * index, kind)) for index, kind in enumerate(kinds)
        ]
        build.call(part, [*pointers, start, stop, place, thread])
        build.atomic_rmw("add", self._field(build, memory, _DONE, number), number(1), "acq_rel")
        build.branch(take)
        build.position_at_end(end)
        build.ret_void()
        return function

    def _task(self, work: Any, drop: Any) -> Any:
        """The function of a helper: ``(memory)``."""
        function = self._function("task", self._ir.VoidType(), [self._byte])
        build, (memory,) = self._ir.IRBuilder(function.append_basic_block()), function.args
        place = self._field(build, memory, _THREADS, self._number)
        thread = build.atomic_rmw("add", place, self._number(1), "acq_rel")
        build.call(work, [memory, build.zext(thread, self._long)])
        build.call(drop, [memory])
        build.ret_void()
        return function

    def _drop(self) -> Any:
        """The function that lets go of what is shared; the last one frees it."""
        function = self._function("drop", self._ir.VoidType(), [self._byte])
        build, (memory,) = self._ir.IRBuilder(function.append_basic_block()), function.args
        place = self._field(build, memory, _HOLDERS, self._number)
        before = build.atomic_rmw("sub", place, self._number(1), "acq_rel")
        with build.if_then(build.icmp_signed("==", before, self._number(1))):
            build.call(self._function("free", self._ir.VoidType(), [self._byte]), [memory])
        build.ret_void()
        return function

    def _field(self, build: Any, structure: Any, offset: int, kind: Any) -> Any:
        """A pointer to what lies so many bytes into a structure."""
        return build.bitcast(build.gep(structure, [self._long(offset)]), kind.as_pointer())

    def _function(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        """A function of the module, or one of the C library's."""
        found = self._module.globals.get(name)
        if found is None:
            found = self._ir.Function(self._module, self._ir.FunctionType(result, arguments), name)
            if name in ("work", "task", "drop"):
                found.linkage = "internal"
        return found
