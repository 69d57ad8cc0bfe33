"""Memory and communication of populations that lie on a mesh: the table of ``--dry_run``, and a line before a run."""

import logging
from collections.abc import Mapping

from rich import box
from rich.table import Table

from experiments.formatting import si
from train import mesh_account
from train.mesh_account import Account
from train.population import Population

logger = logging.getLogger("paribus")

SOURCES = (
    "Bytes on each device, of all its lanes. Parameters, optimizer, other state, data: by shapes and shardings; "
    "activations, with gradients: XLA's account of the program as compiled for the devices here; sent: by each device "
    "in a step, the collectives of that program, each round a ring."
)
"""Where the figures come from."""


def table(accounts: Mapping[str, Account]) -> Table:
    """A row for each population.

    Args:
        accounts: by the population's name.
    """
    mesh = ", ".join(dict.fromkeys(each.mesh for each in accounts.values()))
    title = f"memory and communication of each device, mesh {mesh}"
    found = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    found.add_column("population", overflow="fold")
    for name in ("params", "optim.", "other", "data", "activ.", "in all", "sent"):
        found.add_column(name, justify="right", no_wrap=True)
    for name, each in accounts.items():
        parts = (each.parameters, each.optimizer, each.other, each.data, each.temporaries, each.memory, each.sent)
        found.add_row(name, *(_bytes(part) for part in parts))
    return found


def collectives(account: Account) -> str:
    """The collectives of a step in words: ``all-reduce 3 (1.4 MB), all-gather 2 (0.4 MB)``."""
    kinds = [f"{kind} {amount.count} ({_bytes(amount.sent)})" for kind, amount in account.traffic.items()]
    return ", ".join(kinds) or "none"


def line(account: Account) -> str:
    """An account in one line."""
    return (
        f"mesh {account.mesh}: each of {account.devices} devices holds {_bytes(account.parameters)} of parameters, "
        f"{_bytes(account.optimizer)} of optimizer state, {_bytes(account.other)} of other state, "
        f"{_bytes(account.data)} of data, {_bytes(account.temporaries)} of activations and gradients; "
        f"in a step it sends {_bytes(account.sent)}: {collectives(account)}"
    )


def announce(population: Population) -> None:
    """Log the account of a compiled population before it runs, where it lies on a mesh."""
    if population.layout.is_partitioned:
        logger.info("%s: %s", population.id, line(mesh_account.of_population(population)))


def _bytes(count: float) -> str:
    """``1.20 MB``; ``8 B``."""
    text = si(count)
    return f"{text}B" if " " in text else f"{text} B"
