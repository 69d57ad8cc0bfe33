"""The parts of a report that stand on data of their own: registration, tuning, matching, the page's data."""

import itertools
import json
import shlex

import numpy as np
import pandas as pd
import pytest

from experiments import tables
from experiments.__main__ import OPTIONS, _parse
from experiments.registration import Registration
from experiments.report import drawing, summarise, tuned, tuning_figures
from experiments.report.latex import latex
from experiments.report.page_data import FEWEST_POINTS, page_data, thin
from experiments.report.rerun import rerun
from experiments.report.table import csv, markdown
from experiments.report.verdict import verdict_json
from experiments.study import Matching
from models.base import BadInput

COMMAND = "python -m experiments --experiment=architectures --preset=cpu --workdir=elsewhere"  # as of summary_of


def registration(**changes):
    values = {"digest": "ab12" * 16, "time": "2026-01-02T03:04:05Z", "arms": ("mlp", "cnn"), "seeds": tuple(range(8))}
    return Registration(**{**values, **changes})


# ---- registration


def test_arms_that_came_later_are_marked_everywhere(summary_of):
    summary = summary_of(registration=registration())
    assert summary.exploratory == {"lstm", "transformer"}
    assert [row.exploratory for row in summary.rows] == [False, False, True, True]
    assert "| lstm \N{DAGGER} |" in markdown(summary) or "**lstm \N{DAGGER}**" in markdown(summary)
    assert "| mlp |" in markdown(summary)
    assert r"lstm $\dagger$" in latex(summary)
    assert pd.read_csv(pd.io.common.StringIO(csv(summary))).exploratory.tolist() == [False, False, True, True]
    assert any("arms lstm and transformer were added" in each for each in summary.cautions)
    assert not summary.is_exploratory(summary.verdicts[0]), "its arms were registered"
    assert summary_of(registration=registration(arms=("mlp",))).is_exploratory(summary.verdicts[0])


def test_seeds_and_claims_that_came_later_make_verdicts_exploratory(summary_of):
    summary = summary_of(registration=registration(arms=("mlp", "cnn", "lstm", "transformer"), seeds=(0, 1, 2, 3, 4)))
    assert summary.exploratory_seeds == (5, 6, 7)
    assert summary.is_exploratory(summary.verdicts[0])
    assert json.loads(verdict_json(summary))["claims"][0]["exploratory"] is True
    assert any("seeds 5, 6 and 7 were added" in each for each in summary.cautions)
    everything = ("mlp", "cnn", "lstm", "transformer")
    changed = summary_of(registration=registration(arms=everything, changed=("claims",)))
    assert changed.is_exploratory(changed.verdicts[0])
    assert any("these of its terms were changed: claims" in each for each in changed.cautions)


def test_nothing_is_exploratory_where_all_was_registered_or_nothing_is_known(summary_of):
    for known in (None, registration(arms=("mlp", "cnn", "lstm", "transformer"))):
        summary = summary_of(registration=known)
        assert not summary.exploratory
        assert not summary.exploratory_seeds
        assert not summary.is_exploratory(summary.verdicts[0])
        assert summary.cautions == ()


# ---- tuning


def tuning_files(folder, *, edges=("optimizer.learning_rate",)):
    generator = np.random.default_rng(3)
    rows = []
    for arm, number in itertools.product(("mlp", "cnn"), range(6)):
        for seed in (100, 101):
            status = "diverged" if (arm, number, seed) == ("mlp", 4, 101) else "ok"
            rows.append(
                {
                    "trial": f"{arm}-t{number}-s{seed}",
                    "arm": arm,
                    "number": number,
                    "seed": seed,
                    "status": "pruned" if (arm, number) == ("cnn", 5) else status,
                    "value": generator.uniform(0.5, 0.9) if status == "ok" else None,
                    "steps": 100,
                    "optimizer.learning_rate": 10.0**-number,
                    "optimizer.name": "adam" if number % 2 else "sgd",
                    "optimizer.momentum": None if number % 2 else 0.9 - number / 10,
                    "model.width": 64 if arm == "cnn" else 128,
                }
            )
    pd.DataFrame(rows).to_csv(folder / "tuning.csv", index=False)
    arms = {
        arm: {
            "winner": {"optimizer.learning_rate": 0.01, "optimizer.name": "sgd"},
            "value": 0.9,
            "edges": list(edges) if arm == "cnn" else [],
            "trials": 6,
        }
        for arm in ("mlp", "cnn")
    }
    outcome = {"column": "validation_accuracy", "higher_is_better": True, "trials": 6, "steps": 100, "seeds": 2}
    outcome |= {"search": "sobol", "pruning": "median", "arms": arms}
    (folder / "tuning.json").write_text(json.dumps(outcome))


def test_tuning_is_read_and_its_edges_flagged_everywhere(tmp_path, summary_of):
    tuning_files(tmp_path)
    found = tuned.read(tmp_path)
    assert found.paths == ("optimizer.learning_rate", "optimizer.name", "optimizer.momentum")
    assert (found.tried("mlp"), found.tried("cnn")) == ("6 (1 diverged)", "6 (1 pruned)")
    scores = found.scores("mlp")
    raw = pd.read_csv(tmp_path / "tuning.csv")
    first = raw[(raw.arm == "mlp") & (raw.number == 0)]["value"]
    assert scores["value"][0] == pytest.approx(first.mean())
    assert np.isnan(scores["value"][4]), "one of its seeds diverged"
    assert np.isnan(found.scores("cnn")["value"][5]), "it was stopped"
    summary = summary_of(arms={"cnn": {}}, tuned=found)
    assert summary.rows[1].edges == ("optimizer.learning_rate",)
    assert "edge: learning\\_rate" in latex(summary)
    assert "(edge: learning_rate)" in markdown(summary)
    assert "cnn (optimizer.learning_rate = 0.01)" in " ".join(summary.cautions)
    document = json.loads(verdict_json(summary))
    assert document["arms"][1]["tuned_at_edge"] == ["optimizer.learning_rate"]
    assert document["tuning"]["arms"]["mlp"]["trials"] == 6
    with drawing.style():
        panels = tuning_figures.tuning_values(summary, found).axes
        budget = tuning_figures.tuning_budget(summary, found).axes[0]
    assert [panel.get_xscale() for panel in panels] == ["log", "linear", "linear"]
    assert [label.get_text() for label in panels[1].get_xticklabels()] == ["adam", "sgd"]
    lines = {line.get_label(): line.get_ydata() for line in budget.lines}
    finite = scores["value"].dropna().to_numpy()
    # The best of all is certain; the best of one is the mean, a failure counting as the worst.
    assert lines["mlp"][-1] == pytest.approx(finite.max())
    assert lines["mlp"][0] == pytest.approx(np.append(finite, finite.min()).mean())


def test_the_legend_of_tuned_values_fits_and_names_the_arms_that_were_tuned(tmp_path, summary_of):
    tuning_files(tmp_path)
    long = "an arm whose name is a whole sentence, nearly"
    for name in ("tuning.csv", "tuning.json"):
        path = tmp_path / name
        path.write_text(path.read_text().replace("cnn", json.dumps(long) if name == "tuning.csv" else long))
    found = tuned.read(tmp_path)
    with drawing.style():
        figure = tuning_figures.tuning_values(summary_of(arms={"cnn": {}, long: {}}), found)
        figure.canvas.draw()
        (shown,) = figure.legends
        assert [text.get_text() for text in shown.get_texts()] == ["mlp", long]
        box, page = shown.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0
    assert box.x1 <= page.x1


def test_no_tuning_and_damaged_tuning(tmp_path):
    assert tuned.read(tmp_path) is None
    tuning_files(tmp_path)
    (tmp_path / "tuning.json").write_text('{"arms": {}}')
    with pytest.raises(BadInput, match=r"tuning.json is damaged"):
        tuned.read(tmp_path)
    tuning_files(tmp_path)
    (tmp_path / "tuning.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match=r"tuning.csv is damaged"):
        tuned.read(tmp_path)


# ---- matching


def test_what_was_matched_is_said_and_what_was_not_is_flagged(summary_of):
    matching = Matching(equal="flops_per_step", by={"cnn": "model.width"}, tolerance=0.05)
    sizes = {"mlp": 1e9, "cnn": 1.04e9, "lstm": 2e9, "transformer": 0.97e9}
    summary = summary_of(matching=matching, columns=lambda trials: {"flops_per_step": trials["arm"].map(sizes)})
    assert summary.notes == (
        "Matched to the number of FLOPs per step of mlp within 5.0%, with the ratio that was reached: cnn by "
        "model.width (1.040).",
    )
    assert "Not matched to mlp in number of FLOPs per step: lstm (2.00 times)." in summary.cautions


# ---- the page's data


def test_thinned_curves_keep_their_ends_and_their_start():
    places = thin(10_000, 100)
    assert len(places) <= 100
    assert (places[0], places[-1]) == (0, 9_999)
    assert np.all(np.diff(places) > 0)
    assert np.sum(places < 100) > 15, "a logarithmic axis shows these"
    np.testing.assert_array_equal(thin(5, 100), np.arange(5))


@pytest.mark.slow
def test_the_data_stay_small_whatever_the_study(make_study, make_records):
    study = make_study(arms={f"arm {number}": {} for number in range(59)}, seeds=20, claims=())
    trials, _ = make_records(study)
    steps = np.arange(500)
    values = np.random.default_rng(0).random((3, 500))
    columns = dict(zip(("validation_accuracy", "validation_loss", "train_loss"), values, strict=True))
    curves = pd.concat(
        [
            pd.DataFrame({"arm": arm, "seed": seed, "step": steps, **columns})
            for arm, seed in trials[["arm", "seed"]].itertuples(index=False)
        ]
    )
    text = page_data(summarise(study, trials, command=COMMAND), curves)
    assert len(text) < 2_500_000
    found = json.loads(text)["curves"]
    assert not found["seeds"]
    assert len(found["arms"]["mlp"]["validation_accuracy"]["step"]) >= FEWEST_POINTS


def test_values_on_the_page_are_those_of_the_records(make_study, make_records):
    study = make_study()
    trials, curves = make_records(study, lost=[("lstm", 3, "diverged")])
    found = json.loads(page_data(summarise(study, trials, command=COMMAND), curves))
    lstm = next(arm for arm in found["arms"] if arm["name"] == "lstm")
    values = trials[trials.arm == "lstm"].set_index("seed")["test_accuracy"]
    for trial in lstm["trials"]:
        if trial["seed"] == 3:
            assert (trial["status"], trial["diverged"], trial["value"]) == ("diverged", 120, None)
        else:
            assert trial["value"] == pytest.approx(values[trial["seed"]], rel=1e-7)
    assert lstm["changes"] == ["model.name mlp -> lstm"]
    curve = found["curves"]["arms"]["lstm"]["validation_accuracy"]
    rows = curves[(curves.arm == "lstm") & (curves.step == 400)]["validation_accuracy"].dropna()
    place = curve["step"].index(400)
    assert curve["n"][place] == len(rows) == 7
    assert curve["mean"][place] == pytest.approx(rows.mean(), rel=1e-4)


# ---- the commands that make things again


@pytest.mark.parametrize("names", [["cnn"], ["cnn-s3"], ["a,b", 'say "x"', "two words"], ["model.width=64-s0"]])
def test_the_command_asks_for_exactly_these(names):
    words = shlex.split(rerun(COMMAND + " --config.model.width=64 --only=lstm --parquet", names))
    assert words[:3] == ["python", "-m", "experiments"]
    overrides, *_ = _parse(words[3:])
    assert OPTIONS.only == names
    assert OPTIONS.workdir == "again", "where records lie nothing would run"
    assert (OPTIONS.experiment, OPTIONS.preset, OPTIONS.parquet) == ("architectures", "cpu", False)
    assert overrides == [("model.width", "64")]


# ---- Parquet


def test_parquet_holds_what_the_csv_files_hold(tmp_path, make_study, make_records):
    pytest.importorskip("pyarrow")
    trials, curves = make_records(make_study(), lost=[("lstm", 3, "diverged")])
    trials["code_version"] = "00012345"  # not a number
    trials["data.classes"] = ["none", "0.5", "7", *[None] * (len(trials) - 3)]  # names and numbers in one column
    trials.to_csv(tmp_path / "trials.csv", index=False)
    curves.to_csv(tmp_path / "curves.csv", index=False)
    tables.write_parquet(tmp_path)
    found = pd.read_parquet(tmp_path / "trials.parquet")
    assert list(found.columns) == list(trials.columns)
    np.testing.assert_allclose(found["test_accuracy"], trials["test_accuracy"])
    assert found["seed"].dtype.kind == "i"
    assert set(found["code_version"]) == {"00012345"}
    assert found["data.classes"].iloc[:3].tolist() == ["none", "0.5", "7"]
    assert found["data.classes"].iloc[3:].isna().all()
    assert len(pd.read_parquet(tmp_path / "curves.parquet")) == len(curves)


def test_parquet_without_its_library_is_one_line_before_anything_runs(monkeypatch):
    monkeypatch.setattr(tables.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match=r"pip install -e '\.\[parquet\]'"):
        tables.check_parquet()


# ---- area under the curve


def test_the_area_is_the_mean_height_of_each_trials_curve(make_study, make_records):
    study = make_study()
    trials, curves = make_records(study, lost=[("cnn", 2, "diverged")])
    rows = {row.arm: row for row in summarise(study, trials, command=COMMAND, curves=curves).rows}
    mine = curves[curves["arm"] == "cnn"].pivot(index="seed", columns="step", values="validation_accuracy")
    areas = np.trapezoid(mine.to_numpy(float), mine.columns, axis=1) / (mine.columns[-1] - mine.columns[0])
    assert rows["cnn"].curve_area.n == 7
    assert rows["cnn"].curve_area.lost == 1
    np.testing.assert_allclose(rows["cnn"].curve_area.mean, np.nanmean(areas))
    assert all(row.curve_area is None for row in summarise(study, trials, command=COMMAND).rows)
