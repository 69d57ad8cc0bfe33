"""Tasks of spoken words in both forms, and the spoken digits; and what may be wrong with them."""

import gzip
import io
import logging
import math
import tarfile

import numpy as np
import pytest
from scipy.io import wavfile

from models.base import BadInput
from models.inputs import Padded
from train.data import free_spoken_digits, speech
from train.data.feature_cache import Recording
from train.data.files import File
from train.data.log_mel import FLOOR, LogMel, filterbank, log_mel
from train.data.task import Batch, FinalEvaluation
from train.data.waves import wave

RATE = 1000
SETTINGS = LogMel(rate=RATE, window=50, hop=20, mels=6)
SMALL = {"sample_rate": RATE, "mels": 6, "window_seconds": 0.05, "hop_seconds": 0.02, "seconds": 0.2}


def wav_bytes(samples, rate=RATE):
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, np.asarray(samples))
    return buffer.getvalue()


def noise(count, seed=0):
    return np.random.default_rng(seed).integers(-9000, 9000, count).astype(np.int16)


GOOD = wav_bytes(noise(100))


def recordings(*contents):
    return [Recording(f"{i}.wav", lambda content=content: content) for i, content in enumerate(contents)]


def spoken(count, *, classes=3, seed=0, samples=lambda i: 60 + 23 * i):
    return [
        speech.Spoken(f"{seed}-{i}", i % classes, recordings(wav_bytes(noise(samples(i), 100 * seed + i)))[0])
        for i in range(count)
    ]


def made(train=None, **changes):
    splits = {"train": train or spoken(12), "validation": spoken(4, seed=1), "test": spoken(5, seed=2)}
    return speech.classification(
        "made",
        splits,
        config=free_spoken_digits.Config(**{**SMALL, **changes}),
        classes=["a", "b", "c"],
        origin={"source": "made", "licence": "none"},
    )


def expected_middles(one, length):
    """The frames of a recording from its middle, by plain slicing."""
    frames = log_mel(wave(File("f", one.recording.read())).samples, SETTINGS, filterbank(SETTINGS))
    start = max(0, len(frames) - length) // 2
    return frames[start : start + length]


@pytest.mark.parametrize("form", ["image", "sequence"])
def test_inputs_of_both_forms(cache, form):
    task = made(form=form)
    length = 1 + (200 - 50) // 20
    assert task.shapes.inputs == ((length, 6, 1) if form == "image" else (length, 6))
    by_name = {one.name: one for one in spoken(12)}
    train = [expected_middles(one, length) for one in by_name.values()]
    mean, deviation = np.concatenate(train).mean(axis=0), np.concatenate(train).std(axis=0)
    order = [one.name for one in speech._ordered(spoken(12))]
    assert {len(part) for part in train} > {length}  # shorter and longer ones
    for row, name in enumerate(order):
        part = (expected_middles(by_name[name], length) - mean) / deviation
        lacking = length - len(part)
        if form == "sequence":
            inputs = task.train.arrays["inputs"]
            np.testing.assert_allclose(inputs.values[row, : len(part)], part, atol=1e-4)
            assert not inputs.values[row, len(part) :].any()
            assert inputs.mask[row].tolist() == [True] * len(part) + [False] * lacking
        else:
            image = task.train.arrays["inputs"][row, :, :, 0]
            np.testing.assert_allclose(image[lacking // 2 : lacking // 2 + len(part)], part, atol=1e-4)
            silence = np.broadcast_to((math.log(FLOOR) - mean) / deviation, (lacking, 6))
            around = np.concatenate([image[: lacking // 2], image[lacking // 2 + len(part) :]])
            np.testing.assert_allclose(around, silence, rtol=1e-4)


@pytest.mark.parametrize("form", ["image", "sequence"])
def test_a_recording_is_shown_as_a_spectrogram(form):
    """Time to the right, the highest band above, and no padding."""
    values = np.full((5, 3), -1.0, np.float32)
    values[3, 2], values[0, 0] = 3, 1
    inputs = values[..., None]
    if form == "sequence":
        inputs = Padded(np.concatenate([values, np.full((4, 3), 9, np.float32)]), np.arange(9) < 5)
    picture = speech._spectrogram(Batch(inputs, np.int32(1), np.float32(1)))
    assert (picture.shape, picture.dtype) == ((3, 5), np.uint8)
    assert np.argwhere(picture).tolist() == [[0, 3], [2, 0]]
    assert (picture[0, 3], picture[2, 0]) == (255, 128)


def test_standardised_by_the_training_recordings_that_are_used(cache):
    few = made(train_examples=6, form="sequence").train.arrays["inputs"]
    real = few.values[few.mask]
    np.testing.assert_allclose(real.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(real.std(axis=0), 1, atol=1e-4)
    other = speech.classification(
        "made",
        {"train": spoken(12), "validation": spoken(4, seed=7), "test": spoken(5, seed=8)},
        config=free_spoken_digits.Config(**SMALL),
        classes=["a", "b", "c"],
        origin={},
    )
    np.testing.assert_array_equal(made().train.arrays["inputs"], other.train.arrays["inputs"])


def test_subsets_are_nested_and_balanced(cache):
    targets = [made(train_examples=count).train.arrays["targets"].tolist() for count in (3, 6, 12)]
    assert sorted(targets[0]) == [0, 1, 2]
    assert targets[1][:3] == targets[0]
    assert targets[2][:6] == targets[1]
    names = [one.name for one in speech._ordered(spoken(12))]
    assert names == [one.name for one in speech._ordered(spoken(12)[::-1])]
    with pytest.raises(BadInput, match="train_examples=13 must be at most 12"):
        made(train_examples=13)


def test_a_recording_in_two_splits_is_counted(cache):
    assert made(train=[*spoken(11), spoken(4, seed=1)[0]]).facts["validation_examples_in_train"] == 1
    assert made().facts["validation_examples_in_train"] == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window_seconds": 0.5}, "window_seconds=0.5 must be at most seconds=0.2"),
        ({"hop_seconds": 0.0001}, "hop_seconds=0.0001 and window_seconds=0.05 must be at least 1 and 2 samples"),
    ],
)
def test_settings_that_do_not_fit(changes, words):
    with pytest.raises(BadInput, match=words):
        free_spoken_digits.Config(**{**SMALL, **changes})


# Free Spoken Digits --------------------------------------------------------------------------------------------


def archive(path, members, mode="w:gz"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def digits(speakers=("ann", "bob", "cem", "dan"), indices=(0, 4, 5, 9, 10, 11)):
    return {
        f"{digit}_{speaker}_{index}.wav": wav_bytes(noise(150, hash_of(digit, number, index)))
        for digit in range(2)
        for number, speaker in enumerate(speakers)
        for index in indices
    }


def hash_of(*numbers):
    return sum(number * 1000**power for power, number in enumerate(numbers))


def test_digits_by_index_and_by_speaker(tmp_path, cache, caplog):
    members = {f"release-1.0/recordings/{name}": content for name, content in digits().items()}
    members |= {"release-1.0/README.md": b"text", "release-1.0/recordings/._0_ann_0.wav": b"of a Mac"}
    archive(tmp_path / "fsdd/release-1.0.tar.gz", members)
    with caplog.at_level(logging.WARNING):
        task = free_spoken_digits.load(free_spoken_digits.Config(**SMALL), tmp_path)
    assert "other recordings than the 3,000" in caplog.text
    sizes = [task.facts[f"{split}_examples"] for split in ("train", "validation", "test")]
    assert sizes == [16, 16, 16]  # 2 digits, 4 speakers, 2 indices each
    task = free_spoken_digits.load(free_spoken_digits.Config(**SMALL, split="speaker"), tmp_path)
    assert [task.facts[f"{split}_examples"] for split in ("train", "validation", "test")] == [24, 12, 12]
    folder = tmp_path / "other/free_spoken_digits/recordings"
    folder.mkdir(parents=True)
    for name, content in digits().items():
        (folder / name).write_bytes(content)
    again = free_spoken_digits.load(free_spoken_digits.Config(**SMALL, split="speaker"), tmp_path / "other")
    assert again.facts["fingerprint"] == task.facts["fingerprint"]


def test_no_speaker_is_in_two_splits(tmp_path, cache, monkeypatch):
    archive(tmp_path / "fsdd/recordings.tar.gz", digits())
    seen = {}
    original = free_spoken_digits.classification

    def spy(name, splits, **options):
        seen.update(splits)
        return original(name, splits, **options)

    monkeypatch.setattr(free_spoken_digits, "classification", spy)
    free_spoken_digits.load(free_spoken_digits.Config(**SMALL, split="speaker"), tmp_path)
    speakers = {split: {one.name.split("_")[1] for one in spoken} for split, spoken in seen.items()}
    assert speakers == {"train": {"ann", "bob"}, "validation": {"cem"}, "test": {"dan"}}
    assert all(one.label == int(one.name[0]) for spoken in seen.values() for one in spoken)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "has no recording"),
        ({"README.md": b"x"}, "has no recording"),
        ({"eleven_ann_0.wav": GOOD}, r"eleven_ann_0\.wav is not called DIGIT_SPEAKER_INDEX\.wav"),
        ({"a/0_ann_0.wav": GOOD, "b/0_ann_0.wav": GOOD}, r"two recordings called 0_ann_0\.wav"),
        ({"0_ann_10.wav": GOOD, "0_ann_0.wav": GOOD}, "no recording for its validation split"),
        (digits() | {"0_ann_20.wav": b"RIFF"}, r"recordings\.tar\.gz: 0_ann_20\.wav is not a wav file"),
        (digits() | {"0_ann_20.wav": b""}, r"recordings\.tar\.gz: 0_ann_20\.wav is not a wav file"),
    ],
)
def test_bad_archives(tmp_path, cache, members, words):
    archive(tmp_path / "fsdd/recordings.tar.gz", members)
    with pytest.raises(BadInput, match=words) as error:
        free_spoken_digits.load(free_spoken_digits.Config(**SMALL), tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [b"", b"no archive", "cut", "cut inside gzip"])
def test_damaged_archives(tmp_path, cache, damage):
    path = archive(tmp_path / "fsdd/recordings.tar.gz", digits())
    content = path.read_bytes()
    if damage == "cut":
        damage = content[: len(content) // 2]
    elif damage == "cut inside gzip":
        damage = gzip.compress(gzip.decompress(content)[:700])
    path.write_bytes(damage)
    with pytest.raises(BadInput, match=r"recordings\.tar\.gz (is no archive that can be read|has no recording)"):
        free_spoken_digits.load(free_spoken_digits.Config(**SMALL), tmp_path)


def test_digits_that_are_not_there(tmp_path):
    for data_dir in (None, tmp_path):
        with pytest.raises(BadInput, match="the spoken digits are not there: get them from https://"):
            free_spoken_digits.load(free_spoken_digits.Config(), data_dir)
    archive(tmp_path / "fsdd/recordings.tar.gz", digits(speakers=("ann", "bob")))
    with pytest.raises(BadInput, match="has 2 speakers; split=speaker needs at least 3"):
        free_spoken_digits.load(free_spoken_digits.Config(split="speaker"), tmp_path)


def test_the_real_digits(shared_data, cache, caplog):
    with caplog.at_level(logging.WARNING):
        task = free_spoken_digits.load(free_spoken_digits.Config(), shared_data)
    assert not caplog.records
    assert task.shapes.inputs == (98, 40, 1)
    sizes = [task.facts[f"{split}_examples"] for split in ("train", "validation", "test")]
    assert sizes == [2400, 300, 300]
    for arrays in (task.train.arrays, task.validation.arrays, task.test.open(FinalEvaluation())):
        assert len(set(np.bincount(arrays["targets"]))) == 1
        assert np.isfinite(arrays["inputs"]).all()
