"""The declaration of a study: a baseline, arms that each differ a little from it, and claims.

A study is one file of ``experiments/catalog/``. It defines ``ABOUT`` (what ``--list`` prints; kept
free of jax, so that listing is quick) and ``study(preset) -> Study``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from experiments.metric import Metric
from experiments.spaces import Space
from experiments.statements import (
    BatchTradeoff,
    Better,
    Claim,
    Equivalent,
    Exponent,
    Interaction,
    LessSensitive,
    Monotone,
    Ratio,
    SteadierOptimum,
    StepsToTarget,
    Within,
)
from models.base import BadInput

if TYPE_CHECKING:
    from train.config import Config
    from train.data.task import Task

__all__ = [
    "GROUPS",
    "PRESETS",
    "About",
    "BatchTradeoff",
    "Better",
    "Claim",
    "Equivalent",
    "Exponent",
    "Interaction",
    "LessSensitive",
    "Matched",
    "Matching",
    "Metric",
    "Monotone",
    "Preset",
    "Ratio",
    "SteadierOptimum",
    "StepsToTarget",
    "Study",
    "Tuning",
    "Within",
]

PRESETS = ("smoke", "cpu", "full")
GROUPS = (
    "Convolutional networks for images",
    "Recurrent networks and their limits",
    "Transformers",
    "Gradient descent and Adam",
    "Learning rate and batch size",
    "L1, L2, dropout",
    "Layers and neurons",
    "Applications",
)
"""The order in which groups of studies are listed; a group of another name comes after them."""
Preset = Literal["smoke", "cpu", "full"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """The head of a study, in words.

    Attributes:
        group: the heading under which ``--list`` shows the study.
        claim: the published statement that is put to the test, in one sentence.
        source: where it was published.
        time: expected time per preset, on the machine that the text names.
    """

    group: str
    claim: str
    source: str
    time: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is tuned before arms are compared: every arm gets the same number of trials and steps.

    Attributes:
        space: the values of each tuned path, for every arm.
        arms: an arm's own spaces, which replace those of the same path (None: the arm does not tune it).
        trials: tuning trials of each arm.
        steps: training steps of a tuning trial; None for as many as the study's.
        seeds: seeds of each tuning trial, none of which any result uses; the mean over them counts. Where an arm has a
            population of its own and as many tuning trials, times these, as the study has seeds, and as many steps,
            both take the same compiled programs.
        search: how points are chosen.
        pruning: whether trials that look hopeless end early, and by which rule.
        column: what is compared, a column of ``validation_...``, or ``steps``, the fewest to ``training.target``;
            None for the study's curve.
    """

    space: Mapping[str, Space]
    arms: Mapping[str, Mapping[str, Space | None]] = dataclasses.field(default_factory=dict)
    trials: int = 16
    steps: int | None = None
    seeds: int = 1
    search: Literal["sobol", "halton", "random", "grid", "tpe", "gp"] = "sobol"
    pruning: Literal["none", "median", "halving"] = "none"
    column: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matching:
    """Arms made as large, or as expensive, as the baseline by solving for one of their fields.

    Attributes:
        equal: what is to be equal: a column of ``trials.csv``.
        by: for each matched arm the path of a whole number that is solved for, e.g. ``model.width``.
        tolerance: largest relative difference that still counts as equal.
    """

    equal: Literal["parameters", "flops_per_step", "train_seconds"]
    by: Mapping[str, str]
    tolerance: float = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matched:
    """What was solved for one arm.

    Attributes:
        arm: its name.
        path: the field.
        value: what it became.
        equal: what was to be equal.
        ratio: the arm's over the baseline's, after matching.
    """

    arm: str
    path: str
    value: int
    equal: str
    ratio: float

    def __str__(self) -> str:
        """In words."""
        return f"{self.arm}: {self.path}={self.value} gives {self.ratio:.3g} times the baseline's {self.equal}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What ``--experiment`` names, resolved for one preset.

    Attributes:
        name: the name of its file.
        preset: smoke, cpu or full.
        about: the head.
        baseline_name: the baseline's row in the table.
        baseline: its configuration.
        arms: for each other arm, the paths that differ from the baseline and their values, e.g.
            ``{"cnn": {"model": cnn.Config()}}`` or ``{"wide": {"model.width": 512}}``.
        seeds: number of paired seeds (0, 1, ...).
        metric: by what the arms are compared.
        claims: what a program can check of what was published.
        notes: deviations from the published setting, a sentence each.
        factors: paths that the arms vary by design; their values are the axes of sensitivity plots.
        tuning: what is tuned for each arm first; None for nothing.
        matching: which arms are made equal to the baseline in size or cost; None for none.
        test: the paired two-sided test behind the p-values.
        again: name of the arm that is the baseline once more, under other seeds; None for none.
        sources: the sources of chance that the arms let vary one at a time; empty for another kind of study.
        equivalence_margin: two arms whose metrics differ by less than this count as equal, in the metric's
            own units; None where nothing is said.
        figure: name of the report's figure that says most; it is published beside the table.
        adapt: what makes arms and metric from the data, for a study that takes any: ``(study, task) -> study``. None
            where they stand in the file.
        recommends: whether the report recommends an arm, by the metric and by what each costs; how long each takes
            for one example is then measured, too (see ``experiments.latency``).
    """

    name: str
    preset: Preset
    about: About
    baseline_name: str
    baseline: "Config"
    arms: Mapping[str, Mapping[str, Any]]
    seeds: int
    metric: Metric
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    tuning: Tuning | None = None
    matching: Matching | None = None
    test: Literal["sign_flip", "wilcoxon"] = "sign_flip"
    equivalence_margin: float | None = None
    again: str | None = None
    sources: tuple[str, ...] = ()
    figure: str = "metric_by_parameters"
    adapt: "Callable[[Study, Task], Study] | None" = None
    recommends: bool = False

    def __post_init__(self) -> None:
        """Check that names refer to arms that exist and that there is something to run."""
        if self.seeds < 1:
            raise BadInput(f"seeds={self.seeds} must be at least 1")
        if self.baseline_name in self.arms:
            raise BadInput(f"arm {self.baseline_name!r} has the baseline's name")
        for claim in self.claims:
            for arm in claim.arms:
                if arm not in (self.baseline_name, *self.arms):
                    raise BadInput(f"study {self.name}: a claim names the arm {arm!r}, which does not exist")
