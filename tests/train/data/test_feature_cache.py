"""Features are computed once, and anew whatever happens to the cache."""

import dataclasses
import io
import logging

import numpy as np
import pytest
from scipy.io import wavfile

from models.base import BadInput
from train.data import feature_cache
from train.data.feature_cache import Features, Recording, features
from train.data.files import File
from train.data.log_mel import LogMel, filterbank, log_mel
from train.data.waves import wave

SETTINGS = LogMel(rate=1000, window=50, hop=20, mels=6)


def wav_bytes(samples, rate=1000):
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, np.asarray(samples))
    return buffer.getvalue()


def noise(count, seed=0):
    return np.random.default_rng(seed).integers(-9000, 9000, count).astype(np.int16)


def recordings(*contents):
    return [Recording(f"{i}.wav", lambda content=content: content) for i, content in enumerate(contents)]


THREE = [wav_bytes(noise(count, seed)) for seed, count in enumerate((120, 40, 300))]


@pytest.fixture
def computed(monkeypatch):
    """How often features were computed and not read."""
    calls = []
    original = feature_cache._computed

    def counted(*arguments):
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(feature_cache, "_computed", counted)
    return calls


def same(one: Features, other: Features):
    return np.array_equal(one.frames, other.frames) and np.array_equal(one.lengths, other.lengths)


def test_features_are_those_of_each_recording(cache):
    found = features("made", recordings(*THREE), SETTINGS)
    expected = [log_mel(wave(File("f", content)).samples, SETTINGS, filterbank(SETTINGS)) for content in THREE]
    np.testing.assert_array_equal(found.frames, np.concatenate(expected))
    assert found.lengths.tolist() == [len(part) for part in expected]
    part = [Recording("p", lambda: THREE[2], 0.1, 0.15)]
    cut = wave(File("f", THREE[2])).samples[100:250]
    np.testing.assert_array_equal(features("made", part, SETTINGS).frames, log_mel(cut, SETTINGS, filterbank(SETTINGS)))


def test_features_are_computed_once(cache, computed):
    first = features("made", recordings(*THREE), SETTINGS)
    assert same(features("made", recordings(*THREE), SETTINGS), first)
    assert len(computed) == 1
    assert [path.suffix for path in (cache / "data/made").iterdir()] == [".npz"]
    features("made", recordings(*THREE[::-1]), SETTINGS)
    features("made", recordings(*THREE), dataclasses.replace(SETTINGS, hop=21))
    features("made", recordings(*THREE[:2], wav_bytes(noise(300, 9))), SETTINGS)
    features("made", [one._replace(seconds=0.05) for one in recordings(*THREE)], SETTINGS)
    assert len(computed) == 5


@pytest.mark.parametrize("damage", ["empty", "cut", "flip a frame", "flip the head", "other", "pickle"])
def test_a_damaged_cache_is_computed_anew(cache, computed, damage, caplog):
    first = features("made", recordings(*THREE), SETTINGS)
    (path,) = (cache / "data/made").iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flip a frame":
        content[300] ^= 1
    elif damage == "flip the head":
        content[1] ^= 1
    path.write_bytes({"empty": b"", "cut": bytes(content[:-100])}.get(damage, bytes(content)))
    if damage == "other":
        np.savez(path, frames=first.frames[:-1], lengths=first.lengths)
    elif damage == "pickle":
        np.savez(path, frames=np.array([{}], object), lengths=first.lengths)
    with caplog.at_level(logging.WARNING):
        assert same(features("made", recordings(*THREE), SETTINGS), first)
    assert len(computed) == 2
    assert "is damaged" in caplog.text
    assert same(features("made", recordings(*THREE), SETTINGS), first)
    assert len(computed) == 2


def test_an_interrupted_write_leaves_nothing_that_is_read(cache, computed, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache.os, "fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            features("made", recordings(*THREE), SETTINGS)
    features("made", recordings(*THREE), SETTINGS)
    features("made", recordings(*THREE), SETTINGS)
    assert len(computed) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(cache, computed, monkeypatch, caplog):
    (cache / "data").mkdir(parents=True)
    (cache / "data/made").write_text("a file stands where the folder should")
    with caplog.at_level(logging.WARNING):
        features("made", recordings(*THREE), SETTINGS)
    assert "cannot be written" in caplog.text
    monkeypatch.setattr(feature_cache, "cache_folder", lambda: (_ for _ in ()).throw(BadInput("no cache")))
    features("made", recordings(*THREE), SETTINGS)
    assert "no cache; the features are computed anew in every run" in caplog.text
    assert len(computed) == 2
