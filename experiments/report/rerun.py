"""The commands that make one arm, or one trial, again."""

import csv
import io
import shlex
from collections.abc import Sequence

AGAIN = "again"
"""Folder for what is made again, so that records which are there do not count as done."""

_REPLACED = ("--workdir", "--only", "--report_only", "--parquet", "--accept_changed_data")


def rerun(command: str, names: Sequence[str]) -> str:
    """The command that makes these arms or trials of a study, and nothing else.

    Args:
        command: the command of the whole study.
        names: arms, for all their seeds, or trials such as ``cnn-s3``.
    """
    kept = [word for word in shlex.split(command) if word.partition("=")[0] not in _REPLACED]
    return shlex.join([*kept, f"--only={_listed(names)}", f"--workdir={AGAIN}"])


def _listed(names: Sequence[str]) -> str:
    """The names with commas between; one that has a comma itself stands in quotes, as in a CSV file."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(names)
    return buffer.getvalue()
