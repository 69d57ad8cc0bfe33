"""Random bits of jax's own generator, Threefry, as machine code: the same bits, compiled in no time.

XLA compiles the twenty rounds of Threefry anew for every array that is drawn; of a small network's programs that is
more than half of the work. Here every draw calls a function that is made once (see :mod:`models.layers.native`).

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3 (Threefry-2x32, 20 rounds); what
is counted is that of ``jax.random`` with ``jax_threefry_partitionable``.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend import random as extended

from models.layers import native

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

_JAX: Any = extended.threefry_prng_impl


def implementation() -> Any:
    """What ``jax.random.key`` takes as ``impl``: machine code where it can be made, or else jax's own."""
    counts = getattr(jax.config, "jax_threefry_partitionable", False)
    return _NATIVE if counts and native.is_available() else _JAX


def _random_bits(key: Any, bit_width: int, shape: Sequence[int]) -> Any:
    """Bits of a key, uint32 [2], as unsigned integers of that width and shape."""
    count = math.prod(shape)
    if bit_width != 32 or not 0 < count < 2**31:
        return _JAX.random_bits(key, bit_width, shape)
    padded = max(count, 16)

    def write(body: native.Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        rounds, (out,) = _Rounds(body, operands[0]), results
        with body.covering(padded, body.lanes) as at:
            upper, lower = rounds.of(rounds.same(0), rounds.following(at))
            body.store(body.ir.bitcast(body.ir.xor(upper, lower), body.vector), out, (at, 1))

    return native.call(("bits", padded), write, (key,), ((padded,),))[0][:count].reshape(shape)


def _split(key: Any, shape: Sequence[int]) -> Any:
    """Keys of a key, uint32 [2]: uint32 [*shape, 2]."""
    count = math.prod(shape)

    def write(body: native.Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        rounds, (out,) = _Rounds(body, operands[0]), results
        with body.loop(count) as at:
            for place, word in enumerate(rounds.of(rounds.same(0), rounds.following(at))):
                body.store_first(body.ir.bitcast(word, body.vector), out, (at, 2), (place, 1))

    return native.call(("split", count), write, (key,), ((count, 2),))[0].reshape(*shape, 2)


def _fold_in(key: Any, data: Any) -> Any:
    """The key, uint32 [2], that a key, uint32 [2], and an integer make."""

    def write(body: native.Body, operands: Sequence[Any], results: Sequence[Any]) -> None:
        rounds, (out,) = _Rounds(body, operands[0]), results
        for place, word in enumerate(rounds.of(rounds.word(operands[1], 0), rounds.word(operands[1], 1))):
            body.store_first(body.ir.bitcast(word, body.vector), out, (place, 1))

    return native.call(("fold_in",), write, (key, _JAX.seed(data)), ((2,),))[0]


class _Rounds:
    """Threefry with a key, for vectors of 32-bit integers."""

    def __init__(self, body: native.Body, key: Any) -> None:
        from llvmlite import ir

        self._body, self._types = body, ir
        self._kind = ir.VectorType(ir.IntType(32), body.lanes)
        first, second = self.word(key, 0), self.word(key, 1)
        third = body.ir.xor(body.ir.xor(first, second), self.same(_PARITY))
        self._keys = (first, second, third)

    def same(self, value: int) -> Any:
        """This number in every lane."""
        return self._types.Constant(self._kind, [value] * self._body.lanes)

    def word(self, pointer: Any, place: int) -> Any:
        """The integer there in every lane."""
        return self._body.ir.bitcast(self._body.spread(pointer, (place, 1)), self._kind)

    def following(self, first: Any) -> Any:
        """``first``, ``first`` + 1, ..."""
        number = self._types.IntType(32)
        start = self._body.in_all_lanes(self._body.ir.trunc(first, number), self._kind)
        return self._body.ir.add(start, self._types.Constant(self._kind, list(range(self._body.lanes))))

    def of(self, upper: Any, lower: Any) -> tuple[Any, Any]:
        """The two words for these counts."""
        build = self._body.ir
        upper, lower = build.add(upper, self._keys[0]), build.add(lower, self._keys[1])
        for group in range(5):
            for rotation in _ROTATIONS[group % 2]:
                upper = build.add(upper, lower)
                left = build.shl(lower, self.same(rotation))
                right = build.lshr(lower, self.same(32 - rotation))
                lower = build.xor(build.or_(left, right), upper)
            upper = build.add(upper, self._keys[(group + 1) % 3])
            lower = build.add(build.add(lower, self._keys[(group + 2) % 3]), self.same(group + 1))
        return upper, lower


_NATIVE = extended.define_prng_impl(
    key_shape=(2,),
    seed=_JAX.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_machine_code",
    tag="fry",
)
