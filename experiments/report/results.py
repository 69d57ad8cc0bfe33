"""``RESULTS.md``: what came out of the published studies, by group; see ``experiments.publication``."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments import formatting, plan
from experiments.listing import grouped
from experiments.progress import clock
from experiments.report.table import markdown_line
from experiments.statistics import Interval
from experiments.study import Metric

HEAD = """# What came out

This page is made by `python -m experiments --publish FOLDER ...` from the records of finished studies; change the
studies, not the page. Intervals are of 95%, differences are paired by seed and their p-values corrected after Holm; a
claim is supported or refuted only where its whole interval says so. Preset cpu is far smaller than most of the papers:
each study's file says what differs. Times are wall time of everything, tuning included, on a machine that was shared
with other work.
"""

_VERSIONS = ("python", "jax", "flax", "optax")
_MARKS = {"supported": "**supported**", "refuted": "**refuted**", "inconclusive": "inconclusive"}


def markdown(entries: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    Args:
        entries: what ``experiments.publication.entry`` gives, of each published study.
    """
    found = {f"{entry['study']}-{entry['preset']}": entry for entry in entries}
    heads = {name: plan.about(entry["study"]) for name, entry in found.items() if entry["study"] in plan.study_names()}
    groups = grouped(heads)
    lines = [HEAD, *_overview(groups, found)]
    for group, names in groups.items():
        lines += [f"\n## {group}"]
        for name in names:
            lines += _section(name, found[name])
    return "\n".join(lines) + "\n"


def _overview(groups: Mapping[str, Sequence[str]], found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A row a claim."""
    yield markdown_line(["study", "claim", "verdict", "estimate [95% interval]", "n"])
    yield "|---|---|---|---|---:|"
    for name in (name for names in groups.values() for name in names):
        for claim in found[name]["claims"]:
            yield markdown_line(
                [f"[{name}](#{name})", claim["statement"], _mark(claim), _estimate(claim), str(claim["n"])]
            )


def _mark(claim: Mapping[str, Any]) -> str:
    return _MARKS[claim["outcome"]] + (" (exploratory)" if claim["exploratory"] else "")


def _estimate(claim: Mapping[str, Any]) -> str:
    """``0.0191 [0.0152, 0.0238]``, in the claim's own units."""
    low, high = (formatting.short(float(end)) if end is not None else formatting.ABSENT for end in claim["interval"])
    value = claim["estimate"]
    return f"{formatting.ABSENT if value is None else formatting.short(float(value))} [{low}, {high}]"


def _section(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """All that is published of one study."""
    about = plan.about(entry["study"])
    yield f"\n### {name}\n"
    yield f"{about.claim} *Source: {about.source}.*\n"
    yield f"`{entry['command']}`\n"
    yield f"![{entry['metric']['label']} of each arm](results/{name}.png)\n"
    yield from _table(entry)
    yield ""
    for claim in entry["claims"]:
        yield f"- {_mark(claim)}: {claim['statement']} ({claim['source']}). {claim['explanation']}"
    yield ""
    for text in (*_expected(entry["study"]), *_said("Caution", entry["cautions"]), *_said("Differs", entry["notes"])):
        yield f"{text}\n"
    yield _made(entry)


def _said(word: str, texts: Iterable[str]) -> Iterator[str]:
    together = " ".join(texts)
    if together:
        yield f"{word}: {together}"


def _expected(study: str) -> Iterator[str]:
    """What the study's file says of its outcome: its docstring from ``Expected:`` on, a text a paragraph."""
    text = inspect.getdoc(plan.module(study)) or ""
    _, word, rest = text.partition("Expected:")
    if word:
        yield from (re.sub(r"\s+", " ", part).strip() for part in f"{word}{rest}".replace("``", "`").split("\n\n"))


def _table(entry: Mapping[str, Any]) -> Iterator[str]:
    metric = Metric(
        column=entry["metric"]["column"],
        label=entry["metric"]["label"],
        curve="",
        higher_is_better=entry["metric"]["higher_is_better"],
        percent=entry["percent"],
    )
    unit = ", %" if metric.percent else ""
    head = ["arm", "n", f"{metric.label}{unit} [95% interval]", f"difference to {entry['baseline']}", "p (Holm)"]
    yield markdown_line([*head, "parameters", "training, s"])
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for arm in entry["arms"]:
        lost = [f"{arm[word]} {word}" for word in ("diverged", "crashed") if arm[word]]
        comparison = arm["comparison"]
        yield markdown_line(
            [
                arm["arm"],
                ", ".join([str(arm["metric"]["n"]), *lost]),
                _spread(arm["metric"], metric),
                "" if comparison is None else _spread(comparison["difference"], metric, signed=True),
                "" if comparison is None else formatting.p_value(_number(comparison["p_value"])),
                formatting.si(_number(arm["parameters"])),
                formatting.seconds(_number(arm["train_seconds"]["mean"]), float("nan"))[0],
            ]
        )


def _spread(spread: Mapping[str, Any], metric: Metric, *, signed: bool = False) -> str:
    interval = Interval(*map(_number, spread["interval"]))
    mean = formatting.metric_number(_number(spread["mean"]), metric, signed=signed)
    return f"{mean} {formatting.metric_interval(interval, metric, signed=signed)}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _made(entry: Mapping[str, Any]) -> str:
    """When, how long, by what."""
    of = entry["provenance"]
    code = ", ".join(version[:12] for version in of["code_version"])
    dirty = " with uncommitted changes" if "True" in of["code_dirty"] else ""
    versions = ", ".join(f"{name} {' and '.join(of[name])}" for name in _VERSIONS if name in of)
    tuning = f" and {formatting.count(entry['tuning_trials'], 'tuning trial')}" if entry["tuning_trials"] else ""
    return (
        f"{formatting.count(entry['trials'], 'trial')}{tuning} in {clock(entry['seconds'])} on "
        f"{' or '.join(map(str, entry['cores']))} cores ({', '.join(of['device'])}); Paribus {code}{dirty}, {versions}."
    )
