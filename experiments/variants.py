"""Studies that the command line makes of a study: a grid, the baseline against itself, sources of variance."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import designs
from experiments.study import Study
from models.base import BadInput, unknown
from train import config as configuration
from train.config import Config

AGAIN_OFFSET = 1_000_000
"""Added to the seeds of the arm that is the baseline once more; no study uses so large ones."""

STREAMS = ("init", "order", "noise")
SOURCES = (*STREAMS, "split")


def varied(study: Study, factors: Sequence[tuple[str, str]]) -> Study:
    """The study whose arms are every combination of some fields' values, without its claims.

    A combination that is the baseline itself is left to the baseline. A path that exists only with some names (a
    momentum with ``optimizer.name=sgd``) is varied where it exists.

    Args:
        study: its baseline is where the other fields come from.
        factors: pairs of path and values with commas between them; semicolons where a value holds commas.

    Raises:
        BadInput: an unknown path, a path given twice, no value, a value of the wrong type, or nothing that differs.
    """
    levels: dict[str, list[str]] = {}
    for path, text in factors:
        if path in levels:
            raise BadInput(f"--vary {path} is given twice; put all its values into one, with commas")
        levels[path] = [part.strip() for part in text.split(";" if ";" in text else ",") if part.strip()]
        if not levels[path]:
            raise BadInput(f"--vary {path} has no values; write --vary {path}=VALUE,VALUE")
    deltas = [
        _typed(study.baseline, dict(zip(levels, row, strict=True))) for row in itertools.product(*levels.values())
    ]
    for path in levels:
        if not any(path in delta for delta in deltas):
            known = {
                name for delta in deltas for name in configuration.paths(configuration.replace(study.baseline, delta))
            }
            raise unknown("configuration path", path, known)
    different = [delta for delta in deltas if configuration.replace(study.baseline, delta) != study.baseline]
    if not different:
        raise BadInput("--vary: every combination is the baseline itself; give values that differ from it")
    return dataclasses.replace(
        study,
        name="+".join([study.name, *levels]),
        arms=designs.named(different),
        claims=(),
        factors=tuple(levels),
        matching=None,
        notes=(*study.notes, "The arms were made on the command line; nothing was claimed of them beforehand."),
    )


def _typed(baseline: Config, texts: Mapping[str, str]) -> dict[str, Any]:
    """The values that the texts spell, without the paths that do not exist beside the others."""
    names = {path: text for path, text in texts.items() if path.endswith(".name")}
    named = configuration.replace(baseline, configuration.parse_overrides(baseline, [*names.items()], flag="--vary "))
    known = configuration.paths(named)
    held = [(path, text) for path, text in texts.items() if path in known]
    typed = configuration.parse_overrides(baseline, held, flag="--vary ")
    return {path: typed[path] for path in sorted(typed, key=lambda path: [*texts, path].index(path))}


def with_itself(study: Study) -> Study:
    """The study with one more arm: the baseline under other seeds (an A/A comparison).

    Whatever difference it shows is chance.
    """
    name = f"{study.baseline_name} again"
    again: dict[str, Mapping[str, Any]] = {name: {"seeds.offset": AGAIN_OFFSET}}
    return dataclasses.replace(study, arms={**again, **study.arms}, again=name)


def sources_of_variance(study: Study, sources: Sequence[str]) -> Study:
    """The study of where the baseline's spread comes from: one arm a source, which alone varies from seed to seed.

    Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks", section 2: the other sources
    are held at seed 0. In the baseline's own row all of ``init``, ``order`` and ``noise`` vary.

    Args:
        study: its baseline is examined.
        sources: some of init, order, noise, split.

    Raises:
        BadInput: an unknown source, one given twice, or none.
    """
    if not sources or len(set(sources)) < len(sources):
        raise BadInput(f"--attribute_variance={','.join(sources)} must name different ones of {', '.join(SOURCES)}")
    for source in sources:
        if source not in SOURCES:
            raise unknown("source of variance", source, SOURCES)
    arms: dict[str, dict[str, Any]] = {}
    for source in sources:
        arms[source] = {f"seeds.{stream}": 0 for stream in STREAMS if stream != source}
        if source == "split":
            arms[source]["seeds.split"] = "seed"
    return dataclasses.replace(
        study,
        name=f"{study.name}+variance",
        baseline_name="everything",
        arms=arms,
        claims=(),
        factors=(),
        matching=None,
        tuning=None,
        sources=tuple(sources),
        notes=(*study.notes, "Each arm lets one source of chance vary from seed to seed and holds the others."),
    )
