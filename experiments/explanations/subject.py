"""A trained model with some examples: what every explanation begins from."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import models
from experiments.explanations.gradients import Score
from models.base import Model
from models.inputs import Padded, Pair, unpad
from train.data.task import Batch, Task
from train.weights import Weights

_TABLE = "tokens"
"""The module of a model's table of token vectors."""


class Question(NamedTuple):
    """A score as a function of real inputs.

    Attributes:
        score: of each example of a batch.
        inputs: the examples' own; for tokens their vectors.
        start: inputs that say nothing: zeros, the mean of standardised data, or for tokens vectors of zeros.
        what: what the score is, in words, of each example.
    """

    score: Score
    inputs: Float[Array, "batch ..."]
    start: Float[Array, "batch ..."]
    what: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What is explained.

    Attributes:
        trial: its name.
        weights: of the trial.
        task: its data.
        batch: examples of the validation split.
    """

    trial: str
    weights: Weights
    task: Task
    batch: Batch

    @property
    def params(self) -> Mapping[str, Any]:
        """The trained parameters."""
        return self.weights.variables["params"]

    @property
    def is_pair(self) -> bool:
        """Whether examples are a source and a target."""
        return isinstance(self.batch.inputs, Pair)

    @property
    def has_tokens(self) -> bool:
        """Whether the inputs are tokens."""
        return self.weights.shapes.vocabulary is not None

    def model(self) -> Model:
        """The model's functions."""
        config = self.weights.config
        return models.build(config.model, self.weights.shapes, compute_dtype=config.training.compute_dtype)

    def inspected(self) -> tuple[Any, dict[str, np.ndarray]]:
        """Outputs for the examples, and what the layers recorded."""
        inspect = jax.jit(lambda variables, inputs: self.model().inspect(variables, inputs, hyperparameters={}))
        outputs, found = inspect(self.weights.variables, self.batch.inputs)
        return outputs, {name: np.asarray(value) for name, value in found.items()}

    def side(self, side: int) -> tuple[Array, Array | None]:
        """The inputs and which of their positions are real (None: all); side 1 is the target of a pair."""
        return unpad(self.batch.inputs[side] if isinstance(self.batch.inputs, Pair) else self.batch.inputs)

    def length(self, example: int, *, side: int = 0) -> int:
        """Real positions of an example."""
        values, mask = self.side(side)
        return int(values.shape[1] if mask is None else mask[example].sum())

    def words(self, example: int, *, side: int = 0) -> tuple[str, ...]:
        """The tokens of an example as a person reads them; none for data without tokens."""
        if not self.has_tokens:
            return ()
        values, _ = self.side(side)
        spell = self.task.spell[min(side, len(self.task.spell) - 1)] if self.task.spell else str
        return tuple(visible(spell(int(token))) for token in values[example, : self.length(example, side=side)])

    def question(self) -> Question | None:
        """The score that gradients explain; None for pairs, and for models whose table is not to be found."""
        if self.is_pair:
            return None
        outputs, _ = self.model().apply(
            self.weights.variables, self.batch.inputs, train=False, rngs={}, hyperparameters={}
        )
        values, mask = self.side(0)
        choice, what = self._choice(outputs)
        if not self.has_tokens:
            model = self.model()

            def score(x: Array) -> Array:
                inputs = x if mask is None else Padded(x, mask)
                given, _ = model.apply(self.weights.variables, inputs, train=False, rngs={}, hyperparameters={})
                return self._score(given, choice)

            return Question(score, jnp.asarray(values), jnp.zeros_like(values), what)
        if _TABLE not in self.params or getattr(self.weights.config.model, "separator", None) is not None:
            return None
        return self._of_tokens(values, mask, choice, what)

    def _of_tokens(self, tokens: Array, mask: Array | None, choice: Array, what: tuple[str, ...]) -> Question:
        """Each position gets a row of its own at the end of the table, and that row is what varies."""
        config, shapes = self.weights.config, self.weights.shapes
        table = jnp.asarray(self.params[_TABLE]["embedding"])
        known, more = table.shape[0], tokens.size
        tied = bool(getattr(config.model, "tie_embeddings", False))
        wider = dataclasses.replace(shapes, vocabulary=known + more, outputs=shapes.outputs + more * tied)
        model = models.build(config.model, wider, compute_dtype=config.training.compute_dtype)
        places = known + jnp.arange(more, dtype=jnp.int32).reshape(tokens.shape)

        def score(x: Array) -> Array:
            rows = jnp.concatenate([table, x.reshape(-1, table.shape[1])])
            params = {**self.params, _TABLE: {**self.params[_TABLE], "embedding": rows}}
            if tied and "logits_bias" in params:
                params["logits_bias"] = jnp.pad(params["logits_bias"], (0, more))
            inputs = places if mask is None else Padded(places, mask)
            variables = {**self.weights.variables, "params": params}
            given, _ = model.apply(variables, inputs, train=False, rngs={}, hyperparameters={})
            return self._score(given[..., : shapes.outputs], choice)

        vectors = table[tokens]
        return Question(score, vectors, jnp.zeros_like(vectors), what)

    def _classes(self) -> bool:
        return "accuracy" in self.task.objective.metrics

    def _choice(self, outputs: Array) -> tuple[Array, tuple[str, ...]]:
        """Which output of each example is the score, and what that is in words."""
        count = outputs.shape[0]
        if not self._classes():
            return jnp.zeros(count, jnp.int32), ("the mean of what is predicted",) * count
        best = jnp.argmax(self._last(outputs), axis=-1)
        names = self.task.classes or self._spelled()
        shown = [names[int(one)] if int(one) < len(names) else str(int(one)) for one in best]
        kind = "next" if outputs.ndim == 3 else "class"
        return best, tuple(f"{kind}: {name}" for name in shown)

    def _spelled(self) -> tuple[str, ...]:
        """The tokens that a model of a language predicts."""
        if not (self.task.spell and self.weights.shapes.per_position):
            return ()
        return tuple(visible(self.task.spell[-1](token)) for token in range(self.weights.shapes.outputs))

    def _last(self, outputs: Array) -> Array:
        """Of outputs at every position those at the last real one."""
        if outputs.ndim == 2:
            return outputs
        places = jnp.array([self.length(example) - 1 for example in range(outputs.shape[0])])
        return jnp.take_along_axis(outputs, places[:, None, None], axis=1)[:, 0]

    def _score(self, outputs: Array, choice: Array) -> Float[Array, " batch"]:
        if not self._classes():
            return jnp.mean(outputs.reshape(outputs.shape[0], -1), axis=1)
        return jnp.take_along_axis(self._last(outputs), choice[:, None], axis=1)[:, 0]


def visible(token: str) -> str:
    """A token as it can be read: spaces and line ends have signs."""
    return {" ": "␣", "\n": "⏎", "\t": "⇥", "": "∅"}.get(token, token.replace("\n", "⏎"))
