"""Trackers are told what the records hold; a profile opens in the standard viewers."""

import gzip
import json
import math
import struct
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from models.base import BadInput
from train import loop, trackers
from train.config import digest, traced_paths
from train.folder import Files
from train.loop import Watch, run_population
from train.population import Population
from train.signals import Interrupted

pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PROGRAMS: dict[str, dict] = {}


def run(folder, trials, task, *, told=(), profiles=None, stop_after=math.inf):
    asked = []

    def interrupted():
        asked.append(1)
        return len(asked) >= stop_after

    folder.mkdir(exist_ok=True)
    population = Population(trials, traced_paths([trial.config for trial in trials]), task)
    population._programs = PROGRAMS.setdefault(digest(population.config) + str(len(trials)), {})
    run_population(population, Files(folder, trials, [task]), Watch(lambda _: None, interrupted, told, profiles))
    return population


@pytest.fixture
def trials(make_trials):
    return make_trials({"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 0.02})


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)


class Listener:
    """Keeps all that it is told."""

    def __init__(self):
        self.calls = []

    def begin(self, trial, step):
        self.calls.append(("begin", trial.id, step))

    def write(self, trial, step, values):
        self.calls.append(("write", trial.id, step, dict(values)))

    def conclude(self, trial, step, values):
        self.calls.append(("conclude", trial.id, step, dict(values)))

    def close(self):
        self.calls.append(("close",))


def test_a_tracker_is_told_what_the_records_hold_and_goes_on_where_they_do(tmp_path, trials, images):
    first, second = Listener(), Listener()
    with pytest.raises(Interrupted):
        run(tmp_path, trials, images, told=[first], stop_after=2)
    assert first.calls[:2] == [("begin", "arm0-s0", -1), ("begin", "arm1-s0", -1)]
    assert first.calls[-1] == ("close",)
    run(tmp_path, trials, images, told=[second])
    assert second.calls[0] == ("begin", "arm0-s0", 5)
    told = {(call[1], call[2]): call[3] for call in first.calls + second.calls if call[0] == "write"}
    rows = pd.read_csv(tmp_path / "curves.csv").set_index(["trial", "step"])
    assert set(told) == set(rows.index)
    for place, values in told.items():
        assert values == pytest.approx({name: rows.loc[place, name] for name in values}, rel=1e-12)
        assert ("train_loss" in values) == (place[1] > 0)
    finals = pd.read_csv(tmp_path / "trials.csv").set_index("trial")
    (conclusion,) = [call for call in second.calls if call[:2] == ("conclude", "arm1-s0")]
    assert conclusion[2] == 12
    assert conclusion[3]["test_accuracy"] == pytest.approx(finals.loc["arm1-s0", "test_accuracy"])


def scalars(folder):
    """(name, step, value) of every scalar in the event files of a folder, read as TensorBoard's record format says."""
    from tensorboardX.proto.event_pb2 import Event

    found, purged = [], []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += length + 16
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value if value.tag]
            if event.HasField("session_log"):
                purged.append(event.step)
    return found, purged


def test_event_files_hold_the_curves(tmp_path, trials, images):
    pytest.importorskip("tensorboardX")
    with pytest.raises(Interrupted):
        run(tmp_path, trials, images, told=trackers.make(["tensorboard"], tmp_path), stop_after=2)
    run(tmp_path, trials, images, told=trackers.make(["tensorboard"], tmp_path))
    rows = pd.read_csv(tmp_path / "curves.csv")
    for trial in ("arm0-s0", "arm1-s0"):
        found, purged = scalars(tmp_path / "tensorboard" / trial)
        assert purged == [0, 6]  # what comes after is hidden, where it had been written before
        curve = {step: value for name, step, value in found if name == "validation_loss"}
        mine = rows[rows.trial == trial].set_index("step").validation_loss
        assert curve == pytest.approx(mine.to_dict(), rel=1e-6)
        assert [name for name, step, _ in found if name == "final/test_accuracy" and step == 12]


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path, trials, images, monkeypatch):
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # it has read the environment, where it was used before
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(Interrupted):
        run(tmp_path, trials, images, told=trackers.make(["wandb"], tmp_path), stop_after=2)
    run(tmp_path, trials, images, told=trackers.make(["wandb"], tmp_path))
    rows = pd.read_csv(tmp_path / "curves.csv").set_index(["trial", "step"])
    found: dict[tuple[str, int], float] = {}
    identities, finals = set(), []
    for path in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb"):
        records = list(records_of_a_run(path))
        (begun,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
        identities.add((begun.display_name, begun.run_id))
        assert (begun.project, begun.run_group) == ("paribus", tmp_path.name)
        for record in records:
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if "validation_loss" in items:
                found[begun.display_name, record.history.step.num] = float(items["validation_loss"])
            finals += [item for item in record.summary.update if "final/test_accuracy" in (item.key, *item.nested_key)]
    assert found == pytest.approx(rows.validation_loss.to_dict())
    assert len(identities) == len(trials)  # what goes on has the name that it began with
    assert len(finals) == len(trials)


def records_of_a_run(path):
    """The records of wandb's file: a header of 7 bytes, then blocks of 32 KiB as in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, buffer = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        buffer += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(buffer)
            buffer = b""


def test_nobody_logged_in_to_weights_and_biases(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    settings = SimpleNamespace(mode="online", project=None)
    monkeypatch.setattr(wandb, "setup", lambda: SimpleNamespace(settings=settings))
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    with pytest.raises(BadInput, match=r"wandb login.*WANDB_MODE=offline"):
        trackers.make(["wandb"], tmp_path)


def test_bad_names_and_absent_libraries(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"tensorbord.*tensorboard"):
        trackers.make(["tensorbord"], tmp_path)
    for name, library in (("tensorboard", "tensorboardX"), ("wandb", "wandb")):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(BadInput, match=f"--tracker={name} needs {library}: pip install"):
            trackers.make([name], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3, 5, 12])
def test_a_profile_of_a_few_steps_opens(every, tmp_path, make_trials, images):
    plain, profiled = tmp_path / "plain", tmp_path / "profiled"
    trials = make_trials({"optimizer.learning_rate": 0.1}, training__evaluate_every=every)
    run(plain, trials, images)
    population = run(profiled, trials, images, profiles=profiled / "profiles")
    columns = ["step", "train_loss", "validation_loss"]
    pd.testing.assert_frame_equal(
        *(pd.read_csv(folder / "curves.csv")[columns] for folder in (plain, profiled)), check_exact=True
    )
    (folder,) = (profiled / "profiles" / population.id / "plugins" / "profile").iterdir()
    with gzip.open(folder / "perfetto_trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    assert any("dur" in event for event in events)
    (planes,) = folder.glob("*.xplane.pb")
    assert b"ThreadpoolListener" in planes.read_bytes() or planes.stat().st_size > 1000
