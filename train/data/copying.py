"""Copying a string (Jelassi et al. 2024, "Repeat after me", section 4.1).

``BOS x SEP x EOS``, x uniform over an alphabet, its length uniform between two bounds. A model reads all but
the last token and is scored on what follows ``SEP``: the string and the end. ``string_accuracy`` is the
share of strings whose every token, the end included, is right given the true tokens before it. The paper
draws new strings in every step, as does the default here; it packs several into one context, which
is not done here.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from models.base import BadInput, Shapes, Static
from train.data.generated import GeneratedConfig, task
from train.data.task import Batch, Task

FILES = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(GeneratedConfig):
    """Strings to be said again.

    Attributes:
        alphabet: number of letters.
        shortest, longest: bounds of the strings' length in training and validation.
        test_shortest, test_longest: the same in the test split; None for the same.
    """

    alphabet: Annotated[int, Static(ge=2, le=26)] = 26
    shortest: Annotated[int, Static(ge=1)] = 20
    longest: Annotated[int, Static(ge=1)] = 20
    test_shortest: Annotated[int | None, Static(ge=1)] = None
    test_longest: Annotated[int | None, Static(ge=1)] = None

    def validate(self) -> None:
        """Each pair of bounds must be in order."""
        for name, (low, high) in (("", (self.shortest, self.longest)), ("test_", self.test_bounds)):
            if low > high:
                raise BadInput(f"{name}shortest={low} must be at most {name}longest={high}")

    @property
    def test_bounds(self) -> tuple[int, int]:
        """The bounds of the test split."""
        return self.test_shortest or self.shortest, self.test_longest or self.longest


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of writing the string again. ``data_dir`` is not needed."""
    from train import objectives  # imports jax; a list of the data sets must not

    del data_dir
    bounds, test_bounds = (config.shortest, config.longest), config.test_bounds
    padded = len({*bounds, *test_bounds}) > 1
    tokens = config.alphabet + 3
    other = (lambda words: _example(words, config.alphabet, test_bounds, padded), test_bounds[1] + 1)
    return task(
        config,
        lambda words: _example(words, config.alphabet, bounds, padded),
        words=bounds[1] + 1,
        test=other if test_bounds != bounds else None,
        shapes=Shapes(
            inputs=(2 * max(bounds[1], test_bounds[1]) + 2,),
            vocabulary=tokens,
            outputs=tokens,
            per_position=True,
            causal=True,
        ),
        objective=objectives.answers(),
        source="Jelassi et al. 2024, section 4.1",
        extra={"alphabet": config.alphabet},
        show=lambda example: _show(example, config.alphabet),
    )


def _example(words: Any, alphabet: int, bounds: tuple[int, int], padded: bool) -> dict[str, Any]:
    import jax.numpy as jnp

    from models.inputs import Padded
    from train.data.fresh import below

    begin, separator, end = alphabet, alphabet + 1, alphabet + 2
    most = bounds[1]
    letters = below(words[:most], alphabet)
    size = bounds[0] + below(words[most], most + 1 - bounds[0])
    place = jnp.arange(2 * most + 3)  # in the whole sequence, with its end
    again = jnp.clip(place - size - 2, 0, most - 1)
    tokens = jnp.where(place <= size, letters[jnp.clip(place - 1, 0, most - 1)], letters[again])
    tokens = jnp.where(place == size + 1, separator, tokens).at[0].set(begin)
    tokens = jnp.where(place == 2 * size + 2, end, tokens)
    real = place[:-1] <= 2 * size + 1
    inputs = jnp.where(real, tokens[:-1], 0)
    asked = real & (place[:-1] >= size + 1)
    return {
        "inputs": Padded(inputs, real) if padded else inputs,
        "targets": jnp.where(real, tokens[1:], 0),
        "weights": asked.astype(jnp.float32),
    }


def _show(example: Batch, alphabet: int) -> str:
    """What is read and what is asked: ``^`` begins, ``|`` separates, ``$`` ends."""
    letters = np.array([*"abcdefghijklmnopqrstuvwxyz"[:alphabet], "^", "|", "$"])
    inputs = example.inputs
    read = letters[inputs.values[inputs.mask] if hasattr(inputs, "mask") else inputs]
    return f"{''.join(read)} -> {''.join(letters[example.targets[example.weights > 0]])}"
