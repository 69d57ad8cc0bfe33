"""Multi-query associative recall (Arora et al. 2023, "Zoology"; as in its repository, multiquery_ar).

A sequence begins with N pairs of a key and its value, all keys different and all values different. Behind them every
key comes once more, and the model must name its value at that place; everywhere else nothing is asked. Keys are
tokens from 1 to V/2 - 1, values from V/2 to V - 1. The queries stand at even places of what is left of the L
tokens: place g (0, 1, ...) is drawn with probability proportional to (g + 1)^(a - 1), without
replacement, the k-th pair's query at the k-th place drawn. What is left over is filled with tokens from all of
0 to V - 1 (or with 0), so a key may also come by chance where nothing is asked.

Published sizes: V = 8192, (L, N) = (64, 4), (128, 8), (256, 16), 100,000 training examples, 3,000 to test.
The repository draws the places by NumPy's choice; here they are drawn one after another in integers.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Int32

from models.base import BadInput, Shapes, Static
from train.data.generated import GeneratedConfig, task
from train.data.task import Batch, Task

FILES = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(GeneratedConfig):
    """Pairs to remember and to look up.

    Attributes:
        vocabulary: V.
        length: L, tokens of a sequence.
        pairs: N.
        power: a, of the distribution of the places; 1 is uniform.
        random_fill: fill the places that ask nothing with random tokens; else with 0.
    """

    train_examples: Annotated[int | None, Static(ge=1, lt=2**31)] = 10_000
    vocabulary: Annotated[int, Static(ge=4)] = 256
    length: Annotated[int, Static(ge=4)] = 64
    pairs: Annotated[int, Static(ge=1)] = 4
    power: Annotated[float, Static(gt=0, le=1)] = 0.01
    random_fill: Annotated[bool, Static()] = True

    def validate(self) -> None:
        """Pairs and queries must fit into the sequence, and keys and values into the vocabulary."""
        if self.length % 2 or self.length < 4 * self.pairs:
            raise BadInput(f"length={self.length} must be even and at least {4 * self.pairs}, 4 times pairs")
        if self.vocabulary % 2 or self.vocabulary // 2 <= self.pairs:
            raise BadInput(f"vocabulary={self.vocabulary} must be even and at least {2 * self.pairs + 2}: 2 pairs + 2")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of naming the value of each key that comes again. ``data_dir`` is not needed."""
    from train import objectives  # imports jax; a list of the data sets must not

    del data_dir
    chances = weights_of_places((config.length - 2 * config.pairs) // 2, config.power)
    size = config.vocabulary
    return task(
        config,
        lambda words: _example(words, config, chances),
        words=3 * config.pairs + config.length,
        shapes=Shapes(inputs=(config.length,), vocabulary=size, outputs=size, per_position=True, causal=True),
        objective=objectives.answers(),
        source="Arora et al. 2023, section 3 and appendix E",
        extra={
            "queries_per_example": config.pairs,
            "chance_accuracy_among_shown": 1 / config.pairs,
            "loss_of_guessing_a_shown_value": math.log(config.pairs),
        },
        show=show,
    )


def weights_of_places(places: int, power: float) -> Int32[np.ndarray, " places"]:
    """(g + 1)^(a - 1) for each place as integers, which are the same on every machine; their sum fits an int32."""
    scale = min(2**20, 2**30 // places)
    return np.maximum(1, np.round(scale * np.arange(1, places + 1) ** (power - 1.0))).astype(np.int32)


def _example(words: Any, config: Config, chances: Int32[np.ndarray, " places"]) -> dict[str, Any]:
    import jax.numpy as jnp

    from train.data.fresh import below, distinct

    half, pairs = config.vocabulary // 2, config.pairs
    keys = 1 + distinct(words[:pairs], half - 1)
    values = half + distinct(words[pairs : 2 * pairs], half)
    queries = 2 * pairs + 2 * _places(words[2 * pairs : 3 * pairs], chances)
    sequence = jnp.zeros(config.length, jnp.int32).at[0 : 2 * pairs : 2].set(keys).at[1 : 2 * pairs : 2].set(values)
    sequence = sequence.at[queries].set(keys)
    if config.random_fill:
        sequence = jnp.where(sequence == 0, below(words[3 * pairs :], config.vocabulary), sequence)
    return {
        "inputs": sequence,
        "targets": jnp.zeros_like(sequence).at[queries].set(values),
        "weights": jnp.zeros(config.length, jnp.float32).at[queries].set(1.0),
    }


def _places(words: Any, chances: Int32[np.ndarray, " places"]) -> Any:
    """Different places, one a word, each with its chance among those that are left."""
    import jax
    import jax.numpy as jnp

    from train.data.fresh import below

    def take(left: Any, word: Any) -> tuple[Any, Any]:
        total = jnp.cumsum(left)
        place = jnp.sum(total <= below(word, total[-1]), dtype=jnp.int32)
        return left.at[place].set(0), place

    return jax.lax.scan(take, jnp.asarray(chances), words)[1]


def show(example: Batch) -> str:
    """The pairs, and the queries with their places and answers."""
    queries = np.flatnonzero(example.weights)
    context = example.inputs[: 2 * len(queries)].reshape(-1, 2).tolist()
    pairs = " ".join(f"{key}:{value}" for key, value in context)
    asked = ", ".join(f"{example.inputs[place]} at {place} -> {example.targets[place]}" for place in queries)
    return f"{pairs} | {asked}"
