"""A picture of some examples of a data set."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.examples import View
from models.base import BadInput

_COLUMNS = 6
_SIDE = 1.1  # inches of a panel


def write(path: Path, views: Sequence[View]) -> Path:
    """Draw the examples that are images or series, each under its text, and write them to ``path``.

    Raises:
        BadInput: the file cannot be written.
    """
    panels = [view for view in views if view.image is not None or view.series is not None]
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(_SIDE * columns, 1.2 * _SIDE * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, view in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, number)
        # Where the text tells the example too, what is wanted is behind the arrow.
        axes.set_title(view.text.rpartition(" -> ")[2][:18], fontsize=6, parse_math=False)
        axes.set_xticks([])
        axes.set_yticks([])
        if view.image is not None:
            axes.imshow(view.image, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
        elif view.series is not None:
            axes.plot(view.series, linewidth=0.7)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.getvalue())
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}; choose another --workdir") from None
    return path
