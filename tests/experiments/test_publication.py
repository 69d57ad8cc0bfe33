"""``--publish``: RESULTS.md from the folders of finished studies."""

import dataclasses
import json

import pandas as pd
import pytest
from PIL import Image

from experiments import plan, publication
from experiments.__main__ import main
from experiments.report import folder, results
from experiments.study import GROUPS
from models.base import BadInput

SITTINGS = pd.DataFrame(
    {"began": ["2026-01-01T00:00:00Z"] * 3, "tuning": [True, False, False], "trials": [6, 16, 16], "cores": 2}
).assign(seconds=[10.0, 20.5, 100.0])


@pytest.fixture
def finished(tmp_path, make_study, make_records, monkeypatch):
    """The folder of a finished study, as a run leaves it."""
    monkeypatch.setattr(folder, "save", _one_picture)

    def write(*, preset="cpu", lost=()):
        study = make_study(preset=preset)
        trials, curves = make_records(study, lost=lost)
        place = tmp_path / "runs" / study.name
        place.mkdir(parents=True)
        trials.to_csv(place / "trials.csv", index=False)
        SITTINGS.to_csv(place / "sittings.csv", index=False)
        document = {
            "study": study.name,
            "preset": preset,
            "metric": dataclasses.asdict(study.metric),
            "figure": study.figure,
            "notes": list(study.notes),
            "remarks": [],
            "trials": trials[["trial", "arm", "seed"]].to_dict("records"),
            "command": "python -m experiments --experiment=architectures --workdir=/some/where --data_dir='/my data'",
        }
        (place / "study.json").write_text(json.dumps(document))
        folder.write(place, study, trials, curves, command="")
        return place

    return write


def _one_picture(place, drawn):
    place.mkdir()
    Image.effect_noise((90, 60), 50).convert("RGB").save(place / "metric_by_parameters.png")
    return []


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_study_is_published_with_its_numbers(finished, home):
    place = finished(lost=[("lstm", 2, "diverged")])
    page = publication.publish([place], home)
    text = page.read_text()
    verdict = json.loads((place / "report" / "verdict.json").read_text())
    claim = verdict["claims"][0]
    assert f"**{claim['outcome']}**" in text
    assert claim["explanation"] in text
    mean = 100 * next(arm for arm in verdict["arms"] if arm["arm"] == "cnn")["metric"]["mean"]
    assert f"| cnn | 8 | {mean:.2f} [" in text
    assert "| lstm | 7, 1 diverged |" in text
    assert "32 trials and 6 tuning trials in 2:11 on 2 cores" in text  # 10 + 20.5 + 100 seconds
    with Image.open(home / "results" / "architectures-cpu.png") as picture:
        assert picture.size == (90, 60)
    assert "![test accuracy of each arm](results/architectures-cpu.png)" in text


def test_what_is_published_names_no_folder_of_the_machine(finished, home):
    page = publication.publish([finished()], home)
    assert "`python -m experiments --experiment=architectures`" in page.read_text()
    everything = "".join(path.read_text() for path in home.rglob("*.[jm]*"))
    assert "/some/where" not in everything
    assert "my data" not in everything


def test_the_page_keeps_what_was_published_before(finished, home):
    publication.publish([finished()], home)
    kept = home / "results" / "architectures-cpu.json"
    other = json.loads(kept.read_text()) | {"study": "char_lm"}
    (home / "results" / "char_lm-cpu.json").write_text(json.dumps(other))
    text = results.markdown(publication.published(home / "results"))
    assert text.index("### architectures-cpu") < text.index("### char_lm-cpu")  # as GROUPS has their groups


def test_a_smoke_run_is_no_result(finished, home):
    with pytest.raises(BadInput, match="no evidence"):
        publication.publish([finished(preset="smoke")], home)
    assert list(home.iterdir()) == []


def test_an_unfinished_study_is_no_result(finished, home):
    place = finished()
    trials = pd.read_csv(place / "trials.csv")
    trials[trials.arm != "cnn"].to_csv(place / "trials.csv", index=False)
    with pytest.raises(BadInput, match="8 of 32 trials have no record"):
        publication.publish([place], home)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda place: (place / "study.json").unlink(), "study.json does not exist"),
        (lambda place: (place / "study.json").write_text("{"), "no study that can be published"),
        (lambda place: (place / "report" / "verdict.json").write_text("[]"), "no study that can be published"),
        (lambda place: (place / "report" / "figures" / "metric_by_parameters.png").write_text(""), "is no picture"),
    ],
)
def test_damaged_folders_end_in_one_line(finished, home, damage, message):
    place = finished()
    damage(place)
    with pytest.raises(BadInput, match=message):
        publication.publish([place], home)
    assert not (home / "RESULTS.md").exists()


def test_the_command_line_publishes(finished, home, monkeypatch, capsys):
    monkeypatch.setattr(publication, "publish", lambda folders: home.joinpath(*folders))
    assert main(["--publish", "a", "b"]) == 0
    assert str(home / "a" / "b") in capsys.readouterr().out.replace("\n", "")
    assert main(["--publish", "a", "--experiment=architectures"]) == 2


def test_results_md_is_what_its_files_make():
    kept = publication.published(publication.HOME / "results")
    assert (publication.HOME / "RESULTS.md").read_text() == results.markdown(kept)


@pytest.mark.parametrize("entry", publication.published(publication.HOME / "results"), ids=lambda each: each["study"])
def test_a_published_study_still_claims_what_was_published(entry):
    study = plan.load(entry["study"], entry["preset"])
    assert {claim.statement for claim in study.claims} == {claim["statement"] for claim in entry["claims"]}
    assert study.about.group in GROUPS
    assert "workdir" not in entry["command"]
    picture = publication.HOME / "results" / f"{entry['study']}-{entry['preset']}.png"
    assert picture.stat().st_size < 60_000
