"""What a study's comparisons carry: its test, effects, seeds needed and equivalence."""

import math

import numpy as np
import pytest

from experiments import statistics
from experiments.comparisons import compare
from tests.experiments.conftest import ACCURACY, BITS, records_of, study_of


def values_of(study, trials):
    wide = trials.pivot(index="seed", columns="arm", values=study.metric.column)
    return {arm: wide[arm].to_numpy(float) for arm in wide}


@pytest.mark.parametrize("metric", [ACCURACY, BITS])
def test_a_study_may_ask_for_wilcoxon(metric):
    study = study_of(test="wilcoxon", metric=metric, claims=())
    trials, _ = records_of(study)
    values = values_of(study, trials)
    family = compare(study, trials)
    for item in family.comparisons:
        assert item.test == "wilcoxon"
        assert item.raw_p_value == statistics.wilcoxon_p_value(values[item.arm], values["mlp"])
        assert item.smallest_p_value == 3 * 2 / 2**8


def test_wilcoxon_counts_a_trial_that_failed_against_its_arm():
    study = study_of(test="wilcoxon", arms={"cnn": {"model.name": "cnn"}}, claims=())
    kept = compare(study, records_of(study)[0]).between("cnn", "mlp")
    lost = compare(study, records_of(study, lost=[("cnn", 2, "diverged")])[0]).between("cnn", "mlp")
    assert kept.better
    assert kept.raw_p_value < lost.raw_p_value
    assert not lost.better
    assert lost.smallest_p_value == kept.smallest_p_value  # eight pairs are ranked, seven are finite
    assert lost.difference.n == 7


def test_where_lower_is_better_a_failure_is_still_the_worst():
    study = study_of(test="wilcoxon", metric=BITS, arms={"cnn": {"model.name": "cnn"}}, claims=())
    means = {"cnn": 0.5, "mlp": 0.9}  # the arm is better in every seed
    lost = compare(study, records_of(study, effects=means, lost=[("cnn", 0, "crashed")])[0]).between("cnn", "mlp")
    # One failure among eight, ranked highest against the arm: W = 8 of 36.
    expected = 2 * sum(1 for signs in range(256) if sum(r + 1 for r in range(8) if signs >> r & 1) <= 8) / 256
    assert lost.raw_p_value == pytest.approx(expected)


def test_worse_mirrors_better():
    study = study_of(claims=(), arms={"cnn": {"model.name": "cnn"}, "lstm": {"model.name": "lstm"}})
    trials, _ = records_of(study, effects={"cnn": 0.90, "lstm": 0.99})
    family = compare(study, trials)
    cnn, lstm = family.between("cnn", "mlp"), family.between("lstm", "mlp")
    assert (cnn.better, cnn.worse, lstm.better, lstm.worse) == (False, True, True, False)


def test_effect_and_seeds_needed_are_those_of_the_difference():
    study = study_of(claims=())
    trials, _ = records_of(study)
    values = values_of(study, trials)
    for item in compare(study, trials).comparisons:
        difference = statistics.paired_difference(values[item.arm], values["mlp"])
        assert item.effect == statistics.standardised_effect(difference)
        # Holm's first step among three, and no fewer than give the smallest p-value.
        wanted = statistics.seeds_needed(item.effect.value, level=0.05 / 3)
        assert item.seeds_needed == max(wanted, 7)


def test_seeds_needed_against_a_margin_are_more():
    study = study_of()
    claim = study.claims[0]
    margin = 0.02
    with_margin = study_of(claims=(type(claim)(statement="", source="", arm="cnn", than="mlp", margin=margin),))
    trials, _ = records_of(study)
    plain, strict = compare(study, trials), compare(with_margin, trials)
    assert strict.between("cnn", "mlp", margin).seeds_needed >= plain.between("cnn", "mlp").seeds_needed
    difference = strict.between("cnn", "mlp").difference
    beyond = (difference.mean - margin) / difference.sd
    correction = strict.between("cnn", "mlp").effect.value / (difference.mean / difference.sd)
    needed = statistics.seeds_needed(beyond * correction, level=0.05 / 4)
    assert strict.between("cnn", "mlp", margin).seeds_needed == max(needed, statistics.pairs_needed(4))


def test_identical_arms_need_no_number_of_seeds():
    study = study_of(claims=(), arms={"cnn": {"model.name": "cnn"}})
    trials, _ = records_of(study, noise=0.0, effects={"cnn": 0.5, "mlp": 0.5})
    item = compare(study, trials).between("cnn", "mlp")
    assert math.isnan(item.seeds_needed)
    assert math.isnan(item.effect.value)


def test_equivalence_needs_a_margin():
    study = study_of(claims=())
    trials, _ = records_of(study, effects={"lstm": 0.9411})
    assert all(item.equivalence is None for item in compare(study, trials).comparisons)
    family = compare(study_of(claims=(), equivalence_margin=0.01), trials)
    lstm, cnn = family.between("lstm", "mlp").equivalence, family.between("cnn", "mlp").equivalence
    assert lstm is not None
    assert cnn is not None
    assert lstm.equivalent
    assert not cnn.equivalent
    values = values_of(study, trials)
    assert lstm == statistics.equivalence(values["lstm"], values["mlp"], 0.01)
    assert np.isfinite(lstm.p_value)
