"""Packs: run anywhere, any number of times, killed or not, they come to what a local run comes to."""

import dataclasses
import io
import re
import sys

import pandas as pd
import pytest
from rich.console import Console

import experiments
from experiments import launchers
from experiments.launchers import head, packs
from experiments.launchers.engine import Engine, Resources
from experiments.launchers.options import Slurm
from experiments.spaces import Choice
from experiments.study import About, Metric, Study, Tuning
from models import mlp
from models.base import BadInput
from train.config import Config, Execution, Training
from train.data import digits
from train.optimizers import sgd
from train.schedules import constant
from train.signals import Interrupted


def tiny(tuning: Tuning | None = None) -> Study:
    baseline = Config(
        data=digits.Config(train_examples=200),
        model=mlp.Config(width=8, depth=1),
        optimizer=sgd.Config(learning_rate=0.1),
        schedule=constant.Config(),
        training=Training(steps=6, batch_size=8, evaluate_every=2),
        execution=Execution(checkpoint_seconds=0.0, strategy="sequential"),
    )
    return Study(
        name="tiny",
        preset="smoke",
        about=About(group="g", claim="c", source="s", time={}),
        baseline_name="plain",
        baseline=baseline,
        arms={"slow": {"optimizer.learning_rate": 0.01}, "wide": {"model.width": 16}},
        seeds=3,
        metric=Metric.on_test("accuracy"),
        tuning=tuning,
        claims=(),
    )


class InProcess(Engine):
    """Runs each pack here, in the next look at the states; may lose it after some evaluations."""

    def __init__(self, losing: int = 0) -> None:
        self.submitted: list[list[str]] = []
        self.losing = losing
        self.waiting: dict[str, packs.Pack] = {}

    def submit(self, packs):
        self.submitted.append([pack.name for pack in packs])
        self.waiting |= {pack.name: pack for pack in packs}

    def states(self, packs):
        for name in [pack.name for pack in packs if pack.name in self.waiting]:
            self._run(self.waiting.pop(name))
        return {pack.name: ("gone", "here") for pack in packs}

    def _run(self, pack):
        looks = iter(range(1000))
        lost = self.losing > 0
        self.losing -= lost
        try:
            packs.run(pack.folder, lambda: lost and next(looks) > 2)
        except Interrupted:
            assert lost

    def leave(self, packs):
        return "they go on"


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(head, "POLL_SECONDS", 0.0)
    monkeypatch.setattr("experiments.report.folder._fill", lambda folder, summary, curves: None)

    def call(where: str, engine: Engine | None = None, *, study: Study | None = None, **options):
        for place in ("experiments.runner.load", "experiments.plan.load"):
            monkeypatch.setattr(place, lambda name, preset: study or tiny())
        console = Console(file=io.StringIO(), width=120)
        pack_trials = options.pop("pack_trials", 0)
        launch = launchers.Launch()
        if engine is not None:
            launch = launchers.Launch(kind="slurm", pack_trials=pack_trials, options=Slurm())
            monkeypatch.setattr(launchers.Launch, "engine", lambda self, folder: engine)
        return experiments.run(
            "tiny", preset="smoke", workdir=tmp_path / where, console=console, launch=launch, **options
        )

    return call


RESULTS = ["train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy"]


def results(found) -> pd.DataFrame:
    return found.trials.set_index("trial")[RESULTS].sort_index()


@pytest.fixture
def local(run):
    return run("local")


@pytest.mark.parametrize("pack_trials", [2, pytest.param(0, marks=pytest.mark.slow)])
def test_packs_come_to_what_a_local_run_comes_to_bit_for_bit(run, local, pack_trials):
    engine = InProcess()
    found = run("packs", engine, pack_trials=pack_trials)
    pd.testing.assert_frame_equal(results(found), results(local), check_exact=True)
    columns = ["trial", "step", "train_loss", "validation_loss"]
    ours, theirs = (
        each.curves[columns].sort_values(["trial", "step"]).reset_index(drop=True) for each in (found, local)
    )
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert [len(each) for each in engine.submitted] == [2 if pack_trials == 0 else 5]
    assert packs.all_of(found.folder) == []
    assert {path.name for path in (found.folder / "checkpoints").iterdir()}


def test_a_pack_that_was_lost_goes_on_from_its_checkpoint(run, local):
    engine = InProcess(losing=2)
    found = run("packs", engine)
    assert [len(each) for each in engine.submitted] == [2, 1, 1]
    pd.testing.assert_frame_equal(results(found), results(local), check_exact=True)


@pytest.mark.slow
def test_a_pack_that_is_lost_for_ever_is_given_up_and_tried_again_by_the_same_command(run, local):
    class Losing(InProcess):
        def _run(self, pack):
            if "wide" not in pack.title:
                super()._run(pack)

    found = run("packs", Losing())
    assert found.crashed == 3
    assert set(found.trials.loc[found.trials["status"] == "crashed", "arm"]) == {"wide"}
    again = run("packs", InProcess())
    assert again.crashed == 0
    pd.testing.assert_frame_equal(results(again), results(local), check_exact=True)


@pytest.mark.slow
def test_a_pack_may_run_twice_and_after_it_was_collected(run, tmp_path):
    folders = []

    class Twice(InProcess):
        def _run(self, pack):
            folders.append(pack.folder)
            super()._run(pack)
            before = (pack.folder / "trials.csv").read_bytes()
            super()._run(pack)
            assert (pack.folder / "trials.csv").read_bytes() == before

    run("packs", Twice())
    assert packs.run(folders[0], lambda: False) == packs.Outcome()
    assert not folders[0].exists()


@pytest.mark.slow
def test_a_head_that_went_finds_its_packs_again(run, local, tmp_path):
    class Slow(InProcess):
        """Packs are with the cluster; the first head goes before any begins."""

        def states(self, packs):
            if self.submitted:
                raise Interrupted
            return super().states(packs)

    first = Slow()
    with pytest.raises(Interrupted):
        run("packs", first)

    class There(InProcess):
        def states(self, packs):
            found = {pack.name: ("running" if pack.name in self.waiting else "gone", "here") for pack in packs}
            super().states(packs)
            return found

    second = There()
    second.waiting = dict(first.waiting)
    found = run("packs", second)
    assert second.submitted == []  # they ran already
    pd.testing.assert_frame_equal(results(found), results(local), check_exact=True)


@pytest.mark.slow
def test_what_packs_have_left_goes_on_in_this_process(run, local, tmp_path):
    class Broken(InProcess):
        def states(self, packs):
            if self.submitted:
                raise KeyboardInterrupt
            return super().states(packs)

        def submit(self, packs):
            super().submit(packs)
            self.losing = 1
            self._run(next(iter(self.waiting.values())))

    with pytest.raises(KeyboardInterrupt):
        run("packs", Broken())
    assert len(packs.all_of(tmp_path / "packs" / "tiny")) == 2
    found = run("packs")
    assert packs.all_of(found.folder) == []
    pd.testing.assert_frame_equal(results(found), results(local), check_exact=True)


@pytest.mark.slow
def test_what_this_process_has_left_goes_on_in_packs(run, local, monkeypatch, tmp_path):
    run("packs", only=["slow"])
    engine = InProcess()
    found = run("packs", engine)
    assert [len(each) for each in engine.submitted] == [2]
    pd.testing.assert_frame_equal(results(found), results(local), check_exact=True)


@pytest.mark.slow
def test_tuning_trials_run_in_packs_too(run):
    space = {"optimizer.learning_rate": Choice((0.01, 0.1, 1.0))}
    study = tiny(Tuning(space=space, search="grid", trials=3))
    expected = run("local", study=study)
    found = run("packs", InProcess(), study=study, pack_trials=2)
    pd.testing.assert_frame_equal(results(found), results(expected), check_exact=True)
    for name in ("tuning.csv", "tuning.json"):
        assert (found.folder / name).exists()
    ours, theirs = (
        pd.read_csv(each.folder / "tuning.csv").set_index("trial")["value"].sort_index() for each in (found, expected)
    )
    pd.testing.assert_series_equal(ours, theirs, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("losing", [0, 1])
def test_hopeless_tuning_trials_end_early_in_packs_as_they_do_here(run, losing):
    space = {"optimizer.learning_rate": Choice((0.001, 0.01, 0.1, 1.0, 3.0, 10.0))}
    study = tiny(Tuning(space=space, search="grid", trials=6, pruning="halving"))
    columns = ["trial", "value", "steps", "status"]
    ours, theirs = (
        pd.read_csv(each.folder / "tuning.csv")[columns].sort_values("trial").reset_index(drop=True)
        for each in (run("packs", InProcess(losing), study=study), run("local", study=study))
    )
    assert set(theirs["steps"]) == {2, 6}
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.slow
def test_what_tuning_has_found_is_frozen_when_a_pack_is_made(run):
    """So that every run of a pack decides the same, whatever other packs find meanwhile."""
    found = []

    class Meanwhile(InProcess):
        def _run(self, pack):
            if pack.judging is None:
                return super()._run(pack)
            found.append((pack.folder / packs.EARLIER).read_bytes())
            curves = pack.folder.parent.parent / "tuning_curves.csv"
            curves.write_text("not read\nby a pack\n")
            super()._run(pack)
            return curves.unlink()

    space = {"optimizer.learning_rate": Choice((0.01, 0.1, 1.0))}
    study = tiny(Tuning(space=space, search="grid", trials=3, pruning="median"))
    assert run("packs", Meanwhile(), study=study).crashed == 0
    assert len(found) == 2
    assert set(found) == {b""}


@pytest.mark.parametrize("options", [{"tracker": ["tensorboard"]}, {"profile": True}])
def test_what_watches_this_process_is_refused(run, options):
    with pytest.raises(BadInput, match="watches trials that run in this process"):
        run("packs", InProcess(), **options)


@pytest.mark.parametrize(("kind", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_launcher_that_is_not_installed_says_what_to_install(kind, package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=rf"--launcher={kind} needs {package}: pip install 'paribus\[{kind}\]'"):
        launchers.declared(kind, []).engine(tmp_path)


def test_other_data_on_the_other_machine_are_refused_in_one_line(run, monkeypatch):
    class Elsewhere(InProcess):
        def _run(self, pack):
            changed = dataclasses.replace(pack, fingerprints=dict.fromkeys(pack.fingerprints, "another"))
            packs.write(changed)
            super()._run(pack)

    with pytest.raises(BadInput, match="are not those that the study was planned with"):
        run("packs", Elsewhere())


def test_a_damaged_pack_is_named(tmp_path):
    (tmp_path / "packs" / "a").mkdir(parents=True)
    (tmp_path / "packs" / "a" / "pack.json").write_text("{")
    with pytest.raises(BadInput, match=r"pack\.json cannot be read"):
        packs.all_of(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cpus": 0}, "--launch.cpus=0"), ({"gpus": -1}, "--launch.gpus=-1"), ({"memory_gib": -1}, "--launch.memory_gib")],
)
def test_resources_must_make_sense(options, message):
    with pytest.raises(BadInput, match=message):
        Resources(**options)


def test_an_unknown_launcher_is_told_the_nearest():
    with pytest.raises(BadInput, match="slurm"):
        launchers.declared("slrum", [])


@pytest.mark.parametrize(
    ("kind", "pairs", "message"),
    [
        ("local", [("cpus", "2")], "name a --launcher"),
        ("slurm", [("cpu", "2")], "--launch.cpus"),
        ("slurm", [("minutes", "long")], "--launch.minutes=long must be an integer"),
        ("slurm", [("address", "auto")], "unknown launch option"),
        ("ray", [("partition", "low")], "unknown launch option"),
        ("slurm", [("pack_trials", "-1")], "--launch.pack_trials=-1"),
        ("slurm", [("parallel", "0")], "--launch.parallel=0"),
        ("slurm", [("minutes", "0")], "--launch.minutes=0"),
        ("ray", [("minutes", "5")], "unknown launch option"),
    ],
)
def test_what_a_launcher_is_asked_for_is_checked(kind, pairs, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        launchers.declared(kind, pairs)


def test_every_option_reaches_its_place():
    pairs = {"cpus": "2", "memory_gib": "1.5", "pack_trials": "4", "partition": "low", "sbatch.qos": "high"}
    found = launchers.declared("slurm", list(pairs.items()))
    assert found == launchers.Launch(
        kind="slurm",
        pack_trials=4,
        resources=Resources(cpus=2, memory_gib=1.5),
        options=Slurm(partition="low", sbatch={"qos": "high"}),
    )
