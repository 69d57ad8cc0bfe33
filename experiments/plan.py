"""From a study and the command line to trials: resolved, checked, and written down before the first step."""

import dataclasses
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments import variants
from experiments.spaces import Space
from experiments.study import PRESETS, About, Matched, Study, Tuning
from models.base import BadInput, unknown
from train import config as configuration
from train.config import Config, Trial


def study_names() -> tuple[str, ...]:
    """The studies of the catalog: its files."""
    folder = Path(__file__).parent / "catalog"
    return tuple(sorted(file.stem for file in folder.glob("*.py") if file.stem != "__init__"))


def module(name: str) -> ModuleType:
    """The file of a study. Imports no jax.

    Raises:
        BadInput: no such experiment.
    """
    if name not in study_names():
        raise unknown("experiment", name, study_names())
    return importlib.import_module(f"experiments.catalog.{name}")


def about(name: str) -> About:
    """The head of a study. Imports no jax."""
    return module(name).ABOUT


def load(name: str, preset: str) -> Study:
    """The study of that name.

    Raises:
        BadInput: no such experiment or preset.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    return module(name).study(preset)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What will run.

    Attributes:
        study: the study, with the arms and seeds that were asked for.
        configs: the resolved configuration of each arm, baseline first.
        trials: arm by arm, seed by seed.
        remarks: what a reader should know of how the command line changed the study.
        matched: what was solved for so that arms are as large or expensive as the baseline.
    """

    study: Study
    configs: Mapping[str, Config]
    trials: tuple[Trial, ...]
    remarks: tuple[str, ...]
    matched: tuple[Matched, ...] = ()


def resolve(
    study: Study,
    *,
    seeds: int | None = None,
    arms: Sequence[str] | None = None,
    overrides: Sequence[tuple[str, str]] = (),
    vary: Sequence[tuple[str, str]] = (),
    again: bool = False,
    variance: Sequence[str] | None = None,
) -> Plan:
    """The plan of a study under the command line's choices.

    Args:
        study: as its file declares it.
        seeds: how many paired seeds; None for the study's own number.
        arms: names of the arms to run beside the baseline; None for all.
        overrides: pairs of path and text that change the baseline, and with it every arm that
            does not set the same path itself.
        vary: pairs of path and values: the arms are all combinations of them (see ``experiments.variants``).
        again: whether an arm is added that is the baseline under other seeds.
        variance: sources of chance that the arms let vary one at a time; None for the study's own arms.

    Raises:
        BadInput: unknown names, values of the wrong type or out of range, arms that do not differ.
    """
    changes = configuration.parse_overrides(study.baseline, overrides)
    baseline = configuration.replace(study.baseline, changes)
    study = _variant(dataclasses.replace(study, baseline=baseline), vary, variance)
    chosen = _choose_arms(study, arms)
    if again:
        study = variants.with_itself(dataclasses.replace(study, arms=chosen))
        chosen = dict(study.arms)
    configs = {study.baseline_name: baseline}
    for name, delta in chosen.items():
        configs[name] = configuration.replace(baseline, delta)
    _check_distinct(study, configs)
    for arm in study.tuning.arms if study.tuning is not None else ():
        if arm not in (study.baseline_name, *study.arms):
            raise unknown("arm in the study's tuning", arm, (study.baseline_name, *study.arms))
    claims = tuple(claim for claim in study.claims if set(claim.arms) <= set(configs))
    matching = study.matching and dataclasses.replace(
        study.matching, by={arm: path for arm, path in study.matching.by.items() if arm in configs}
    )
    study = dataclasses.replace(
        study, arms=chosen, claims=claims, matching=matching, seeds=study.seeds if seeds is None else seeds
    )
    _check_testable(study)
    return Plan(study, configs, _trials(configs, study.seeds), _remarks(study, changes))


def _check_testable(study: Study) -> None:
    """One seed says nothing of chance, and so nothing of a claim."""
    if study.seeds < 2 and study.claims and study.preset != "smoke":
        raise BadInput(
            f"seeds={study.seeds}: the claims of study {study.name} need paired seeds to be tested, at least 2; for a "
            "quick look that tests nothing take --preset=smoke or an arm that no claim names"
        )


def _trials(configs: Mapping[str, Config], seeds: int) -> tuple[Trial, ...]:
    return tuple(Trial(arm=name, seed=seed, config=config) for name, config in configs.items() for seed in range(seeds))


def recorded_matches(study: Study, folder: Path) -> tuple[Matched, ...]:
    """What an earlier run in the folder solved for, as far as this study asks for the same.

    Raises:
        BadInput: ``study.json`` is damaged.
    """
    path = folder / "study.json"
    if study.matching is None or not path.exists():
        return ()
    try:
        entries = [Matched(**entry) for entry in json.loads(path.read_text(encoding="utf-8")).get("matched", [])]
    except (ValueError, TypeError, AttributeError):
        raise BadInput(f"{path} is damaged; move its folder away or choose another --workdir") from None
    wanted = study.matching
    return tuple(each for each in entries if each.equal == wanted.equal and wanted.by.get(each.arm) == each.path)


def _variant(study: Study, vary: Sequence[tuple[str, str]], variance: Sequence[str] | None) -> Study:
    """The study with the arms that the command line makes."""
    if vary and variance is not None:
        raise BadInput("--vary and --attribute_variance each make the arms: give one of the two")
    if variance is not None:
        return variants.sources_of_variance(study, variance)
    return variants.varied(study, vary) if vary else study


def with_matched(plan: Plan, matched: Sequence[Matched]) -> Plan:
    """The plan with its matched fields set.

    Raises:
        BadInput: an arm then has the configuration of another.
    """
    configs = dict(plan.configs)
    for each in matched:
        configs[each.arm] = configuration.replace(configs[each.arm], {each.path: each.value})
    _check_distinct(plan.study, configs)
    return dataclasses.replace(plan, configs=configs, trials=_trials(configs, plan.study.seeds), matched=tuple(matched))


def _choose_arms(study: Study, arms: Sequence[str] | None) -> dict[str, Mapping[str, Any]]:
    if arms is None:
        return dict(study.arms)
    for name in arms:
        if name not in study.arms and name != study.baseline_name:
            raise unknown("arm", name, study.arms)
    return {name: delta for name, delta in study.arms.items() if name in arms}


def _check_distinct(study: Study, configs: Mapping[str, Config]) -> None:
    """Two arms of one configuration would compare a thing with itself."""
    seen: dict[str, str] = {}
    for name, config in configs.items():
        other = seen.setdefault(configuration.digest(config), name)
        if other != name:
            raise BadInput(f"study {study.name}: arm {name!r} has the same configuration as {other!r}")


def _remarks(study: Study, changes: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which arms an override does not reach, because they set that path themselves."""
    result = []
    for path, value in changes.items():
        deaf = [name for name, delta in study.arms.items() if any(path == p or path.startswith(f"{p}.") for p in delta)]
        text = f"--config.{path}={value}"
        result.append(f"{text} (not in {', '.join(deaf)}: set by the arm itself)" if deaf else text)
    return tuple(result)


def document(plan: Plan, command: str, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The plan as it is written to ``study.json``."""
    study = plan.study
    return {
        "study": study.name,
        "preset": study.preset,
        "claim": study.about.claim,
        "source": study.about.source,
        "metric": dataclasses.asdict(study.metric),
        "figure": study.figure,
        "claims": [claim.to_dict() for claim in study.claims],
        "notes": list(study.notes),
        "remarks": list(plan.remarks),
        "matched": [dataclasses.asdict(matched) for matched in plan.matched],
        "baseline": study.baseline_name,
        "seeds": list(range(study.seeds)),
        "arms": {name: configuration.to_dict(config) for name, config in plan.configs.items()},
        "tuning": tuning_document(study.tuning),
        "trials": [
            {"trial": trial.id, "arm": trial.arm, "seed": trial.seed}
            # Where tuning chooses it, the configuration is not known yet.
            | ({"config_hash": configuration.digest(trial.config)} if study.tuning is None else {})
            for trial in plan.trials
        ],
        "command": command,
        "history": list(history),
    }


def tuning_document(tuning: Tuning | None) -> dict[str, Any] | None:
    """The declaration of a tuning as plain values for JSON; None where nothing is tuned."""
    if tuning is None:
        return None
    declared = dataclasses.asdict(dataclasses.replace(tuning, space={}, arms={}))
    declared |= {
        "space": spaces_document(tuning.space),
        "arms": {arm: spaces_document(spaces) for arm, spaces in tuning.arms.items()},
    }
    return json.loads(json.dumps(declared, default=str))


def spaces_document(spaces: Mapping[str, Space | None]) -> dict[str, Any]:
    """Spaces by path as plain values."""
    return {
        path: None if space is None else {"kind": type(space).__name__, **dataclasses.asdict(space)}
        for path, space in spaces.items()
    }


def check_against(plan: Plan, path: Path) -> list[dict[str, Any]]:
    """The history of an earlier plan in the same place, once it is sure that this one goes on with it.

    More seeds, fewer seeds and other arms go on with it; an arm whose configuration is another does not.

    Raises:
        BadInput: the file is unreadable, or an arm was something else; the message lists the differences.
    """
    if not path.exists():
        return []
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        preset, history = old["preset"], [dict(entry) for entry in old["history"]]
        found = {
            name: configuration.differences(old["arms"].get(name, new), new)
            for name, new in ((name, configuration.to_dict(config)) for name, config in plan.configs.items())
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{path} is damaged; move its folder away or choose another --workdir") from None
    changed = [f"preset {preset} -> {plan.study.preset}"] if preset != plan.study.preset else []
    changed += _changed_tuning(old.get("tuning"), tuning_document(plan.study.tuning))
    if any(found.values()):
        changed.append(configuration.listing(found))
    if changed:
        raise BadInput(
            f"{path.parent} holds another plan ({'; '.join(changed)}); choose another --workdir or move it away"
        )
    return history


def _changed_tuning(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """How two declarations of a tuning differ; the arms' own spaces count where both have the arm."""
    if (old is None) != (new is None):
        return ["tuned before, and not now" if new is None else "not tuned before, and now"]
    return [
        f"tuning.{key} {json.dumps((old or {}).get(key))} -> {json.dumps(value)}"
        for key, value in (new or {}).items()
        if (old or {}).get(key) != value
    ]
