"""Tasks of translation: pairs of sentences, their vocabularies, what a model reads and predicts, how it is scored.

Token 0 is padding, 1 begins a target, 2 ends it, 3 is the unknown. A model reads the source and, as the
target, the begin and the target's tokens; it predicts the target's tokens and the end. Everything that is
fitted (vocabularies, merges, lengths, widths) is fitted on the training pairs that are used.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from models.base import BadInput, Configuration, Shapes, Static
from models.base import unknown as unknown_name
from train.data.facts import facts
from train.data.files import Packaged, Remote
from train.data.sentences import by_digest, tenths
from train.data.task import Batch, Decoding, Task, Test, Train, Validation
from train.data.vocabularies import Kind, Vocabulary, fitted

PAD, BEGIN, END = 0, 1, 2
_SPECIALS = 4  # and the unknown


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairsConfig(Configuration):
    """What every set of pairs lets one choose.

    Attributes:
        tokens: words (and punctuation marks), characters, or bpe: byte-pair encoding.
        vocabulary: tokens at the most, of each vocabulary, without the special ones. None: as many as there
            are, and 8,000 with bpe.
        least: how often a word or a character must occur in the training split to have its own token.
        shared_vocabulary: source and target have one vocabulary, fitted on both.
        lower_case: capitals make no difference, in the references of BLEU neither.
        length: tokens of a source, and of a target without its end. Training pairs with more are left out; a
            source that is evaluated is cut; a target that is evaluated is cut for loss and token accuracy alone.
        train_examples: use only so many training pairs (each smaller number is a subset of every
            larger one); None for all.
        buckets: most widths that batches come in (see :class:`train.data.sentences.SentencesConfig`).
        beams: hypotheses of the beam search that translates at the final evaluation; 1 is greedy.
        length_penalty: alpha of the beam search (Wu et al. 2016, equation 14); without effect at one beam.
    """

    tokens: Annotated[Kind, Static()] = "words"
    vocabulary: Annotated[int | None, Static(ge=2)] = None
    least: Annotated[int, Static(ge=1)] = 2
    shared_vocabulary: Annotated[bool, Static()] = True
    lower_case: Annotated[bool, Static()] = False
    length: Annotated[int, Static(ge=1)] = 50
    train_examples: Annotated[int | None, Static(ge=1)] = None
    buckets: Annotated[int, Static(ge=1, le=16)] = 3
    beams: Annotated[int, Static(ge=1)] = 1
    length_penalty: Annotated[float, Static(ge=0)] = 0.0


class SentencePair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str


class _Encoded(NamedTuple):
    """The tokens of pairs, and the length that sorts each into a bucket."""

    sources: list[list[int]]
    targets: list[list[int]]

    def sizes(self) -> np.ndarray:
        """The longer side of each pair, the target with its begin or end."""
        return np.array([max(len(s), len(t) + 1) for s, t in zip(self.sources, self.targets, strict=True)])


def translation(
    name: str,
    files: Sequence[Remote | Packaged],
    splits: Mapping[str, Sequence[SentencePair]],
    *,
    config: PairsConfig,
    bleu_tokenizer: str | None = "13a",
    extra: Mapping[str, str | int | float] | None = None,
) -> Task:
    """The task of translating a sentence.

    Args:
        name: of the data set.
        files: where the pairs come from.
        splits: the pairs of ``train``, ``validation`` and ``test``, in full.
        config: what a user chose.
        bleu_tokenizer: how sacrebleu cuts words; None reports exact matches and no BLEU.
        extra: further facts for the record.

    Raises:
        BadInput: a split is empty, asks for more than there is, or leaves no training pair of that length.
    """
    from train import objectives  # imports jax; a list of the data sets must not
    from train.data import bucketing

    used = _used(name, splits, config)
    vocabularies = _vocabularies(used["train"], config)
    encoded = {split: _encoded(pairs, vocabularies) for split, pairs in used.items()}
    used["train"], encoded["train"] = _short_enough(used["train"], encoded["train"], config.length)
    source_most = max(map(len, encoded["train"].sources))
    target_most = 1 + max(map(len, encoded["train"].targets))
    sizes = encoded["train"].sizes()
    widths = [(min(w, source_most), min(w, target_most)) for w in bucketing.best_widths(sizes, config.buckets)]
    arrays: dict[str, dict[str, Any]] = {}
    references: dict[str, list[str]] = {}
    for split, pairs in used.items():
        limits = [max(width) for width in widths]
        order, ends = bucketing.by_bucket(np.minimum(encoded[split].sizes(), limits[-1]), limits)
        arrays[split] = {**_arrays(encoded[split], order, widths[-1]), "ends": ends}
        references[split] = [pairs[index].target for index in order]
    score = Score(vocabularies[1], bleu_tokenizer, lower_case=config.lower_case)
    counts = _counts(splits, used, arrays, encoded)
    return Task(
        name=name,
        shapes=Shapes(
            inputs=(source_most,),
            vocabulary=vocabularies[0].size,
            outputs=vocabularies[1].size,
            per_position=True,
            causal=True,
            target=target_most,
        ),
        objective=objectives.translation(counts["train_tokens"] / counts["train_examples"]),
        sampler=bucketing.BucketedExamples(tuple(widths)),
        train=Train(arrays["train"]),
        validation=Validation(arrays["validation"], references["validation"]),
        test=Test(arrays["test"], references["test"]),
        facts={
            **facts(files, sizes=counts, splits=arrays),
            "source_vocabulary": vocabularies[0].size,
            "target_vocabulary": vocabularies[1].size,
            "widths": " ".join(f"{source}/{target}" for source, target in widths),
            **({"bleu_signature": score.signature} if score.signature else {}),
            **(extra or {}),
        },
        show=lambda batch: _shown(batch, vocabularies),
        spell=tuple(functools.partial(_spelled, vocabulary) for vocabulary in vocabularies),
        decoding=Decoding(
            begin=BEGIN,
            end=END,
            pad=PAD,
            steps=target_most,
            beams=config.beams,
            length_penalty=config.length_penalty,
            score=score,
            metrics=score.metrics,
        ),
    )


class Score:
    """BLEU (Papineni et al. 2002, by sacrebleu: Post 2018) and the share of exact matches, of decoded targets.

    A decoded target matches exactly if it is its reference as the vocabulary cuts it and puts it together.

    Args:
        vocabulary: of the target.
        bleu_tokenizer: how sacrebleu cuts words; None: no BLEU.
        lower_case: capitals make no difference to BLEU. (Exact matches compare what the task gives.)

    Attributes:
        signature: sacrebleu's own words for how BLEU was computed; empty without BLEU.
        metrics: names of the metrics.

    Raises:
        BadInput: sacrebleu is absent, or knows no such tokenizer.
    """

    def __init__(self, vocabulary: Vocabulary, bleu_tokenizer: str | None, *, lower_case: bool) -> None:
        self._vocabulary = vocabulary
        self._bleu: Any = None
        self.signature = ""
        self.metrics: tuple[str, ...] = ("exact_match",)
        if bleu_tokenizer is not None:
            self._bleu = _bleu(bleu_tokenizer, lower_case=lower_case)
            self._bleu.corpus_score(["any"], [["any"]])  # it has no signature before
            self.signature = str(self._bleu.get_signature())
            self.metrics = ("bleu", "exact_match")

    def __call__(self, tokens: Any, references: Sequence[str]) -> dict[str, float]:
        """The metrics: BLEU from 0 to 100, exact matches from 0 to 1.

        Args:
            tokens: what was decoded, [examples, steps].
            references: the targets as they were written, in the same order.
        """
        decoded = [self._vocabulary.decode(until_end(row)) for row in np.asarray(tokens).tolist()]
        same = [text == self._vocabulary.normalised(one) for text, one in zip(decoded, references, strict=True)]
        result = {"exact_match": float(np.mean(same))}
        if self._bleu is not None:
            result["bleu"] = float(self._bleu.corpus_score(decoded, [list(references)]).score)
        return result


def until_end(tokens: Sequence[int]) -> Sequence[int]:
    """The tokens before the first end; all of them where there is none."""
    return tokens[: tokens.index(END)] if END in tokens else tokens


def split_by_digest(pairs: Sequence[SentencePair]) -> dict[str, list[SentencePair]]:
    """The pairs by split where nobody published one: 8 tenths train, 1 validates, 1 tests.

    Pairs that share a source or a target, or are linked through others that do, are in one split: no
    sentence is in two. The split of such a group is told by the sha256 of its smallest source.
    """
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parents.setdefault(node, node)
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for pair in pairs:
        one, other = root(("source", pair.source)), root(("target", pair.target))
        # The smaller node stays the root, and sources are smaller than targets.
        parents[max(one, other)] = min(one, other)
    result: dict[str, list[SentencePair]] = {"train": [], "validation": [], "test": []}
    for pair in pairs:
        result[tenths(root(("source", pair.source))[1])].append(pair)
    return result


def _bleu(tokenizer: str, *, lower_case: bool) -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise BadInput("BLEU needs the library sacrebleu: pip install 'paribus[translation]'") from None
    if tokenizer not in BLEU.TOKENIZERS:
        raise unknown_name("BLEU tokenizer", tokenizer, BLEU.TOKENIZERS)
    # Force: no advice in the log that words were not put together again. The tokenizer cuts the marks off the
    # references just so.
    return BLEU(tokenize=tokenizer, lowercase=lower_case, force=True)


def _used(name: str, splits: Mapping[str, Sequence[SentencePair]], config: PairsConfig) -> dict[str, Any]:
    """The splits with as many training pairs as were asked for, in lower case where that is wanted."""
    for split, pairs in splits.items():
        if not pairs:
            total = sum(map(len, splits.values()))
            raise BadInput(
                f"the {split} split of {name} is empty: the {total:,} pairs in all are too few, or too alike, to be "
                "split; give more, or files of its own"
            )
    available = len(splits["train"])
    if config.train_examples is not None and config.train_examples > available:
        raise BadInput(f"train_examples={config.train_examples} must be at most {available}, the pairs that there are")
    train = sorted(splits["train"], key=lambda pair: by_digest("\t".join(pair)))[: config.train_examples]
    used = {**splits, "train": train}
    if not config.lower_case:
        return used
    return {split: [SentencePair(*(side.lower() for side in pair)) for pair in pairs] for split, pairs in used.items()}


def _vocabularies(train: Sequence[SentencePair], config: PairsConfig) -> tuple[Vocabulary, Vocabulary]:
    """The vocabularies of source and target, which are the same one where that is wanted."""
    options: dict[str, Any] = {"specials": _SPECIALS, "least": config.least, "most": config.vocabulary}
    sources, targets = [pair.source for pair in train], [pair.target for pair in train]
    if config.shared_vocabulary:
        both = fitted(config.tokens, [*sources, *targets], **options)
        return both, both
    return fitted(config.tokens, sources, **options), fitted(config.tokens, targets, **options)


def _encoded(pairs: Sequence[SentencePair], vocabularies: tuple[Vocabulary, Vocabulary]) -> _Encoded:
    source, target = vocabularies
    return _Encoded([source.encode(pair.source) for pair in pairs], [target.encode(pair.target) for pair in pairs])


def _short_enough(pairs: Sequence[SentencePair], encoded: _Encoded, length: int) -> tuple[list[SentencePair], _Encoded]:
    """The training pairs neither side of which is longer than ``length``."""
    kept = [
        number
        for number, (source, target) in enumerate(zip(*encoded, strict=True))
        if 0 < len(source) <= length and len(target) <= length
    ]
    if not kept:
        raise BadInput(f"no training pair has at most length={length} tokens on both sides; give a greater data.length")
    return [pairs[n] for n in kept], _Encoded([encoded.sources[n] for n in kept], [encoded.targets[n] for n in kept])


def _arrays(encoded: _Encoded, order: Any, widths: tuple[int, int]) -> dict[str, Any]:
    """What a model reads, what it must predict, and which of that is real."""
    from models.inputs import Pair
    from train.data.bucketing import padded

    sources = [encoded.sources[index] for index in order]
    targets = [encoded.targets[index] for index in order]
    predicted = padded([[*target, END] for target in targets], widths[1])
    return {
        "inputs": Pair(padded(sources, widths[0]), padded([[BEGIN, *target] for target in targets], widths[1])),
        "targets": predicted.values,
        "weights": np.asarray(predicted.mask, np.float32),
    }


def _counts(
    splits: Mapping[str, Any], used: Mapping[str, Any], arrays: Mapping[str, Any], encoded: Mapping[str, _Encoded]
) -> dict[str, int]:
    """What there is to count in each split; tokens are those of targets, the end included."""
    result = {"train_examples_available": len(splits["train"])}
    for split, pairs in used.items():
        targets, mask = arrays[split]["targets"], arrays[split]["weights"] > 0
        source_width = arrays[split]["inputs"].source.values.shape[1]
        result |= {
            f"{split}_examples": len(pairs),
            f"{split}_tokens": int(mask.sum()),
            f"{split}_tokens_unknown": int(np.sum(mask & (targets == _SPECIALS - 1))),
            f"{split}_sources_cut": sum(len(source) > source_width for source in encoded[split].sources),
            f"{split}_targets_cut": sum(len(target) >= mask.shape[1] for target in encoded[split].targets),
        }
    return result


def _spelled(vocabulary: Vocabulary, token: int) -> str:
    """A token as text; those that begin and end a target, too."""
    return {BEGIN: "<s>", END: "</s>"}.get(token) or vocabulary.decode([token])


def _shown(batch: Batch, vocabularies: tuple[Vocabulary, Vocabulary]) -> str:
    source, target = batch.inputs
    shown = vocabularies[0].decode(source.values[source.mask].tolist())
    return f"{shown} -> {vocabularies[1].decode(target.values[target.mask].tolist())}"


BleuTokenizer = Literal["13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none"]
