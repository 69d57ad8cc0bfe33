"""Arguments such as ``--config.PATH=VALUE`` (or ``--config.PATH VALUE``), whose names no flag could list."""

from collections.abc import Sequence

from models.base import BadInput

CONFIG, TUNE, LAUNCH = "--config.", "--tune.", "--launch."

Pairs = list[tuple[str, str]]


def taken_out(arguments: Sequence[str], prefix: str) -> tuple[list[str], Pairs]:
    """The arguments without those of a prefix, and those as pairs of path and value.

    Args:
        arguments: of the command line.
        prefix: what stands before the path, e.g. ``--config.``.

    Raises:
        BadInput: one has no value.
    """
    rest: list[str] = []
    overrides: Pairs = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if not argument.startswith(prefix):
            rest.append(argument)
            continue
        path, equals, text = argument.removeprefix(prefix).partition("=")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise BadInput(f"{argument} has no value; write {argument}=VALUE")
            text = remaining.pop(0)
        overrides.append((path, text))
    return rest, overrides
