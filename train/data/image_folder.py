"""Images of one's own: a folder of images for each class, whose name is the class's.

Either ``FOLDER/CLASS/IMAGE``, which is split here, or ``FOLDER/train/CLASS/IMAGE`` with ``validation`` (or ``val``)
and ``test`` beside ``train``; where one of the two is absent it is cut from the training images. What is cut is told
by the order of the sha256 of the file names, class by class, which no random generator's version can change.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from models.base import BadInput, Static, unknown
from train.data.files import Packaged, Remote, located
from train.data.images import ImagesConfig, Labelled, classification
from train.data.task import Task

FILES: tuple[Remote | Packaged, ...] = ()

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
"""Files with these endings are images; what begins with a dot is passed over; anything else is refused."""

_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImagesConfig):
    """A folder of images per class.

    Attributes:
        folder: the folder; looked for below ``--data_dir``, then as it is given.
        size: every image is resized to this many pixels in height and width; None where all are of one size.
        colour: three channels, or the brightness alone. Transparency is dropped.
        validation_share: of the images, cut for validation where there is no such folder.
        test_share: of the images, cut for testing where there is no such folder.
    """

    folder: Annotated[str, Static()] = "image_folder"
    size: Annotated[int | None, Static(ge=1)] = None
    colour: Annotated[bool, Static()] = True
    validation_share: Annotated[float, Static(gt=0, lt=1)] = 0.1
    test_share: Annotated[float, Static(gt=0, lt=1)] = 0.2

    def validate(self) -> None:
        """Something must be left to train on."""
        if self.validation_share + self.test_share >= 1:
            raise BadInput(
                f"validation_share={self.validation_share} and test_share={self.test_share} must add up to less than 1"
            )


class _Image(NamedTuple):
    path: Path
    label: int


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of telling the class of an image.

    Raises:
        BadInput: the folder or a class in it is absent or empty, an image cannot be read, or they differ in size.
    """
    root = located(config.folder, data_dir)
    if not root.is_dir():
        raise BadInput(f"data.folder={str(root)!r} is not a folder; expected one folder of images for each class in it")
    names, images = _splits(root, config)
    pixels = {split: _read(members, config) for split, members in images.items()}
    shapes = {split: part.shape[1:] for split, part in pixels.items()}
    for split, shape in shapes.items():
        if shape != shapes["train"]:
            raise _of_two_sizes(images["train"][0].path, shapes["train"], images[split][0].path, shape)
    labels = {split: np.array([image.label for image in members]) for split, members in images.items()}
    splits = {split: Labelled(pixels[split], labels[split]) for split in pixels}
    task = classification("image_folder", FILES, **splits, classes=names, options=config)
    origin = {"source": str(root), "licence": "the owner's", "class_names": ", ".join(names)}
    return dataclasses.replace(task, facts={**task.facts, **origin})


def _splits(root: Path, config: Config) -> tuple[list[str], dict[str, list[_Image]]]:
    """The names of the classes, and the images of each split."""
    folders = {path.name: path for path in _folders(root)}
    given = {split: folders[name] for name, split in _SPLITS.items() if name in folders}
    if "train" not in given:
        given = {"train": root}
    elif set(folders) - set(_SPLITS):
        raise BadInput(
            f"{root} has the folders train and {min(set(folders) - set(_SPLITS))!r}: splits or classes, not both"
        )
    names = [path.name for path in _folders(given["train"])]
    if len(names) < 2:
        raise BadInput(f"{given['train']} must have two folders or more, one for each class; it has {len(names)}")
    found = {split: _images(folder, names) for split, folder in given.items()}
    shares = {"test": config.test_share, "validation": config.validation_share}
    cuts = {split: share for split, share in shares.items() if split not in found}
    return names, _cut(found, cuts, names)


def _cut(
    found: Mapping[str, Sequence[_Image]], cuts: Mapping[str, float], names: Sequence[str]
) -> dict[str, list[_Image]]:
    """The splits that were found, and those that are cut from the training images, each a share of every class."""
    splits: dict[str, list[_Image]] = {"train": [], "validation": [], "test": []}
    splits |= {split: list(images) for split, images in found.items() if split != "train"}
    for label, name in enumerate(names):
        members = [image for image in found["train"] if image.label == label]
        members.sort(key=lambda image: hashlib.sha256(image.path.name.encode()).digest())
        start = 0
        for split, share in cuts.items():
            size = max(1, round(share * len(members)))
            splits[split] += members[start : start + size]
            start += size
        if start >= len(members):
            raise BadInput(
                f"the class {name!r} has {len(members)} images: too few to train on after {start} are held out"
            )
        splits["train"] += members[start:]
    return splits


def _folders(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith("."))


def _images(root: Path, names: Sequence[str]) -> list[_Image]:
    """The images of a split, by class and name."""
    result = []
    for folder in _folders(root):
        if folder.name not in names:
            raise BadInput(f"{folder}: {unknown('class', folder.name, names)}")
        members = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        for path in members:
            if path.suffix.lower() not in ENDINGS:
                raise BadInput(f"{path} is not an image; expected files that end in {', '.join(ENDINGS)}")
        if not members:
            raise BadInput(f"{folder} is empty: expected images that end in {', '.join(ENDINGS)}")
        result += [_Image(path, names.index(folder.name)) for path in members]
    if not result:
        raise BadInput(f"{root} holds no images")
    return result


def _read(images: Sequence[_Image], config: Config) -> UInt8[np.ndarray, "count height width channels"]:
    """The pixels of the images, all of one size."""
    first = _pixels(images[0].path, config)
    result = np.empty((len(images), *first.shape), np.uint8)
    for row, image in enumerate(images):
        pixels = _pixels(image.path, config)
        if pixels.shape != first.shape:
            raise _of_two_sizes(images[0].path, first.shape, image.path, pixels.shape)
        result[row] = pixels
    return result


def _pixels(path: Path, config: Config) -> UInt8[np.ndarray, "height width channels"]:
    """One image: turned as its EXIF says, resized (bilinear, averaging where it shrinks) where that is asked for."""
    from PIL import Image, ImageOps  # not before it is needed: a list of the data sets must be quick

    try:
        with Image.open(path) as opened:
            if opened.mode not in _MODES:
                raise BadInput(f"{path} has pixels of the kind {opened.mode!r}; expected 8 bits a channel")
            image: Any = ImageOps.exif_transpose(opened).convert("RGB" if config.colour else "L")
            if config.size is not None and image.size != (config.size, config.size):
                image = image.resize((config.size, config.size), Image.Resampling.BILINEAR)
    except BadInput:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"{path} cannot be read as an image: {' '.join(str(error).split())}") from None
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _of_two_sizes(one: Path, shape: tuple[int, ...], other: Path, another: tuple[int, ...]) -> BadInput:
    return BadInput(
        f"{other} is {another[1]} x {another[0]} pixels, {one} is {shape[1]} x {shape[0]}: images must be of one size; "
        "data.size=N resizes them to N x N"
    )
