"""Data sets of Hugging Face, from the hub or a local copy.

    --config.data.name=hf:imdb    --config.data.name=hf:./my_copy

What the task is follows from the columns: an image and a label, a text and a label, or a text alone, whose
next token is then to be predicted. Columns that are not named are found by their types. Where no
validation or test split is published, it is cut from the training rows, a tenth each, by the sha256 of
what is in the row, so that equal rows are never apart. Needs the optional extra: pip install 'paribus[hf]'.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from models.base import BadInput, Configuration, Static
from train.data import hub, images, language, sentences
from train.data.task import Task
from train.data.vocabularies import words

FILES = ()

_OF_KIND = {
    "images": ("train_examples", "size", "label"),
    "texts": ("train_examples", "length", "vocabulary", "least", "label"),
    "language": ("context", "stride", "tokens", "vocabulary", "least"),
}
"""Which of the fields a kind of task has a use for, beside those that all have."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A set of labelled images, of labelled texts, or of texts.

    Attributes:
        dataset: name on the hub, or a folder (see :mod:`train.data.hub`); ``hf:NAME`` as the data set's name sets it.
        subset: one of several configurations of the same name on the hub.
        revision: branch, tag or commit on the hub; None for the newest.
        image, text, label: columns; None: by their types. ``text`` of a set that has a label, too, and
            ``label=`` (empty) make a task of predicting the next token.
        train_split, validation_split, test_split: names of the splits; None: by their usual names.
        train_examples: use only so many training rows (labelled sets); None for all.
        size: images are resized to this many pixels in height and width; None where all are of one size.
        length, vocabulary, least: of texts, as :class:`train.data.sentences.SentencesConfig` has them.
        context, stride, tokens: of texts without a label, as :class:`train.data.language.TextConfig` has them.
    """

    dataset: Annotated[str, Static()] = ""
    subset: Annotated[str | None, Static()] = None
    revision: Annotated[str | None, Static()] = None
    image: Annotated[str | None, Static()] = None
    text: Annotated[str | None, Static()] = None
    label: Annotated[str | None, Static()] = None
    train_split: Annotated[str | None, Static()] = None
    validation_split: Annotated[str | None, Static()] = None
    test_split: Annotated[str | None, Static()] = None
    train_examples: Annotated[int | None, Static(ge=1)] = None
    size: Annotated[int | None, Static(ge=1)] = None
    length: Annotated[int, Static(ge=1)] = 100
    vocabulary: Annotated[int | None, Static(ge=3)] = None
    least: Annotated[int | None, Static(ge=1)] = None
    context: Annotated[int, Static(ge=1)] = 64
    stride: Annotated[int | None, Static(ge=1)] = None
    tokens: Annotated[Literal["characters", "bytes", "words", "bpe"], Static()] = "characters"


class Rows(NamedTuple):
    """The rows of a split: what is read, and what it is labelled with, where it is."""

    contents: Sequence[Any]
    labels: Sequence[Any] | None


class Columns(NamedTuple):
    """Which columns the task is made of."""

    content: str
    label: str | None
    kind: Literal["images", "texts", "language"]


def load(config: Config, data_dir: Path | None) -> Task:
    """The task that the columns make.

    Raises:
        BadInput: the package ``datasets`` is absent, the data cannot be had, or they make no task.
    """
    tables, source = hub.tables(config.dataset, config.subset, config.revision, data_dir)
    train = hub.split_name(tables, "train", config.train_split)
    if train is None:
        raise BadInput(
            f"{source} has no split 'train' but {', '.join(tables)}; name one: --config.data.train_split=NAME"
        )
    columns = columns_of(tables[train], config)
    _check_idle(config, columns.kind)
    splits = _splits(tables, train, columns, config)
    make = {"images": _images, "texts": _texts, "language": _language}[columns.kind]
    task = make(config, splits, tables[train].features, columns)
    licence = getattr(tables[train].info, "license", "") or "see the data set's page"
    return dataclasses.replace(task, facts={**task.facts, "source": source, "licence": str(licence)})


def columns_of(table: Any, config: Config) -> Columns:
    """The columns that a table's task is made of: those that were named, else those of a fitting type.

    Raises:
        BadInput: there is neither an image nor a text, or there are several.
    """
    kinds = {name: _kind(feature) for name, feature in table.features.items()}
    label = config.label or None
    if config.label is None:
        classes = [name for name, kind in kinds.items() if kind == "class"]
        named = [name for name in ("label", "labels") if name in kinds]
        label = classes[0] if len(classes) == 1 else (named or [None])[0]
    image, text = config.image, config.text
    if image is None and text is None:
        found = [name for name, kind in kinds.items() if kind == "image"]
        found = found or [name for name, kind in kinds.items() if kind == "string" and name != label]
        if len(found) != 1:
            raise BadInput(
                "which column is it? Give --config.data.text=COLUMN or --config.data.image=COLUMN; found: "
                + ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            )
        image, text = (found[0], None) if kinds[found[0]] == "image" else (None, found[0])
    if image is not None and text is not None:
        raise BadInput(f"data.image={image!r} and data.text={text!r}: give one of the two")
    if image is not None and label is None:
        raise BadInput(f"images need a label: --config.data.label=COLUMN, one of {', '.join(kinds)}")
    if image is not None:
        return Columns(image, label, "images")
    return Columns(str(text), label, "language" if label is None else "texts")


def _kind(feature: Any) -> str:
    """A column's type in a word."""
    name = type(feature).__name__
    if name in ("Image", "ClassLabel"):
        return "image" if name == "Image" else "class"
    kind = str(getattr(feature, "dtype", name))
    return "string" if kind in ("string", "large_string") else kind


def _check_idle(config: Config, kind: str) -> None:
    """Refuse fields that this kind of task has no use for."""
    mine = set(_OF_KIND[kind])
    for name in sorted({field for fields in _OF_KIND.values() for field in fields} - mine):
        default = type(config).__dataclass_fields__[name].default
        if getattr(config, name) != default and name != "label":
            raise BadInput(f"data.{name}={getattr(config, name)!r} has no use for a task of {kind}")


def _splits(tables: hub.Tables, train: str, columns: Columns, config: Config) -> dict[str, Rows]:
    """The rows of the three splits; what is not published is cut from the training rows."""
    names = {"train": train}
    for split, given in (("validation", config.validation_split), ("test", config.test_split)):
        name = hub.split_name(tables, split, given)
        if name is not None:
            names[split] = name
    result = {split: _rows(tables, name, columns) for split, name in names.items()}
    missing = [split for split in ("validation", "test") if split not in result]
    if missing:
        result |= _cut(result["train"], missing)
    for split, rows in result.items():
        if not len(rows.contents):
            raise BadInput(f"the {split} split has no rows: there are too few to cut it from; name its split")
    return result


def _rows(tables: hub.Tables, split: str, columns: Columns) -> Rows:
    contents = hub.column(tables, split, columns.content, field="image" if columns.kind == "images" else "text")
    if columns.kind != "images":
        for row, content in enumerate(contents):
            if not isinstance(content, str):
                raise BadInput(f"split {split!r}, row {row}: the column {columns.content!r} holds no text in UTF-8")
    labels = None if columns.label is None else hub.column(tables, split, columns.label, field="label")
    return Rows(contents, labels)


def _cut(rows: Rows, missing: Sequence[str]) -> dict[str, Rows]:
    """The training rows, and a tenth of them for each split that is missing, by the sha256 of the contents."""
    places: dict[str, list[int]] = {"train": [], **{split: [] for split in missing}}
    for place, content in enumerate(rows.contents):
        raw = content.encode() if isinstance(content, str) else np.asarray(content).tobytes()
        share = int.from_bytes(hashlib.sha256(raw).digest()[:4], "big") % 10
        places[missing[share] if share < len(missing) else "train"].append(place)
    return {
        split: Rows(
            [rows.contents[place] for place in chosen],
            None if rows.labels is None else [rows.labels[place] for place in chosen],
        )
        for split, chosen in places.items()
    }


def _classes(splits: dict[str, Rows], feature: Any, label: str | None) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of the classes, and the number of each row's.

    Raises:
        BadInput: a label is not one of the training split's, or says that there is none.
    """
    names = getattr(feature, "names", None)
    values: list[Any] = list(range(len(names))) if names else sorted(set(splits["train"].labels or ()))
    if len(values) < 2:
        raise BadInput(f"the column {label!r} has {len(values)} label in the training split; at least 2 are needed")
    number = {value: index for index, value in enumerate(values)}
    numbered = {}
    for split, rows in splits.items():
        for row, value in enumerate(rows.labels or ()):
            if value not in number:
                known = ", ".join(map(str, values[:10]))
                hint = "; is the split published without labels? name another" if value == -1 else ""
                raise BadInput(f"{split} split, row {row}: the label {value!r} is none of {known}{hint}")
        numbered[split] = np.array([number[value] for value in rows.labels or ()], np.int64)
    return [str(name) for name in names or values], numbered


def _images(config: Config, splits: dict[str, Rows], features: Any, columns: Columns) -> Task:
    names, labels = _classes(splits, features[columns.label], columns.label)
    colour = any(image.mode not in ("1", "L") for rows in splits.values() for image in rows.contents)
    labelled = {
        split: images.Labelled(_pixels(split, rows.contents, colour, config.size), labels[split])
        for split, rows in splits.items()
    }
    sizes = {split: part.pixels.shape[1:3] for split, part in labelled.items()}
    if len(set(sizes.values())) > 1:
        raise BadInput(f"images differ in size from split to split: {sizes}; give --config.data.size=PIXELS")
    options = images.ImagesConfig(train_examples=config.train_examples)
    task = images.classification("hf", FILES, **labelled, classes=names, options=options)
    return dataclasses.replace(task, facts={**task.facts, "class_names": ", ".join(names)})


def _pixels(split: str, contents: Sequence[Any], colour: bool, size: int | None) -> np.ndarray:
    """The pixels of PIL images [count, height, width, channels]."""
    pixels = []
    for row, image in enumerate(contents):
        converted = image.convert("RGB" if colour else "L")
        if size is not None and converted.size != (size, size):
            converted = converted.resize((size, size))
        array = np.asarray(converted)
        if pixels and array.shape != pixels[0].shape:
            raise BadInput(
                f"{split} split, row {row}: the image has {array.shape[1]}x{array.shape[0]} pixels and row 0 has "
                f"{pixels[0].shape[1]}x{pixels[0].shape[0]}; give --config.data.size=PIXELS"
            )
        pixels.append(array)
    stacked = np.stack(pixels)
    return stacked if colour else stacked[..., None]


def _texts(config: Config, splits: dict[str, Rows], features: Any, columns: Columns) -> Task:
    names, labels = _classes(splits, features[columns.label], columns.label)
    texts = {}
    for split, rows in splits.items():
        cut = [words(text.lower()) for text in rows.contents]
        for row, found in enumerate(cut):
            if not found:
                raise BadInput(f"{split} split, row {row}: the column {columns.content!r} has no words")
        texts[split] = [sentences.Text(found, int(label)) for found, label in zip(cut, labels[split], strict=True)]
    options = sentences.SentencesConfig(
        length=config.length,
        vocabulary=config.vocabulary,
        least=2 if config.least is None else config.least,
        train_examples=config.train_examples,
    )
    return sentences.classification("hf", FILES, texts, classes=names, config=options)


def _language(config: Config, splits: dict[str, Rows], features: Any, columns: Columns) -> Task:
    del features, columns
    texts = language.Texts(**{split: "\n".join(rows.contents) for split, rows in splits.items()})
    options = language.TextConfig(
        context=config.context,
        stride=config.stride,
        tokens=config.tokens,
        vocabulary=config.vocabulary,
        least=config.least,
    )
    return language.language_modelling("hf", FILES, texts, config=options, least=1)
