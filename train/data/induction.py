"""Induction: what came after this token the last time comes again.

The form ``repeated`` (Olsson et al. 2022, "In-context learning and induction heads"): a sequence of
``period`` random tokens, all different, again and again. At each token that has been seen before, the
model must name the one that followed it; the first period asks nothing.

The form ``trigger`` (Dao et al. 2023, "Hungry hungry hippos", table 1; Gu and Dao 2023, "Mamba", section
4.1.2): random tokens from 0 to V - 2; the trigger V - 1 stands at one random place among them and once more
at the end; the answer is the token behind the first. Mamba's sizes are V = 16 and 256 tokens, tested at up
to a million.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from models.base import BadInput, Shapes, Static
from train.data.generated import GeneratedConfig, task
from train.data.task import Batch, Task

FILES = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(GeneratedConfig):
    """Look back, and say what came next.

    Attributes:
        form: repeated or trigger.
        vocabulary: V, number of tokens.
        length: tokens that a model reads.
        test_length: the same in the test split (trigger only); None for the same.
        period: tokens before the sequence comes again (repeated only).
    """

    form: Annotated[Literal["repeated", "trigger"], Static()] = "trigger"
    vocabulary: Annotated[int, Static(ge=3)] = 16
    length: Annotated[int, Static(ge=4)] = 64
    test_length: Annotated[int | None, Static(ge=4)] = None
    period: Annotated[int, Static(ge=2)] = 12

    def validate(self) -> None:
        """The period must fit into the sequence and, all tokens being different, into the vocabulary."""
        if self.form == "repeated" and not (self.period <= self.vocabulary and self.period < self.length):
            raise BadInput(
                f"period={self.period} must be at most vocabulary={self.vocabulary} and less than length={self.length}"
            )
        if self.form == "repeated" and self.test_length is not None:
            raise BadInput(f"test_length={self.test_length} needs form=trigger")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of naming the token that follows. ``data_dir`` is not needed."""
    from train import objectives  # imports jax; a list of the data sets must not

    del data_dir
    make = _repeated if config.form == "repeated" else _trigger
    test_length = config.test_length or config.length
    longest = max(config.length, test_length)
    symbols = config.vocabulary if config.form == "repeated" else config.vocabulary - 1
    return task(
        config,
        lambda words: make(words, config, config.length),
        words=config.length + 1,
        test=(lambda words: make(words, config, test_length), test_length + 1) if config.test_length else None,
        shapes=Shapes(
            inputs=(longest,),
            vocabulary=config.vocabulary,
            outputs=config.vocabulary,
            per_position=True,
            causal=True,
        ),
        objective=objectives.answers(),
        source="Olsson et al. 2022; Dao et al. 2023, table 1; Gu and Dao 2023, section 4.1.2",
        extra={"chance_accuracy": 1 / symbols, "chance_loss": math.log(symbols)},
        show=show,
    )


def _repeated(words: Any, config: Config, length: int) -> dict[str, Any]:
    import jax.numpy as jnp

    from train.data.fresh import distinct

    tokens = distinct(words[: config.period], config.vocabulary)[jnp.arange(length + 1) % config.period]
    asked = jnp.arange(length) >= config.period
    return {"inputs": tokens[:-1], "targets": tokens[1:], "weights": asked.astype(jnp.float32)}


def _trigger(words: Any, config: Config, length: int) -> dict[str, Any]:
    import jax.numpy as jnp

    from train.data.fresh import below

    tokens = below(words[:length], config.vocabulary - 1)
    place = below(words[length], length - 2)
    inputs = tokens.at[place].set(config.vocabulary - 1).at[-1].set(config.vocabulary - 1)
    last = jnp.arange(length) == length - 1
    return {
        "inputs": inputs,
        "targets": jnp.where(last, inputs[place + 1], 0),
        "weights": last.astype(jnp.float32),
    }


def show(example: Batch) -> str:
    """The tokens, and the answer to the last of them."""
    return f"{' '.join(map(str, np.asarray(example.inputs).tolist()))} -> {int(example.targets[-1])}"
