"""What a person is told of what went wrong."""

import errno

from rich.console import Console

from train import processes

_REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room") | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "allow it to be written to"
)
"""What helps against an error of the operating system while a study runs."""


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        if error.errno in _REMEDIES:
            text += f"; {_REMEDIES[error.errno]}, and the same command goes on from the last checkpoint"
    return " ".join(text.split())


def of_a_gang(error: Exception, errors: Console) -> int:
    """Say what ended one of several processes that run together; return the exit status."""
    if processes.is_loss(error):
        remedy = "start all of them again, and they go on from the last checkpoint"
        errors.print(f"another process of this run was lost ({reason(error)[:200]}); {remedy}", highlight=False)
        return processes.STATUS
    errors.print(f"error: {reason(error)[:500]}", style="red", highlight=False, markup=False, soft_wrap=True)
    return 3
