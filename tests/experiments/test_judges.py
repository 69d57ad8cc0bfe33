"""Claims that are not comparisons of two arms: outcomes from intervals, against intervals made with SciPy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.claims import evaluate
from experiments.study import (
    BatchTradeoff,
    Better,
    Equivalent,
    Exponent,
    Interaction,
    LessSensitive,
    Metric,
    Monotone,
    Ratio,
    SteadierOptimum,
    StepsToTarget,
    Within,
)
from models.base import BadInput

LOSS = Metric(column="test_loss", label="test loss", curve="validation_loss", higher_is_better=False)
ARMS = {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}


def records(values, *, lost=()):
    rows = [
        {
            "trial": f"{arm}-s{seed}",
            "arm": arm,
            "seed": seed,
            "status": "diverged" if (arm, seed) in lost else "ok",
            "test_loss": np.nan if (arm, seed) in lost else value,
            "test_accuracy": 1 - value,
            "parameters": 10,
        }
        for arm, column in values.items()
        for seed, value in enumerate(column)
    ]
    return pd.DataFrame(rows)


def verdict(make_study, claim, values, **options):
    study = make_study(baseline_name="base", arms=ARMS, metric=LOSS, claims=(claim,), seeds=6)
    return evaluate(study, records(values, **options))[0]


@pytest.fixture
def values():
    generator = np.random.default_rng(0)
    return {
        arm: mean + generator.normal(0, 0.01, 6) for arm, mean in (("base", 1.0), ("a", 0.9), ("b", 0.8), ("c", 0.7))
    }


def t_interval(sample):
    low, high = stats.t.interval(0.95, len(sample) - 1, sample.mean(), stats.sem(sample))
    return low, high


def text(**changes):
    return {"statement": "s", "source": "t", **changes}


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.85, 0.95, "supported"), (0.95, 2.0, "refuted"), (-np.inf, 0.9, "inconclusive"), (0.5, np.inf, "supported")],
)
def test_within_a_band(make_study, values, low, high, outcome):
    found = verdict(make_study, Within(arm="a", low=low, high=high, **text()), values)
    assert found.outcome == outcome
    # The product's interval is never shorter than Student's.
    assert found.interval.low <= t_interval(values["a"])[0] + 1e-12
    assert found.interval.high >= t_interval(values["a"])[1] - 1e-12
    assert found.estimate == pytest.approx(values["a"].mean())


@pytest.mark.parametrize(("margin", "outcome"), [(0.2, "supported"), (0.05, "refuted"), (0.1, "inconclusive")])
def test_equivalence(make_study, values, margin, outcome):
    values["a"] = values["base"] - 0.1 + 0.005 * np.array([-1, 1, -1, 1, -1, 1])
    assert verdict(make_study, Equivalent(arm="a", than="base", margin=margin, **text()), values).outcome == outcome


@pytest.mark.parametrize(("at_most", "outcome"), [(0.95, "supported"), (0.85, "refuted"), (0.9, "inconclusive")])
def test_a_ratio_by_its_logarithms(make_study, values, at_most, outcome):
    found = verdict(make_study, Ratio(arm="a", than="base", at_most=at_most, **text()), values)
    assert found.outcome == outcome
    assert found.estimate == pytest.approx(stats.gmean(values["a"] / values["base"]))
    low, high = np.exp(t_interval(np.log(values["a"] / values["base"])))
    assert found.interval.low <= low * (1 + 1e-12)
    assert found.interval.high >= high * (1 - 1e-12)


def test_a_ratio_needs_positive_numbers(make_study, values):
    values["a"][2] = 0
    found = verdict(make_study, Ratio(arm="a", than="base", at_most=2, **text()), values)
    assert found.outcome == "inconclusive"
    assert "positive" in found.explanation
    with pytest.raises(BadInput, match="at_most"):
        Ratio(arm="a", than="base", at_most=0, **text())


@pytest.mark.parametrize(("direction", "outcome"), [("falling", "supported"), ("rising", "refuted")])
def test_monotone(make_study, values, direction, outcome):
    claim = Monotone(order=("base", "a", "b", "c"), direction=direction, **text())
    found = verdict(make_study, claim, values)
    assert found.outcome == outcome
    table = np.stack([values[arm] for arm in ("base", "a", "b", "c")], 1)
    slopes = [np.polyfit(range(4), row, 1)[0] for row in table]
    assert found.estimate == pytest.approx(np.mean(slopes))


def test_one_step_against_the_trend_refutes_it(make_study, values):
    values["b"] = values["a"] + 0.05
    found = verdict(make_study, Monotone(order=("base", "a", "b", "c"), direction="falling", **text()), values)
    assert found.outcome == "refuted"
    assert "from a to b goes the other way" in found.explanation


@pytest.mark.parametrize(("shift", "sign", "outcome"), [(-0.1, "more", "supported"), (-0.1, "less", "refuted")])
def test_interaction(make_study, values, shift, sign, outcome):
    generator = np.random.default_rng(1)
    values["c"] = values["a"] + values["b"] - values["base"] + shift + generator.normal(0, 0.01, 6)
    claim = Interaction(neither="base", first="a", second="b", both="c", sign=sign, **text())
    found = verdict(make_study, claim, values)
    assert found.outcome == outcome
    assert found.estimate == pytest.approx(np.mean(values["c"] - values["b"] - values["a"] + values["base"]))


def test_no_interaction_is_not_found_to_be_one(make_study, values):
    values["c"] = values["a"] + values["b"] - values["base"] + 0.01 * np.array([1, -1, 1, -1, 1, -1])
    claim = Interaction(neither="base", first="a", second="b", both="c", sign="more", **text())
    assert verdict(make_study, claim, values).outcome == "inconclusive"


@pytest.mark.parametrize(("low", "high", "outcome"), [(0.2, 0.3, "supported"), (0.4, 0.5, "refuted")])
def test_an_exponent(make_study, low, high, outcome):
    generator = np.random.default_rng(2)
    sizes = (("base", 1e3), ("a", 1e4), ("b", 1e5), ("c", 1e6))
    values = {arm: 3 * size**-0.25 * np.exp(generator.normal(0, 0.02, 6)) for arm, size in sizes}
    found = verdict(make_study, Exponent(sizes=sizes, low=low, high=high, **text()), values)
    assert found.outcome == outcome
    slope = np.polyfit(np.log([size for _, size in sizes]), np.log([values[arm] for arm, _ in sizes]).mean(1), 1)[0]
    assert found.estimate == pytest.approx(-slope, rel=1e-6)
    assert "within the interval" in found.explanation
    values["c"] = values["c"] * 1.5  # the law does not go on
    broken = verdict(make_study, Exponent(sizes=sizes, low=low, high=high, **text()), values)
    assert "outside the interval" in broken.explanation


@pytest.mark.parametrize(("at_most", "outcome"), [(0.6, "supported"), (0.3, "refuted"), (0.5, "inconclusive")])
def test_steps_to_a_target(make_study, values, at_most, outcome):
    steps = np.arange(0, 401, 10)
    rows = [
        {"arm": arm, "seed": seed, "step": step, "validation_loss": 1.0 - step / (rate + 10 * (seed % 3))}
        for arm, rate in (("base", 400.0), ("a", 200.0))
        for seed in range(6)
        for step in steps
    ]
    claim = StepsToTarget(arm="a", than="base", target=0.5, ratio_at_most=at_most, **text())
    study = make_study(baseline_name="base", arms=ARMS, metric=LOSS, claims=(claim,), seeds=6)
    found = evaluate(study, records(values), curves=pd.DataFrame(rows))[0]
    assert found.outcome == outcome
    assert found.estimate == pytest.approx(0.52, abs=0.03)
    assert evaluate(study, records(values))[0].outcome == "inconclusive"


def test_a_seed_without_a_curve_never_arrives_and_shifts_no_pair(make_study, values):
    """One seed of each arm crashed before its first evaluation: another one of either."""
    steps = np.arange(0, 401, 10)
    rows = [
        {"arm": arm, "seed": seed, "step": step, "validation_loss": 1.0 - step / (rate * (1 + seed))}
        for arm, rate, crashed in (("base", 100.0, 5), ("a", 50.0, 0))
        for seed in range(6)
        for step in steps
        if seed != crashed
    ]
    claim = StepsToTarget(arm="a", than="base", target=0.5, ratio_at_most=0.6, **text())
    study = make_study(baseline_name="base", arms=ARMS, metric=LOSS, claims=(claim,), seeds=6)
    lost = {("base", 5), ("a", 0)}
    found = evaluate(study, records(values, lost=lost), curves=pd.DataFrame(rows))[0]
    assert found.n == 6
    assert "never arrived: 1 of a and 1 of base" in found.explanation
    # Steps of the seeds are 50 (1 + seed) and 25 (1 + seed), the crashed ones' infinite, rounded up to evaluations.
    assert found.estimate == pytest.approx((100 + 130) / 2 / ((150 + 200) / 2), abs=0.02)


@pytest.mark.parametrize(("at_most", "outcome"), [(0.5, "supported"), (0.05, "refuted")])
def test_an_arm_may_stand_beside_itself_on_another_curve(make_study, values, at_most, outcome):
    """Every seed fits after 100 (1 + seed) steps, and generalises after three times as many."""
    rows = [
        {
            "arm": "a",
            "seed": seed,
            "step": step,
            "train_loss": 0.0 if step >= 100 * (1 + seed) else 1.0,
            "validation_loss": 0.1 if step >= 300 * (1 + seed) else 1.0,
        }
        for seed in range(6)
        for step in range(0, 2001, 100)
    ]
    fitting = Metric(column="train_loss", label="training loss", curve="train_loss", higher_is_better=False)
    claim = StepsToTarget(
        arm="a",
        metric=fitting,
        target=0.0,
        than="a",
        than_metric=LOSS,
        than_target=0.1,
        ratio_at_most=at_most,
        **text(),
    )
    study = make_study(baseline_name="base", arms=ARMS, metric=LOSS, claims=(claim,), seeds=6)
    found = evaluate(study, records(values), curves=pd.DataFrame(rows))[0]
    assert found.outcome == outcome
    assert found.estimate == pytest.approx(1 / 3)
    assert "ratio of the steps of a to train_loss=0 over those of a to validation_loss=0.1" in found.explanation
    with pytest.raises(BadInput, match="with itself"):
        StepsToTarget(arm="a", than="a", target=0.1, ratio_at_most=1.0, **text())


def levels(*arms):
    return tuple((arm, 10.0**number) for number, arm in enumerate(arms))


def many(make_study, claim, columns, **facts):
    """The verdict on a claim over arms of these metric values, each with six seeds."""
    study = make_study(
        baseline_name="base", arms={arm: {"x": arm} for arm in columns}, metric=LOSS, claims=(claim,), seeds=6
    )
    table = records({arm: np.full(6, value) + 1e-3 * np.arange(6) for arm, value in columns.items()})
    return evaluate(study, table.assign(**facts))[0]


def test_the_family_whose_best_level_moves_less(make_study):
    columns = {
        "s1": 3,
        "s2": 1,
        "s3": 2,
        "t1": 3,
        "t2": 1,
        "t3": 2,
        "m1": 1,
        "m2": 2,
        "m3": 3,
        "n1": 3,
        "n2": 2,
        "n3": 1,
    }
    steady, moving = (
        tuple(levels(*(f"{name}{number}" for number in (1, 2, 3))) for name in names) for names in ("st", "mn")
    )
    found = many(make_study, SteadierOptimum(steady=steady, moving=moving, **text()), columns)
    assert (found.outcome, found.estimate) == ("supported", pytest.approx(2))
    # The parabola through 3, 1 and 2 is lowest a sixth of a step beyond the middle: 10^(7/6).
    assert "from 14.7 to 14.7 where it is claimed to be steadier, and from 1 to 100" in found.explanation
    found = many(make_study, SteadierOptimum(steady=moving, moving=steady, **text()), columns)
    assert (found.outcome, found.estimate) == ("refuted", pytest.approx(-2))
    # Here s and t are at their best at an end, both times: the real one may lie beyond, and move.
    columns |= {"s1": 1, "s2": 2, "s3": 3, "t1": 1, "t2": 2, "m1": 3, "m2": 1, "m3": 2, "n1": 2, "n2": 1, "n3": 3}
    columns["t3"] = 3
    for families in ({"steady": steady, "moving": moving}, {"steady": moving, "moving": steady}):
        found = many(make_study, SteadierOptimum(**families, **text()), columns)
        assert abs(found.estimate) == pytest.approx(1 / 3)
        assert found.outcome == "inconclusive"
        assert "lies at an end of what was run" in found.explanation
    with pytest.raises(BadInput, match="at least three different levels"):
        SteadierOptimum(steady=(levels("a", "b"), levels("a", "b")), moving=moving, **text())


@pytest.mark.parametrize(("noise", "outcome"), [(100.0, "supported"), (1.0, "refuted")])
def test_the_critical_batch_beside_the_noise_scale(make_study, noise, outcome):
    sizes = (("b1", 1.0), ("b2", 10.0), ("b3", 100.0), ("b4", 1000.0))
    columns = {arm: 50 * (1 + 90 / size) for arm, size in sizes}
    fit = many(make_study, BatchTradeoff(batches=sizes, low=0.9, **text()), columns)
    assert "Claimed: at least 0.9." in fit.explanation
    assert fit.outcome == "supported"
    assert fit.estimate == pytest.approx(1, abs=1e-3)
    claim = BatchTradeoff(batches=sizes, noise_of="b3", low=0.1, high=10.0, **text())
    found = many(make_study, claim, columns, noise_scale_variance=2 * noise, noise_scale_gradient=2.0)
    assert (found.outcome, found.estimate) == (outcome, pytest.approx(90 / noise, rel=0.02))
    unmeasured = many(make_study, claim, columns)
    assert (unmeasured.outcome, unmeasured.n) == ("inconclusive", 0)


def test_a_trial_that_failed_leaves_it_open_and_one_seed_says_nothing(make_study, values):
    claim = Within(arm="a", low=0.85, high=0.95, **text())
    found = verdict(make_study, claim, values, lost={("a", 2)})
    assert found.outcome == "inconclusive"
    assert "1 trial diverged or crashed" in found.explanation
    alone = verdict(make_study, claim, {arm: column[:1] for arm, column in values.items()})
    assert alone.outcome == "inconclusive"
    assert "more seeds are needed" in alone.explanation


def test_a_claim_may_speak_of_another_metric(make_study, values):
    accuracy = Metric(column="test_accuracy", label="accuracy", curve="validation_loss", higher_is_better=True)
    found = verdict(make_study, Better(arm="a", than="base", metric=accuracy, **text()), values)
    assert found.outcome == "supported"
    assert found.estimate == pytest.approx(np.mean(values["base"] - values["a"]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Better(arm="a", than="a", **text()), "with itself"),
        (lambda: Equivalent(arm="a", than="b", margin=0.0, **text()), "above zero"),
        (lambda: Within(arm="a", low=2.0, high=1.0, **text()), "low before high"),
        (lambda: Within(arm="a", **text()), "must have an end"),
        (lambda: Monotone(order=("a", "b"), direction="rising", **text()), "at least three arms"),
        (lambda: Monotone(order=("a", "b", "a"), direction="rising", **text()), "at least three arms"),
    ],
)
def test_claims_that_say_nothing_are_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


def test_a_claim_on_an_absent_arm_is_refused(make_study):
    claim = Within(arm="gone", low=0.0, **text())
    with pytest.raises(BadInput, match="a claim names the arm 'gone'"):
        make_study(claims=(claim,))


@pytest.mark.parametrize(("ratio", "outcome"), [(0.5, "supported"), (0.05, "refuted")])
def test_less_sensitive(make_study, values, ratio, outcome):
    claim = LessSensitive(group=("base", "a"), than=("b", "c"), worst=1.2, ratio_at_most=ratio, **text())
    values["b"], lost = np.full(6, 3.0), [("c", 1)]
    values["c"][1] = 0.0
    found = verdict(make_study, claim, values, lost=[])
    # By hand: what is worse than 1.2 counts as 1.2; the mean over two arms less the better one is half their distance.
    steady, other = (values["base"] - values["a"]) / 2, (1.2 - values["c"]) / 2
    assert found.estimate == pytest.approx(np.mean(steady - ratio * other))
    assert found.outcome == outcome
    # A trial that diverged counts as the worst: with both at 1.2 there is no finite one to compare with, and no pair.
    assert verdict(make_study, claim, values, lost=lost).n == 6
    assert verdict(make_study, claim, values, lost=[*lost, ("b", 1)]).n == 5


def test_less_sensitive_needs_two_groups_of_different_arms():
    for group, than in ((("a", "b"), ("c",)), (("a", "b"), ("b", "c")), ((), ())):
        with pytest.raises(BadInput, match="LessSensitive"):
            LessSensitive(group=group, than=than, worst=1.0, **text())
