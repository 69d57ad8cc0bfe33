"""From a study and the command line's choices to trials, and back from a plan on the disk."""

import dataclasses
import json

import pytest

from experiments import plan
from experiments.study import About, Better, Metric, Study
from models import cnn, mlp
from models.base import BadInput
from train import config as configuration
from train.config import Config, Training
from train.data import digits
from train.optimizers import sgd
from train.schedules import constant

METRIC = Metric(column="test_accuracy", label="test accuracy", curve="validation_accuracy", higher_is_better=True)
ABOUT = About(group="g", claim="c", source="s", time={"smoke": "1 s", "cpu": "1 s", "full": "1 s"})


def claim(arm: str, than: str) -> Better:
    return Better(statement=f"{arm} beats {than}", source="s", arm=arm, than=than)


def study(**changes) -> Study:
    baseline = Config(
        data=digits.Config(),
        model=mlp.Config(width=8, depth=1),
        optimizer=sgd.Config(learning_rate=0.1),
        schedule=constant.Config(),
        training=Training(steps=4, batch_size=8, evaluate_every=2),
    )
    values = {
        "name": "made_up",
        "preset": "smoke",
        "about": ABOUT,
        "baseline_name": "plain",
        "baseline": baseline,
        "arms": {
            "wide": {"model.width": 16},
            "slow": {"optimizer.learning_rate": 0.01},
            "cnn": {"model": cnn.Config()},
        },
        "seeds": 3,
        "metric": METRIC,
        "claims": (claim("wide", "plain"), claim("slow", "wide")),
    }
    return Study(**{**values, **changes})


def test_every_arm_gets_every_seed_baseline_first():
    resolved = plan.resolve(study())
    assert [trial.id for trial in resolved.trials] == [
        f"{arm}-s{seed}" for arm in ("plain", "wide", "slow", "cnn") for seed in range(3)
    ]
    assert resolved.configs["wide"].model.width == 16
    assert resolved.configs["slow"].model.width == 8
    assert resolved.configs["cnn"].optimizer == resolved.configs["plain"].optimizer
    assert resolved.remarks == ()


def test_an_override_reaches_the_arms_that_do_not_set_the_path():
    resolved = plan.resolve(study(), overrides=[("model.width", "12"), ("training.steps", "9")])
    widths = {name: getattr(config.model, "width", None) for name, config in resolved.configs.items()}
    assert widths["plain"] == widths["slow"] == 12
    assert widths["wide"] == 16
    assert resolved.configs["cnn"].model == cnn.Config()
    assert {config.training.steps for config in resolved.configs.values()} == {9}
    width, steps = resolved.remarks
    assert width == "--config.model.width=12 (not in wide, cnn: set by the arm itself)"
    assert steps == "--config.training.steps=9"


def test_overrides_that_only_fit_together_are_taken_together():
    overrides = [("schedule.name", "cosine"), ("schedule.warmup_steps", "50"), ("training.steps", "100")]
    for order in (overrides, overrides[::-1]):
        baseline = plan.resolve(study(), overrides=order).study.baseline
        assert (baseline.schedule.name, baseline.schedule.warmup_steps, baseline.training.steps) == (
            "cosine",
            50,
            100,
        )


def test_arms_that_are_chosen_keep_the_order_of_the_study_and_only_their_claims():
    resolved = plan.resolve(study(), arms=["slow", "wide"])
    assert list(resolved.configs) == ["plain", "wide", "slow"]
    assert [claim.arm for claim in resolved.study.claims] == ["wide", "slow"]
    resolved = plan.resolve(study(), arms=["slow"])
    assert list(resolved.study.arms) == ["slow"]
    assert resolved.study.claims == ()
    assert list(plan.resolve(study(), arms=["plain"]).configs) == ["plain"]


def test_an_unknown_arm_is_refused_with_the_nearest():
    with pytest.raises(BadInput, match="unknown arm 'wode'; did you mean 'wide'"):
        plan.resolve(study(), arms=["wode"])


@pytest.mark.parametrize("seeds", [0, -1])
def test_there_must_be_a_seed(seeds):
    with pytest.raises(BadInput, match=f"seeds={seeds} must be at least 1"):
        plan.resolve(study(), seeds=seeds)


def test_seeds_are_counted_from_zero():
    assert [trial.seed for trial in plan.resolve(study(), seeds=5, arms=[]).trials] == [0, 1, 2, 3, 4]


def test_two_arms_of_one_configuration_are_refused():
    with pytest.raises(BadInput, match="arm 'same' has the same configuration as 'plain'"):
        plan.resolve(study(arms={"same": {"model.width": 8}}, claims=()))
    with pytest.raises(BadInput, match="arm 'wide' has the same configuration as 'plain'"):
        plan.resolve(study(), overrides=[("model.width", "16")])
    # How trials run is no difference between arms.
    with pytest.raises(BadInput, match="same configuration"):
        plan.resolve(study(arms={"same": {"execution.strategy": "sequential"}}, claims=()))


def test_an_arm_that_cannot_be_is_refused():
    with pytest.raises(BadInput, match=r"model\.width=0 must be at least 1"):
        plan.resolve(study(arms={"none": {"model.width": 0}}, claims=()))


def test_a_claim_names_arms_that_exist():
    with pytest.raises(BadInput, match="names the arm 'missing'"):
        study(claims=(claim("missing", "plain"),))
    with pytest.raises(BadInput, match="has the baseline's name"):
        study(arms={"plain": {}}, claims=())


def write(resolved: plan.Plan, path, history=()):
    path.write_text(json.dumps(plan.document(resolved, "command", list(history))))


def test_the_document_names_all_that_will_run(tmp_path):
    resolved = plan.resolve(study(), overrides=[("training.steps", "9")])
    write(resolved, tmp_path / "study.json", [{"command": "c"}])
    content = json.loads((tmp_path / "study.json").read_text())
    assert content["seeds"] == [0, 1, 2]
    assert content["remarks"] == ["--config.training.steps=9"]
    assert len(content["trials"]) == 12
    assert configuration.from_dict(content["arms"]["wide"]) == resolved.configs["wide"]
    assert plan.check_against(resolved, tmp_path / "study.json") == [{"command": "c"}]


@pytest.mark.parametrize("changes", [{"seeds": 9}, {"seeds": 1}, {"arms": []}, {"arms": ["cnn"]}])
def test_other_seeds_and_arms_go_on_with_a_plan(tmp_path, changes):
    write(plan.resolve(study()), tmp_path / "study.json")
    assert plan.check_against(plan.resolve(study(), **changes), tmp_path / "study.json") == []


def test_how_trials_run_may_change(tmp_path):
    write(plan.resolve(study()), tmp_path / "study.json")
    changed = plan.resolve(study(), overrides=[("execution.checkpoint_seconds", "1")])
    assert plan.check_against(changed, tmp_path / "study.json") == []


def test_another_plan_in_the_same_place_is_refused_with_the_differences(tmp_path):
    write(plan.resolve(study()), tmp_path / "study.json")
    with pytest.raises(BadInput) as error:
        plan.check_against(plan.resolve(study(), overrides=[("training.steps", "9")]), tmp_path / "study.json")
    message = str(error.value)
    assert "holds another plan (training.steps 4 -> 9 in plain, wide, slow and 1 more)" in message
    assert "choose another --workdir" in message
    assert "\n" not in message
    other = dataclasses.replace(study(), preset="cpu")
    with pytest.raises(BadInput, match="preset smoke -> cpu"):
        plan.check_against(plan.resolve(other), tmp_path / "study.json")
    with pytest.raises(BadInput, match=r"\(model\.name mlp -> cnn in plain\)"):
        plan.check_against(plan.resolve(study(), overrides=[("model.name", "cnn")], arms=[]), tmp_path / "study.json")


def test_a_claim_needs_more_than_one_seed():
    study = plan.load("architectures", "cpu")
    with pytest.raises(BadInput, match=r"seeds=1: the claims of study architectures need paired seeds"):
        plan.resolve(study, seeds=1)
    assert len(plan.resolve(study, seeds=1, arms=["lstm"]).trials) == 2
    assert plan.resolve(plan.load("architectures", "smoke"), seeds=1).study.seeds == 1
