"""Parity, and sums modulo m: what needs a state that never fades.

Delétang et al. 2023, "Neural networks and the Chomsky hierarchy"; why attention finds it hard: Hahn 2020.
A string of digits 0 to m - 1; the answer is their sum modulo m (m = 2: parity), once at the end as in the
paper (``final``), or at every position for the digits so far (``running``). Lengths are uniform from 1 to
``longest`` in training and validation, and from ``longest + 1`` to ``test_longest`` in the test split (40 and
500 in the paper): the test is of lengths never seen, and of the running form only the positions beyond
``longest`` count there. The paper draws one length for each batch; here each example has its own, and is padded.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from models.base import BadInput, Shapes, Static
from train.data.generated import GeneratedConfig, task
from train.data.task import Batch, Task

FILES = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(GeneratedConfig):
    """Sums modulo m of strings, tested on longer ones.

    Attributes:
        modulus: m.
        answers: running or final.
        longest: greatest length in training and validation.
        test_longest: greatest length in the test split.
    """

    modulus: Annotated[int, Static(ge=2)] = 2
    answers: Annotated[Literal["running", "final"], Static()] = "running"
    longest: Annotated[int, Static(ge=1)] = 40
    test_longest: Annotated[int, Static(ge=2)] = 500

    def validate(self) -> None:
        """The test is longer."""
        if self.test_longest <= self.longest:
            raise BadInput(f"test_longest={self.test_longest} must be greater than longest={self.longest}")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of naming the sum. ``data_dir`` is not needed."""
    from train import objectives  # imports jax; a list of the data sets must not

    del data_dir
    running = config.answers == "running"
    return task(
        config,
        lambda words: _example(words, config, 1, config.longest, asked_from=0),
        words=config.longest + 1,
        test=(
            lambda words: _example(words, config, config.longest + 1, config.test_longest, asked_from=config.longest),
            config.test_longest + 1,
        ),
        shapes=Shapes(
            inputs=(config.test_longest,),
            vocabulary=config.modulus,
            outputs=config.modulus,
            per_position=running,
        ),
        objective=objectives.answers() if running else objectives.classification(),
        source="Delétang et al. 2023, section 4 and table 2",
        extra={"chance_accuracy": 1 / config.modulus},
        show=show,
    )


def _example(words: Any, config: Config, shortest: int, longest: int, *, asked_from: int) -> dict[str, Any]:
    import jax.numpy as jnp

    from models.inputs import Padded
    from train.data.fresh import below

    size = shortest + below(words[longest], longest + 1 - shortest)
    place = jnp.arange(longest)
    mask = place < size
    digits = jnp.where(mask, below(words[:longest], config.modulus), 0)
    sums = jnp.cumsum(digits) % config.modulus
    if config.answers == "final":
        return {"inputs": Padded(digits, mask), "targets": sums[-1]}
    asked = mask & (place >= asked_from)
    return {"inputs": Padded(digits, mask), "targets": jnp.where(mask, sums, 0), "weights": asked.astype(jnp.float32)}


def show(example: Batch) -> str:
    """The digits, and the sums or the sum."""
    count = int(example.inputs.mask.sum())
    digits = " ".join(map(str, example.inputs.values[:count].tolist()))
    return f"{digits} -> {' '.join(map(str, np.atleast_1d(example.targets)[:count].tolist()))}"
