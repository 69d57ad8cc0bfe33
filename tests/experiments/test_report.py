"""The report's files: their structure, and that their numbers are those of the statistics."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.comparisons import compare
from experiments.report import folder, print_table, summarise, write
from experiments.report.cells import cells
from experiments.report.latex import latex
from experiments.report.table import csv, markdown
from experiments.report.verdict import verdict_json
from experiments.study import Metric
from models.base import BadInput

COMMAND = "python -m experiments --experiment=architectures"
FILES = {
    "index.html",
    "table.md",
    "table.tex",
    "table.csv",
    "verdict.json",
    *(
        f"figures/{name}.{kind}"
        for name in ("learning_curves", "metric_by_parameters", "fronts")
        for kind in ("png", "pdf", "svg")
    ),
}
BITS = Metric(column="test_bits", label="bits per character", curve="validation_bits", higher_is_better=False)


@pytest.fixture
def study(make_study):
    return make_study()


@pytest.fixture
def summary(study, make_records):
    trials, _ = make_records(study, lost=[("lstm", 3, "diverged"), ("transformer", 0, "crashed")])
    return summarise(study, trials, command=COMMAND)


def files_of(report):
    return {str(path.relative_to(report)) for path in report.rglob("*") if path.is_file()}


def terminal(summary, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_table(console, summary)
    return console.file.getvalue()


def test_every_file_is_written_and_nothing_is_left_beside(tmp_path, study, make_records):
    summary = write(tmp_path, study, *make_records(study), command=COMMAND)
    assert files_of(tmp_path / "report") == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert [row.arm for row in summary.rows] == ["mlp", "cnn", "lstm", "transformer"]


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes(tmp_path, study, make_records):
    contents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, study, *make_records(study), command=COMMAND)
        contents.append({file: (tmp_path / name / "report" / file).read_bytes() for file in FILES})
    assert contents[0] == contents[1]


def test_an_interrupted_report_leaves_the_old_one_whole(tmp_path, study, make_records, monkeypatch):
    records = make_records(study)
    write(tmp_path, study, *records, command=COMMAND)
    before = {file: (tmp_path / "report" / file).read_bytes() for file in FILES}

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "verdict_json", stop)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, study, *records, command="another command")
    assert {file: (tmp_path / "report" / file).read_bytes() for file in FILES} == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, study, make_records, monkeypatch):
    records = make_records(study)
    write(tmp_path, study, *records, command=COMMAND)
    (tmp_path / "report").rename(tmp_path / ".report.old")
    (tmp_path / ".report.new").mkdir()
    monkeypatch.setattr(folder, "_fill", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, study, *records, command=COMMAND)
    assert files_of(tmp_path / "report") == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_bad_input_writes_nothing(tmp_path, study, make_records):
    trials, curves = make_records(study)
    with pytest.raises(BadInput):
        write(tmp_path, study, trials.drop(columns="test_accuracy"), curves, command=COMMAND)
    assert not list(tmp_path.iterdir())


def test_records_read_back_from_csv_say_the_same(study, make_records):
    trials, _ = make_records(study, lost=[("lstm", 3, "diverged")])
    again = pd.read_csv(io.StringIO(trials.to_csv(index=False)))
    first, second = (verdict_json(summarise(study, table, command=COMMAND)) for table in (trials, again))
    assert first == second


def test_csv_holds_the_numbers_of_the_statistics(study, make_records):
    trials, _ = make_records(study, lost=[("lstm", 3, "diverged")])
    table = pd.read_csv(io.StringIO(csv(summarise(study, trials, command=COMMAND)))).set_index("arm")
    family = compare(study, trials)
    assert list(table.index) == ["mlp", "cnn", "lstm", "transformer"]
    for arm in study.arms:
        comparison = family.between(arm, "mlp")
        row = table.loc[arm]
        measured = [row.difference_mean, row.difference_sd, row.difference_low, row.difference_high, row.p_value_holm]
        difference = comparison.difference
        np.testing.assert_allclose(
            measured, [difference.mean, difference.sd, *difference.interval, comparison.p_value], rtol=1e-12
        )
        assert row.pairs == comparison.difference.n
    values = trials[trials["arm"] == "cnn"]["test_accuracy"]
    np.testing.assert_allclose(
        table.loc["cnn", ["metric_mean", "metric_sd"]].astype(float), [values.mean(), values.std()]
    )
    assert (table.loc["lstm", "n"], table.loc["lstm", "diverged"], table.loc["lstm", "pairs_lost"]) == (7, 1, 1)
    assert table.loc["mlp", "parameters"] == 669_706
    assert np.isnan(table.loc["mlp", "difference_mean"])


def test_verdict_json_is_strict_and_complete(summary):
    def refuse(constant):
        raise AssertionError(constant)

    document = json.loads(verdict_json(summary), parse_constant=refuse)
    assert document["study"] == "architectures"
    assert document["evidence"] is True
    assert document["command"] == COMMAND
    assert document["provenance"]["code_version"] == ["0f3c9a1"]
    claim = document["claims"][0]
    assert (claim["kind"], claim["arm"]) == ("Better", "cnn")
    verdict = summary.verdicts[0]
    assert (claim["outcome"], claim["estimate"], claim["n"]) == ("supported", verdict.estimate, 8)
    assert claim["interval"] == list(verdict.interval)
    assert claim["p_value"] == verdict.p_value
    assert {"n", "sd", "interval"} <= set(document["arms"][1]["metric"])
    assert document["failures"][0] == {"trial": "lstm-s3", "arm": "lstm", "seed": 3, "status": "diverged", "step": 120}
    assert document["failures"][1]["step"] is None


def test_only_what_survives_correction_is_bold(study, make_records):
    trials, _ = make_records(study)
    summary = summarise(study, trials, command=COMMAND)
    bold = {row.arm: row.bold for row in summary.rows}
    assert bold == {"mlp": False, "cnn": True, "lstm": True, "transformer": False}
    assert re.findall(r"^\| \*\*(\w+)\*\* ", markdown(summary), flags=re.MULTILINE) == ["cnn", "lstm"]
    assert re.findall(r"^\{\\boldmath\\bfseries (\w+)\}", latex(summary), flags=re.MULTILINE) == ["cnn", "lstm"]


def test_a_significantly_worse_arm_is_not_bold(make_study, make_records):
    study = make_study(arms={"cnn": {}}, claims=())
    trials, _ = make_records(study, effects={"cnn": 0.90})
    row = summarise(study, trials, command=COMMAND).rows[1]
    assert row.comparison.p_value < 0.05
    assert not row.bold


def test_failures_are_counted_and_explained(summary):
    text = markdown(summary)
    assert "| lstm | 7 (1 diverged) |" in text
    assert "| transformer | 7 (1 crashed) |" in text
    assert "lstm is not set in bold, because it failed in seeds in which mlp did not." in text


def test_missing_trials_are_counted(study, make_records):
    trials, _ = make_records(study)
    summary = summarise(study, trials.drop(trials[(trials.arm == "cnn") & (trials.seed > 5)].index), command=COMMAND)
    assert summary.rows[1].missing == 2
    assert any(caution.startswith("cnn: 2 missing.") for caution in summary.cautions)


def test_too_few_seeds_print_no_p_value(make_study, make_records):
    study = make_study(seeds=3)
    trials, _ = make_records(study)
    summary = summarise(study, trials, command=COMMAND)
    for text in (markdown(summary), terminal(summary, 120), latex(summary)):
        assert "no test" in text
        assert "3 paired seeds can never give p below 0.75" in " ".join(text.split())
    assert not any(row.bold for row in summary.rows)


def test_one_seed_has_numbers_but_no_intervals(make_study, make_records, tmp_path):
    study = make_study(seeds=1)
    summary = write(tmp_path, study, *make_records(study), command=COMMAND)
    cell = cells(summary.rows[1], study)[2]
    assert re.fullmatch(r"\d\d\.\d\d", cell.text)
    assert cell.detail == ""
    assert json.loads((tmp_path / "report/verdict.json").read_text())["arms"][1]["metric"]["interval"] == [None, None]


def test_mixed_records_are_stated(study, make_records):
    trials, _ = make_records(study)
    trials.loc[trials["arm"] == "cnn", ["code_version", "strategy"]] = ["abc1234", "vectorised"]
    trials.loc[0, "code_dirty"] = True
    extra = trials.head(1).assign(arm="gru")
    cautions = summarise(study, pd.concat([trials, extra]), command=COMMAND).cautions
    assert "The trials mix code versions: 0f3c9a1 (mlp, lstm, transformer) and abc1234 (cnn)." in cautions
    assert not any("strategies" in caution for caution in cautions), "arms may differ in strategy by design"
    trials.loc[trials.index[:1], "strategy"] = "vectorised"
    cautions_of_one_arm = summarise(study, trials, command=COMMAND).cautions
    assert any(caution.startswith("The trials mix execution strategies:") for caution in cautions_of_one_arm)
    assert "1 trial ran with uncommitted changes, which the recorded code version does not show." in cautions
    assert "The records also hold trials of arms that this report leaves out: gru." in cautions


def test_clean_records_need_no_caution(study, make_records):
    assert summarise(study, make_records(study)[0], command=COMMAND).cautions == ()


def test_lower_is_better_reads_in_its_own_units(make_study, make_records):
    study = make_study(metric=BITS, claims=())
    effects = {"mlp": 1.98, "cnn": 1.90, "lstm": 1.99, "transformer": 1.98}
    summary = summarise(study, make_records(study, effects=effects, noise=0.01)[0], command=COMMAND)
    assert summary.rows[1].bold
    assert cells(summary.rows[1], study)[3].text.startswith("\N{MINUS SIGN}0.0")
    assert summary.rows[1].comparison.superiority.probability == 1.0
    assert "points" not in markdown(summary)


def test_a_study_without_arms_or_claims_still_reports(make_study, make_records, tmp_path):
    study = make_study(arms={}, claims=())
    summary = write(tmp_path, study, *make_records(study), command=COMMAND)
    assert summary.family == 0
    assert "This study makes no claim." in (tmp_path / "report/index.html").read_text()


def test_the_terminal_shows_the_verdict_last(summary):
    text = terminal(summary, 120)
    assert text.index("transformer") < text.index("SUPPORTED: The CNN is more accurate")
    assert " ".join(text.split()).endswith("the claim allows at most 0.333.")


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_breaks_no_number(summary, width):
    lines = terminal(summary, width).splitlines()
    assert max(map(len, lines)) <= width
    joined = "\n".join(lines)
    for row in summary.rows:
        for cell in cells(row, summary.study):
            assert cell.text in joined
            assert cell.detail in joined
