"""Tasks of labelled images and signals: their options, standardisation by the training split, the task itself."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Integer, Shaped, UInt8

from models.base import BadInput, Configuration, Shapes, Static
from train.data.facts import facts
from train.data.files import Packaged, Remote
from train.data.label_noise import Replacement, noisy
from train.data.task import Batch, Task, Test, Train, Validation

LARGEST_STANDARDISED = 2**28
"""Bytes of the largest training split that is kept as the float32 numbers that a network sees."""

_CHANNELS = {1: ("",), 3: ("_red", "_green", "_blue")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig(Configuration):
    """What every set of labelled images lets one choose.

    Attributes:
        train_examples: use only so many training images: the classes take turns, so that the classes are as
            balanced as can be, and each smaller number is a subset of every larger one; None for all.
        crop: of an image only the middle is seen, so many pixels high and wide (Zhang et al. 2017, appendix A: 28);
            None for all of it.
        standardisation: by the mean and deviation of each channel over the ``training`` examples, or of each ``image``
            by its own, over all its pixels and channels.
        sequential: an image becomes the sequence of its pixels, row by row (Le et al. 2015, section 4.2).
        label_noise: probability with which a training example's label is replaced; validation and test keep theirs.
        label_noise_kind: it is replaced by one of the ``other`` classes, or by ``any`` class: with label_noise=1 and
            ``any``, labels are random (see :mod:`train.data.label_noise`).
        label_noise_seed: of what is replaced, and by what.
        permutation_seed: one fixed permutation of the pixels, the same for every image ("permuted MNIST" of the
            same paper; the control of Greydanus 2020 that takes away what lies beside what); None for their order.
    """

    train_examples: Annotated[int | None, Static(ge=1)] = None
    crop: Annotated[int | None, Static(ge=1)] = None
    standardisation: Annotated[Literal["training", "image"], Static()] = "training"
    label_noise: Annotated[float, Static(ge=0, le=1)] = 0.0
    label_noise_kind: Annotated[Replacement, Static()] = "other"
    label_noise_seed: Annotated[int, Static(ge=0)] = 0
    sequential: Annotated[bool, Static()] = False
    permutation_seed: Annotated[int | None, Static(ge=0)] = None


class Labelled(NamedTuple):
    """The examples of a split and the class of each.

    Attributes:
        pixels: images [count, height, width], or with channels [count, height, width, channels], of 0 to 255; or
            signals of real numbers [count, time].
        classes: numbered from 0.
    """

    pixels: UInt8[np.ndarray, "count height width *channels"] | Float64[np.ndarray, "count time"]
    classes: Integer[np.ndarray, " count"]


def classification(
    name: str,
    files: Sequence[Remote | Packaged],
    *,
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    classes: int | Sequence[str],
    options: ImagesConfig | None = None,
) -> Task:
    """The task of telling the class of an image or a signal.

    Inputs are float32 [height, width, channels], or [time, channels] of a signal or of an image as a sequence:
    ``(x / 255 - mean) / deviation`` (a signal is not divided by 255). Mean and standard deviation are two numbers a
    channel, taken over all pixels of the training examples that are used and nothing else; or two an image, of its own.

    Args:
        name: of the data set.
        files: where the examples come from.
        train: all training examples; ``options`` says how many are used.
        validation: examples that choose.
        test: examples that are read at the end.
        classes: their names, or how many there are.
        options: what a user chose; None for the defaults.

    Raises:
        BadInput: more training examples are asked for than there are, or a class is out of range.
    """
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.image_sampling import EachStandardised, StandardisedExamples
    from train.data.sampling import ShuffledExamples

    options = options or ImagesConfig()
    names, count = ((), classes) if isinstance(classes, int) else (tuple(classes), len(classes))
    for split, examples in (("train", train), ("validation", validation), ("test", test)):
        _check_classes(examples.classes, count, f"{name}, {split} split")
    used_train, noise = _used(train, count, options)
    used = {"train": used_train, "validation": validation, "test": test}
    values = {split: _cropped(_with_channels(examples.pixels), options.crop) for split, examples in used.items()}
    is_image = values["train"].dtype == np.uint8
    scaling = Scaling.of(values["train"], 255 if is_image else 1)
    # Large sets stay bytes until a batch is gathered; what comes out is the same up to the last bit of rounding.
    each = options.standardisation == "image"
    as_bytes = each or (is_image and 4 * values["train"].size > LARGEST_STANDARDISED)
    splits = {}
    for split, examples in used.items():
        inputs = _arranged(values[split] if as_bytes else scaling.standardised(values[split]), options)
        splits[split] = {"inputs": inputs, "targets": examples.classes.astype(np.int32)}
    sizes = {f"{split}_examples": len(arrays["targets"]) for split, arrays in splits.items()}
    sampler: Any = ShuffledExamples()
    if as_bytes:
        moments = tuple(scaling.mean.tolist()), tuple(scaling.divisor.tolist())
        sampler = EachStandardised() if each else StandardisedExamples(*moments)
    return Task(
        name=name,
        shapes=Shapes(inputs=splits["train"]["inputs"].shape[1:], vocabulary=None, outputs=count, per_position=False),
        objective=objectives.classification(),
        sampler=sampler,
        train=Train(splits["train"]),
        validation=Validation(splits["validation"]),
        test=Test(splits["test"]),
        facts={
            **facts(files, sizes={**sizes, "train_examples_available": len(train.classes)}, splits=splits),
            "classes": count,
            **noise,
            **({"standardised": "each by itself"} if each else scaling.facts("pixel" if is_image else "signal")),
        },
        show=functools.partial(_picture, None if each else scaling, values["train"].shape[1:]) if is_image else None,
        classes=names,
    )


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How inputs are standardised, channel by channel: ``(x / scale - mean) / deviation``.

    Attributes:
        scale: the largest value of a pixel, or 1.
        mean: of ``x / scale`` over the training examples and all places.
        deviation: the standard deviation of the same.
    """

    scale: int
    mean: Float64[np.ndarray, " channels"]
    deviation: Float64[np.ndarray, " channels"]

    @classmethod
    def of(
        cls,
        values: UInt8[np.ndarray, "count *shape channels"] | Float64[np.ndarray, "count *shape channels"],
        scale: int,
    ) -> "Scaling":
        """That of the training examples which are used."""
        columns = values.reshape(-1, values.shape[-1])
        if values.dtype != np.uint8:
            return cls(scale, columns.mean(0) / scale, columns.std(0) / scale)
        return cls.of_counts(np.stack([np.bincount(column, minlength=256) for column in columns.T]), scale)

    @classmethod
    def of_counts(cls, counts: Integer[np.ndarray, "channels 256"], scale: int) -> "Scaling":
        """That of bytes, from how often each of the 256 occurs in each channel: exact and fast."""
        total = counts[0].sum()
        levels = (np.arange(256, dtype=np.float32) / np.float32(scale)).astype(np.float64)
        mean = counts @ levels / total
        return cls(scale, mean, np.sqrt(np.sum(counts * np.square(levels - mean[:, None]), axis=1) / total))

    @property
    def divisor(self) -> Float64[np.ndarray, " channels"]:
        """The deviation, or 1 where it is 0: where all pixels are equal, nothing is left to scale."""
        return np.where(self.deviation > 0, self.deviation, 1.0)

    def standardised(
        self, values: UInt8[np.ndarray, "count *shape channels"] | Float64[np.ndarray, "count *shape channels"]
    ) -> Float32[np.ndarray, "count *shape channels"]:
        """The values as a network sees them."""
        scaled = values.astype(np.float32)
        scaled /= np.float32(self.scale)
        scaled -= self.mean.astype(np.float32)
        scaled /= self.divisor.astype(np.float32)
        return scaled

    def facts(self, kind: str) -> dict[str, float]:
        """Mean and deviation of each channel by name: ``pixel_mean``, or ``pixel_mean_red`` and so on."""
        suffixes = _CHANNELS.get(len(self.mean), tuple(f"_{channel}" for channel in range(len(self.mean))))
        return {
            f"{kind}_{name}{suffix}": float(value)
            for name, values in (("mean", self.mean), ("deviation", self.deviation))
            for suffix, value in zip(suffixes, values, strict=True)
        }


def _picture(
    scaling: Scaling | None, shape: tuple[int, ...], example: Batch
) -> UInt8[np.ndarray, "height width *channels"]:
    """An example as a person sees it, stretched from black to white without a scaling; permuted pixels stay so."""
    inputs = np.asarray(example.inputs)
    if scaling is None:
        pixels = 255 * (inputs - inputs.min()) / max(float(np.ptp(inputs)), 1e-6)
    else:
        pixels = (inputs * scaling.divisor + scaling.mean) * scaling.scale
    image = np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(shape)
    return image if shape[-1] == 3 else image[..., 0]


def balanced_order(classes: Integer[np.ndarray, " count"]) -> Integer[np.ndarray, " count"]:
    """The examples in an order in which the classes take turns: the first of each, the second of each, ..."""
    by_class = np.argsort(classes, kind="stable")
    ordered = classes[by_class]
    turn = np.empty(len(classes), np.int64)
    turn[by_class] = np.arange(len(classes)) - np.searchsorted(ordered, ordered)
    return np.lexsort((classes, turn))


def permutation(seed: int, count: int) -> Integer[np.ndarray, " count"]:
    """A fixed permutation of ``count`` positions that no random generator's version can change.

    The positions are ordered by the sha256 of ``"seed position"``, both in decimal.
    """
    return np.array(sorted(range(count), key=lambda place: hashlib.sha256(f"{seed} {place}".encode()).digest()))


def _used(train: Labelled, classes: int, options: ImagesConfig) -> tuple[Labelled, dict[str, int]]:
    """The training examples that are asked for, with the labels to be learnt; and what the record says of the noise.

    The first so many in the balanced order; all of them, in the order in which they came, where None are asked. Which
    ones does not depend on the noise, and what an example is called not on how many are used.
    """
    limit, available = options.train_examples, len(train.classes)
    if limit is not None and limit > available:
        raise BadInput(f"train_examples={limit} must be at most {available}, the training examples there are")
    chosen = slice(None) if limit is None else balanced_order(train.classes)[:limit]
    labels, counts = train.classes, {}
    if options.label_noise:
        labels, replaced = noisy(
            train.classes,
            classes=classes,
            probability=options.label_noise,
            replacement=options.label_noise_kind,
            seed=options.label_noise_seed,
        )
        counts = {
            "train_labels_replaced": int(replaced[chosen].sum()),
            "train_labels_wrong": int((labels != train.classes)[chosen].sum()),
        }
    return Labelled(train.pixels[chosen], labels[chosen]), counts


def _check_classes(found: Integer[np.ndarray, " count"], classes: int, where: str) -> None:
    outside = np.flatnonzero((found < 0) | (found >= classes))
    if outside.size:
        row = int(outside[0])
        raise BadInput(f"{where}: example {row} has the label {int(found[row])}; expected 0 to {classes - 1}")


def _with_channels(
    pixels: UInt8[np.ndarray, "count height width *channels"] | Float64[np.ndarray, "count time"],
) -> UInt8[np.ndarray, "count height width channels"] | Float64[np.ndarray, "count time 1"]:
    return pixels if pixels.ndim == 4 else pixels[..., None]


def _cropped(values: Shaped[np.ndarray, "count *shape channels"], side: int | None) -> Shaped[np.ndarray, "..."]:
    """The middle of the images."""
    if side is None:
        return values
    shape = values.shape[1:-1]
    if len(shape) != 2 or side > min(shape):
        raise BadInput(
            f"crop={side} must be at most the side of the images, and examples are {' x '.join(map(str, shape))}"
        )
    top, left = ((size - side) // 2 for size in shape)
    return np.ascontiguousarray(values[:, top : top + side, left : left + side])


def _arranged(inputs: Shaped[np.ndarray, "..."], options: ImagesConfig) -> Shaped[np.ndarray, "..."]:
    """The pixels permuted, and as a sequence, where that is asked for."""
    places = inputs.reshape(len(inputs), -1, inputs.shape[-1])
    if options.permutation_seed is not None:
        places = places[:, permutation(options.permutation_seed, places.shape[1])]
    return places if options.sequential else places.reshape(inputs.shape)
