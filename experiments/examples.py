"""Examples of a data set as a person reads them, by their shapes where the task does not say how."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.inputs import Padded, Pair
from train.data.task import Batch, StreamedSampler, Task

LONGEST = 400
"""Characters of an example's text that are shown."""

_MOST_LINES = 16  # features that are drawn as lines of one series; more are an image


class View(NamedTuple):
    """One example.

    Attributes:
        text: what it is in words, or what it should be answered with.
        image: uint8 [height, width] or [height, width, 3]; None where it is none.
        series: real [time, features]; None where it is none.
    """

    text: str
    image: np.ndarray | None = None
    series: np.ndarray | None = None


def views(task: Task, count: int) -> list[View]:
    """Training examples, evenly spread over the split; ``count`` of them, or all where there are fewer."""
    batch = gathered(task, count)
    return [
        view(task, jax.tree.map(lambda array, row=row: np.asarray(array[row]), batch))
        for row in range(len(batch.weights))
    ]


def gathered(task: Task, count: int) -> Batch:
    """Training examples, evenly spread over the split, as NumPy arrays."""
    arrays = dict(task.train.arrays)
    size = min(task.sampler.train_size(arrays), 2**31 - 1)
    count = min(count, size)
    # One further each time, so that where classes take turns not all examples are of one class.
    indices = np.array([min(place * size // count + place, size - 1) for place in range(count)], np.int32)
    if isinstance(task.sampler, StreamedSampler):  # of a split that may be larger than memory
        return jax.device_get(jax.jit(task.sampler.assemble)(task.sampler.fetch(arrays, indices)))
    return jax.device_get(jax.jit(task.sampler.gather)(arrays, jnp.asarray(indices)))


def validation(task: Task, places: Sequence[int]) -> Batch:
    """The validation examples at these places, on the device."""
    arrays, positions = dict(task.validation.arrays), np.array(places, np.int32)
    if isinstance(task.sampler, StreamedSampler):  # of a split that may be larger than memory
        return jax.jit(task.sampler.assemble)(task.sampler.fetch_evaluation(arrays, positions))
    return jax.jit(task.sampler.evaluation_batch)(arrays, jnp.asarray(positions))


def view(task: Task, example: Batch) -> View:
    """One example, as the task shows it or by the shapes alone.

    Args:
        task: that it is from.
        example: without batch axis.
    """
    answer = _answer(example, task.classes)
    inputs = example.inputs
    values: Any = inputs.values[np.asarray(inputs.mask)] if isinstance(inputs, Padded) else inputs
    shown = task.show(example) if task.show is not None else None
    if isinstance(shown, np.ndarray):
        return View(answer, image=shown)
    text = _cut(shown) if isinstance(shown, str) else None
    if isinstance(values, Pair) or not np.issubdtype(values.dtype, np.floating):
        return View(text or f"{_tokens(values)} -> {answer}")
    if values.ndim == 3 or (values.ndim == 2 and values.shape[1] > _MOST_LINES):
        picture = values if values.ndim == 3 else values.T[::-1]
        return View(text or answer, image=_as_bytes(picture))
    if values.ndim == 2:
        return View(text or answer, series=values)
    return View(text or f"{_numbers(values)} -> {answer}")


def _answer(example: Batch, names: Sequence[str]) -> str:
    """What the example should be answered with."""
    targets = getattr(example.targets, "values", example.targets)
    if np.issubdtype(targets.dtype, np.floating):
        return _numbers(targets)
    if targets.ndim == 0:
        return names[int(targets)] if names else str(int(targets))
    return " ".join(map(str, targets[np.asarray(example.weights) > 0].tolist()[:40]))


def _tokens(values: Any) -> str:
    if isinstance(values, Pair):
        return (
            f"{_tokens(values.source.values[values.source.mask])} | {_tokens(values.target.values[values.target.mask])}"
        )
    numbers = values.ravel().tolist()
    return " ".join(map(str, numbers[:40])) + (" ..." if len(numbers) > 40 else "")


def _numbers(values: np.ndarray) -> str:
    numbers = np.ravel(values)
    return " ".join(f"{number:.3g}" for number in numbers[:12]) + (" ..." if numbers.size > 12 else "")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _as_bytes(picture: np.ndarray) -> np.ndarray:
    """Real values from the least to the greatest as 0 to 255; one or three channels, or the mean of others."""
    low, span = float(picture.min()), float(np.ptp(picture)) or 1.0
    scaled = np.round((picture - low) / span * 255).astype(np.uint8)
    if scaled.ndim == 2 or scaled.shape[-1] == 3:
        return scaled
    return scaled[..., 0] if scaled.shape[-1] == 1 else scaled.mean(-1).astype(np.uint8)
