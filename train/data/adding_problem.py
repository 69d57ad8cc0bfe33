"""The adding problem: add two numbers that stand far apart (Hochreiter and Schmidhuber 1997, section 5.4).

The form ``halves`` is that of Le et al. 2015, section 4.1, which Arjovsky 2016 and Bai 2018 use too: at each
of T steps a number from U[0, 1) and a marker; one marker is 1 in each half of the sequence, the others
are 0; the target is the sum of the two marked numbers. Always to answer 1 gives a mean squared error of
2 / 12 = 1/6.

The form ``original`` is the first paper's: numbers from U[-1, 1); lengths uniform from T to T + T // 10; one
of the first ten pairs is marked, then one of the first T // 2 - 1 of those not marked yet (markers 1); the
first and the last marker are -1, and where the first pair itself is marked, its number becomes 0; the
target is 1/2 + (X1 + X2) / 4. Always to answer 1/2 gives (2 - P) / 48, where P is the probability that the first
pair is marked. The paper calls a sequence
solved when the error is below 0.04.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from models.base import BadInput, Shapes, Static
from train.data.generated import GeneratedConfig, task
from train.data.task import Batch, Task

FILES = ()

_FIRST = 10  # pairs among which the original form marks the first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(GeneratedConfig):
    """The sum of two marked numbers.

    Attributes:
        length: T, steps of a sequence.
        form: halves (2015 and since) or original (1997).
    """

    length: Annotated[int, Static(ge=2)] = 100
    form: Annotated[Literal["halves", "original"], Static()] = "halves"

    def validate(self) -> None:
        """The original form needs room for its markers."""
        if self.form == "original" and self.length < 2 * _FIRST:
            raise BadInput(f"length={self.length} must be at least {2 * _FIRST} with form=original")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of regression on sequences of two features. ``data_dir`` is not needed."""
    from train import objectives  # imports jax; a list of the data sets must not

    del data_dir
    longest = config.length if config.form == "halves" else config.length + config.length // 10
    return task(
        config,
        lambda words: (_halves if config.form == "halves" else _original)(words, config.length),
        words=longest + 3,
        shapes=Shapes(inputs=(longest, 2), vocabulary=None, outputs=1, per_position=False),
        objective=objectives.regression(),
        source="Hochreiter and Schmidhuber 1997, section 5.4; Le et al. 2015, section 4.1",
        extra={"baseline_mse": baseline(config)},
        show=show,
    )


def baseline(config: Config) -> float:
    """The expected squared error of the best constant: the variance of the target."""
    if config.form == "halves":
        return 1 / 6
    first_pair_is_marked = 1 / _FIRST + (1 - 1 / _FIRST) / (config.length // 2 - 1)
    return (2 - first_pair_is_marked) / 48


def _halves(words: Any, length: int) -> dict[str, Any]:
    import jax.numpy as jnp

    from train.data.fresh import below, unit

    half = length // 2
    values = unit(words[:length])
    places = jnp.stack([below(words[-2], half), half + below(words[-1], length - half)])
    markers = jnp.zeros(length).at[places].set(1.0)
    return {"inputs": jnp.stack([values, markers], axis=-1), "targets": values[places[0]] + values[places[1]]}


def _original(words: Any, length: int) -> dict[str, Any]:
    import jax.numpy as jnp

    from models.inputs import Padded
    from train.data.fresh import below, unit

    longest = length + length // 10
    size = length + below(words[-3], longest + 1 - length)
    one = below(words[-2], _FIRST)
    two = below(words[-1], length // 2 - 1)
    two += two >= one  # counted among the unmarked
    values = 2 * unit(words[:longest]) - 1
    marked_first = (one == 0) | (two == 0)
    values = values.at[0].set(jnp.where(marked_first, 0.0, values[0]))
    markers = jnp.zeros(longest).at[jnp.stack([one, two])].set(1.0).at[0].set(-1.0).at[size - 1].set(-1.0)
    mask = jnp.arange(longest) < size
    inputs = jnp.where(mask[:, None], jnp.stack([values, markers], axis=-1), 0.0)
    return {"inputs": Padded(inputs, mask), "targets": 0.5 + (values[one] + values[two]) / 4}


def show(example: Batch) -> str:
    """The marked numbers with their places, and the target."""
    inputs = example.inputs
    values = inputs.values[inputs.mask] if hasattr(inputs, "mask") else inputs
    places = np.flatnonzero(values[:, 1])
    marks = ", ".join(f"{values[place, 0]:.3f} at step {place} (marker {values[place, 1]:+.0f})" for place in places)
    return f"{len(values)} steps; {marks} -> {float(np.ravel(example.targets)[0]):.3f}"
