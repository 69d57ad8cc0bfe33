"""Features of recordings, computed once: kept in the cache under the digest of all that they depend on."""

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from models.base import BadInput
from train.data.files import File
from train.data.log_mel import LogMel, filterbank, log_mel
from train.data.registry import cache_folder
from train.data.waves import resampled, wave

LOGGER = logging.getLogger("paribus")

_VERSION = 1  # of the formulas; another number makes every file in the cache stale
_PATIENCE = 10.0  # seconds between two reports


class Recording(NamedTuple):
    """A recording, or a part of one.

    Attributes:
        origin: where it lies, for messages.
        read: gives the bytes of the wav file.
        start: seconds of the file before the part.
        seconds: of the part; None for the rest of the file.
    """

    origin: str
    read: Callable[[], bytes]
    start: float = 0.0
    seconds: float | None = None


class Features(NamedTuple):
    """Frames of all recordings one behind the other, and how many each has."""

    frames: Float32[np.ndarray, "frames mels"]
    lengths: Int64[np.ndarray, " recordings"]


def features(name: str, recordings: Sequence[Recording], settings: LogMel) -> Features:
    """The log-mel features of recordings, from the cache where they lie there.

    A cache that is damaged or cannot be written costs time and nothing else.

    Args:
        name: of the data set, which names the folder in the cache.
        recordings: in order.
        settings: of the features.

    Raises:
        BadInput: a recording is broken.
    """
    bank = filterbank(settings)
    digest = _digest(recordings, settings)
    try:
        path = cache_folder() / name / f"log-mel-{digest}.npz"
    except BadInput as error:
        LOGGER.warning("%s; the features are computed anew in every run", error)
        return _computed(recordings, settings, bank)
    found = _load(path, len(recordings), settings)
    if found is None:
        found = _computed(recordings, settings, bank)
        _save(path, found)
    return found


def _digest(recordings: Sequence[Recording], settings: LogMel) -> str:
    """Of the content of all recordings, in order, and of the settings."""
    digest = hashlib.sha256(f"{_VERSION} {sorted(dataclasses.asdict(settings).items())}\n".encode())
    for recording in recordings:
        digest.update(_sha256(recording.read()))
        digest.update(f" {recording.start} {recording.seconds}\n".encode())
    return digest.hexdigest()[:32]


@functools.lru_cache(maxsize=8)  # many recordings may be parts of one file
def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _computed(recordings: Sequence[Recording], settings: LogMel, bank: np.ndarray) -> Features:
    parts, reported = [], time.monotonic()
    for number, recording in enumerate(recordings):
        whole = wave(File(recording.origin, recording.read()))
        first = round(recording.start * whole.rate)
        end = None if recording.seconds is None else first + round(recording.seconds * whole.rate)
        samples = resampled(whole._replace(samples=whole.samples[first:end]), settings.rate)
        parts.append(log_mel(samples, settings, bank))
        if time.monotonic() - reported > _PATIENCE:
            reported = time.monotonic()
            LOGGER.info("log-mel features: %d of %d recordings", number + 1, len(recordings))
    return Features(np.concatenate(parts), np.array([len(part) for part in parts], np.int64))


def _load(path: Path, recordings: int, settings: LogMel) -> Features | None:
    """What lies in the cache; None where nothing of use does."""
    if not path.exists():
        return None
    try:
        # The archive has a checksum for each array.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = Features(archive["frames"], archive["lengths"])
        whole = found.frames.dtype == np.float32 and found.frames.shape == (found.lengths.sum(), settings.mels)
        if whole and found.lengths.shape == (recordings,):
            return found
        reason = "arrays of other shapes"
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
    LOGGER.warning("%s is damaged (%s); the features are computed anew", path, reason)
    return None


def _save(path: Path, found: Features) -> None:
    """Put the features into the cache in one step: another run finds all of them or nothing."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, frames=found.frames, lengths=found.lengths)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        LOGGER.warning("%s cannot be written: %s; the features are computed anew in every run", path, error.strerror)
        with contextlib.suppress(OSError):
            part.unlink()
