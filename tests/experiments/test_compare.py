"""``--compare``: several studies together, from their records alone."""

import dataclasses
import io
import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.__main__ import main
from experiments.compare import together
from experiments.report import across
from models.base import BadInput

LOSS = {"column": "test_loss", "label": "test loss", "curve": "validation_loss", "higher_is_better": False}
FILES = {"index.html", "table.md", "table.tex", "table.csv", "comparison.json"}


@pytest.fixture
def finished(tmp_path, make_study, make_records):
    """Write the folder of a finished study, as a run would leave it."""

    def write(name, *, effects=None, seeds=8, lost=(), shift=0.0, where="runs", tuned=False, **columns):
        study = make_study(name=name, seeds=seeds, claims=())
        trials, _ = make_records(study, effects=effects, lost=lost)
        trials["test_accuracy"] += shift
        trials = trials.assign(**columns)
        folder = tmp_path / where / name
        folder.mkdir(parents=True)
        trials.to_csv(folder / "trials.csv", index=False)
        document = {
            "study": name,
            "preset": "cpu",
            "claim": study.about.claim,
            "source": study.about.source,
            "metric": dataclasses.asdict(study.metric),
            "baseline": study.baseline_name,
            "seeds": list(range(seeds)),
            "arms": {arm: {} for arm in (study.baseline_name, *study.arms)},
            "tuning": {"trials": 4} if tuned else None,
            "trials": trials[["trial", "arm", "seed", *([] if tuned else ["config_hash"])]].to_dict("records"),
        }
        (folder / "study.json").write_text(json.dumps(document))
        return folder

    return write


def run(tmp_path, *arguments):
    return main(["--compare", *map(str, arguments), f"--workdir={tmp_path / 'out'}"])


def document_of(tmp_path, name):
    return json.loads((tmp_path / "out" / name / "comparison.json").read_text())


def test_a_study_whose_arms_were_tuned_is_compared_as_well(finished):
    folders = [finished("one"), finished("two", tuned=True, shift=-0.5)]
    one, two = together(folders, accept_mixed=False, command="").tasks
    assert len(one.trials) == len(two.trials) == 32
    np.testing.assert_allclose(two.trials["test_accuracy"], one.trials["test_accuracy"] - 0.5)


@pytest.mark.slow
def test_three_studies_give_a_report(tmp_path, finished, capsys):
    folders = [
        finished(name, shift=-0.05 * place, lost=[("lstm", 2, "diverged")] if place else ())
        for place, name in enumerate(("digits", "letters", "signs"))
    ]
    assert run(tmp_path, *folders) == 0
    place = tmp_path / "out" / "compare-digits-letters-signs"
    assert {path.name for path in place.iterdir()} == FILES | {"figures"}
    assert {path.stem for path in (place / "figures").iterdir()} == {
        "performance_profiles",
        "interquartile_means",
        "critical_difference",
    }
    found = document_of(tmp_path, place.name)
    tables = [pd.read_csv(folder / "trials.csv") for folder in folders]
    scores = {
        arm: np.stack([table[table.arm == arm].sort_values("seed").test_accuracy.fillna(0.0) for table in tables])
        for arm in ("mlp", "cnn", "lstm", "transformer")
    }
    for each in found["arms"]:
        flat = np.sort(scores[each["arm"]].ravel())
        middle = flat[len(flat) // 4 : len(flat) - len(flat) // 4]
        assert each["interquartile_mean"] == pytest.approx(middle.mean())
        if each["arm"] != "mlp":
            wins = [
                np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b))
                for a, b in zip(scores[each["arm"]], scores["mlp"], strict=True)
            ]
            assert each["p_better"] == pytest.approx(np.mean(wins))
    ranks = np.array([each["average_rank"] for each in found["arms"]])
    means = pd.DataFrame([table.groupby("arm", sort=False).test_accuracy.mean() for table in tables])
    np.testing.assert_allclose(ranks, means.rank(axis=1, ascending=False).mean())
    assert found["critical_difference"]["critical_difference"] == pytest.approx(2.569 * np.sqrt(4 * 5 / 18), rel=1e-3)
    text = capsys.readouterr().out
    assert "4 arms over 3 tasks" in text
    assert "Over these 3 tasks, cnn is better than mlp: a run of it beats one of mlp in" in " ".join(text.split())
    assert "1 in letters and 1 in signs" in " ".join(text.split())


def test_losses_of_different_size_are_stretched_before_they_are_averaged(tmp_path, finished):
    small, large = finished("small"), finished("large")
    for folder, factor in ((small, 1.0), (large, 100.0)):
        trials = pd.read_csv(folder / "trials.csv")
        trials["test_loss"] = factor * (1 - trials["test_accuracy"])
        trials.to_csv(folder / "trials.csv", index=False)
        document = json.loads((folder / "study.json").read_text())
        (folder / "study.json").write_text(json.dumps({**document, "metric": {**LOSS, "percent": False}}))
    found = together([small, large], accept_mixed=False, command="")
    by_arm = {each.arm: each.interquartile_mean.value for each in found.overall}
    assert max(by_arm, key=by_arm.get) == "cnn", "the lowest loss has the highest score"
    assert all(0 <= value <= 1 for value in by_arm.values())
    assert "stretched" in found.scale
    assert found.ranks is None
    assert any("too few to rank" in each for each in found.cautions)


def test_mixed_records_are_refused_unless_the_user_insists(tmp_path, finished, capsys):
    folders = [finished("one"), finished("two", shift=0.01, code_version="fffffff")]
    assert run(tmp_path, *folders) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "the records mix code versions: 0f3c9a1 (one) and fffffff (two)" in error
    assert "--accept_mixed" in error
    assert not (tmp_path / "out").exists()
    found = together(folders, accept_mixed=True, command="")
    assert any(each.startswith("Mixed by request: the records mix code versions") for each in found.cautions)


def test_arms_may_be_executed_differently_but_one_arm_may_not(finished):
    study = [finished("one"), finished("two", shift=0.01)]
    for folder in study:
        trials = pd.read_csv(folder / "trials.csv")
        trials.loc[trials.arm == "cnn", "strategy"] = "vectorised"
        trials.to_csv(folder / "trials.csv", index=False)
    together(study, accept_mixed=False, command="")
    trials.loc[trials.arm == "lstm", "strategy"] = "vectorised"
    trials.to_csv(study[1] / "trials.csv", index=False)
    with pytest.raises(BadInput, match="mix execution strategies"):
        together(study, accept_mixed=False, command="")


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a folder"),
        (lambda folder: (folder / "study.json").unlink(), "has no study.json"),
        (lambda folder: (folder / "trials.csv").unlink(), "has no trials.csv"),
        (lambda folder: (folder / "study.json").write_text("{"), "study.json cannot be read"),
        (lambda folder: (folder / "study.json").write_text("[]"), "study.json cannot be read"),
        (lambda folder: (folder / "trials.csv").write_text("nonsense\n1\n"), "trials.csv cannot be read"),
        (lambda folder: drop(folder, "test_accuracy"), "metric column"),
        (lambda folder: cut(folder), "is not finished: 5 of 32 trials have no record"),
    ],
)
def test_records_that_are_no_study(finished, breaking, message, tmp_path, capsys):
    first, second = finished("one"), finished("two", shift=0.01)
    breaking(second)
    assert run(tmp_path, first, second) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error


def drop(folder, column):
    pd.read_csv(folder / "trials.csv").drop(columns=column).to_csv(folder / "trials.csv", index=False)


def cut(folder):
    pd.read_csv(folder / "trials.csv").iloc[:-5].to_csv(folder / "trials.csv", index=False)


def test_studies_that_do_not_fit_together(finished, tmp_path):
    first, second = finished("one"), finished("two", shift=0.01)
    document = json.loads((second / "study.json").read_text())

    def changed(**changes):
        (second / "study.json").write_text(json.dumps({**document, **changes}))

    def compare(*folders):
        together(folders, accept_mixed=False, command="")

    with pytest.raises(BadInput, match="at least two"):
        compare(first)
    with pytest.raises(BadInput, match="is given twice"):
        compare(first, first)
    again = tmp_path / "copy"
    shutil.copytree(first, again)
    with pytest.raises(BadInput, match="again; name different studies"):
        compare(first, again)
    changed(metric={**document["metric"], "higher_is_better": False})
    with pytest.raises(BadInput, match="a lower test accuracy is better"):
        compare(first, second)
    changed(baseline="cnn")
    with pytest.raises(BadInput, match=r"the baseline of .* is 'cnn'"):
        compare(first, second)
    changed(arms={"mlp": {}, "cnn": {}})
    with pytest.raises(BadInput, match=r"different arms \(lstm, transformer\)"):
        compare(first, second)


def test_one_study_under_two_settings_is_told_apart_by_folder(finished):
    folders = [finished("one"), finished("one", where="other", shift=0.01)]
    found = together(folders, accept_mixed=False, command="")
    assert [task.name for task in found.tasks] == [str(folder) for folder in folders]


def test_all_runs_failed(finished):
    lost = [(arm, seed, "crashed") for arm in ("mlp", "cnn", "lstm", "transformer") for seed in range(8)]
    folders = [finished("one"), finished("two", shift=0.01), finished("three", lost=lost)]
    found = together(folders, accept_mixed=False, command="")
    across.show(Console(file=io.StringIO(), width=80), found)
    assert found.overall[0].failed == 8


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="NO LATEX HERE: the table was not compiled")
def test_latex_compiles(tmp_path, finished):
    folders = [finished("one"), finished("two_&_three", shift=0.01)]
    (tmp_path / "table.tex").write_text(across.latex(together(folders, accept_mixed=False, command="a_b")))
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table.tex}\end{document}"
    (tmp_path / "paper.tex").write_text(head)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]
