"""MNIST-1D: ten digits as signals of 40 points, generated from a seed (Greydanus 2020, arXiv:2011.14439).

A template of 12 points for each digit is padded with 36 to 60 zeros, stretched to 72 points, scaled, rolled by up
to 47 points, filled with correlated noise where it is zero, given white noise everywhere, sheared, and reduced to
40 points (section 2 of the paper, with the settings of its published code). Random numbers are drawn from NumPy's
frozen legacy generator in the order of that code: with the default seed and number of samples, training and test
examples are the published ones, 4,000 and 1,000, up to the standardisation, which here knows the training split
alone and there both. The published data have no validation split; it is generated from (seed, 1).
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float64, Integer

from models.base import BadInput, Static
from train.data.files import Packaged, Remote
from train.data.images import ImagesConfig, Labelled, classification
from train.data.task import Task

FILES: tuple[Remote | Packaged, ...] = ()

_CLASSES = 10
_LEAST_PADDING, _MOST_PADDING = 36, 60
_LENGTH, _FINAL = 72, 40  # points while a signal is made, and at the end
_SCALE, _ROLL, _CORRELATED, _WHITE, _SHEAR = 0.4, 48, 0.25, 0.02, 0.75
_SMOOTHING = 2.0  # standard deviation, in points, of the filter that correlates the noise
_TRAIN_SHARE = 0.8

_DRAWINGS = (  # heights of the twelve points of each digit, as a pen would draw it from top to bottom
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImagesConfig):
    """MNIST-1D. A signal is a sequence as it is: ``sequential`` changes nothing.

    Attributes:
        samples: how many examples are generated for training (four fifths) and testing (one fifth).
        generator_seed: what they are generated from.
    """

    samples: Annotated[int, Static(ge=50)] = 5_000
    generator_seed: Annotated[int, Static(ge=0, lt=2**32)] = 42

    def validate(self) -> None:
        """Every class has equally many samples, and the parts are whole numbers."""
        if self.samples % 50:
            near = max(50, round(self.samples / 50) * 50)
            raise BadInput(f"samples={self.samples} must be a multiple of 50; nearest: {near}")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task: 4,000 signals to train on, 1,000 to validate, 1,000 to test. ``data_dir`` is not needed."""
    del data_dir
    train = round(config.samples * _TRAIN_SHARE)
    signals, classes = generate(np.random.RandomState(config.generator_seed), config.samples)
    held, held_classes = generate(np.random.RandomState([config.generator_seed, 1]), config.samples - train)
    task = classification(
        "mnist1d",
        FILES,
        train=Labelled(signals[:train], classes[:train]),
        validation=Labelled(held, held_classes),
        test=Labelled(signals[train:], classes[train:]),
        classes=_CLASSES,
        options=config,
    )
    return dataclasses.replace(
        task, facts={**task.facts, "source": "generated as in arXiv:2011.14439", "licence": "none needed: generated"}
    )


def templates() -> Float64[np.ndarray, "10 12"]:
    """The ten signals without any change: of mean 0 and deviation 1, moved to start at 0, divided by 6."""
    drawn = np.array(_DRAWINGS)
    drawn -= drawn.mean(1, keepdims=True)
    drawn /= drawn.std(1, keepdims=True)
    return (drawn - drawn[:, :1]) / 6


def generate(
    random: np.random.RandomState, samples: int
) -> tuple[Float64[np.ndarray, "samples 40"], Integer[np.ndarray, " samples"]]:
    """Signals and their classes, equally many of each class, in random order; not standardised.

    Args:
        random: NumPy's legacy generator, whose numbers no later release of NumPy changes.
        samples: a multiple of 10.
    """
    classes = np.arange(samples) // (samples // _CLASSES)
    signals = np.stack([_signal(random, template) for template in templates()[classes]])
    order = random.permutation(samples)
    return signals[order], classes[order]


def _signal(random: np.random.RandomState, template: Float64[np.ndarray, " 12"]) -> Float64[np.ndarray, " 40"]:
    """One example of a template; the order of the draws is that of the published code."""
    from scipy.ndimage import gaussian_filter1d

    # Not exactly 0 where the digit is, so that what is 0 below is padding; the published code does the same.
    padding = _LEAST_PADDING + int(random.rand() * (_MOST_PADDING - _LEAST_PADDING + 1))
    signal = _resampled(np.concatenate([template + 1e-8, np.zeros(padding)]), _LENGTH)
    signal = signal * (1 + _SCALE * (random.rand() - 0.5))
    signal = np.roll(signal, random.choice(_ROLL))
    noise = gaussian_filter1d(_CORRELATED * random.randn(_LENGTH), _SMOOTHING)
    signal = np.where(signal != 0, signal, noise) + _WHITE * random.randn(_LENGTH)
    signal = signal - _SHEAR * (random.rand() - 0.5) * np.linspace(-0.5, 0.5, _LENGTH)
    return _resampled(signal, _FINAL)


def _resampled(signal: Float64[np.ndarray, " points"], points: int) -> Float64[np.ndarray, " resampled"]:
    """The signal at other equally spaced points over the same span, by linear interpolation."""
    return np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(signal)), signal)
