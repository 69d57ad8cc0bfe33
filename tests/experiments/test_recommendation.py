"""Which arm is recommended, and what is said of the others; the families that fit each kind of data."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from experiments import fitting, latency
from experiments.plan import Plan, load
from experiments.recommendation import recommend
from experiments.report import drawing, summarise
from experiments.report.cells import cells, headings, untrained_cells
from experiments.report.fronts import fronts
from experiments.report.legend import origins
from experiments.report.rows import UntrainedRow
from experiments.study import Metric
from models.base import BadInput, Shapes
from train import data, objectives
from train.data import adding_problem, digits, electricity, number_words, sotu
from train.data.task import Task

ACCURACY = Metric(column="a", label="test accuracy", curve="a", higher_is_better=True, percent=True)
ERROR = Metric(column="e", label="test MSE", curve="e", higher_is_better=False)
CHEAP = {"parameters": 100.0, "flops_per_step": 1000.0, "train_seconds": 1.0, "latency": 0.1}
DEAR = {"parameters": 1000.0, "flops_per_step": 4000.0, "train_seconds": 3.0, "latency": 0.5}


def values(**means):
    noise = np.random.default_rng(0).normal(0, 0.01, (8, len(means)))
    return pd.DataFrame(noise + np.array(list(means.values())), columns=list(means))


def test_the_better_arm_is_taken_where_it_is_better_beyond_chance():
    found = recommend(values(small=0.8, large=0.9), {"small": CHEAP, "large": DEAR}, ACCURACY)
    assert found.arm == "large"
    assert "better than every other arm beyond chance" in found.sentences[0]
    assert [sentence.partition(":")[0] for sentence in found.sentences[1:]] == [
        "By parameters",
        "By operations of a training step",
        "By training time",
        "By inference latency",
    ]
    assert "for 10 times as much" in found.sentences[1]
    assert "+9.8" in found.sentences[1] or "+10." in found.sentences[1]


def test_the_cheaper_one_is_taken_where_nothing_tells_them_apart():
    found = recommend(values(small=0.9, large=0.9005), {"small": CHEAP, "large": DEAR}, ACCURACY)
    assert found.arm == "small"
    if "may be chance" in found.sentences[0]:
        assert "Large would cost 10 times the parameters" in found.sentences[1]


def test_lower_errors_are_better_and_dominated_arms_are_on_no_front():
    table = values(small=0.5, large=0.1, worse=0.9)
    found = recommend(table, {"small": CHEAP, "large": DEAR, "worse": DEAR}, ERROR)
    assert found.arm == "large"
    assert not any("worse" in sentence for sentence in found.sentences[1:])


def test_failed_seeds_and_unknown_costs_are_left_out():
    table = values(small=0.8, large=0.9)
    table.loc[3, "large"] = np.nan
    unknown = {"parameters": 10.0, "flops_per_step": np.nan, "train_seconds": 1.0}
    found = recommend(table, {"small": unknown, "large": DEAR}, ACCURACY)
    assert found.arm == "large"
    assert len(found.sentences) == 3
    assert recommend(table * np.nan, {"small": CHEAP, "large": DEAR}, ACCURACY) is None


def test_few_seeds_tell_nothing_apart():
    for seeds in (1, 3):
        found = recommend(values(small=0.8, large=0.9)[:seeds], {"small": CHEAP, "large": DEAR}, ACCURACY)
        assert found.arm == "large"
        assert f"{seeds} seed" in found.sentences[0]


def shaped(objective, **shapes) -> Task:
    """A task of these shapes that holds no data."""
    return dataclasses.replace(
        data.load(adding_problem.Config(length=10), None),
        name="made",
        shapes=Shapes(**{"vocabulary": None, "per_position": False, **shapes}),
        objective=objective,
    )


@pytest.mark.parametrize(
    ("task", "expected", "column"),
    [
        (
            shaped(objectives.classification(), inputs=(28, 28, 1), outputs=10),
            {"linear", "mlp", "cnn", "resnet", "lstm", "transformer"},
            "test_accuracy",
        ),
        (
            shaped(objectives.classification(), inputs=(60,), vocabulary=100, outputs=2),
            {"text_cnn", "lstm", "bidirectional_lstm", "tcn", "transformer"},
            "test_accuracy",
        ),
        (
            shaped(
                objectives.language_modelling("character"),
                inputs=(64,),
                vocabulary=65,
                outputs=65,
                per_position=True,
                causal=True,
            ),
            {"lstm", "gru", "tcn", "transformer"},
            "test_bits_per_character",
        ),
        (
            shaped(objectives.forecasting(), inputs=(96, 7), outputs=96 * 7),
            {"linear", "mlp", "cnn", "lstm", "bidirectional_lstm", "tcn", "transformer"},
            "test_mse",
        ),
    ],
    ids=["images", "texts", "language", "series"],
)
def test_the_families_that_fit(task, expected, column):
    found = fitting.families(task, "small")
    assert set(found) == expected
    assert fitting.metric(task).column == column
    assert fitting.metric(task).higher_is_better == ("accuracy" in column)
    if "patch_size" in dir(found.get("transformer")) and len(task.shapes.inputs) == 3:
        assert found["transformer"].patch_size == 7


def test_an_image_that_no_patch_cuts_has_no_transformer():
    task = shaped(objectives.classification(), inputs=(98, 41, 1), outputs=10)
    assert "transformer" not in fitting.families(task, "small")


def test_pairs_are_compared_by_what_is_decoded():
    task = data.load(number_words.Config(numbers=100), None)
    assert set(fitting.families(task, "tiny")) == {"seq2seq", "encoder_decoder"}
    assert fitting.metric(task).column == "test_exact_match"


def test_a_task_that_one_family_fits_leaves_nothing_to_choose():
    task = shaped(objectives.classification(), inputs=(8, 8, 3), outputs=4, per_position=True)
    with pytest.raises(BadInput, match="leaves nothing to choose"):
        fitting.families(task, "small")


@pytest.mark.parametrize("config", [digits.Config(), sotu.Config(context=16), electricity.Config()])
def test_the_study_of_any_data_resolves(config):
    study = load("model_selection", "cpu")
    task = data.load(config, None)
    found = study.adapt(study, task)
    assert found.baseline_name == next(iter(fitting.families(task, "small")))
    assert found.metric == fitting.metric(task)
    # Eight seeds are enough for a test of every arm.
    assert 2 / 2**study.seeds * len(found.arms) < 0.05


@pytest.fixture
def measured(tmp_path):
    """Latencies of two models of different size, measured once."""
    study = load("model_selection", "smoke")
    task = data.load(study.baseline.data, None)
    study = study.adapt(study, task)
    configs = {study.baseline_name: study.baseline}
    plan = Plan(study, configs, (), ())
    latency.measure(plan, dict.fromkeys(configs.values(), task), tmp_path)
    return plan, tmp_path


def test_latency_is_measured_once_and_read_for_each_arm(measured):
    plan, folder = measured
    rows = latency.read(plan, folder)
    assert len(rows) == latency.ROUNDS
    assert (rows["milliseconds"] > 0).all()
    content = (folder / "latency.csv").read_bytes()
    latency.measure(plan, {}, folder)  # which would need a task, were anything left to measure
    assert (folder / "latency.csv").read_bytes() == content
    (folder / "latency.csv").write_text("arm,milliseconds\nlinear,1\n")
    with pytest.raises(BadInput, match="damaged"):
        latency.read(plan, folder)


def test_the_report_shows_latency_and_advice(make_study, make_records):
    study = make_study(recommends=True, claims=())
    trials, curves = make_records(study)
    rounds = pd.DataFrame(
        [
            {"arm": arm, "milliseconds": 1.0 + number + 0.1 * each}
            for number, arm in enumerate(("mlp", "cnn"))
            for each in range(5)
        ]
    )
    summary = summarise(study, trials, command="", curves=curves, latencies=rounds)
    assert summary.recommendation.arm == "cnn"
    assert [row.latency is not None for row in summary.rows] == [True, True, False, False]
    assert summary.rows[1].latency.mean == pytest.approx(2.2)
    columns = len(headings(summary))
    assert len(cells(summary.rows[0], study)) == len(cells(summary.rows[3], study)) == columns == len(origins(summary))
    assert len(untrained_cells(UntrainedRow(name="naive", arms=(), value=1.0), study)) == columns
    with drawing.style():
        assert [panel.get_xlabel() for panel in fronts(summary).axes][-1] == "latency (ms)"
