"""Wav files and log-mel features, against plain formulas in float64; and what may be wrong with a file."""

import contextlib
import dataclasses
import io
import math
import struct

import numpy as np
import pytest
from scipy.io import wavfile

from models.base import BadInput
from train.data.files import File
from train.data.log_mel import FLOOR, LogMel, filterbank, log_mel
from train.data.waves import Wave, resampled, wave

SETTINGS = LogMel(rate=1000, window=50, hop=20, mels=6)


def wav_bytes(samples, rate=1000):
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, np.asarray(samples))
    return buffer.getvalue()


def noise(count, seed=0):
    return np.random.default_rng(seed).integers(-9000, 9000, count).astype(np.int16)


def test_samples_are_those_that_were_written():
    written = np.array([0, 1, -(2**15), 2**15 - 1], np.int16)
    found = wave(File("f.wav", wav_bytes(written, 8000)))
    assert found.rate == 8000
    np.testing.assert_array_equal(found.samples * 2**15, written)
    assert found.samples.dtype == np.float32


def test_a_chunk_beside_the_samples_is_passed_over():
    content = wav_bytes(noise(10))
    extra = b"odd " + struct.pack("<I", 4) + b"abcd"
    longer = content[:4] + struct.pack("<I", len(content) + len(extra) - 8) + content[8:36] + extra + content[36:]
    np.testing.assert_array_equal(wave(File("f.wav", longer)).samples, wave(File("f.wav", content)).samples)


GOOD = wav_bytes(noise(100))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a wav file that can be read"),
        (b"<html> 404 not found </html>", "is not a wav file that can be read"),
        (GOOD[:30], "is not a wav file that can be read"),
        (GOOD[:90], "is cut short|is not a wav file that can be read"),
        (wav_bytes(np.zeros((50, 2), np.int16)), "has 2 channels; expected 1"),
        (wav_bytes(np.zeros(50, np.uint8)), "has samples of type uint8; expected 16-bit"),
        (wav_bytes(np.zeros(50, np.int32)), "has samples of type int32"),
        (wav_bytes(np.zeros(50, np.float32)), "has samples of type float32"),
        (wav_bytes(np.zeros(0, np.int16)), "has 0 samples|is not a wav file that can be read"),
    ],
)
def test_broken_wav_files(content, words):
    with pytest.raises(BadInput, match=words) as error:
        wave(File("some/f.wav", content))
    assert str(error.value).startswith("some/f.wav ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("position", range(0, 44, 3))
def test_a_damaged_header_never_shows_a_traceback(position):
    content = bytearray(GOOD)
    content[position] ^= 0xFF
    with contextlib.suppress(BadInput):  # what is read may be another recording
        wave(File("f.wav", bytes(content)))


@pytest.mark.parametrize(("rate", "target"), [(16_000, 8000), (8000, 16_000), (44_100, 8000)])
def test_resampling_keeps_a_tone(rate, target):
    """A tone of 440 Hz, away from the ends, is the tone at the other rate."""
    tone = np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate).astype(np.float32)
    found = resampled(Wave(tone, rate), target)
    assert found.size == math.ceil(tone.size * target / rate)
    expected = np.sin(2 * np.pi * 440 * np.arange(found.size) / target)
    middle = slice(found.size // 4, -found.size // 4)
    np.testing.assert_allclose(found[middle], expected[middle], atol=5e-3)
    assert resampled(Wave(tone, rate), rate) is tone


def plain_filterbank(settings):
    """Triangles by their definition, frequency by frequency, in float64."""

    def mel(frequency):
        return 2595 * math.log10(1 + frequency / 700)

    low, high = mel(settings.lowest), mel(settings.rate / 2)
    corners = [
        700 * (10 ** ((low + (high - low) * i / (settings.mels + 1)) / 2595) - 1) for i in range(settings.mels + 2)
    ]
    weights = np.zeros((settings.points // 2 + 1, settings.mels))
    for k in range(settings.points // 2 + 1):
        frequency = k * settings.rate / settings.points
        for m in range(settings.mels):
            left, centre, right = corners[m : m + 3]
            if left <= frequency <= centre:
                weights[k, m] = (frequency - left) / (centre - left)
            elif centre < frequency <= right:
                weights[k, m] = (right - frequency) / (right - centre)
    return weights


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, LogMel(rate=8000, window=200, hop=80, mels=40), LogMel(rate=16_000, window=400, hop=160, mels=64)],
)
def test_the_filterbank_is_its_definition(settings):
    np.testing.assert_allclose(filterbank(settings), plain_filterbank(settings), atol=1e-12)


def test_corners_of_the_filterbank_at_known_mels():
    """1000 Hz are 1000 mel by the making of the scale, so a single band up to there has its peak at 500 mel."""
    settings = LogMel(rate=2000, window=4096, hop=1, mels=1, lowest=0)
    assert np.argmax(filterbank(settings)[:, 0]) * 2000 / 4096 == pytest.approx(390.9, abs=0.5)  # 500 mel


@pytest.mark.parametrize("count", [1, 49, 50, 69, 70, 233])
def test_log_mel_is_its_formula(count):
    samples = (noise(count) / 2**15).astype(np.float32)
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / 50) for n in range(50)]
    padded = np.concatenate([samples, np.zeros(max(0, 50 - count))]).astype(np.float64)
    bank = plain_filterbank(SETTINGS)
    expected = []
    for start in range(0, len(padded) - 50 + 1, 20):
        energies = []
        for k in range(33):  # 64 points, and of those the first half
            total = sum(window[n] * padded[start + n] * np.exp(-2j * np.pi * k * n / 64) for n in range(50))
            energies.append(abs(total) ** 2 / sum(w * w for w in window))
        expected.append([math.log(max(sum(e * bank[k, m] for k, e in enumerate(energies)), FLOOR)) for m in range(6)])
    found = log_mel(samples, SETTINGS, filterbank(SETTINGS))
    assert found.dtype == np.float32
    assert len(found) == SETTINGS.frames(count)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_silence_is_the_floor():
    found = log_mel(np.zeros(100, np.float32), SETTINGS, filterbank(SETTINGS))
    np.testing.assert_allclose(found, math.log(FLOOR), rtol=1e-6)


def test_too_many_bands():
    with pytest.raises(BadInput, match="mels=400 are too many for windows of 50 samples at 1000 Hz"):
        filterbank(dataclasses.replace(SETTINGS, mels=400))
