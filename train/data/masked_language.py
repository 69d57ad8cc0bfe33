"""Pre-training on masked words, then telling the class of a text: two phases of one training (Devlin et al. 2019).

A text is read behind a token that asks for its class, and classes are tokens of the vocabulary. So both phases predict
tokens by one output layer, and differ in the batches alone. In the first steps, texts are drawn from all training
texts, labelled or not: of their words 15% are chosen, at least one; of those 80% become the mask, 10% a random word,
10% stay, and the model must name all of them (Devlin et al. 2019, section 3.1). In the steps after that, texts are
drawn from the labelled ones, and the class is asked for. An evaluation asks for the class alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from models.base import Shapes
from models.inputs import Padded
from train.data.fresh import below, unit
from train.data.sampling import Key, Split, Step, WithReplacement, on_device
from train.data.task import Batch

CHOSEN, MASKED, REPLACED = 0.15, 0.8, 0.1
"""Share of the words that are asked for; of those, shares that become the mask, and a random word."""


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """The tokens beyond the words of a vocabulary: one that asks for the class, the mask, and a token for each class.

    Attributes:
        first_word: the first token that is a word.
        words: the token behind the last word.
        classes: number of classes.
    """

    first_word: int
    words: int
    classes: int

    @property
    def ask(self) -> int:
        """What a text begins with."""
        return self.words

    @property
    def mask(self) -> int:
        """What stands for a word that is to be named."""
        return self.words + 1

    @property
    def first_class(self) -> int:
        """The token of class 0."""
        return self.words + 2

    @property
    def size(self) -> int:
        """Of the whole vocabulary."""
        return self.words + 2 + self.classes


@dataclasses.dataclass(frozen=True)
class MaskedThenAsked(WithReplacement):
    """Draws texts with masked words in the first steps, labelled texts after that; both with replacement.

    A split is ``tokens`` and ``real`` [texts, time], which begin with the token that asks, and ``labels`` [labelled],
    the class tokens of the first so many texts. An index below the number n of texts is that text, asked for its class;
    from n on it is text ``index mod n`` with a draw of masked words of its own.

    Attributes:
        masked_steps: steps of the first phase.
        special: the tokens.
    """

    masked_steps: int
    special: SpecialTokens

    def train_size(self, arrays: Split) -> int:
        """Number of indices that an int32 can name, in whole rounds through the texts."""
        texts = arrays["tokens"].shape[0]
        return (2**31 - 1) // texts * texts

    def draw(self, order: tuple[()], arrays: Split, key: Key, step: Step, *, batch_size: int) -> Int[Array, " batch"]:
        """This step's texts. Those of the second phase do not depend on the length of the first."""
        del order
        texts, labelled = arrays["tokens"].shape[0], arrays["labels"].shape[0]
        masked_key, asked_key = jax.random.split(key)
        masked_key = jax.random.fold_in(masked_key, step)
        asked_key = jax.random.fold_in(asked_key, jnp.maximum(step - self.masked_steps, 0))
        masked = jax.random.randint(masked_key, (batch_size,), texts, self.train_size(arrays), dtype=jnp.int32)
        asked = jax.random.randint(asked_key, (batch_size,), 0, labelled, dtype=jnp.int32)
        return jnp.where(step < self.masked_steps, masked, asked)

    def gather(self, arrays: Split, indices: Int[Array, " batch"]) -> Batch:
        """The texts of these indices, with what is asked of them; all parts [batch, time]."""
        texts = arrays["tokens"].shape[0]
        tokens, real = (on_device(arrays[name], indices % texts) for name in ("tokens", "real"))
        is_masked = (indices >= texts)[:, None]
        inputs, chosen = jax.vmap(self._masked)(indices, tokens, real)
        asks = jnp.arange(tokens.shape[1])[None] == 0
        label = on_device(arrays["labels"], indices)[:, None]
        return Batch(
            Padded(jnp.where(is_masked, inputs, tokens), real),
            jnp.where(is_masked | ~asks, tokens, label),
            jnp.where(is_masked, chosen, asks).astype(jnp.float32),
        )

    def _masked(
        self, index: Int[Array, ""], tokens: Int[Array, " time"], real: Bool[Array, " time"]
    ) -> tuple[Int[Array, " time"], Bool[Array, " time"]]:
        """A text with some of its words changed, and which of them are to be named."""
        special = self.special
        words = jax.random.bits(jax.random.fold_in(jax.random.key(0), index), (3, tokens.shape[0]), jnp.uint32)
        order = jnp.where(real & (tokens != special.ask), unit(words[0]), 2.0)
        chosen = (order < CHOSEN) | ((order == jnp.min(order)) & (order < 2))
        fate = unit(words[1])
        other = special.first_word + below(words[2], special.words - special.first_word)
        changed = jnp.where(fate < MASKED, special.mask, jnp.where(fate < MASKED + REPLACED, other, tokens))
        return jnp.where(chosen, changed, tokens), chosen

    def evaluation_size(self, arrays: Split) -> int:
        """Number of labelled texts."""
        return arrays["labels"].shape[0]

    def evaluation_batch(self, arrays: Split, positions: Int[Array, " batch"]) -> Batch:
        """The texts at these positions, asked for their class; weight 0 at or past the end of the split."""
        size = self.evaluation_size(arrays)
        batch = self.gather(arrays, jnp.minimum(positions, size - 1))
        return batch._replace(weights=batch.weights * (positions < size)[:, None])


def arrays_of(
    encoded: Sequence[Sequence[int]], labels: Sequence[int], *, length: int, special: SpecialTokens
) -> dict[str, np.ndarray]:
    """A split as :class:`MaskedThenAsked` reads it.

    Args:
        encoded: the words of each text as tokens, the labelled ones first.
        labels: the classes of the labelled ones.
        length: words that are kept of a text.
        special: the tokens beyond the words.
    """
    tokens = np.zeros((len(encoded), 1 + length), np.int32)
    tokens[:, 0] = special.ask
    real = np.zeros(tokens.shape, bool)
    for row, text in enumerate(encoded):
        count = min(len(text), length)
        tokens[row, 1 : 1 + count] = text[:count]
        real[row, : 1 + count] = True
    return {"tokens": tokens, "real": real, "labels": special.first_class + np.asarray(labels, np.int32)}


def shapes_of(length: int, special: SpecialTokens) -> Shapes:
    """The shapes of the task: a token at each place, seen from both sides."""
    return Shapes(inputs=(1 + length,), vocabulary=special.size, outputs=special.size, per_position=True)


def shown(batch: Batch, words: Sequence[str], classes: Sequence[str], special: SpecialTokens) -> str:
    """A text as it is read, and what it is asked for."""
    names: Mapping[int, str] = {special.ask: "[CLASS]", special.mask: "[MASK]"}
    names |= {special.first_class + number: name for number, name in enumerate(classes)}

    def spelled(token: Any) -> str:
        place = int(token) - special.first_word
        return names.get(int(token)) or (words[place] if place >= 0 else "\N{REPLACEMENT CHARACTER}")

    values, mask = (np.asarray(part) for part in batch.inputs)
    asked = [spelled(token) for token in np.asarray(batch.targets)[np.asarray(batch.weights) > 0]]
    return f"{' '.join(spelled(token) for token in values[mask])} -> {' '.join(asked)}"
