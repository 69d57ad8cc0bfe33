"""The copy memory task: repeat ten symbols after a long wait, as in Arjovsky, Shah and Bengio 2016, section 5.1.

A sequence has T + 20 tokens: ten symbols drawn uniformly from
0 to 7, T - 1 blanks (8), a delimiter (9), ten blanks. The target is T + 10 blanks and then the ten
symbols in their order. A network without memory that knows the form has a cross-entropy of
10 ln 8 / (T + 20) nats a position. Bai et al. 2018 show the delimiter eleven times and use 10,000 examples;
Arjovsky et al. use 100,000. The default here is new examples in every step.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from models.base import Shapes, Static
from train.data.generated import GeneratedConfig, task
from train.data.task import Batch, Task

FILES = ()

SYMBOLS, BLANK, DELIMITER = 8, 8, 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(GeneratedConfig):
    """Ten symbols to remember.

    Attributes:
        delay: T; the first symbol is wanted T + 10 positions after it is shown.
        symbols: how many are to be remembered; 10 in the papers.
    """

    delay: Annotated[int, Static(ge=1)] = 100
    symbols: Annotated[int, Static(ge=1)] = 10


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of naming a token at every position. ``data_dir`` is not needed."""
    from train import objectives  # imports jax; a list of the data sets must not

    del data_dir
    length = config.delay + 2 * config.symbols
    return task(
        config,
        lambda words: _example(words, config),
        words=config.symbols,
        shapes=Shapes(inputs=(length,), vocabulary=10, outputs=10, per_position=True, causal=True),
        objective=objectives.answers(),
        source="Arjovsky, Shah and Bengio 2016, section 5.1",
        extra={"memoryless_loss": config.symbols * math.log(SYMBOLS) / length},
        show=show,
    )


def _example(words: Any, config: Config) -> dict[str, Any]:
    import jax.numpy as jnp

    from train.data.fresh import below

    symbols = below(words, SYMBOLS)
    length = config.delay + 2 * config.symbols
    blanks = jnp.full(length, BLANK, jnp.int32)
    inputs = blanks.at[: config.symbols].set(symbols).at[config.symbols + config.delay - 1].set(DELIMITER)
    return {
        "inputs": inputs,
        "targets": blanks.at[-config.symbols :].set(symbols),
        "weights": jnp.ones(length, jnp.float32),
    }


def show(example: Batch) -> str:
    """Inputs and targets, blanks as dots, the delimiter as a bar."""
    symbols = np.array(list("01234567.|"))
    return f"{''.join(symbols[example.inputs])}\n{''.join(symbols[example.targets])}"
