"""Packing: which trials share a population, which of its lanes still train, and whether it fits into memory."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from train.config import Config, Trial, program_key, traced_paths

SHARE = 0.9
"""Share of a memory that programs may take: an allocator loses some between the pieces."""

_CGROUP = Path("/sys/fs/cgroup/memory.max")


class DoesNotFit(MemoryError):
    """A population needs more memory than there is; half of it may do."""


def group(trials: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    """Trials by population, in order of first appearance; at most ``max_lanes`` in each.

    Those of one population share their program and their data.
    """
    groups: dict[tuple, list[Trial]] = {}
    for trial in trials:
        division = trial.seed if trial.config.seeds.split == "seed" else None
        groups.setdefault((program_key(trial.config), division), []).append(trial)
    result = []
    for members in groups.values():
        size = members[0].config.execution.max_lanes
        result += [tuple(members[start : start + size]) for start in range(0, len(members), size)]
    return result


def halves(trials: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    """A population's trials as two populations."""
    middle = (len(trials) + 1) // 2
    return [tuple(trials[:middle]), tuple(trials[middle:])]


def study_traced_paths(trials: Sequence[Trial]) -> dict[str, tuple[str, ...]]:
    """For each program key, the traced fields that its program takes as arguments."""
    configs: dict[str, list[Config]] = {}
    for trial in trials:
        configs.setdefault(program_key(trial.config), []).append(trial.config)
    return {key: traced_paths(members) for key, members in configs.items()}


def slots(finished: Sequence[bool], devices: int, strategy: str) -> list[int]:
    """Which lane each slot of the training program takes, when some lanes have finished.

    Lanes that run one after another cost nothing once they have finished, so there are as many slots as lanes, and
    those that go on are dealt out evenly to the devices. Lanes that run all at once cost the same whether they have
    finished or not, so the slots are halved, again and again, while the lanes that go on have room in them; a
    power of two lest every lane that ends compiles another program.

    Args:
        finished: whether each lane has; padding has.
        devices: that the slots are spread over; they divide the number of lanes.
        strategy: how the lanes of a device run.

    Returns:
        different lanes; the first ``slots / devices`` are those of the first device, and so on.
    """
    on = [lane for lane, done in enumerate(finished) if not done]
    off = [lane for lane, done in enumerate(finished) if done]
    count = len(finished)
    if strategy == "vectorised":
        while len(on) <= count // 2 and count // 2 >= devices:
            count = math.ceil(count / 2 / devices) * devices
    room = count // devices
    dealt = [on[device::devices] for device in range(devices)]
    return [lane for lanes in dealt for lane in (lanes + [off.pop() for _ in range(room - len(lanes))])]


def gain(before: Sequence[int], after: Sequence[int], finished: Sequence[bool], devices: int, strategy: str) -> float:
    """By which factor a step gets faster with other slots: the time of a step is that of the slowest device."""

    def cost(places: Sequence[int]) -> int:
        room = len(places) // devices
        if strategy == "vectorised":
            return room
        return max(sum(not finished[lane] for lane in places[d * room : (d + 1) * room]) for d in range(devices))

    return cost(before) / max(cost(after), 1)


def available_bytes(device: Any, others: int) -> int | None:
    """Free bytes of a device's memory; None where that is not known.

    A CPU's devices share the memory of the machine, or of its control group.

    Args:
        device: one of those that a population runs on.
        others: how many devices share its memory, it included.
    """
    if device.platform == "cpu":
        free = psutil.virtual_memory().available
        limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
        if limit.isdigit():
            free = min(free, int(limit) - psutil.Process().memory_info().rss)
        return free // others
    statistics = device.memory_stats() or {}
    if "bytes_limit" not in statistics:
        return None
    return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)


def needed_bytes(of_states: int, programs: Mapping[str, Any]) -> int:
    """Bytes that a population takes on each device beside its data: its states, and the greediest of its programs.

    That is by XLA's own account: what a program holds while it runs, what it returns unless it returns it in the
    place of what it was given, and its code.

    Args:
        of_states: what the states take on each device.
        programs: compiled.
    """

    def need(program: Any) -> int:
        found = program.memory_analysis()
        if found is None:
            return 0
        kept = found.output_size_in_bytes - found.alias_size_in_bytes
        return kept + found.temp_size_in_bytes + found.generated_code_size_in_bytes

    return of_states + max((need(program) for program in programs.values()), default=0)


def check_memory(of_states: int, programs: Mapping[str, Any], devices: Sequence[Any], trials: int) -> None:
    """Whether so many trials fit; a single one is let try.

    Args:
        of_states: what the states take on each device.
        programs: compiled.
        devices: of this process.
        trials: in the population.

    Raises:
        DoesNotFit: they do not.
    """
    if trials == 1:
        return
    needed, free = needed_bytes(of_states, programs), available_bytes(devices[0], len(devices))
    if free is not None and needed > SHARE * free:
        raise DoesNotFit(f"{trials} trials need {needed / 2**30:.2f} GiB on each device; {free / 2**30:.2f} are free")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host, ran out of memory."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)
