"""Pre-registration: what a study set out to do, written and hashed before its first step.

The first plan in a folder is what was registered. Whatever a later plan adds is exploratory: it was chosen with results
at hand, so its p-values mean less. Source: Nosek et al. 2018, "The preregistration revolution".
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.base import BadInput
from train import config as configuration

_TERMS = ("metric", "claims", "test", "equivalence_margin", "tuning", "matching")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registration:
    """What was registered first.

    Attributes:
        digest: sha256 of the registered content.
        time: when, in UTC.
        arms: names of the registered arms, the baseline's among them.
        seeds: the registered seeds.
        changed: what of the registered terms (metric, claims, test, ...) is another now.
    """

    digest: str
    time: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    changed: tuple[str, ...] = ()


def content(study: Any, configs: Mapping[str, configuration.Config]) -> dict[str, Any]:
    """What is registered: arms, metric, number of seeds, test, claims, tuning, as plain values for JSON."""
    terms = {
        "baseline": study.baseline_name,
        "arms": {name: configuration.digest(config) for name, config in configs.items()},
        "seeds": list(range(study.seeds)),
        "metric": dataclasses.asdict(study.metric),
        "claims": [claim.to_dict() for claim in study.claims],
        "test": study.test,
        "equivalence_margin": study.equivalence_margin,
        "tuning": None if study.tuning is None else _plain(study.tuning),
        "matching": None if study.matching is None else _plain(study.matching),
    }
    return json.loads(json.dumps(terms, default=str))


def _plain(declaration: Any) -> Any:
    return json.loads(json.dumps(dataclasses.asdict(declaration), default=str))


def digest(registered: Mapping[str, Any]) -> str:
    """sha256 of the content, its keys in order."""
    return hashlib.sha256(json.dumps(registered, sort_keys=True).encode()).hexdigest()


def register(now: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """The entry ``registration`` of ``study.json``: the earlier one where there is one, else this content.

    Args:
        now: what :func:`content` gives.
        earlier: the entry that the file has.
    """
    if earlier is not None:
        return dict(earlier)
    return {"sha256": digest(now), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "content": dict(now)}


def entry(path: Path) -> dict[str, Any] | None:
    """The entry of an earlier ``study.json``; None where there is no file, or one of an older version.

    Raises:
        BadInput: it is damaged.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("registration")
        if found is not None:
            read(found, found["content"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{path} is damaged; move its folder away or choose another --workdir") from None
    return found


def read(entry: Mapping[str, Any], now: Mapping[str, Any]) -> Registration:
    """The registration that the file holds, and which of its terms are others now.

    Raises:
        ValueError: the entry is not what was hashed.
    """
    registered = entry["content"]
    if digest(registered) != entry["sha256"]:
        raise ValueError("the registration does not match its sha256")
    return Registration(
        digest=entry["sha256"],
        time=entry["time"],
        arms=tuple(registered["arms"]),
        seeds=tuple(registered["seeds"]),
        changed=tuple(term for term in _TERMS if registered.get(term) != now.get(term)),
    )
