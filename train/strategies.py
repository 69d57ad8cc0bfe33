"""How the lanes of a device run: one after another, or all at once as one batched program.

``auto`` takes what is known to be fastest: on a CPU, lanes one after another won in every family
(tests/benchmarks/populations.py), for batched kernels spill the caches; and so lanes run where the devices of a mesh
compute each trial together. On one accelerator a small model is bound by launches and a large one by arithmetic, so
there ``auto`` measures, as ``measured`` does everywhere. A measurement
trains a few steps each way before the first real one, and is kept for this machine, so that the same study, started
again, runs in the same way. Results do not depend on the way beyond rounding.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable

import jax

from models.base import BadInput
from train import packing
from train.config import Config, program_key
from train.devices import cache_folder
from train.population import Population
from train.records import write_atomically

logger = logging.getLogger("paribus")

WAYS = ("sequential", "vectorised")
SECONDS = 0.3
"""Aim for the duration of what is timed, each way."""


def wanted(config: Config, backend: str) -> str:
    """The strategy that is asked for, or ``measured``."""
    if config.execution.strategy == "auto":
        return "sequential" if backend == "cpu" or config.execution.mesh else "measured"
    return config.execution.strategy


def expected(config: Config, backend: str, lanes: int) -> str:
    """The strategy in words, before anything is measured: the one that a run would take, as far as is known."""
    way = wanted(config, backend)
    if way != "measured":
        return way
    found = _known().get(_key(config, lanes, len(jax.local_devices())))
    return f"{_fastest(found)}, as measured" if found else "to be measured"


def population(make: Callable[[str], Population], config: Config, lanes: int) -> Population:
    """A population that runs in the fastest way, compiled.

    Args:
        make: a population of these lanes that runs in the given way.
        config: of the population.
        lanes: trials in it.
    """
    way = wanted(config, jax.default_backend())
    if way != "measured" or lanes == 1:
        return _compiled(make(way if way in WAYS else WAYS[0]))
    key = _key(config, lanes, len(jax.local_devices()))
    found = _known().get(key)
    if found is not None:
        return _compiled(make(_fastest(found)))
    made, found = {}, {}
    for way in WAYS:
        made[way] = make(way)
        found[way] = _milliseconds(made[way])
    best = _fastest(found)
    logger.info("%s: milliseconds a step of all lanes: %s", made[best].id, _words(found))
    _keep(key, found)
    for way in WAYS:
        if way != best:
            made[way].splits.close()
    return made[best]


def _compiled(made: Population) -> Population:
    made.compile()
    return made


def _milliseconds(made: Population) -> float:
    """Of a step of all lanes; infinity where they do not fit into memory."""
    try:
        made.compile()
        made.check_memory()
        states, step, count, spent = made.init(), 0, 1, 0.0
        last = made.config.training.steps
        while True:
            begin = time.perf_counter()
            states, pulse = made.advance(states, step, step + count)
            jax.block_until_ready(pulse)
            spent, step = time.perf_counter() - begin, step + count
            if spent >= SECONDS or step + 2 * count > last:
                return 1e3 * spent / count
            count *= 2
    except Exception as error:
        if packing.is_out_of_memory(error):
            return math.inf
        raise


def _fastest(found: dict[str, float]) -> str:
    return min(found, key=lambda way: found[way])


def _words(found: dict[str, float]) -> str:
    return ", ".join(f"{way} {value:.3g}" for way, value in found.items())


def _key(config: Config, lanes: int, devices: int) -> str:
    kind = jax.devices()[0].device_kind
    text = json.dumps([program_key(config), lanes, devices, kind, jax.__version__])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _known() -> dict[str, dict[str, float]]:
    """The measurements of this machine. A file that cannot be read counts as none."""
    try:
        content = json.loads((cache_folder() / "strategies.json").read_text())
        return {key: {way: float(found[way]) for way in WAYS} for key, found in content.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _keep(key: str, found: dict[str, float]) -> None:
    path = cache_folder() / "strategies.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, json.dumps(_known() | {key: found}, indent=1) + "\n")
    except (OSError, BadInput) as error:
        logger.warning("the measurement is not kept: %s", error)
