"""Verdicts on claims: from intervals and corrected tests, never from point estimates."""

import numpy as np
import pandas as pd
import pytest

from experiments.claims import evaluate
from experiments.comparisons import compare, results
from experiments.statistics import holm, paired_difference, sign_flip_p_value
from experiments.study import Better, Metric
from models.base import BadInput

ACCURACY = Metric(column="test_accuracy", label="test accuracy", curve="validation_accuracy", higher_is_better=True)
LOSS = Metric(column="test_loss", label="test loss", curve="validation_loss", higher_is_better=False)


def claim(**changes):
    values = {"statement": "It is better.", "source": "A paper", "arm": "cnn", "than": "mlp"}
    return Better(**{**values, **changes})


def verdict(make_study, make_records, *, claimed=None, effects=None, lost=(), **changes):
    study = make_study(claims=(claimed or claim(),), **changes)
    trials, _ = make_records(study, effects=effects, lost=lost)
    return evaluate(study, trials)[0]


def test_supported_with_the_numbers_of_the_statistics(make_study, make_records):
    study = make_study()
    trials, _ = make_records(study)
    result = evaluate(study, trials)[0]
    values = results(trials, study.metric)
    baseline = values["mlp"].to_numpy()
    expected = paired_difference(values["cnn"].to_numpy(), baseline)
    corrected = holm(np.array([sign_flip_p_value(values[arm].to_numpy(), baseline) for arm in study.arms]))
    assert result.outcome == "supported"
    assert (result.estimate, result.interval, result.n) == (expected.mean, expected.interval, 8)
    assert result.p_value == corrected[0]
    assert "3.06 percentage points" in result.explanation
    assert "0.0812 times the parameters" in result.explanation


def test_refuted_when_the_interval_is_on_the_other_side(make_study, make_records):
    result = verdict(make_study, make_records, claimed=claim(arm="mlp", than="cnn"))
    assert result.outcome == "refuted"
    assert result.estimate < 0


def test_a_reversed_comparison_keeps_its_p_value(make_study, make_records):
    study = make_study(claims=(claim(), claim(arm="mlp", than="cnn")))
    trials, _ = make_records(study)
    first, second = evaluate(study, trials)
    assert first.p_value == second.p_value
    assert first.comparison.family == 3
    assert first.estimate == -second.estimate


def test_no_effect_is_inconclusive(make_study, make_records):
    result = verdict(make_study, make_records, effects={"cnn": 0.941})
    assert result.outcome == "inconclusive"
    assert "The interval includes zero" in result.explanation


@pytest.mark.parametrize(("margin", "outcome"), [(0.02, "supported"), (0.03, "inconclusive"), (0.05, "refuted")])
def test_the_margin_moves_the_bar(make_study, make_records, margin, outcome):
    result = verdict(make_study, make_records, claimed=claim(margin=margin), arms={"cnn": {}})
    assert result.outcome == outcome
    # A margin is a hypothesis of its own beside the table's.
    assert result.comparison.family == 2


@pytest.mark.parametrize(("metric", "sign"), [(ACCURACY, 1), (LOSS, -1)])
def test_the_margin_is_tested_too_in_the_better_direction(make_study, make_records, metric, sign):
    study = make_study(claims=(claim(margin=0.03),), arms={"cnn": {}}, metric=metric)
    trials, _ = make_records(study, effects={"mlp": 0.5, "cnn": 0.5 + sign * 0.032})
    values = results(trials, study.metric)
    expected = sign_flip_p_value(values["cnn"].to_numpy(), values["mlp"].to_numpy() + sign * 0.03)
    assert 0.05 < expected < 1
    assert compare(study, trials).between("cnn", "mlp", 0.03).raw_p_value == expected


def test_lower_is_better(make_study, make_records):
    effects = {"mlp": 0.50, "cnn": 0.40}
    result = verdict(make_study, make_records, metric=LOSS, effects=effects, claimed=claim(margin=0.05))
    assert result.outcome == "supported"
    assert result.estimate == pytest.approx(-0.1, abs=0.01)
    assert "lower" in result.explanation
    assert result.comparison.superiority.probability == 1.0
    reverse = verdict(make_study, make_records, metric=LOSS, effects={"mlp": 0.40, "cnn": 0.50})
    assert reverse.outcome == "refuted"


def test_too_many_parameters_refute(make_study, make_records):
    result = verdict(make_study, make_records, claimed=claim(parameters_at_most=0.05))
    assert result.outcome == "refuted"
    assert "does not hold as it was made" in result.explanation


def test_unknown_parameters_support_nothing(make_study, make_records):
    study = make_study(claims=(claim(parameters_at_most=1 / 3),))
    trials, _ = make_records(study)
    result = evaluate(study, trials.assign(parameters=np.nan))[0]
    assert result.outcome == "inconclusive"
    assert "not recorded" in result.explanation


def test_too_few_seeds_are_said_to_be_too_few(make_study, make_records):
    result = verdict(make_study, make_records, seeds=6)
    assert result.outcome == "inconclusive"
    assert "6 paired seeds can never give p below 0.094, corrected for 3 comparisons" in result.explanation
    assert "at least 7 are needed" in result.explanation


def test_one_seed(make_study, make_records):
    result = verdict(make_study, make_records, seeds=1)
    assert (result.outcome, result.n) == ("inconclusive", 1)
    assert np.isnan(result.interval.low)


def test_two_seeds_that_agree_by_chance_refute_nothing(make_study, make_records):
    study = make_study(seeds=2, claims=(claim(arm="mlp", than="cnn"),))
    trials, _ = make_records(study, noise=0.0)
    result = evaluate(study, trials)[0]
    assert result.comparison.difference.sd == pytest.approx(0, abs=1e-12)
    trials["test_accuracy"] = trials["test_accuracy"].round(6)
    trials.loc[trials["arm"] == "cnn", "test_accuracy"] = 0.75
    trials.loc[trials["arm"] == "mlp", "test_accuracy"] = 0.5
    assert evaluate(study, trials)[0].outcome == "inconclusive"


@pytest.mark.parametrize("status", ["diverged", "crashed"])
def test_an_arm_that_fails_alone_is_not_called_better(make_study, make_records, status):
    result = verdict(make_study, make_records, lost=[("cnn", 2, status)], arms={"cnn": {}})
    assert result.outcome == "inconclusive"
    assert (result.n, result.comparison.difference.lost, result.comparison.only_arm_failed) == (7, 1, 1)
    assert "1 pair is left out because a trial diverged or crashed (cnn in 1)" in result.explanation


def test_a_baseline_that_fails_alone_leaves_the_claim_supported(make_study, make_records):
    lost = [("mlp", 2, "diverged"), ("mlp", 5, "diverged"), ("cnn", 5, "diverged")]
    result = verdict(make_study, make_records, lost=lost, arms={"cnn": {}})
    assert (result.outcome, result.n) == ("supported", 6)
    assert "2 pairs are left out because a trial diverged or crashed (mlp in 1 and both in 1)" in result.explanation


def test_a_refutation_does_not_rest_on_the_others_failures(make_study, make_records):
    result = verdict(
        make_study, make_records, claimed=claim(arm="mlp", than="cnn"), lost=[("cnn", 2, "diverged")], arms={"cnn": {}}
    )
    assert result.outcome == "inconclusive"


def test_all_diverged(make_study, make_records):
    result = verdict(make_study, make_records, lost=[("cnn", seed, "diverged") for seed in range(8)])
    assert (result.outcome, result.n) == ("inconclusive", 0)
    assert "No seed finished for both" in result.explanation


def test_the_smoke_preset_is_no_evidence(make_study, make_records):
    judged = verdict(make_study, make_records, preset="smoke")
    assert judged.explanation.startswith("No evidence: smoke preset.")
    assert judged.outcome == "inconclusive"
    assert verdict(make_study, make_records, preset="cpu").outcome != "inconclusive"
    assert "No evidence" not in verdict(make_study, make_records).explanation


def test_the_last_of_several_rows_of_a_trial_counts(make_study, make_records):
    study = make_study()
    trials, _ = make_records(study)
    early = trials.head(1).assign(status="crashed", test_accuracy=np.nan)
    again = compare(study, pd.concat([early, trials]))
    assert again == compare(study, trials)


def test_an_unknown_metric_is_one_line(make_study, make_records):
    study = make_study()
    trials, _ = make_records(study)
    with pytest.raises(BadInput, match="unknown metric column 'test_accuracy'"):
        evaluate(study, trials.rename(columns={"test_accuracy": "test_acc"}))


@pytest.mark.parametrize(
    ("name", "label", "higher", "percent"),
    [
        ("accuracy", "test accuracy", True, True),
        ("exact_match", "test exact match", True, True),
        ("bleu", "test bleu", True, False),
        ("bits_per_character", "test bits per character", False, False),
        ("loss_late", "test loss late", False, False),
    ],
)
def test_direction_and_unit_of_a_metric_follow_from_its_name(name, label, higher, percent):
    metric = Metric.on_test(name)
    assert (metric.column, metric.curve) == (f"test_{name}", f"validation_{name}")
    assert (metric.label, metric.higher_is_better, metric.percent) == (label, higher, percent)
    assert Metric.on_test(name, "what it says").label == "what it says"


def test_a_metric_of_unknown_direction_is_written_out():
    with pytest.raises(BadInput, match="whether more of 'context_gain' is better is not known"):
        Metric.on_test("context_gain")
