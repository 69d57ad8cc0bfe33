"""The number by which the arms of a study are compared. Imports no jax."""

import dataclasses

from models.base import BadInput
from train import directions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """The number by which arms are compared.

    Attributes:
        column: a column of ``trials.csv``: a metric of the test split, e.g. ``test_accuracy``; what the diagnostics
            found at the end, e.g. ``curvature_top``; or ``steps``, ``parameters``, ``flops_per_step``,
            ``train_seconds`` or ``train_loss``, the mean loss of the steps after the last evaluation but one.
        label: how a table or an axis names it, e.g. ``test accuracy``.
        curve: the column of ``curves.csv`` that the learning curves show.
        higher_is_better: direction.
        percent: printed times 100 with a per-cent sign.
    """

    column: str
    label: str
    curve: str
    higher_is_better: bool
    percent: bool = False

    @classmethod
    def on_test(cls, name: str, label: str | None = None) -> "Metric":
        """A metric on the test split, beside the curve of the same on the validation split.

        Args:
            name: as the task reports it: ``accuracy``, ``loss``. Direction and unit follow from it.
            label: how a table or an axis names it; None for ``test <name>``.

        Raises:
            BadInput: it is not known of this name whether more is better.
        """
        direction = directions.higher_is_better(name)
        if direction is None:
            raise BadInput(f"whether more of {name!r} is better is not known: write its Metric out")
        return cls(
            column=f"test_{name}",
            label=label or f"test {name.replace('_', ' ')}",
            curve=f"validation_{name}",
            higher_is_better=direction,
            percent=name in directions.SHARES,
        )
