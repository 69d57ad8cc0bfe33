"""Tasks of telling the class of a text: vocabulary, padded inputs, splits.

Token 0 is padding, token 1 stands for every word that the vocabulary lacks. The vocabulary is taken from
the training texts that are used, and so are the length of the inputs and the widths of the buckets.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from models.base import BadInput, Configuration, Shapes, Static
from train.data import glove
from train.data.facts import facts, fingerprint
from train.data.files import Packaged, Remote
from train.data.task import Batch, Task, Test, Train, Validation
from train.data.vocabularies import Pieces

_SPECIALS = 2  # padding and the unknown
_TABLE = r"(^|/)tokens/embedding$"  # what the models call their table of word vectors


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentencesConfig(Configuration):
    """What every set of labelled texts lets one choose.

    Attributes:
        length: words that a model sees; what follows is cut off.
        vocabulary: words that have a token of their own at the most, the most frequent of the training split.
        least: how often a word must occur in the training split to have its own token. At 1 no unknown
            word is ever seen in training, and its vector stays as it began.
        train_examples: use only so many training texts (each smaller number is a subset of every
            larger one); None for all.
        evaluation_examples: use only so many texts of the validation and of the test split, in the same order; None
            for all.
        buckets: most widths that batches come in. A batch is of texts of similar length, and as wide as its
            bucket, so little is computed at padding; every width adds to the compilation. 1: all batches are
            as wide as the longest text.
        vectors: a file of word vectors in GloVe's text format that the model's table begins from; ``none``
            for the model's own. The length of the vectors must be the model's (``model.embedding``).
        label_tokens: the class is a token that a model of tokens must name, instead of one output of a classifier (see
            :mod:`train.data.masked_language`). The vocabulary is then of all training texts, labelled or not, and all
            texts are padded to one length.
        masked_steps: with label_tokens, the first so many steps train on masked words of all training texts, those
            beyond ``train_examples`` too, whose labels are not read; the steps after that train on labelled texts.
    """

    length: Annotated[int, Static(ge=1)] = 100
    vocabulary: Annotated[int | None, Static(ge=2)] = None
    least: Annotated[int, Static(ge=1)] = 2
    train_examples: Annotated[int | None, Static(ge=1)] = None
    evaluation_examples: Annotated[int | None, Static(ge=1)] = None
    buckets: Annotated[int, Static(ge=1, le=16)] = 3
    vectors: Annotated[str | None, Static()] = None
    label_tokens: Annotated[bool, Static()] = False
    masked_steps: Annotated[int, Static(ge=0)] = 0

    def validate(self) -> None:
        """Masked words need classes that are tokens, and those need the vocabulary's own vectors."""
        if self.masked_steps and not self.label_tokens:
            raise BadInput(f"masked_steps={self.masked_steps} needs label_tokens=true")
        if self.label_tokens and self.vectors is not None:
            raise BadInput(f"label_tokens=true has no place for the vectors of {self.vectors!r}; leave vectors out")


class Text(NamedTuple):
    """A text cut into words, and the number of its class."""

    words: Sequence[str]
    label: int


def classification(
    name: str,
    files: Sequence[Remote | Packaged],
    splits: Mapping[str, Sequence[Text]],
    *,
    classes: Sequence[str],
    config: SentencesConfig,
    extra: Mapping[str, str | int | float] | None = None,
) -> Task:
    """The task of telling the class of a text.

    Inputs are ``Padded`` tokens, targets the numbers of the classes. The first k training texts are those
    with the smallest sha256 of their words, so any first k are a fair sample.

    Args:
        name: of the data set.
        files: where the texts come from.
        splits: the texts of ``train``, ``validation`` and ``test``, in full.
        classes: their names.
        config: what a user chose.
        extra: further facts for the record.

    Raises:
        BadInput: a split is empty or lacks what was asked for, or the file of vectors is of no use.
    """
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data import bucketing

    used = _used(name, splits, config.train_examples, config.evaluation_examples)
    if config.label_tokens:
        return _with_label_tokens(name, files, splits, used, classes, config, extra or {})
    vocabulary = vocabulary_of([text.words for text in used["train"]], config)
    longest = max(len(text.words) for text in used["train"])
    lengths = {
        split: np.array([min(len(text.words), config.length, longest) for text in texts])
        for split, texts in used.items()
    }
    widths = bucketing.best_widths(lengths["train"], config.buckets)
    arrays: dict[str, dict[str, Any]] = {}
    for split, texts in used.items():
        order, ends = bucketing.by_bucket(lengths[split], widths)
        tokens = [_encoded(vocabulary, texts[index].words) for index in order]
        labels = np.array([texts[index].label for index in order], np.int32)
        arrays[split] = {"inputs": bucketing.padded(tokens, widths[-1]), "targets": labels, "ends": ends}
    initial, found = _initial(config.vectors, vocabulary)
    return Task(
        name=name,
        shapes=Shapes(inputs=(widths[-1],), vocabulary=vocabulary.size, outputs=len(classes), per_position=False),
        objective=objectives.classification(),
        sampler=bucketing.BucketedExamples(tuple((width,) for width in widths)),
        train=Train(arrays["train"]),
        validation=Validation(arrays["validation"]),
        test=Test(arrays["test"]),
        facts={
            **facts(files, sizes=_sizes(splits, arrays, lengths, used), splits=arrays),
            "classes": len(classes),
            "class_names": ", ".join(classes),
            "vocabulary": vocabulary.size,
            "widths": " ".join(map(str, widths)),
            **found,
            **(extra or {}),
        },
        show=lambda batch: _shown(batch, vocabulary, classes),
        spell=(lambda token: vocabulary.decode([token]),),
        initial=initial,
        classes=tuple(classes),
    )


def _with_label_tokens(
    name: str,
    files: Sequence[Remote | Packaged],
    splits: Mapping[str, Sequence[Text]],
    used: Mapping[str, Sequence[Text]],
    classes: Sequence[str],
    config: SentencesConfig,
    extra: Mapping[str, str | int | float],
) -> Task:
    """The same task with classes as tokens, and masked words of all training texts before it."""
    from train import objectives
    from train.data import masked_language as masked

    vocabulary = vocabulary_of([text.words for text in splits["train"]], config)
    special = masked.SpecialTokens(_SPECIALS, vocabulary.size, len(classes))
    length = min(config.length, max(len(text.words) for text in splits["train"]))
    read = {**used, "train": _used(name, splits, None, None)["train"]}
    arrays = {
        split: masked.arrays_of(
            [_encoded(vocabulary, text.words) for text in texts],
            [text.label for text in used[split]],
            length=length,
            special=special,
        )
        for split, texts in read.items()
    }
    counts = {f"{split}_examples": len(texts) for split, texts in used.items()}
    counts |= {"train_texts": len(read["train"]), "classes": len(classes), "vocabulary": special.size}
    return Task(
        name=name,
        shapes=masked.shapes_of(length, special),
        objective=objectives.answers(),
        sampler=masked.MaskedThenAsked(config.masked_steps, special),
        train=Train(arrays["train"]),
        validation=Validation(arrays["validation"]),
        test=Test(arrays["test"]),
        facts={**facts(files, sizes=counts, splits=arrays), "class_names": ", ".join(classes), **extra},
        show=lambda batch: masked.shown(batch, vocabulary.pieces, classes, special),
    )


def by_digest(key: str) -> bytes:
    """What puts texts into an order that no random generator's version can change: the sha256 of ``key``."""
    return hashlib.sha256(key.encode()).digest()


def share(key: str, parts: int) -> int:
    """One of ``parts`` equal shares, by the first four bytes (big-endian) of the sha256 of ``key``."""
    return int.from_bytes(by_digest(key)[:4], "big") % parts


def tenths(key: str) -> str:
    """The split of a key where nobody published one: 8 tenths train, 1 validates, 1 tests, by :func:`share`."""
    return {8: "validation", 9: "test"}.get(share(key, 10), "train")


def vocabulary_of(texts: Sequence[Sequence[str]], config: SentencesConfig) -> Pieces:
    """The words of these texts that the configuration lets in.

    Raises:
        BadInput: fewer than two words are left.
    """
    vocabulary = Pieces(
        (" ".join(words) for words in texts),
        cut=str.split,
        between=" ",
        specials=_SPECIALS,
        least=config.least,
        most=config.vocabulary,
    )
    if len(vocabulary.pieces) < 2:
        raise BadInput(
            f"the training split has {len(vocabulary.pieces)} different words that occur {config.least} times or "
            "more; at least 2 are needed: more text, or data.least=1"
        )
    return vocabulary


def _encoded(vocabulary: Pieces, words: Sequence[str]) -> list[int]:
    return vocabulary.encode(" ".join(words))


def _used(
    name: str, splits: Mapping[str, Sequence[Text]], count: int | None, evaluated: int | None
) -> dict[str, Sequence[Text]]:
    """The splits with as many training texts, and texts to evaluate on, as were asked for."""
    for split, texts in splits.items():
        if not texts:
            total = sum(map(len, splits.values()))
            raise BadInput(
                f"the {split} split of {name} is empty: the {total:,} texts in all are too few, or too alike, to be "
                "split; give more, or a file of its own"
            )
    wanted = {
        "train": ("train_examples", count, "training"),
        "validation": ("evaluation_examples", evaluated, "validation"),
        "test": ("evaluation_examples", evaluated, "test"),
    }
    used = dict(splits)
    for split, (option, number, kind) in wanted.items():
        available = len(splits[split])
        if number is not None and number > available:
            raise BadInput(f"{option}={number} must be at most {available}, the {kind} texts that there are")
        if split == "train" or number is not None:
            used[split] = sorted(splits[split], key=lambda text: by_digest(" ".join(text.words)))[:number]
    return used


def _initial(path: str | None, vocabulary: Pieces) -> tuple[dict[str, np.ndarray], dict[str, str | int]]:
    """The table that the model begins from, and what the record says of it."""
    if path is None:
        return {}, {}
    vectors = glove.read(path, vocabulary.pieces)
    table = np.concatenate([np.full((_SPECIALS, vectors.shape[1]), np.nan, np.float32), vectors])
    found = int(np.sum(~np.isnan(table[:, 0])))
    return {_TABLE: table}, {
        "vectors": path,
        "vectors_found": found,
        "vectors_fingerprint": fingerprint({"vectors": {"table": table}}),
    }


def _sizes(
    splits: Mapping[str, Sequence[Text]],
    arrays: Mapping[str, Mapping[str, Any]],
    lengths: Mapping[str, np.ndarray],
    used: Mapping[str, Sequence[Text]],
) -> dict[str, int]:
    """What there is to count in each split: texts, real words, unknown ones, texts that were cut."""
    result: dict[str, int] = {"train_examples_available": len(splits["train"])}
    for split, texts in used.items():
        values, mask = arrays[split]["inputs"]
        result |= {
            f"{split}_examples": len(texts),
            f"{split}_words": int(mask.sum()),
            f"{split}_words_unknown": int(np.sum(mask & (values == _SPECIALS - 1))),
            f"{split}_examples_cut": int(
                sum(len(text.words) > length for text, length in zip(texts, lengths[split], strict=True))
            ),
            f"{split}_most_frequent_class": max(Counter(text.label for text in texts).values()),
        }
    return result


def _shown(batch: Batch, vocabulary: Pieces, classes: Sequence[str]) -> str:
    values, mask = batch.inputs
    return f"{classes[int(batch.targets)]}: {vocabulary.decode(values[mask].tolist())}"
