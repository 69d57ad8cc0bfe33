"""Running a study from Python: what comes back, what is kept, what happens when something goes wrong."""

import errno
import io
import json
import subprocess
import sys

import filelock
import jax
import pandas as pd
import pytest
from rich.console import Console

import experiments
from experiments import runner, tables
from experiments.study import About, Metric, Study
from models import mlp
from models.base import BadInput
from train import weights
from train.config import Config, Training
from train.data import digits
from train.optimizers import sgd
from train.population import Population
from train.schedules import constant


def tiny(preset: str = "smoke") -> Study:
    baseline = Config(
        data=digits.Config(),
        model=mlp.Config(width=8, depth=1),
        optimizer=sgd.Config(learning_rate=0.1),
        schedule=constant.Config(),
        training=Training(steps=4, batch_size=8, evaluate_every=2),
    )
    return Study(
        name="tiny",
        preset=preset,
        about=About(group="g", claim="c", source="s", time={}),
        baseline_name="plain",
        baseline=baseline,
        arms={"slow": {"optimizer.learning_rate": 0.01}, "wide": {"model.width": 16}},
        seeds=2,
        metric=Metric(
            column="test_accuracy", label="test accuracy", curve="validation_accuracy", higher_is_better=True
        ),
        claims=(),
    )


@pytest.fixture
def run(monkeypatch, tmp_path):
    for place in ("experiments.runner.load", "experiments.plan.load"):
        monkeypatch.setattr(place, lambda name, preset: tiny(preset))

    def call(**options) -> runner.Result:
        return experiments.run(
            "tiny", preset="smoke", workdir=tmp_path, console=Console(file=io.StringIO(), width=120), **options
        )

    return call


@pytest.fixture
def plain_report(monkeypatch):
    """A report without figures, which take seconds and have tests of their own."""

    def fill(folder, summary, curves):
        (folder / "index.html").write_text("report")

    monkeypatch.setattr("experiments.report.folder._fill", fill)


@pytest.fixture
def populations(monkeypatch):
    """The trials of each population that was made, which is each program that was compiled."""
    made = []
    original = Population.__init__

    def init(self, trials, *rest):
        made.append([trial.id for trial in trials])
        original(self, trials, *rest)

    monkeypatch.setattr(Population, "__init__", init)
    return made


def table(folder, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "tiny" / name)


def test_the_tables_that_come_back_are_those_on_the_disk(run, tmp_path):
    result = run()
    assert result.folder == tmp_path / "tiny"
    assert result.crashed == 0
    for ours, name, rows in ((result.trials, "trials.csv", 6), (result.curves, "curves.csv", 6 * 3)):
        theirs = table(tmp_path, name)
        assert len(theirs) == rows
        assert set(ours.columns) == set(theirs.columns)
        key = [column for column in ("trial", "step") if column in theirs]
        ours, theirs = (frame.sort_values(key).reset_index(drop=True) for frame in (ours, theirs))
        pd.testing.assert_frame_equal(ours[theirs.columns], theirs, check_dtype=False)
    assert set(result.trials["status"]) == {"ok"}
    assert result.trials["test_accuracy"].between(0, 1).all()
    assert sorted(result.curves["step"].unique()) == [0, 2, 4]
    for name in ("index.html", "table.md", "table.tex", "table.csv", "verdict.json"):
        assert (tmp_path / "tiny" / "report" / name).stat().st_size


@pytest.mark.usefixtures("plain_report")
def test_a_second_run_does_nothing_and_reports_the_same(run, tmp_path, populations):
    run()
    files = {path: path.read_bytes() for path in (tmp_path / "tiny").rglob("*.csv")}
    plan = (tmp_path / "tiny" / "study.json").read_bytes()
    populations.clear()
    run()
    assert populations == []
    assert {path: path.read_bytes() for path in files} == files
    assert (tmp_path / "tiny" / "study.json").read_bytes() == plan
    run(report_only=True)
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.slow
@pytest.mark.usefixtures("plain_report")
def test_more_seeds_and_arms_run_only_what_is_new(run, tmp_path, populations):
    run(arms=["slow"])
    assert populations == [["plain-s0", "plain-s1", "slow-s0", "slow-s1"]]
    before = table(tmp_path, "trials.csv").set_index("trial")
    populations.clear()
    result = run(seeds=3)
    assert populations == [["plain-s2", "slow-s2"], ["wide-s0", "wide-s1", "wide-s2"]]
    assert len(result.trials) == 9
    after = table(tmp_path, "trials.csv").set_index("trial")
    pd.testing.assert_frame_equal(after.loc[before.index, before.columns], before)
    assert not table(tmp_path, "curves.csv").duplicated(["trial", "step"]).any()
    history = json.loads((tmp_path / "tiny" / "study.json").read_text())["history"]
    assert [(entry["arms"], entry["seeds"]) for entry in history] == [
        (["plain", "slow"], 2),
        (["plain", "slow", "wide"], 3),
    ]
    populations.clear()
    assert len(run(arms=["slow"], seeds=1).trials) == 2
    assert populations == []


@pytest.mark.slow
@pytest.mark.usefixtures("plain_report")
def test_an_arm_with_fields_of_its_own_may_come_later(run, tmp_path, monkeypatch):
    from models import cnn

    run(arms=[])
    study = tiny()
    arms = {"cnn": {"model": cnn.Config(channels=(2,), width=0)}}
    monkeypatch.setattr(runner, "load", lambda name, preset: Study(**{**vars(study), "arms": arms}))
    result = run(seeds=1)
    row = result.trials.set_index("trial").loc["cnn-s0"]
    assert row["status"] == "ok"
    assert "model.channels" in table(tmp_path, "trials.csv").columns
    assert len(run(arms=[]).trials) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("plain_report")
@pytest.mark.usefixtures("plain_report")
def test_weights_are_exported_and_a_folder_without_a_plan_is_still_known(run, tmp_path, capsys):
    from experiments.__main__ import main

    run(arms=["wide"], overrides={"execution.keep_best": 1})
    for which in ("last", "best"):
        assert main([f"--export={tmp_path / 'tiny'}", f"--checkpoint={which}"]) == 0
        printed = capsys.readouterr().out
        assert "wide-s1.safetensors" in printed
        assert "validation_loss" in printed
    names = ["plain-s0", "plain-s1", "wide-s0", "wide-s1"]
    found = [weights.read(path) for path in sorted((tmp_path / "tiny" / "weights").iterdir())]
    assert [each.facts["trial"] for each in found] == names
    trials = table(tmp_path, "trials.csv").set_index("trial")
    for each in found:
        row = trials.loc[each.facts["trial"]]
        assert json.loads(row["config"]) == each.facts["config"]
        assert sum(leaf.size for leaf in jax.tree.leaves(each.variables)) == row["parameters"]
        curve = table(tmp_path, "curves.csv").query(f"trial == {each.facts['trial']!r} and step > 0")
        assert each.facts["score"] == pytest.approx(curve["validation_loss"].min(), rel=1e-9)
    # The records and the plan are gone; what the checkpoints say of themselves is enough to refuse another plan.
    for path in (tmp_path / "tiny").glob("*.*"):
        path.unlink()
    with pytest.raises(BadInput, match=r"another configuration \(model.width 8 -> 9 in plain-s0, plain-s1\)"):
        run(arms=["wide"], overrides={"model.width": 9})
    assert not (tmp_path / "tiny" / "study.json").exists()


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--export=absent"], "export='absent' is not a folder"),
        (["--export=."], "export='.' has no checkpoints to take them from"),
        (["--export=.", "--checkpoint=best"], "keep some with --config.execution.keep_best=1"),
        (["--export=.", "--checkpoint=first"], "--checkpoint=first must be last or best"),
        (["--export=.", "--experiment=char_lm"], "give one of the two"),
    ],
)
def test_what_cannot_be_exported_is_refused(arguments, answer, tmp_path, monkeypatch, capsys):
    from experiments.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert answer in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_overrides_may_be_values(run):
    result = run(arms=[], seeds=1, overrides={"model.width": 5, "optimizer.learning_rate": 0.5})
    config = json.loads(result.trials["config"][0])
    assert (config["model"]["width"], config["optimizer"]["learning_rate"]) == (5, 0.5)
    with pytest.raises(BadInput, match="given twice"):
        run(arms=[], overrides=[("model.width", "5"), ("model.width", "5")])


def break_width(monkeypatch, width: int, error: BaseException):
    original = Population.init

    def init(self):
        if self.config.model.width == width:
            raise error
        return original(self)

    monkeypatch.setattr(Population, "init", init)


@pytest.mark.usefixtures("plain_report")
def test_a_population_that_crashes_leaves_the_others_alone_and_is_tried_again(run, tmp_path, monkeypatch, populations):
    with monkeypatch.context() as broken:
        break_width(broken, 8, RuntimeError("no luck\ntoday"))
        result = run()
        assert result.crashed == 4
        assert run().crashed == 4
    status = table(tmp_path, "trials.csv").groupby("arm")["status"].unique().map(list)
    assert dict(status) == {"plain": ["crashed"], "slow": ["crashed"], "wide": ["ok"]}
    assert set(table(tmp_path, "trials.csv")["error"].dropna()) == {"no luck today"}
    populations.clear()
    result = run()
    assert populations == [["plain-s0", "plain-s1", "slow-s0", "slow-s1"]]
    assert result.crashed == 0
    assert set(table(tmp_path, "trials.csv")["status"]) == {"ok"}
    assert len(table(tmp_path, "trials.csv")) == 6


@pytest.mark.usefixtures("plain_report")
@pytest.mark.slow
@pytest.mark.parametrize("ran_out", ["before", "while"])
def test_a_population_that_does_not_fit_is_split_and_no_trial_is_lost(run, tmp_path, monkeypatch, ran_out):
    """More than one trial of width 8 is too much: by the estimate, or when the device is asked for memory."""
    original, sizes = Population.init, []

    def init(self):
        sizes.append(len(self.trials))
        if ran_out == "while" and self.config.model.width == 8 and len(self.trials) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes")
        return original(self)

    monkeypatch.setattr(Population, "init", init)
    if ran_out == "before":
        monkeypatch.setattr("train.packing.available_bytes", lambda *_: 0)
    assert run().crashed == 0
    assert sizes == ([4, 2, 1, 1, 2, 1, 1, 2] if ran_out == "while" else [1] * 6)
    assert set(table(tmp_path, "trials.csv")["status"]) == {"ok"}
    assert len(table(tmp_path, "trials.csv")) == 6


@pytest.mark.slow
def test_a_study_whose_every_trial_crashes_is_reported(run, tmp_path, monkeypatch, capsys):
    from experiments.__main__ import main

    break_width(monkeypatch, 8, RuntimeError("no luck"))
    assert run(arms=["slow"]).crashed == 4
    assert (tmp_path / "tiny" / "report" / "index.html").exists()
    monkeypatch.setattr("experiments.plan.study_names", lambda: ("tiny",))
    arguments = ["--experiment=tiny", "--preset=smoke", "--arms=slow", f"--workdir={tmp_path}"]
    assert main(arguments) == 3
    assert main([*arguments, "--report_only"]) == 3
    capsys.readouterr()


def test_a_full_disk_ends_in_one_line(run, tmp_path, monkeypatch, capsys):
    from experiments.__main__ import main
    from train.records import Table

    def append(self, rows):
        raise OSError(errno.ENOSPC, "No space left on device", str(self.path))

    monkeypatch.setattr(Table, "append", append)
    monkeypatch.setattr("experiments.plan.study_names", lambda: ("tiny",))
    assert main(["--experiment=tiny", "--preset=smoke", "--arms=", f"--workdir={tmp_path}"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "No space left on device" in last
    monkeypatch.undo()


HOLD = """
import sys, filelock
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.usefixtures("plain_report")
def test_a_folder_in_which_a_process_works_is_refused(run, tmp_path):
    (tmp_path / "tiny").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "tiny" / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BadInput, match="another process is working in"):
            run(arms=[])
        assert not (tmp_path / "tiny" / "study.json").exists()
        # However it ends, the lock goes with it.
        holder.kill()
        holder.wait()
    assert run(arms=[], seeds=1).crashed == 0
    with filelock.FileLock(tmp_path / "tiny" / ".lock", timeout=0):
        pass


def test_names_that_look_like_something_else_stay_text(tmp_path):
    path = tmp_path / "trials.csv"
    path.write_text("trial,arm,config_hash,test_loss\nnone-s0,none,123456789012,nan\nnull-s0,null,1234567890e1,\n")
    frame = tables.read(path)
    assert list(frame["arm"]) == ["none", "null"]
    assert list(frame["config_hash"]) == ["123456789012", "1234567890e1"]
    assert frame["test_loss"].isna().all()
    assert frame["test_loss"].dtype == float
