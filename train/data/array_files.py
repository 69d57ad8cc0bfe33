"""Arrays of one's own, of any size: files ``.npy`` that are memory-mapped, never loaded, and streamed where large.

    --config.data.name=array_files --config.data.folder=FOLDER

``FOLDER/train``, ``FOLDER/validation`` and ``FOLDER/test`` each hold ``inputs.npy`` and ``targets.npy``, a row an
example; or ``FOLDER`` itself holds one pair, whose first rows train, the next validate and the last test: rows of
such a file must be in random order already. Inputs are images of bytes [rows, height, width] or with channels,
which are standardised by the training rows that are used; float32 numbers of any shape, taken as they are; or tokens
[rows, time] of any type of integers. Targets are classes, integers [rows], or float32 numbers [rows] or [rows,
outputs]. For a language model, ``tokens.npy`` (integers, one axis) or ``text.txt`` (its bytes) takes their place.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from models.base import BadInput, Configuration, Shapes, Static
from train.data import array_scan
from train.data.array_scan import Found, Part
from train.data.files import Packaged, Remote, located
from train.data.images import Scaling
from train.data.task import Task, Test, Train, Validation

FILES: tuple[Remote | Packaged, ...] = ()

SPLITS = ("train", "validation", "test")

_Parts = dict[str, dict[str, Part]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Arrays in files.

    Attributes:
        folder: where they lie; looked for below ``--data_dir``, then as it is given.
        train_examples: use only the first so many training rows (of a text: tokens); None for all.
        train_fraction: share of the rows that trains, where the folder has no folder for each split.
        validation_fraction: share that validates; the rest tests.
        context: tokens that a language model sees at once.
        stride: tokens from one evaluation window of a language model to the next; None: windows that do not overlap.
    """

    folder: Annotated[str, Static()] = "array_files"
    train_examples: Annotated[int | None, Static(ge=1)] = None
    train_fraction: Annotated[float, Static(gt=0, lt=1)] = 0.8
    validation_fraction: Annotated[float, Static(gt=0, lt=1)] = 0.1
    context: Annotated[int, Static(ge=1)] = 64
    stride: Annotated[int | None, Static(ge=1)] = None

    def validate(self) -> None:
        """Something must be left to test on; a window must not skip tokens."""
        if self.train_fraction + self.validation_fraction >= 1:
            raise BadInput(
                f"train_fraction={self.train_fraction} and validation_fraction={self.validation_fraction} "
                "must leave a share for the test split: their sum must be less than 1"
            )
        if self.stride is not None and self.stride > self.context:
            raise BadInput(f"stride={self.stride} must be at most context={self.context}")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of predicting targets from inputs, or the next token.

    Raises:
        BadInput: a file is absent, empty, cut short or no array of numbers; arrays do not fit each other; a number is
            out of range.
    """
    root = located(config.folder, data_dir)
    if not root.is_dir():
        raise BadInput(
            f"data.folder={str(root)!r} is not a folder; expected inputs.npy and targets.npy in it, or in each of its "
            f"folders {', '.join(SPLITS)}"
        )
    parts = _parts(root, config)
    _check_kinds(parts["train"])
    _check_agreement(parts)
    if "inputs" in parts["train"]:
        return _examples(root, parts)
    return _text(root, parts, config)


def _parts(root: Path, config: Config) -> _Parts:
    """The arrays of each split, by name, as far as they are used."""
    if (root / "train").is_dir():
        for split in SPLITS:
            if not (root / split).is_dir():
                raise BadInput(f"{root} has a folder 'train' and must have {split!r} beside it")
        parts = {split: _arrays(root / split) for split in SPLITS}
    else:
        whole = _arrays(root)
        size = _rows(whole)
        cuts = (0, *(int(size * share) for share in _shares(config)), size)
        if len(set(cuts)) < len(cuts):
            raise BadInput(f"{root} has {size} rows: too few for three splits")
        bounds = dict(zip(SPLITS, itertools.pairwise(cuts), strict=True))
        parts = {split: {name: part.cut(*bounds[split]) for name, part in whole.items()} for split in SPLITS}
    for split, arrays in parts.items():
        if set(arrays) != set(parts["train"]):
            raise BadInput(f"{root}: {split} has {_names(arrays)}, and train {_names(parts['train'])}: they must agree")
        _rows(arrays)
    count = config.train_examples
    if count is not None:
        available = _rows(parts["train"])
        if count > available:
            raise BadInput(f"train_examples={count} must be at most {available}, the training rows of {root}")
        parts["train"] = {name: part.cut(0, count) for name, part in parts["train"].items()}
    return parts


def _shares(config: Config) -> tuple[float, float]:
    return config.train_fraction, config.train_fraction + config.validation_fraction


def _names(arrays: Mapping[str, Part]) -> str:
    return " and ".join(part.path.name for part in arrays.values())


def _arrays(folder: Path) -> dict[str, Part]:
    """The arrays of a folder: inputs and targets, or tokens."""
    for name in ("tokens.npy", "text.txt"):
        if (folder / name).exists():
            return {"tokens": array_scan.opened(folder / name)}
    return {name: array_scan.opened(folder / f"{name}.npy") for name in ("inputs", "targets")}


def _rows(arrays: Mapping[str, Part]) -> int:
    """The number of rows, which all arrays share."""
    counts = {part.path: len(part.rows) for part in arrays.values()}
    if len(set(counts.values())) > 1:
        raise BadInput("; ".join(f"{path} has {count:,} rows" for path, count in counts.items()) + ": they must agree")
    size = next(iter(counts.values()))
    if size > 2**31 - 1:
        raise BadInput(f"{next(iter(counts))} has {size:,} rows; at most {2**31 - 1:,} can be numbered: cut it")
    return size


def _check_kinds(arrays: Mapping[str, Part]) -> None:
    """Types and shapes that can be trained on."""
    for name, part in arrays.items():
        kinds = {"inputs": "uint8, another integer or float32", "targets": "an integer or float32"}
        is_float = part.rows.dtype == np.float32 and name != "tokens"
        if not is_float and not np.issubdtype(part.rows.dtype, np.integer):
            kind = kinds.get(name, "an integer")
            raise BadInput(f"{part.path} has numbers of type {part.rows.dtype}; {name} are of {kind}")
        axes, is_byte = part.rows.ndim, part.rows.dtype == np.uint8
        allowed = {
            "inputs": axes >= 2 if is_float else axes == 2 or (is_byte and axes in (3, 4)),
            "targets": axes <= 2 if is_float else axes == 1,
            "tokens": axes == 1,
        }
        wanted = {
            "inputs": "images of uint8 [rows, height, width] or with channels, tokens of integers [rows, time], or "
            "float32 [rows, ...]",
            "targets": "classes, integers [rows], or float32 [rows] or [rows, outputs]",
            "tokens": "integers [tokens]",
        }
        if not allowed[name]:
            shape = f"shape {part.rows.shape} of {part.rows.dtype}"
            raise BadInput(f"{part.path} has {shape}; {name} are {wanted[name]}")


def _check_agreement(parts: _Parts) -> None:
    """Rows of one shape and type in all splits."""
    for name, first in parts["train"].items():
        for part in (arrays[name] for arrays in parts.values()):
            if (part.rows.dtype, part.rows.shape[1:]) != (first.rows.dtype, first.rows.shape[1:]):
                raise BadInput(
                    f"{part.path} has rows {part.rows.shape[1:]} of {part.rows.dtype}, and {first.path} "
                    f"{first.rows.shape[1:]} of {first.rows.dtype}: they must agree"
                )


def _found(parts: _Parts) -> tuple[dict[str, dict[str, Found]], dict[str, Any]]:
    """What going through all arrays finds, split by split, and the facts that follow from it."""
    place, kept = array_scan.remembered([part for arrays in parts.values() for part in arrays.values()])
    if kept is None:
        rows: dict[str, list[Any]] = {split: [] for split in parts}
        found: dict[str, dict[str, Found]] = {}
        for split, arrays in parts.items():
            found[split] = {}
            for name, part in arrays.items():
                below = None  # tokens and classes are numbered by the training split
                if split != "train" and not np.issubdtype(part.rows.dtype, np.floating):
                    below = int(found["train"][name].most) + 1
                    below = 256 if part.rows.dtype == np.uint8 and (part.rows.ndim > 2 or _is_bytes(part)) else below
                hashes = rows[split] if name == "inputs" else None
                found[split][name] = array_scan.scanned(part, below=below, rows=hashes)
        repeated = array_scan.repeated(rows) if "inputs" in parts["train"] else {}
        digests = [f"{split} {name} {each.sha256}" for split, arrays in found.items() for name, each in arrays.items()]
        shapes = [f"{part.rows.dtype.str} {part.rows.shape}" for arrays in parts.values() for part in arrays.values()]
        fingerprint = hashlib.sha256("\n".join([*digests, *shapes]).encode()).hexdigest()
        kept = {"found": found, "facts": {**repeated, "fingerprint": fingerprint}}
        array_scan.remember(place, kept)
    found = {split: {name: Found(*each) for name, each in arrays.items()} for split, arrays in kept["found"].items()}
    return found, kept["facts"]


def _is_bytes(part: Part) -> bool:
    return part.path.suffix == ".txt"


def _facts(root: Path, sizes: Mapping[str, int], rest: Mapping[str, Any]) -> dict[str, Any]:
    return {"source": str(root), "licence": "not stated", **sizes, **rest}


def _examples(root: Path, parts: _Parts) -> Task:
    """Rows of inputs and targets."""
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.array_sampling import TokenExamples
    from train.data.image_sampling import StandardisedExamples
    from train.data.sampling import ShuffledExamples

    found, facts = _found(parts)
    arrays = {split: {name: part.rows for name, part in each.items()} for split, each in parts.items()}
    inputs, targets = arrays["train"]["inputs"], arrays["train"]["targets"]
    scanned = found["train"]["inputs"]
    sampler: Any = ShuffledExamples()
    vocabulary = None
    if inputs.dtype != np.float32 and inputs.ndim == 2:
        vocabulary, sampler = int(scanned.most) + 1, TokenExamples()
    elif inputs.dtype == np.uint8:
        if inputs.ndim == 3:
            arrays = {split: {**each, "inputs": each["inputs"][..., None]} for split, each in arrays.items()}
        scaling = Scaling.of_counts(_channels(scanned, inputs.ndim), 255)
        sampler = StandardisedExamples(tuple(scaling.mean.tolist()), tuple(scaling.divisor.tolist()))
        facts = facts | scaling.facts("pixel")
    is_regression = targets.dtype == np.float32
    outputs = int(np.prod(targets.shape[1:])) if is_regression else int(found["train"]["targets"].most) + 1
    if not is_regression and outputs < 2:
        raise BadInput(f"{parts['train']['targets'].path} has one class, 0, alone: there is nothing to tell apart")
    if not is_regression:
        facts = facts | {"classes": outputs}
        arrays = {split: {**each, "targets": _as_int32(each["targets"])} for split, each in arrays.items()}
    sizes = {f"{split}_examples": len(each["targets"]) for split, each in arrays.items()}
    shape = arrays["train"]["inputs"].shape[1:]
    return Task(
        name="array_files",
        shapes=Shapes(inputs=shape, vocabulary=vocabulary, outputs=outputs, per_position=False),
        objective=objectives.regression() if is_regression else objectives.classification(),
        sampler=sampler,
        train=Train(arrays["train"]),
        validation=Validation(arrays["validation"]),
        test=Test(arrays["test"]),
        facts=_facts(root, sizes, facts),
    )


def _as_int32(targets: np.ndarray) -> np.ndarray:
    """Classes as the device takes them; copied where they are of another type, four bytes an example."""
    return targets if targets.dtype == np.int32 else targets.astype(np.int32)


def _channels(found: Found, axes: int) -> np.ndarray:
    """How often each byte occurs in each channel; an image without channels has one."""
    counts = np.asarray(found.counts)
    return counts if axes == 4 else counts.sum(0, keepdims=True)


def _text(root: Path, parts: _Parts, config: Config) -> Task:
    """One long sequence of tokens."""
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data.sampling import Windows

    found, facts = _found(parts)
    is_bytes = _is_bytes(parts["train"]["tokens"])
    vocabulary = 256 if is_bytes else int(found["train"]["tokens"].most) + 1
    arrays = {split: {"tokens": part["tokens"].rows} for split, part in parts.items()}
    for split, each in arrays.items():
        if len(each["tokens"]) < 2:
            raise BadInput(
                f"{parts[split]['tokens'].path}: the {split} split has {len(each['tokens'])} tokens, needed are 2"
            )
    if found["train"]["tokens"].least == found["train"]["tokens"].most:
        raise BadInput(f"{parts['train']['tokens'].path} has one token again and again: there is nothing to predict")
    sizes = {"vocabulary": vocabulary, "context": config.context}
    sizes |= {f"{split}_tokens": len(each["tokens"]) for split, each in arrays.items()}
    return Task(
        name="array_files",
        shapes=Shapes(
            inputs=(config.context,), vocabulary=vocabulary, outputs=vocabulary, per_position=True, causal=True
        ),
        objective=objectives.language_modelling("byte" if is_bytes else "token"),
        sampler=Windows(config.context, config.stride),
        train=Train(arrays["train"]),
        validation=Validation(arrays["validation"]),
        test=Test(arrays["test"]),
        facts=_facts(root, sizes, facts),
        show=_as_text if is_bytes else None,
    )


def _as_text(batch: Any) -> str:
    return np.asarray(batch.inputs).astype(np.uint8).tobytes().decode("utf-8", errors="replace")
