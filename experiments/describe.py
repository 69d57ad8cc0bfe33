"""What ``--data`` shows: sizes, splits, class balance, facts and examples of a data set. Trains nothing.

The test split stays closed: what is said of it is what the task's facts say.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import glyphs
from experiments.examples import View, gathered, views
from experiments.formatting import si
from experiments.report import data_picture
from models import mlp
from models.base import BadInput, plugin
from train import data, devices
from train.config import Config, parse_overrides, replace
from train.data import digits
from train.data.task import Arrays, Task
from train.optimizers import sgd
from train.schedules import constant

IN_TERMINAL, IN_PICTURE = 4, 24
"""Examples that are shown in each place."""

SAMPLED = 1000
"""Examples from which the distribution of the targets is told where a split has no array of them."""

COUNTED = 50_000_000
"""Tokens whose frequencies are counted: a text may be larger than memory."""

_MOST_CLASSES = 20  # that have a line of their own


def show(
    name: str,
    overrides: Sequence[tuple[str, str]],
    *,
    data_dir: str | None,
    workdir: str,
    console: Console,
) -> None:
    """Describe a data set; write a picture of it to ``workdir/data/NAME.png`` where it has one.

    Args:
        name: of the data set, as ``--config.data.name`` takes it.
        overrides: pairs of path and text that change its fields: ``("data.train_examples", "100")``.
        data_dir: where data sets lie.
        workdir: where the picture goes.
        console: where the text goes.

    Raises:
        BadInput: there is no such data set, an override is not of the data, or the data cannot be had.
    """
    config = chosen(name, overrides)
    devices.prepare()
    directory = None if data_dir is None else Path(data_dir)
    if directory is not None and not directory.is_dir():
        raise BadInput(f"data_dir={data_dir!r} is not a folder")
    task = data.load(config.data, directory)
    heading = (plugin("train.data", config.data.name, kind="data set").__doc__ or "").strip().partition("\n")[0]
    _say(console, f"{name}: {heading}")
    found = tell(task, console)
    if any(each.image is not None or each.series is not None for each in found):
        stem = re.sub(r"[^\w.-]+", "-", name).strip("-.")
        path = data_picture.write(Path(workdir) / "data" / f"{stem}.png", found)
        _say(console, f"\nPicture: {path}")


def tell(task: Task, console: Console) -> list[View]:
    """Print what a task is, and some of its training examples; return more of them."""
    _say(console, f"each example: {_shapes(task)}; reported: {', '.join(task.objective.metrics)}")
    console.print(_splits(task))
    for line in _targets(task):
        _say(console, line)
    for key, value in task.facts.items():
        _say(console, f"  {key}: {value}")
    found = views(task, IN_PICTURE)
    _show_examples(found, console)
    return found


def chosen(name: str, overrides: Sequence[tuple[str, str]]) -> Config:
    """A configuration that holds the data set with its fields changed; the rest of it stands idle.

    Raises:
        BadInput: there is no such data set or field, or a value does not fit.
    """
    for path, _ in overrides:
        if not path.startswith("data.") or path == "data.name":
            raise BadInput(f"--config.{path} changes nothing with --data={name}: only --config.data.FIELD=VALUE does")
    idle = Config(data=digits.Config(), model=mlp.Config(), optimizer=sgd.Config(), schedule=constant.Config())
    return replace(idle, parse_overrides(idle, [("data.name", name), *overrides]))


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _shapes(task: Task) -> str:
    shapes = task.shapes
    size = " x ".join(map(str, shapes.inputs))
    inputs = f"{size} real numbers" if shapes.vocabulary is None else f"{size} tokens of {shapes.vocabulary:,}"
    whole = f"{shapes.outputs:,} output{'s' if shapes.outputs > 1 else ''}"
    where = "at every position" if shapes.per_position else "for the whole"
    if shapes.target is not None:
        where = f"at each of {shapes.target} positions of the target"
    return f"{inputs} -> {whole} {where}{', from what came before it' if shapes.causal else ''}"


def _splits(task: Task) -> Table:
    """A row for each split."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for column, side in (("split", "left"), ("items", "right"), ("memory", "right"), ("", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    train, validation = dict(task.train.arrays), dict(task.validation.arrays)
    drawn = "made in every step" if "seed" in train else f"{task.sampler.train_size(train):,}"
    table.add_row("train", drawn, _memory(train), "may be fitted to")
    items = task.sampler.evaluation_size(validation)
    table.add_row("validation", f"{items:,}", _memory(validation), "chooses")
    held = task.facts.get("test_examples", "")
    table.add_row("test", f"{held:,}" if isinstance(held, int) else escape(str(held)), "", "closed until the end")
    return table


def _memory(arrays: Arrays) -> str:
    return f"{si(sum(leaf.nbytes for leaf in jax.tree.leaves(dict(arrays))))}B"


def _targets(task: Task) -> list[str]:
    """How what is to be predicted is distributed, in the training split or, where that is made anew, in validation."""
    split, arrays = "train", task.train.arrays
    if "seed" in arrays:
        split, arrays = "validation", task.validation.arrays
    if "tokens" in arrays:
        some = np.asarray(arrays["tokens"][:COUNTED])
        part = f", first {COUNTED:,}" if len(arrays["tokens"]) > COUNTED else ""
        return [f"tokens ({split}{part}): {_frequencies(some)}"]
    if "targets" not in arrays:  # the sampler cuts examples out of something else
        split, arrays = f"{split}, {SAMPLED:,} at most", gathered(task, SAMPLED)._asdict()
    targets = np.asarray(getattr(arrays["targets"], "values", arrays["targets"]))
    if np.issubdtype(targets.dtype, np.floating):
        counts = np.histogram(targets, bins=40)[0].astype(np.float64)
        spread = f"mean {targets.mean():.4g}, deviation {targets.std():.4g}, {targets.min():.4g} to {targets.max():.4g}"
        return [f"targets ({split}): {spread}", f"  {glyphs.sparkline(counts, columns=40)}"]
    if targets.ndim > 1:
        counted = targets[np.asarray(arrays["weights"]) > 0] if "weights" in arrays else targets.ravel()
        return [f"target tokens ({split}): {counted.size / len(targets):.1f} an example; {_frequencies(counted)}"]
    return [f"classes ({split}):", *_classes(np.bincount(targets, minlength=task.shapes.outputs), task.classes)]


def _classes(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    """A line for each class, or what they are together where they are many."""
    if len(counts) > _MOST_CLASSES:
        return [
            f"  {len(counts)} classes of {counts.min():,} to {counts.max():,} examples, median {np.median(counts):,.0f}"
        ]
    titles = names or [str(number) for number in range(len(counts))]
    width = max(map(len, titles))
    bars = ("█" * max(1 if count else 0, round(30 * count / counts.max())) for count in counts)
    return [
        f"  {title:<{width}}  {count:>9,}  {count / counts.sum():>6.1%}  {bar}"
        for title, count, bar in zip(titles, counts, bars, strict=True)
    ]


def _frequencies(tokens: np.ndarray) -> str:
    """How many different tokens there are, and the entropy of their frequencies."""
    counts = np.unique(tokens, return_counts=True)[1]
    shares = counts / counts.sum()
    bits = float(-np.sum(shares * np.log2(shares)))
    return (
        f"{len(counts):,} different, the most frequent {shares.max():.1%}, entropy of the frequencies {bits:.3f} bits"
    )


def _show_examples(found: Sequence[View], console: Console) -> None:
    """A few examples in the terminal: pictures beside each other, series and texts below each other."""
    some = [found[place * len(found) // IN_TERMINAL] for place in range(IN_TERMINAL)] if len(found) > 4 else list(found)
    if not some:
        return
    _say(console, "\nexamples (train)")
    images = [(each.text, each.image) for each in some if each.image is not None]
    if len(images) == len(some):
        columns = min(28, (console.width - 2 * len(some)) // len(some))
        pictures = [[text[:columns], *glyphs.blocks(image, columns=columns)] for text, image in images]
        for line in glyphs.beside(pictures):
            _say(console, line)
        return
    for each in some:
        _say(console, "- " + each.text.replace("\n", "\n  "))
        if each.series is not None:
            for feature in each.series.T[:3]:
                _say(console, f"  {glyphs.sparkline(feature.astype(np.float64), columns=72)}")
