"""The official folder of Speech Commands, made small; and what may be wrong with it."""

import io

import numpy as np
import pytest
from scipy.io import wavfile

from models.base import BadInput
from train.data import speech_commands
from train.data.files import File
from train.data.waves import wave

RATE = 1000
SMALL = {"sample_rate": RATE, "mels": 6, "window_seconds": 0.05, "hop_seconds": 0.02, "seconds": 0.2}
WORDS = (*speech_commands._TEN, *speech_commands._OTHER)
FILES = 6  # recordings of each word: 0 to 3 train, 4 validates, 5 tests


def noise_bytes(count, seed):
    buffer = io.BytesIO()
    wavfile.write(buffer, RATE, np.random.default_rng(seed).integers(-9000, 9000, count).astype(np.int16))
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "speech_commands"
    for number, word in enumerate(WORDS):
        (root / word).mkdir(parents=True)
        for index in range(FILES):
            (root / word / f"s{index}_nohash_0.wav").write_bytes(noise_bytes(200, 10 * number + index))
    (root / "_background_noise_").mkdir()
    for name, count in (("hum", 5000), ("short", 100)):
        (root / "_background_noise_" / f"{name}.wav").write_bytes(noise_bytes(count, count))
    (root / "_background_noise_/README.md").write_text("not a recording")
    for filename, index in (("validation_list.txt", 4), ("testing_list.txt", 5)):
        (root / filename).write_text("".join(f"{word}/s{index}_nohash_0.wav\n" for word in WORDS))
    return root


def load(folder, **changes):
    return speech_commands.load(speech_commands.Config(**{**SMALL, **changes}), folder.parent)


def splits_of(folder, monkeypatch, **changes):
    seen = {}
    original = speech_commands.classification

    def spy(name, splits, **options):
        seen.update(options, splits=splits)
        return original(name, splits, **options)

    with monkeypatch.context() as patch:
        patch.setattr(speech_commands, "classification", spy)
        load(folder, **changes)
    return seen["splits"], seen["classes"]


def test_all_words(folder, cache):
    task = load(folder)
    assert len(WORDS) == len(set(WORDS)) == task.shapes.outputs == 35
    assert [task.facts[f"{split}_examples"] for split in ("train", "validation", "test")] == [140, 35, 35]
    assert task.facts["class_names"].split(", ") == sorted(WORDS)
    assert np.bincount(task.train.arrays["targets"]).tolist() == [4] * 35


def test_the_lists_are_the_split(folder, monkeypatch):
    splits, classes = splits_of(folder, monkeypatch)
    for split, indices in (("train", "0123"), ("validation", "4"), ("test", "5")):
        names = {one.name for one in splits[split]}
        assert names == {f"{word}/s{index}_nohash_0.wav" for word in WORDS for index in indices}
        assert all(classes[one.label] == one.name.partition("/")[0] for one in splits[split])
        assert all(one.recording.read() == (folder / one.name).read_bytes() for one in splits[split])


def test_ten_words_unknown_and_silence(folder, cache, monkeypatch):
    task = load(folder, words=10)
    assert task.shapes.outputs == 12
    assert np.bincount(task.train.arrays["targets"]).tolist() == [4] * 10 + [4, 4]  # a tenth of 40
    assert np.bincount(task.validation.arrays["targets"]).tolist() == [1] * 12
    splits, classes = splits_of(folder, monkeypatch, words=10)
    assert classes[10:] == ["unknown", "silence"]
    for split, spoken in splits.items():
        unknown = [one.name for one in spoken if one.label == 10]
        assert all(name.partition("/")[0] in speech_commands._OTHER for name in unknown)
        listed = {"train": "0123", "validation": "4", "test": "5"}[split]
        assert all(name.split("/s")[1][0] in listed for name in unknown)


def test_silence_of_one_split_is_in_no_other(folder, monkeypatch):
    splits, _ = splits_of(folder, monkeypatch, words=10)
    hum = folder / "_background_noise_/hum.wav"
    duration = wave(File("hum", hum.read_bytes())).samples.size / RATE
    for split, (begin, end) in {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}.items():
        silences = [one.recording for one in splits[split] if one.label == 11]
        assert len({one.start for one in silences}) == len(silences) > 0
        for one in silences:
            assert one.read() == hum.read_bytes()  # the short one has no tenth that is long enough
            assert begin * duration - 1e-3 <= one.start
            assert one.start + one.seconds <= end * duration + 1e-3


def damage(folder, kind):
    if kind == "no word":
        (folder / "zero").rename(folder / "zeros")
    elif kind == "empty word":
        for path in (folder / "bed").iterdir():
            path.unlink()
    elif kind == "no list":
        (folder / "testing_list.txt").unlink()
    elif kind == "empty list":
        (folder / "testing_list.txt").write_text("")
    elif kind == "wrong word":
        (folder / "testing_list.txt").write_text("yes/s5_nohash_0.wav\nnein/s5_nohash_0.wav\n")
    elif kind == "wrong file":
        (folder / "testing_list.txt").write_text("yes/s5_nohash_0.wav\nyes/s9_nohash_0.wav\n")
    elif kind == "twice":
        (folder / "testing_list.txt").write_text("yes/s5_nohash_0.wav\n\nyes/s4_nohash_0.wav\n")
    elif kind == "binary list":
        (folder / "testing_list.txt").write_bytes(b"yes\0")
    elif kind == "broken wav":
        (folder / "go/s0_nohash_0.wav").write_bytes(b"RIFF")
    elif kind == "no noise":
        (folder / "_background_noise_/hum.wav").unlink()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no word", "is not the official folder: it lacks zero"),
        ("empty word", "bed has no recording"),
        ("no list", r"testing_list\.txt cannot be read: No such file"),
        ("empty list", r"testing_list\.txt is empty"),
        ("wrong word", r"testing_list\.txt, line 2: unknown word 'nein'; did you mean 'nine'"),
        ("wrong file", r"testing_list\.txt, line 2: .*s9_nohash_0\.wav does not exist"),
        ("twice", r"testing_list\.txt, line 3: yes/s4_nohash_0\.wav is listed before"),
        ("binary list", r"testing_list\.txt is not plain text"),
        ("broken wav", r"go/s0_nohash_0\.wav is not a wav file"),
        ("no noise", r"_background_noise_ has no recording of at least 2 s, ten times seconds=0\.2"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be(folder, cache, kind, words):
    damage(folder, kind)
    with pytest.raises(BadInput, match=words) as error:
        load(folder, words=10)
    assert "\n" not in str(error.value)


def test_words_that_are_not_there(tmp_path):
    for data_dir in (None, tmp_path):
        with pytest.raises(BadInput, match="Speech Commands are not there: get https://"):
            speech_commands.load(speech_commands.Config(), data_dir)
