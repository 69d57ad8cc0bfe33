"""The command line: what it refuses, how it says so, and that it leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.arguments import CONFIG, taken_out
from models.base import BadInput

ROOT = Path(__file__).parents[2]
STUDY = "--experiment=architectures"
SMOKE = (STUDY, "--preset=smoke")


def refused(capsys, *arguments) -> str:
    """The one line on standard error with which these arguments are refused."""
    status = main(arguments)
    output = capsys.readouterr()
    assert status == 2, output
    assert output.out == ""
    lines = output.err.strip().splitlines()
    assert len(lines) == 1, output.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in lines[0]
    return lines[0]


NAMES = [
    # What is given, the nearest valid name that the message must offer, and another valid one.
    (["--experiment=architecture"], "'architectures'", "char_lm"),
    (["--experiment=char-lm"], "'char_lm'", "architectures"),
    ([STUDY, "--preset=smoek"], "'smoke'", "full"),
    ([STUDY, "--arms=cnn,lstn"], "'lstm'", "transformer"),
    (["--experimnet=architectures"], "'--experiment'", "--workdir"),
    (["--seed=3", STUDY], "'--seeds'", "--arms"),
    ([STUDY, "--config.model.widht=3"], "'model.width'", "training.steps"),
    ([STUDY, "--config.modle.width=3"], "'model.width'", "training.steps"),
    ([STUDY, "--config.model=mlp"], "'model.name'", "model.depth"),
    ([STUDY, "--config.model.name=mlpp"], "'mlp'", "transformer"),
    ([STUDY, "--config.data.name=mnsit"], "'mnist'", "digits"),
    ([STUDY, "--config.optimizer.name=adm"], "'adam'", "sgd"),
    ([STUDY, "--config.schedule.name=cosin"], "'cosine'", "constant"),
    ([STUDY, "--tracker=tensorbord"], "'tensorboard'", "wandb"),
    ([STUDY, "--config.optimizer.name=sgd", "--config.optimizer.b1=0.9"], "optimizer.learning_rate", "model.width"),
]


@pytest.mark.parametrize(("arguments", "nearest", "other"), NAMES, ids=lambda value: "".join(value)[-40:])
def test_an_unknown_name_is_answered_with_the_nearest(capsys, tmp_path, arguments, nearest, other):
    message = refused(capsys, *arguments, f"--workdir={tmp_path}")
    assert "unknown" in message
    assert nearest in message
    assert other in message
    assert list(tmp_path.iterdir()) == []


VALUES = [
    ([STUDY, "--seeds=x"], "--seeds=x must be an integer"),
    ([STUDY, "--seeds=2.5"], "must be an integer"),
    ([STUDY, "--seeds=0"], "seeds=0 must be at least 1"),
    ([STUDY, "--seeds=-3"], "seeds=-3 must be at least 1"),
    ([STUDY, "--dry_run=perhaps"], "--dry_run=perhaps must be true or false"),
    (["--seeds", STUDY], "--seeds has no value"),
    ([STUDY, "--arms"], "--arms has no value"),
    (["--experiment"], "--experiment has no value"),
    ([STUDY, "--config.model.width"], "--config.model.width has no value"),
    (["--config.model.width", STUDY], "--config.model.width has no value"),
    ([STUDY, "--config.model.width="], "--config.model.width='' must be an integer"),
    ([STUDY, "--config.model.width=wide"], "--config.model.width='wide' must be an integer"),
    ([STUDY, "--config.model.width=8.5"], "must be an integer"),
    ([STUDY, "--config.model.width=0"], "model.width=0 must be at least 1"),
    ([STUDY, "--config.model.dropout_rate=1"], "model.dropout_rate=1.0 must be less than 1"),
    ([STUDY, "--config.optimizer.learning_rate=nan"], "must be a number, not nan"),
    ([STUDY, "--config.optimizer.learning_rate=inf"], "must be finite"),
    ([STUDY, "--config.optimizer.learning_rate=-1"], "optimizer.learning_rate=-1.0 must be greater than 0"),
    ([STUDY, "--config.execution.spread=maybe"], "must be true or false"),
    ([STUDY, "--config.execution.strategy=fast"], "one of auto, measured, vectorised, sequential"),
    ([STUDY, "--config.regularisation.undecayed=("], "must be a regular expression"),
    ([STUDY, "--config.model.width=8", "--config.model.width=8"], "--config.model.width is given twice"),
    ([STUDY, "--config.schedule.warmup_steps=9000"], "schedule.warmup_steps=9000 must be less than training.steps"),
    ([STUDY, "width=3"], "unexpected argument 'width=3'"),
    ([], "name an experiment"),
]


@pytest.mark.parametrize(("arguments", "reason"), VALUES, ids=lambda value: "".join(value)[-40:])
def test_a_wrong_value_is_refused_in_one_line(capsys, tmp_path, arguments, reason):
    assert reason in refused(capsys, *arguments, f"--workdir={tmp_path / 'new'}")
    assert list(tmp_path.iterdir()) == []


BASELINE = (*SMOKE, "--arms=mlp")


def test_a_batch_larger_than_the_data_is_refused(capsys, tmp_path):
    message = refused(capsys, *BASELINE, "--config.training.batch_size=100000", f"--workdir={tmp_path / 'new'}")
    assert "arm 'mlp': batch_size=100000 must be at most 3500" in message
    assert list(tmp_path.iterdir()) == []


def test_parts_of_a_batch_that_are_not_equal_are_refused(capsys, tmp_path):
    options = ["--config.diagnostics.noise_scale=true", "--config.diagnostics.noise_scale_parts=7"]
    message = refused(capsys, *BASELINE, *options, f"--workdir={tmp_path / 'new'}")
    assert "arm 'mlp': diagnostics.noise_scale_parts=7 must divide" in message
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_treat_the_data_is_refused(capsys, tmp_path):
    arguments = ["--experiment=char_lm", "--preset=smoke", "--config.model.name=mlp", f"--workdir={tmp_path}"]
    message = refused(capsys, *arguments)
    assert "arm 'nanogpt': model 'mlp' takes real inputs" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [[], ["--dry_run"]])
def test_data_whose_task_lacks_the_metric_of_the_study_are_refused(capsys, tmp_path, mode):
    message = refused(capsys, *SMOKE, "--config.data.name=adding_problem", f"--workdir={tmp_path}", *mode)
    assert "test_accuracy" in message
    assert "test_mse" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [[], ["--dry_run"], ["--config.data.name=mnist"]])
def test_a_data_dir_that_is_no_folder_is_refused(capsys, tmp_path, mode):
    message = refused(capsys, *BASELINE, f"--data_dir={tmp_path / 'nowhere'}", f"--workdir={tmp_path}", *mode)
    assert "data_dir" in message
    assert "nowhere' is not a folder" in message
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_are_refused(capsys, tmp_path):
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        (folder / f"{name}.gz").write_bytes(b"no gzip")
    arguments = ["--config.data.name=mnist", f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'new'}"]
    assert "train-images" in refused(capsys, *BASELINE, *arguments)
    assert not (tmp_path / "new").exists()


def test_report_only_needs_records(capsys, tmp_path):
    message = refused(capsys, *BASELINE, "--report_only", f"--workdir={tmp_path / 'new'}")
    assert "run without --report_only first" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "\x00\x01", "trial,arm\nmlp-s0,mlp\n"])
def test_report_only_refuses_damaged_records(capsys, tmp_path, content):
    folder = tmp_path / "architectures"
    folder.mkdir()
    (folder / "trials.csv").write_text(content)
    message = refused(capsys, *BASELINE, "--report_only", f"--workdir={tmp_path}")
    assert "trials.csv is damaged" in message


def test_a_workdir_that_is_a_file_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    message = refused(capsys, *BASELINE, f"--workdir={tmp_path / 'file'}")
    assert "cannot write to" in message
    assert "choose another --workdir" in message
    assert (tmp_path / "file").read_text() == "mine"


def test_a_workdir_that_cannot_be_written_is_refused(capsys, tmp_path, monkeypatch):
    # Not by permissions: the superuser, as whom tests run in a container, may write anywhere.
    def mkdir(self, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    message = refused(capsys, *BASELINE, f"--workdir={tmp_path / 'new'}")
    assert "Permission denied; choose another --workdir" in message


DAMAGED = ["", "{", "null", "[]", '{"arms": {}}', '{"preset": "smoke", "history": [], "arms": []}']
DAMAGED += ['{"preset": "smoke", "history": [3], "arms": {}}', '{"preset": "smoke", "history": [], "arms": {"mlp": 3}}']
DAMAGED += ['{"preset": "smoke", "history": [], "arms": {"mlp": {"model": 3}}}', "\x00"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_plan_is_refused(capsys, tmp_path, content):
    folder = tmp_path / "architectures"
    folder.mkdir()
    (folder / "study.json").write_text(content)
    message = refused(capsys, *BASELINE, f"--workdir={tmp_path}")
    assert "study.json is damaged" in message
    assert (folder / "study.json").read_text() == content
    assert not (folder / "trials.csv").exists()


@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_help_names_every_flag_and_exit_status(capsys, argument):
    assert main([argument]) == 0
    text = capsys.readouterr().out
    for word in ("--experiment", "--preset", "--seeds", "--arms", "--config.", "--workdir", "--data_dir", "--dry_run"):
        assert word in text
    for status in ("0 done", "2 bad input", "3 a trial", "130 interrupted"):
        assert status in " ".join(text.split())


def test_list_shows_studies_and_data_sets(capsys):
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    for word in (
        "architectures",
        "char_lm",
        "Source:",
        "smoke:",
        "cpu:",
        "full:",
        "mnist",
        "sotu",
        "55.0 MB",
        "licence:",
    ):
        assert word in text


def test_one_call_leaves_no_flag_behind_for_the_next(capsys):
    assert main(["--list", "--preset=smoke", "--seeds=5"]) == 0
    capsys.readouterr()
    assert "name an experiment" in refused(capsys)
    assert main(["--help"]) == 0
    assert "[cpu]" in capsys.readouterr().out


def test_dry_run_shows_the_plan_and_writes_nothing(capsys, tmp_path):
    assert main([*BASELINE, "--seeds=3", "--config.model.width=17", "--dry_run", f"--workdir={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert "3 trials in 1 populations" in text
    assert "model.width=17" in text
    assert "Dense_0/kernel" in text or "kernel" in text
    assert list(tmp_path.iterdir()) == []


def test_dry_run_shows_packs_and_what_each_asks_for(capsys, tmp_path):
    asked = ["--launcher=slurm", "--launch.pack_trials=2", "--launch.gpus=1", "--launch.partition=fast"]
    assert main([*BASELINE, *asked, "--seeds=3", "--dry_run", f"--workdir={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert "2 packs for slurm, each asking for 1 CPU core, 1 GPU, partition=fast, minutes=60" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [(("--launcher=slrum",), "slurm"), (("--launcher=ray", "--launch.adress=a"), "--launch.address")],
)
def test_an_unknown_launcher_or_option_is_told_the_nearest(flags, message, capsys, tmp_path):
    assert main([*BASELINE, *flags, f"--workdir={tmp_path}"]) == 2
    assert f"did you mean '{message}'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_overrides_are_taken_from_either_spelling():
    rest, overrides = taken_out(["--list", "--config.a.b=c=d", "--config.x", "-1", "--seeds=2"], CONFIG)
    assert rest == ["--list", "--seeds=2"]
    assert overrides == [("a.b", "c=d"), ("x", "-1")]
    with pytest.raises(BadInput, match="has no value"):
        taken_out(["--config.x", "--list"], CONFIG)


def python(*arguments, cwd=ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, timeout=120)


WITHOUT_JAX = """
import sys
from experiments.__main__ import main
status = main(sys.argv[1:])
heavy = {"jax", "flax", "optax", "orbax", "pandas", "matplotlib", "scipy", "sklearn"} & set(sys.modules)
sys.exit(f"imported {sorted(heavy)}" if heavy else status)
"""


@pytest.mark.parametrize("argument", ["--help", "--list"])
def test_help_and_list_do_not_import_what_is_slow(argument):
    done = python("-c", WITHOUT_JAX, argument)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize(
    "arguments", [["--experiment=x"], ["--seeds=x"], [STUDY, "--preset=fast"], ["--flagfile=/none"]]
)
def test_a_process_that_is_given_bad_input_exits_with_2(arguments):
    done = python("-m", "experiments", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
