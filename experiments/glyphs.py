"""Small pictures made of characters: images as shades, series as sparklines."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

SHADES = " ░▒▓█"
LEVELS = "▁▂▃▄▅▆▇█"


def blocks(image: UInt8[np.ndarray, "height width *channels"], *, columns: int) -> list[str]:
    """An image as lines of text: a character for each patch, brighter where it is denser.

    A character is taken to be twice as high as wide. Colours become brightness (ITU-R BT.601).

    Args:
        image: grey [height, width], or [height, width, 3].
        columns: most characters in a line.
    """
    grey = image.astype(np.float64)
    if grey.ndim == 3:
        grey = grey @ [0.299, 0.587, 0.114] if grey.shape[-1] == 3 else grey[..., 0]
    columns = max(1, min(columns, grey.shape[1]))
    rows = max(1, round(grey.shape[0] * columns / grey.shape[1] / 2))
    small = _averaged(_averaged(grey, rows).T, columns).T
    places = np.minimum((small / 256 * len(SHADES)).astype(int), len(SHADES) - 1)
    return ["".join(SHADES[place] for place in line) for line in places]


def sparkline(values: Float[np.ndarray, " time"], *, columns: int) -> str:
    """A series as one line of text: the mean of each stretch of time, from the least to the greatest of them.

    What is not a number leaves a blank.
    """
    means = _averaged(np.asarray(values, np.float64), min(columns, len(values)))
    finite = means[np.isfinite(means)]
    if not finite.size:
        return " " * len(means)
    low, span = float(finite.min()), float(np.ptp(finite)) or 1.0
    return "".join(
        LEVELS[min(int((value - low) / span * len(LEVELS)), len(LEVELS) - 1)] if np.isfinite(value) else " "
        for value in means
    )


def beside(pictures: Sequence[Sequence[str]], *, gap: int = 2) -> list[str]:
    """Pictures next to each other, aligned at the top."""
    height = max(map(len, pictures))
    widths = [max(map(len, picture), default=0) for picture in pictures]
    lines = []
    for row in range(height):
        cells = [
            (picture[row] if row < len(picture) else "").ljust(width)
            for picture, width in zip(pictures, widths, strict=True)
        ]
        lines.append((" " * gap).join(cells).rstrip())
    return lines


def _averaged(values: Float[np.ndarray, "size ..."], parts: int) -> Float[np.ndarray, "parts ..."]:
    """The mean of each of ``parts`` stretches of the first axis, each of at least one element."""
    edges = np.arange(parts + 1) * len(values) // parts
    starts, ends = edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)
    return np.stack([values[start:end].mean(0) for start, end in zip(starts, ends, strict=True)])
