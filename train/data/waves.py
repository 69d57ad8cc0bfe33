"""Reader of recordings: wav files of one channel and 16 bits."""

import io
import math
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from models.base import BadInput
from train.data.files import File


class Wave(NamedTuple):
    """A recording.

    Attributes:
        samples: amplitudes from -1 to 1.
        rate: samples in a second.
    """

    samples: Float32[np.ndarray, " time"]
    rate: int


def wave(file: File) -> Wave:
    """The recording of a wav file.

    Raises:
        BadInput: the file is no wav file, or is cut short, or has more channels, other samples, or none.
    """
    from scipy.io import wavfile  # as late as this: a list of the data sets must be quick

    try:
        with warnings.catch_warnings():
            # Chunks beside the samples are of no interest; an end before its time is.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(file.content))
    except wavfile.WavFileWarning:
        raise BadInput(f"{file.origin} is cut short: it announces more samples than it has") from None
    except Exception as error:  # a damaged header makes SciPy raise whatever its arithmetic comes to
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise BadInput(f"{file.origin} is not a wav file that can be read: {reason}") from None
    if samples.ndim != 1:
        raise BadInput(f"{file.origin} has {samples.shape[-1]} channels; expected 1: mix them down first")
    if samples.dtype != np.int16:
        raise BadInput(f"{file.origin} has samples of type {samples.dtype}; expected 16-bit integers (PCM)")
    if not samples.size or rate < 1:
        raise BadInput(f"{file.origin} has {samples.size} samples at {rate} Hz; expected a recording")
    return Wave(samples.astype(np.float32) / np.float32(2**15), rate)


def resampled(recording: Wave, rate: int) -> Float32[np.ndarray, " time"]:
    """The samples at another rate, by the polyphase filter of ``scipy.signal.resample_poly``."""
    if recording.rate == rate:
        return recording.samples
    from scipy.signal import resample_poly

    common = math.gcd(recording.rate, rate)
    return resample_poly(recording.samples, rate // common, recording.rate // common).astype(np.float32)
