"""Several processes that run one program on the devices of all of them: a gang, on one machine or on many.

All run the same command. The first one writes the records; what depends on a clock or a signal is agreed on, for all
must give their devices the same work in the same order. One that is lost ends the others: the gang is started again
and goes on from its last checkpoint.
"""

import contextlib
import logging
import os
import re
import sys
from typing import Any

from models.base import BadInput

logger = logging.getLogger("paribus")

HEARTBEAT_SECONDS = 10
"""Time without a sign of life after which a process counts as lost."""

STATUS = 85
"""Exit status of a gang that is to be started again: it was told to end, and has saved, or one of it was lost."""

_index, _count = 0, 1


def join(text: str) -> None:
    """Join the gang; call it before jax runs anything.

    Args:
        text: ``auto`` where the processes were started by what jax knows (srun, Open MPI, TPU pods), else
            ``HOST:PORT,INDEX/COUNT``: where the first process listens, which one this is, and how many there are.

    Raises:
        BadInput: the text is none of these, or nothing is found.
    """
    global _index, _count
    found = re.fullmatch(r"(?P<host>.+):(?P<port>\d+),(?P<index>\d+)/(?P<count>\d+)", text)
    if text != "auto" and (found is None or not int(found["index"]) < int(found["count"])):
        raise BadInput(f"--distributed={text} must be auto or HOST:PORT,INDEX/COUNT, e.g. 10.0.0.1:1234,0/2")
    import jax

    # SIGTERM is handled as in any other run (see train.signals), and agreed on between two chunks of steps.
    jax.config.update("jax_enable_preemption_service", False)
    given: dict[str, Any] = {}
    if found is not None:
        address = f"{found['host']}:{found['port']}"
        given = {
            "coordinator_address": address,
            "coordinator_bind_address": address,
            "num_processes": int(found["count"]),
            "process_id": int(found["index"]),
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(
            **given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS, shutdown_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"--distributed={text}: the processes did not find each other: {reason}") from None
    from jax._src.distributed import global_state  # before a backend runs nothing public says it

    _index, _count = int(global_state.process_id or 0), int(global_state.num_processes or 1)


def is_first() -> bool:
    """Whether this process writes the records."""
    return _index == 0


def count() -> int:
    """How many processes there are."""
    return _count


def is_loss(error: BaseException) -> bool:
    """Whether this is what a process sees when another one has gone."""
    return re.search(r"gloo|nccl|connection|heartbeat|unavailable|coordination", str(error), re.IGNORECASE) is not None


def leave(status: int) -> None:
    """End this process with this exit status.

    What is wrong with the input all find alike, and they wait for each other, lest the end of the first one ends the
    others before they have said it. One that failed alone does not wait: the others learn of it at once.
    """
    if _count > 1 and status:
        sys.stdout.flush()
        sys.stderr.flush()
        if status == 2:
            import jax

            with contextlib.suppress(RuntimeError):
                jax.distributed.shutdown()
        os._exit(status)
    sys.exit(status)


def barrier(name: str) -> None:
    """Wait until all processes are here."""
    if _count > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def agreed(of_first: int, of_any: bool) -> tuple[int, bool]:
    """A number of the first process, and whether something holds in any; the same in all."""
    if _count == 1:
        return of_first, of_any
    import numpy as np
    from jax.experimental import multihost_utils

    found = np.asarray(multihost_utils.process_allgather(np.asarray([of_first, of_any], np.int32)))
    return int(found[0, 0]), bool(found[:, 1].any())
