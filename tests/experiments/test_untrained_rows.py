"""Predictions without training as rows of the table, in every medium."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments import tables
from experiments.formatting import ABSENT
from experiments.plan import Plan
from experiments.report import print_table, summarise, write
from experiments.report.latex import latex
from experiments.report.table import csv, markdown
from experiments.report.verdict import verdict_json
from experiments.study import Metric
from models import mlp
from models.base import BadInput
from train.config import Config
from train.data import m1, m3
from train.optimizers import sgd
from train.schedules import constant
from train.untrained import data_digest

MASE = Metric(column="test_mase", label="MASE", curve="validation_mase", higher_is_better=False)
COMMAND = "python -m experiments --experiment=made"


@pytest.fixture
def study(make_study):
    return make_study(metric=MASE, claims=(), arms={"cnn": {}, "lstm": {}})


def beside(*rows):
    return pd.DataFrame(rows, columns=["arm", "name", "data_hash", "test_mase"])


SHARED = beside(
    *[
        (arm, name, "a", value)
        for name, value in (("naive", 1.25), ("seasonal naive", 1.125))
        for arm in ("mlp", "cnn", "lstm")
    ]
)
APART = beside(("mlp", "naive", "a", 1.25), ("cnn", "naive", "b", 2.5), ("lstm", "naive", "a", 1.25))


@pytest.fixture
def summary(study, make_records):
    return summarise(study, make_records(study)[0], command=COMMAND, untrained=SHARED)


def terminal(summary, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_table(console, summary)
    return console.file.getvalue()


def test_one_row_for_all_arms_that_share_their_data(summary):
    assert [(row.name, row.arms, row.value) for row in summary.untrained] == [
        ("naive", (), 1.25),
        ("seasonal naive", (), 1.125),
    ]
    assert [row.arm for row in summary.rows] == ["mlp", "cnn", "lstm"]


def test_a_row_for_each_of_several_data(study, make_records):
    summary = summarise(study, make_records(study)[0], command=COMMAND, untrained=APART)
    assert [(row.arms, row.value) for row in summary.untrained] == [(("mlp", "lstm"), 1.25), (("cnn",), 2.5)]
    assert f"| naive (no training; data of mlp and lstm) | {ABSENT} | 1.2500 |" in markdown(summary)


def test_markdown(summary):
    lines = markdown(summary).splitlines()
    assert lines[5] == f"| naive (no training) | {ABSENT} | 1.2500 |" + f" {ABSENT} |" * 7
    assert lines[6].startswith(f"| seasonal naive (no training) | {ABSENT} | 1.1250 |")
    assert len({line.count("|") for line in lines[:7]}) == 1
    assert "Rows without training: predictions that learn nothing, measured as the models are." in lines


def test_csv(summary):
    table = pd.read_csv(io.StringIO(csv(summary)))
    assert table["kind"].tolist() == ["arm"] * 3 + ["untrained"] * 2
    assert table["arm"].tolist() == ["mlp", "cnn", "lstm", "naive", "seasonal naive"]
    assert table["metric_mean"].tolist()[3:] == [1.25, 1.125]
    assert np.isnan(table["p_value"].to_numpy()[3:]).all()
    assert ",8," in csv(summary).splitlines()[1]  # whole numbers stay whole


def test_latex(summary):
    text = latex(summary)
    assert text.index("lstm &") < text.index(r"\midrule", text.index("lstm &")) < text.index("naive & --")
    row = next(line for line in text.splitlines() if line.startswith("seasonal naive &"))
    assert row.count("&") == 9
    assert r"{\scriptsize no training}" in text


def test_terminal(summary):
    for width in (80, 140):
        text = terminal(summary, width)
        assert "seasonal naive" in text
        assert "1.1250" in text
        assert max(map(len, text.splitlines())) <= width


def test_page_and_verdict(tmp_path, study, make_records):
    summary = write(tmp_path, study, *make_records(study), command=COMMAND, untrained=SHARED)
    page = (tmp_path / "report/index.html").read_text()
    assert page.count('<tr class="untrained">') == 2
    row = page[page.index('<tr class="untrained">') :]
    assert row.index('naive <span class="detail">no training</span></th>') < row.index(">1.2500</td>")
    assert json.loads(verdict_json(summary))["untrained"][1] == {"name": "seasonal naive", "arms": [], "value": 1.125}


def test_a_report_without_them_is_as_it_was(study, make_records):
    plain = summarise(study, make_records(study)[0], command=COMMAND)
    none = summarise(study, make_records(study)[0], command=COMMAND, untrained=SHARED.drop(columns="test_mase"))
    for text in map(markdown, (plain, none)):
        assert "training:" not in text
        assert len([line for line in text.splitlines() if line.startswith("|")]) == 5


def test_the_runner_takes_those_of_its_arms_data(tmp_path, study):
    def config(data):
        return Config(data=data, model=mlp.Config(), optimizer=sgd.Config(), schedule=constant.Config())

    configs = {"mlp": config(m3.Config()), "cnn": config(m3.Config()), "lstm": config(m1.Config())}
    plan = Plan(study, configs, (), ())
    assert tables.untrained(plan, tmp_path) is None
    rows = [("naive", data_digest(configs["mlp"]), 1.5), ("naive", "000000000000", 9.0)]
    pd.DataFrame(rows, columns=["name", "data_hash", "test_mase"]).to_csv(tmp_path / "untrained.csv", index=False)
    found = tables.untrained(plan, tmp_path)
    assert found[["arm", "test_mase"]].to_numpy().tolist() == [["mlp", 1.5], ["cnn", 1.5]]
    (tmp_path / "untrained.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match=r"untrained\.csv is damaged"):
        tables.untrained(plan, tmp_path)
