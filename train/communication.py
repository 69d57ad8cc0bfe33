"""What the devices say to one another in a training step, read from the text of the compiled program.

Bytes are those that **one device sends**, where a collective of n devices runs round a ring (Patarasuk and Yuan 2009,
"Bandwidth optimal all-reduce algorithms", section 3; Rajbhandari et al. 2020, section 7, counts so, too). With s the
bytes of the result on each device,

======================  ==================================================================
all-reduce              2 (n - 1) / n s: each part goes round once to be summed, once more to be known
all-gather              (n - 1) / n s
reduce-scatter          (n - 1) s: its result is the n-th part of what each device gives
all-to-all              (n - 1) / n s
collective-permute      s, of a device that sends to another
======================  ==================================================================

What a network really carries depends on its shape and on the algorithm that the library chooses.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_BYTES = {"pred": 1, "token": 0, "opaque": 0, "c64": 8, "c128": 16}
"""Of the element types whose names do not end in their number of bits."""

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_NAME = r"%?([\w.\-]+)"


class Amount(NamedTuple):
    """How often, and how much.

    Attributes:
        count: collectives.
        sent: bytes that a device sends in them.
    """

    count: int
    sent: float


Traffic = Mapping[str, Amount]
"""By the kind of collective, of :data:`KINDS`; what does not occur is left out."""


class _Instruction(NamedTuple):
    name: str
    result: str
    opcode: str
    operands: str
    attributes: str


class _Found(NamedTuple):
    """Traffic outside of loops whose number of rounds is unknown, and in one round of them; whether there is any."""

    once: Traffic
    a_round: Traffic
    loops: bool


def of_step(text: str) -> Traffic:
    """The collectives of one training step.

    The steps are the rounds of a loop whose end is an argument, so that it is the outermost one whose number of rounds
    the compiler does not know: what lies within it counts, what lies around it does not. Of loops within (over scanned
    layers, parts of a batch) every round counts, of a loop around (over lanes) every step; of a conditional the branch
    that sends most. Where no loop is of unknown length, the whole program is the step.

    Args:
        text: of the compiled program of one device (``compiled.as_text()``).
    """
    computations, entry = _parsed(text)
    devices = re.search(r"num_partitions=(\d+)", text)
    reader = _Reader(computations, int(devices.group(1)) if devices else 1)
    found = reader.of(entry)
    return found.a_round if found.loops else found.once


def total(traffic: Traffic) -> float:
    """Bytes that a device sends in all."""
    return sum(amount.sent for amount in traffic.values())


class _Reader:
    """Adds up the collectives of computations, each of which is read once."""

    def __init__(self, computations: Mapping[str, list[_Instruction]], devices: int) -> None:
        self._computations, self._devices = computations, devices
        self._known: dict[str, _Found] = {}

    def of(self, name: str) -> _Found:
        """The traffic of a computation and of all that it calls."""
        if name not in self._known:
            found = _Found({}, {}, False)
            for each in self._computations[name]:
                found = _joined(found, self._of_instruction(each))
            self._known[name] = found
        return self._known[name]

    def _of_instruction(self, each: _Instruction) -> _Found:
        kind = each.opcode.removesuffix("-start")
        if kind in KINDS:
            return _Found({kind: Amount(1, _sent(kind, each, self._devices))}, {}, False)
        if each.opcode == "while":
            return self._of_loop(each)
        branches = _called(each.attributes, ("branch_computations", "true_computation", "false_computation"))
        if branches:
            return max(map(self.of, branches), key=lambda found: total(found.once) + total(found.a_round))
        found = _Found({}, {}, False)
        for name in _called(each.attributes, ("calls", "to_apply")) if not _is_second_half(each.opcode) else ():
            found = _joined(found, self.of(name))
        return found

    def _of_loop(self, each: _Instruction) -> _Found:
        condition, body = (_called(each.attributes, (name,))[0] for name in ("condition", "body"))
        found = _joined(self.of(body), self.of(condition))
        rounds = self._rounds(each, condition)
        if rounds is None:
            return _Found({}, _sum(found.once, found.a_round), True)
        return _Found(_times(found.once, rounds), _times(found.a_round, rounds), found.loops)

    def _rounds(self, each: _Instruction, condition: str) -> int | None:
        """How often a loop runs: by XLA's own account, or as a scan's condition (``i < constant``) says it."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', each.attributes)
        if known:
            return int(known.group(1))
        last = self._computations[condition][-1]
        compares = [last, *(each for name in _called(last.attributes, ("calls",)) for each in self._computations[name])]
        if not any(each.opcode == "compare" and "direction=LT" in each.attributes for each in compares):
            return None
        operands = set(re.findall(_NAME, last.operands))
        limits = [
            each.operands
            for each in self._computations[condition]
            if each.opcode == "constant" and each.name in operands and each.operands.isdigit()
        ]
        return int(limits[0]) if len(limits) == 1 and last.opcode in ("compare", "fusion") else None


def _parsed(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """The instructions of each computation, and the name of the one that is the program."""
    computations: dict[str, list[_Instruction]] = {}
    entry, current = "", []
    for line in text.splitlines():
        head = _COMPUTATION.match(line)
        if head:
            current = computations[head.group(1)] = []
            entry = head.group(1) if line.startswith("ENTRY") else entry
        elif body := _INSTRUCTION.match(line):
            current.append(_instruction(body.group(1), body.group(2)))
    return computations, entry


def _instruction(name: str, text: str) -> _Instruction:
    """Split ``result opcode(operands), attributes``; the result may be a tuple."""
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    result, rest = text[:end], text[end:].strip()
    opcode, _, _ = rest.partition("(")
    close = _closing(rest, len(opcode))
    return _Instruction(name, result, opcode, rest[len(opcode) + 1 : close - 1], rest[close:])


def _closing(text: str, start: int) -> int:
    """The place behind the parenthesis that closes the one at ``start``."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place + 1
    return len(text)


def _called(attributes: str, kinds: tuple[str, ...]) -> list[str]:
    """The computations that an instruction names under these attributes."""
    found = []
    for kind in kinds:
        for several, one in re.findall(rf"\b{kind}=(?:\{{([^}}]*)\}}|{_NAME})", attributes):
            found += re.findall(_NAME, several) if several else [one]
    return found


def _is_second_half(opcode: str) -> bool:
    """Whether it goes on with what a ``-start`` began, and may name its computation once more."""
    return opcode.endswith(("-update", "-done"))


def _sent(kind: str, each: _Instruction, devices: int) -> float:
    """Bytes that a device sends in one collective; see the head of this file."""
    size = _bytes(_result(kind, each))
    if kind == "collective-permute":
        pairs = re.findall(r"\{(\d+),\s*(\d+)\}", each.attributes.partition("source_target_pairs=")[2])
        return size if any(source != target for source, target in pairs) else 0
    group = _group_size(each.attributes, devices)
    if kind == "reduce-scatter":
        return (group - 1) * size
    return (2 if kind == "all-reduce" else 1) * (group - 1) / group * size


def _result(kind: str, each: _Instruction) -> str:
    """The type of what a collective makes; one that is only begun holds its operands, too, but for an all-reduce."""
    if not each.opcode.endswith("-start") or kind == "all-reduce":
        return each.result
    return _parts(each.result)[1]


def _parts(tuple_type: str) -> list[str]:
    """The types of a tuple, of which some may be tuples."""
    parts, depth = [""], 0
    for character in tuple_type[1:-1]:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _bytes(type_text: str) -> int:
    """Bytes of an array's type, ``f32[2,3]{1,0}``, or of all arrays of a tuple's."""
    found = 0
    for element, shape in _ARRAY.findall(re.sub(r"/\*.*?\*/", "", type_text)):
        elements = math.prod(int(size) for size in shape.split(",") if size)
        bits = re.match(r"[a-z]+(\d+)", element)
        found += (
            elements * _BYTES[element] if element in _BYTES else math.ceil(elements * int(bits[1]) / 8) if bits else 0
        )
    return found


def _group_size(attributes: str, devices: int) -> int:
    """How many devices a collective joins, in each of the notations of ``replica_groups``.

    ``{{0,1},{2,3}}``, ``{}`` (all), ``[2,4]<=[8]`` (groups x devices), and axes of a mesh, of which a part may be
    taken: ``mesh['a'=2,'b'=4], device_ids=(...) {'b'}``, ``{'b':(1)2}``.
    """
    text = attributes.partition("replica_groups=")[2]
    if text.startswith("mesh["):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", text.partition("]")[0])}
        axes = re.search(r"\{([^}]*)\}", text)
        named = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", axes.group(1)) if axes else []
        return math.prod(int(part) if part else sizes[name] for name, part in named) if named else devices
    if text.startswith("["):
        return int(text[1 : text.index("]")].split(",")[-1])
    first = re.match(r"\{\{([\d,\s]+)\}", text)
    return len(first.group(1).split(",")) if first else devices


def _sum(first: Traffic, second: Traffic) -> dict[str, Amount]:
    nothing = Amount(0, 0)
    result = {}
    for kind in (kind for kind in KINDS if kind in first or kind in second):
        one, other = first.get(kind, nothing), second.get(kind, nothing)
        result[kind] = Amount(one.count + other.count, one.sent + other.sent)
    return result


def _times(traffic: Traffic, rounds: int) -> dict[str, Amount]:
    return {kind: Amount(rounds * amount.count, rounds * amount.sent) for kind, amount in traffic.items()}


def _joined(first: _Found, second: _Found) -> _Found:
    return _Found(_sum(first.once, second.once), _sum(first.a_round, second.a_round), first.loops or second.loops)
