"""Tasks of telling what was said in a short recording, from its log-mel features."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from models.base import BadInput, Configuration, Shapes, Static
from train.data.facts import facts
from train.data.feature_cache import Features, Recording, features
from train.data.images import balanced_order
from train.data.log_mel import FLOOR, LogMel
from train.data.task import Batch, Task, Test, Train, Validation


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig(Configuration):
    """What every task of speech lets one choose.

    Attributes:
        form: ``image`` is [time, mels, 1], every recording cut or filled with silence on both sides to one
            length; ``sequence`` is [time, mels] with a mask, filled up at the end.
        seconds: of a recording that are used, from its middle.
        sample_rate: in Hz; other recordings are resampled.
        mels: bands of frequencies.
        window_seconds: of a frame.
        hop_seconds: from one frame to the next.
        train_examples: use only the first so many training recordings, the classes in turn (each smaller
            number is a subset of every larger one); None for all.
    """

    form: Annotated[Literal["image", "sequence"], Static()] = "image"
    seconds: Annotated[float, Static(gt=0, le=60)] = 1.0
    sample_rate: Annotated[int, Static(ge=1000, le=192_000)] = 16_000
    mels: Annotated[int, Static(ge=1, le=512)] = 40
    window_seconds: Annotated[float, Static(gt=0, le=1)] = 0.025
    hop_seconds: Annotated[float, Static(gt=0, le=1)] = 0.010
    train_examples: Annotated[int | None, Static(ge=1)] = None

    def validate(self) -> None:
        """A window and a hop are at least a sample or two, and a window fits into a recording."""
        if round(self.hop_seconds * self.sample_rate) < 1 or round(self.window_seconds * self.sample_rate) < 2:
            raise BadInput(
                f"hop_seconds={self.hop_seconds} and window_seconds={self.window_seconds} must be at least 1 and 2 "
                f"samples at sample_rate={self.sample_rate}"
            )
        if self.window_seconds > self.seconds:
            raise BadInput(f"window_seconds={self.window_seconds} must be at most seconds={self.seconds}")

    @property
    def features(self) -> LogMel:
        """The settings of the features."""
        return LogMel(
            rate=self.sample_rate,
            window=round(self.window_seconds * self.sample_rate),
            hop=round(self.hop_seconds * self.sample_rate),
            mels=self.mels,
        )


class Spoken(NamedTuple):
    """A recording and what is said in it.

    Attributes:
        name: of the recording within the data set; the order in which examples are used follows from it.
        label: the class.
        recording: where it lies.
    """

    name: str
    label: int
    recording: Recording


def classification(
    name: str,
    splits: Mapping[str, Sequence[Spoken]],
    *,
    config: SpeechConfig,
    classes: Sequence[str],
    origin: Mapping[str, str | int | float],
) -> Task:
    """The task of telling which of the classes a recording is.

    Features are standardised band by band: mean and standard deviation are taken over the frames that are used of the
    training recordings that are used, and nothing else.

    Args:
        name: of the data set.
        splits: ``train``, ``validation`` and ``test``.
        config: how much of them is used, and in what form.
        classes: their names.
        origin: facts on where the data come from: ``source`` and ``licence`` at least.

    Raises:
        BadInput: a recording is broken, a split is empty, or more are asked for than there are.
    """
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.sampling import ShuffledExamples

    for split, spoken in splits.items():
        if not spoken:
            raise BadInput(f"data set {name!r} has no recording for its {split} split")
    available = len(splits["train"])
    if config.train_examples is not None and config.train_examples > available:
        raise BadInput(f"train_examples={config.train_examples} must be at most {available}, all training recordings")
    used = {split: _ordered(spoken) for split, spoken in splits.items()}
    used["train"] = used["train"][: config.train_examples]
    settings = config.features
    length = settings.frames(round(config.seconds * config.sample_rate))
    cut = {
        split: _middles(features(name, [one.recording for one in spoken], settings), length)
        for split, spoken in used.items()
    }
    real = cut["train"].values[cut["train"].mask]
    mean, deviation = real.mean(axis=0, dtype=np.float64), real.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1
    arrays: dict[str, dict[str, Any]] = {
        split: {
            "inputs": _inputs(cut[split], mean.astype(np.float32), deviation.astype(np.float32), config.form),
            "targets": np.array([one.label for one in used[split]], np.int32),
        }
        for split in used
    }
    shape = (length, config.mels) if config.form == "sequence" else (length, config.mels, 1)
    sizes = {f"{split}_examples": len(spoken) for split, spoken in used.items()}
    return Task(
        name=name,
        shapes=Shapes(inputs=shape, vocabulary=None, outputs=len(classes), per_position=False),
        objective=objectives.classification(),
        sampler=ShuffledExamples(),
        train=Train(arrays["train"]),
        validation=Validation(arrays["validation"]),
        test=Test(arrays["test"]),
        facts={
            **facts((), sizes={**sizes, "train_examples_available": available}, splits=arrays),
            **origin,
            "classes": len(classes),
            "class_names": ", ".join(classes),
        },
        show=_spectrogram,
        classes=tuple(classes),
    )


def _spectrogram(example: Batch) -> UInt8[np.ndarray, "mels time"]:
    """A recording as a person looks at it: time to the right, high frequencies above."""
    inputs = example.inputs
    values = inputs[..., 0] if isinstance(inputs, np.ndarray) else inputs.values[np.asarray(inputs.mask)]
    low, high = values.min(), values.max()
    return np.round((values.T[::-1] - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)


def _ordered(spoken: Sequence[Spoken]) -> list[Spoken]:
    """In an order that no random generator's version can change, the classes in turn."""
    mixed = sorted(spoken, key=lambda one: hashlib.sha256(one.name.encode()).digest())
    return [mixed[index] for index in balanced_order(np.array([one.label for one in mixed]))]


class _Cut(NamedTuple):
    """Frames of every recording from its middle; where the mask is false there are none."""

    values: Float32[np.ndarray, "recordings time mels"]
    mask: Bool[np.ndarray, "recordings time"]


def _middles(found: Features, length: int) -> _Cut:
    mask = np.arange(length)[None] < found.lengths[:, None]
    values = np.zeros((*mask.shape, found.frames.shape[1]), np.float32)
    first = np.cumsum(found.lengths) - found.lengths + np.maximum(0, found.lengths - length) // 2
    for row, start in enumerate(first):
        count = int(mask[row].sum())
        values[row, :count] = found.frames[start : start + count]
    return _Cut(values, mask)


def _inputs(cut: _Cut, mean: Float32[np.ndarray, " mels"], deviation: Float32[np.ndarray, " mels"], form: str) -> Any:
    from models.inputs import Padded  # imports jax; a list of the data sets must not

    standardised = (cut.values - mean) / deviation
    if form == "sequence":
        return Padded(np.where(cut.mask[..., None], standardised, np.float32(0)), cut.mask)  # type: ignore[arg-type]
    length = cut.mask.shape[1]
    silence = (np.float32(np.log(FLOOR)) - mean) / deviation
    filled = np.where(cut.mask[..., None], standardised, silence)
    # From the beginning to the middle: what is there moves by half of what is lacking.
    shift = (length - cut.mask.sum(axis=1)) // 2
    places = (np.arange(length)[None] - shift[:, None]) % length
    return np.take_along_axis(filled, places[..., None], axis=1)[..., None]
