"""Is the data that a study goes on with the data that it began with? ``study.json`` remembers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.plan import Plan
from models.base import BadInput
from train.config import Config
from train.data.task import Task

FINGERPRINT = "fingerprint"


def data_of(plan: Plan, tasks: Mapping[Config, Task], path: Path) -> dict[str, dict[str, Any]]:
    """What ``study.json`` is to say of each arm's data: its name and facts.

    Arms of the earlier file that this plan leaves out keep what is said of them there.
    """
    now = {name: {"name": config.data.name, **tasks[config].facts} for name, config in plan.configs.items()}
    return {**_recorded(path), **json.loads(json.dumps(now, default=str))}


def changes(data: Mapping[str, Mapping[str, Any]], path: Path) -> list[str]:
    """A line for each data set whose fingerprint is another than in the file at ``path``.

    Args:
        data: of each arm, from :func:`data_of`.
        path: the ``study.json`` of the earlier run; there need be none.
    """
    lines = []
    for arm, past in _recorded(path).items():
        now = data[arm]
        if FINGERPRINT not in past or past[FINGERPRINT] == now.get(FINGERPRINT):
            continue
        differing = [key for key in dict.fromkeys([*past, *now]) if past.get(key) != now.get(key)]
        differing.sort(key=lambda key: key == FINGERPRINT)
        shown = [f"{key} {_short(past.get(key))} -> {_short(now.get(key))}" for key in differing]
        lines.append(f"data set {now['name']!r}: {', '.join([*shown[:-1][:3], shown[-1]])}")
    return list(dict.fromkeys(lines))


def check(data: Mapping[str, Mapping[str, Any]], path: Path, *, accepted: bool) -> list[str]:
    """The changes of the data since the study began, where the user accepts them.

    Raises:
        BadInput: there are some, and the user did not say that they are to be accepted.
    """
    found = changes(data, path)
    if found and not accepted:
        raise BadInput(
            f"the data of {path.parent} changed since it was begun ({'; '.join(found)}); put the data back, choose "
            "another --workdir, or insist with --accept_changed_data, which the records will say"
        )
    return found


def _recorded(path: Path) -> dict[str, dict[str, Any]]:
    """What the earlier file says of each arm's data; nothing where there is none, or one of an older version."""
    if not path.exists():
        return {}
    data = json.loads(path.read_text(encoding="utf-8")).get("data", {})
    if not isinstance(data, dict) or not all(isinstance(facts, dict) for facts in data.values()):
        raise BadInput(f"{path} is damaged; move its folder away or choose another --workdir")
    return data


def _short(value: Any) -> str:
    return str(value)[:12] if isinstance(value, str) else str(value)
