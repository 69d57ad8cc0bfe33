"""Log-mel features: how loud each band of frequencies is at each time, as an ear hears it."""

import dataclasses

import numpy as np
from jaxtyping import Float32, Float64

from models.base import BadInput

FLOOR = 1e-8
"""Energies below this are taken for it; digital silence is then ``log(FLOOR)`` in every band."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogMel:
    """What the features are made of; nothing else has an influence on them.

    Attributes:
        rate: samples in a second.
        window: samples in a frame.
        hop: samples from the beginning of a frame to that of the next.
        mels: bands.
        lowest: frequency in Hz where the first band begins; the last ends at half the rate.
    """

    rate: int
    window: int
    hop: int
    mels: int
    lowest: float = 20.0

    @property
    def points(self) -> int:
        """Points of the Fourier transform: the next power of two."""
        return 1 << (self.window - 1).bit_length()

    def frames(self, samples: int) -> int:
        """Frames of so many samples: those that fit, at least one."""
        return 1 + max(0, samples - self.window) // self.hop


def filterbank(settings: LogMel) -> Float64[np.ndarray, "frequencies mels"]:
    """Triangles over the frequencies, their corners equally far apart on the mel scale of the Hidden Markov Toolkit.

    ``mel = 2595 log10(1 + f / 700)`` (Young et al. 2006, "The HTK Book", section 5.6); band m rises linearly in Hz from
    corner m to 1 at corner m + 1 and falls to 0 at corner m + 2.

    Raises:
        BadInput: a band is so narrow that no frequency of the transform falls into it.
    """
    lowest, highest = (2595 * np.log10(1 + frequency / 700) for frequency in (settings.lowest, settings.rate / 2))
    corners = 700 * (10 ** (np.linspace(lowest, highest, settings.mels + 2) / 2595) - 1)
    frequencies = np.arange(settings.points // 2 + 1)[:, None] * settings.rate / settings.points
    widths = np.diff(corners)
    rising = (frequencies - corners[:-2]) / widths[:-1]
    falling = (corners[2:] - frequencies) / widths[1:]
    weights = np.maximum(0, np.minimum(rising, falling))
    if not weights.any(axis=0).all():
        raise BadInput(
            f"mels={settings.mels} are too many for windows of {settings.window} samples at {settings.rate} Hz: a band "
            "holds no frequency of the transform; take fewer, or longer windows"
        )
    return weights


def log_mel(
    samples: Float32[np.ndarray, " time"], settings: LogMel, bank: Float64[np.ndarray, "frequencies mels"]
) -> Float32[np.ndarray, "frames mels"]:
    """``log(max(sum_f W[f, m] |X[t, f]|^2 / sum_n w[n]^2, FLOOR))`` with X the Fourier transform of frame t times w.

    w is the periodic Hann window. Frames lie within the samples; those after the last whole frame are dropped,
    and fewer than one window are padded with zeros at the end.

    Args:
        samples: amplitudes from -1 to 1 at ``settings.rate``.
        settings: of the features.
        bank: what :func:`filterbank` gives for them.
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.window) / settings.window)
    padded = np.pad(samples, (0, max(0, settings.window - samples.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, settings.window)[:: settings.hop]
    spectrum = np.fft.rfft(frames * window, settings.points, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2) / np.sum(window**2)
    return np.log(np.maximum(power @ bank, FLOOR)).astype(np.float32)
