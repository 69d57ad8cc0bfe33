"""Classes of very different frequency (Kunstner et al. 2024, "Heavy-tailed class imbalance", section 2).

m groups of classes: group i (0 to m - 1) has 2^i classes of 2^(m - i) examples each, so every group has 2^m
examples, of m 2^m in all, and the most frequent class has 2^(m - 1) times as many as the rarest. Inputs are
uniform on [0, 1) in (m + 1) 2^m dimensions and say nothing of the class: a linear model can learn
every label by heart, and how fast it does so is the question. What is measured is therefore the loss on the
training examples: validation and test are the same examples, as in the paper, and the record says so. Beside the
mean loss there is that of each group, ``loss_group_0`` being the most frequent class.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from models.base import Configuration, Shapes, Static
from train.data.generated import assembled, seed
from train.data.task import Batch, Task

FILES = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Frequent and rare classes.

    Attributes:
        groups: m; 7 is 896 examples of 127 classes, 9 is 4,608 of 511 (94 MB), 11 is 22,528 of 2,047 (2.2 GB).
        data_seed: of the inputs.
    """

    groups: Annotated[int, Static(ge=2, le=11)] = 7
    data_seed: Annotated[int, Static(ge=0, lt=2**32)] = 0


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of learning the labels by heart. ``data_dir`` is not needed."""
    from train.data.sampling import ShuffledExamples  # imports jax; a list of the data sets must not

    del data_dir
    targets = labels(config.groups)
    dimensions = (config.groups + 1) * 2**config.groups
    generator = np.random.Generator(np.random.PCG64(seed(config.data_seed, "train")))
    arrays = {"inputs": generator.random((len(targets), dimensions), np.float32), "targets": targets}
    classes = 2**config.groups - 1
    return assembled(
        config.name,
        {"train": arrays, "validation": arrays, "test": arrays},
        shapes=Shapes(inputs=(dimensions,), vocabulary=None, outputs=classes, per_position=False),
        objective=_by_group(config.groups),
        sampler=ShuffledExamples(),
        source="Kunstner et al. 2024, section 2",
        extra={
            "train_examples": len(targets),
            "classes": classes,
            "evaluation": "on the training examples, as in the paper",
        },
        show=None,
    )


def labels(groups: int) -> np.ndarray:
    """The class of every example, the most frequent first: int32 [m 2^m]."""
    sizes = [2 ** (groups - group) for group in range(groups) for _ in range(2**group)]
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


def _by_group(groups: int) -> Any:
    """Classification, and the loss of each group of classes."""
    import jax
    import jax.numpy as jnp

    from train import objectives

    whole = objectives.classification()
    names = tuple(f"loss_group_{group}" for group in range(groups))

    def sums(logits: Any, batch: Batch) -> dict[str, Any]:
        items = objectives.cross_entropy(logits, batch.targets, label_smoothing=0.0) * batch.weights
        # Classes 2^i - 1 to 2^(i + 1) - 2 are group i.
        group = jnp.sum(batch.targets[:, None] >= 2 ** jnp.arange(1, groups)[None, :] - 1, axis=1)
        member = jax.nn.one_hot(group, groups)
        added = {"group_losses": items @ member, "group_weights": batch.weights @ member}
        return whole.sums(logits, batch) | added

    def finish(sums: Mapping[str, Any]) -> dict[str, float]:
        means = np.asarray(sums["group_losses"]) / np.asarray(sums["group_weights"])
        return whole.finish(sums) | dict(zip(names, map(float, means), strict=True))

    return objectives.Objective(whole.loss, whole.regularisers, sums, (*whole.metrics, *names), finish)
