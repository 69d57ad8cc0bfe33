"""What the README shows works as printed: its examples of a model and a data set, added as files."""

import importlib
import os
import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.base import plugin_names

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def _example(marker: str) -> str:
    (found,) = [block for block in PYTHON if marker in block]
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the three rooms, to which a newcomer adds a file."""
    for room in ("models", "train", "experiments"):
        for file in (ROOT / room).rglob("*"):
            if file.suffix in {".py", ".html", ".css", ".js"}:
                target = tmp_path / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    return tmp_path


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments", "--experiment=architectures", "--preset=smoke", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_study_is_one_file(copy: Path) -> None:
    (copy / "experiments" / "catalog" / "mine.py").write_text(_example("two_by_two").replace("NAME", "mine"))
    command = [sys.executable, "-m", "experiments", "--experiment=mine", "--preset=smoke"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "INCONCLUSIVE" in done.stdout
    folder = copy / "runs" / "mine"
    assert len((folder / "trials.csv").read_text().splitlines()) == 1 + 4 * 2
    assert len((folder / "tuning.csv").read_text().splitlines()) == 1 + 4 * 2


@pytest.mark.slow
def test_a_fifth_model_and_a_third_data_set_are_one_file_each(copy: Path) -> None:
    (copy / "models" / "shallow.py").write_text(_example("class Shallow"))
    (copy / "train" / "data" / "small_digits.py").write_text(_example("load_digits"))
    done = _run(
        copy,
        "--arms=lstm",
        "--config.model.name=shallow",
        "--config.model.dropout_rate=0.1",
        "--config.data.name=small_digits",
    )
    assert done.returncode == 0, done.stderr
    records = (copy / "runs" / "architectures" / "trials.csv").read_text()
    assert "shallow" in records
    assert "small_digits" in records


@pytest.mark.slow
def test_the_example_that_looks_into_a_model_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(_example("from models.generation"), "README.md", "exec"), {})
    parameters, flops, shape, written = capsys.readouterr().out.strip().splitlines()
    assert "block_0" in parameters
    assert float(flops) > 0
    assert shape == "(1, 4, 32, 32)"
    assert len(re.findall(r"\d+", written)) == 20


def test_every_model_optimizer_and_schedule_is_in_the_readme() -> None:
    text = README.split("## What there is to vary")[1].split("## Add your own")[0]
    for package in ("models", "train.optimizers", "train.schedules"):
        missing = [name for name in plugin_names(package) if f"`{name}`" not in text]
        assert not missing, f"{package}: {missing}"


def test_every_data_set_is_in_the_readme() -> None:
    text = README.split("## Data: look at it first")[1].split("## What there is to vary")[0]
    assert [name for name in plugin_names("train.data") if f"`{name}`" not in text and f"={name} " not in text] == [
        "hf"
    ]
    assert "`hf:" in text


OWN_DATA = re.findall(r"^\| [^|]*\| `(--data=\w+ --config[^`]*)`", README, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("flags", OWN_DATA, ids=lambda flags: flags.split()[0])
def test_data_of_ones_own_by_the_flags_of_the_readme(flags: str, tmp_path: Path) -> None:
    lines = [f"line {number} of a text about {number % 7} birds and {number % 5} bees" for number in range(400)]
    for name in ("notes.txt", "talks.en", "talks.de"):
        (tmp_path / name).write_text("\n".join(line + name for line in lines) + "\n")
    table = ["text\tlabel", *(f"{line}\t{'good' if number % 3 else 'bad'}" for number, line in enumerate(lines))]
    (tmp_path / "reviews.tsv").write_text("\n".join(table) + "\n")
    days = [date(2020, 1, 1) + timedelta(number) for number in range(400)]
    rows = [f"{day},{10 + day.weekday() + number / 50:.2f}" for number, day in enumerate(days)]
    (tmp_path / "sales.csv").write_text("\n".join(["date,sold", *rows]) + "\n")
    for kind in ("heron", "robin"):
        (tmp_path / "birds" / kind).mkdir(parents=True)
        for number in range(30):
            pixels = np.random.default_rng(number).integers(0, 255, (40, 36, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "birds" / kind / f"{number}.png")
    for part in ("train", "validation", "test"):
        (tmp_path / "arrays" / part).mkdir(parents=True)
        np.save(
            tmp_path / "arrays" / part / "inputs.npy", np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)
        )
        np.save(tmp_path / "arrays" / part / "targets.npy", np.arange(40) % 4)
    command = [sys.executable, "-m", "experiments", *flags.split(), "--workdir", str(tmp_path / "runs")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert "closed until the end" in done.stdout


def test_every_file_and_folder_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"`((?:models|train|experiments|tests)/[\w./]*)`", README))
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert not missing
    assert named, "the README names no file: has its form changed?"


def test_the_options_that_the_readme_lists_are_those_that_there_are() -> None:
    options = importlib.import_module("experiments.__main__").OPTIONS
    ours = re.sub(r"`ray [^`]*`", "", README.split("## What you can rely on")[0])
    named = set(re.findall(r"--(?:no)?(\w+)", ours))
    assert {"list", "experiment", "preset", "seeds", "arms", "workdir", "data_dir", "dry_run", "report_only"} <= named
    assert {name for name in named if name not in ("config", "launch", "no")} <= set(options)


def test_models_and_optimizers_that_the_readme_calls_shortest_exist() -> None:
    assert "sgd" in plugin_names("train.optimizers")
    assert "constant" in plugin_names("train.schedules")
