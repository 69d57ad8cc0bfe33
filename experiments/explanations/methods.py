"""The explanations themselves: each takes a subject and gives a figure, where model and data have one."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from experiments.explanations.gradients import integrated_gradients, saliency
from experiments.explanations.subject import Subject
from experiments.explanations.views import Explanation, Panel

MOST_HEADS, MOST_BLOCKS, MOST_FILTERS, MOST_UNITS, MOST_WORDS = 4, 3, 24, 24, 14
NEIGHBOURS = 5
LONGEST = 48
"""Positions whose names are written."""


def attention(subject: Subject) -> Iterator[Explanation]:
    """Which positions each head looks at, for the first example; of an image how much each patch is looked at."""
    panels: list[Panel] = []
    for name, weights in subject.inspected()[1].items():
        if name.endswith("attention_weights"):
            panels += _attention(subject, name, weights)
    if panels:
        yield Explanation(
            name="attention",
            trial=subject.trial,
            caption="Attention weights for one validation example: rows are the positions that look, columns those "
            "that are looked at; brighter is more. For images: how much each patch is looked at, over all that look.",
            panels=tuple(panels[: 3 * MOST_HEADS]),
            across=min(MOST_HEADS, len(panels)),
        )


def _attention(subject: Subject, name: str, weights: np.ndarray) -> Iterator[Panel]:
    if weights.ndim == 5:  # of scanned blocks
        for block in range(min(MOST_BLOCKS, len(weights))):
            yield from _attention(subject, f"block_{block}/attention_weights", weights[block])
        return
    heads = weights[0] if weights.ndim == 4 else weights[:1]
    crossing = "cross" in name or (weights.ndim == 3 and subject.is_pair)
    title = name.removesuffix("attention_weights").rstrip("/_") or "attention"
    looking = 1 if subject.is_pair and (crossing or name.startswith("decoder")) else 0
    looked_at = 0 if crossing else looking
    for number, matrix in enumerate(heads[:MOST_HEADS]):
        label = f"{title}, head {number}" if weights.ndim == 4 else title
        grid = _grid(subject, matrix.shape[-1])
        if grid is not None:
            yield Panel(kind="picture", title=label, values=matrix.mean(axis=0)[-grid[0] * grid[1] :].reshape(grid))
            continue
        rows, columns = subject.words(0, side=looking), subject.words(0, side=looked_at)
        rows_real, columns_real = (subject.length(0, side=side) for side in (looking, looked_at))
        shown = matrix[:rows_real, :columns_real] if subject.has_tokens else matrix
        yield Panel(kind="heat", title=label, values=shown, rows=_few(rows), columns=_few(columns))


def _grid(subject: Subject, keys: int) -> tuple[int, int] | None:
    """Rows and columns of an image's patches; None where the inputs are no image."""
    shape, side = subject.weights.shapes.inputs, getattr(subject.weights.config.model, "patch_size", None)
    if len(shape) != 3 or side is None:
        return None
    rows, columns = shape[0] // side, shape[1] // side
    return (rows, columns) if keys in (rows * columns, rows * columns + 1) else None


def gradients(subject: Subject) -> Iterator[Explanation]:
    """What an output depends on: the gradient by the inputs, and integrated gradients."""
    question = subject.question()
    if question is None:
        return
    raw = np.asarray(saliency(question.score, question.inputs))
    found = integrated_gradients(question.score, question.inputs, question.start)
    integrated = np.asarray(found.values)
    panels: list[Panel] = []
    for example in range(len(raw)):
        panels += _attributed(subject, example, question.what[example], raw[example], integrated[example])
    yield Explanation(
        name="saliency",
        trial=subject.trial,
        caption="What an output depends on, for validation examples: the gradient by the inputs (of words: its "
        "length), and integrated gradients, which add up to how far the output is from that of an input that says "
        f"nothing. They do so within {found.gap.max():.1%} here, over {found.steps} points of the path.",
        panels=tuple(panels),
        across=1 if subject.has_tokens else 3,
    )


def _attributed(subject: Subject, example: int, what: str, raw: np.ndarray, whole: np.ndarray) -> Iterator[Panel]:
    if subject.has_tokens:
        if example:  # one text fills the figure
            return
        words = subject.words(example)
        size, first = len(words), max(0, len(words) - LONGEST)
        lengths, sums = np.linalg.norm(raw, axis=-1)[first:size], whole.sum(axis=-1)[first:size]
        yield Panel(kind="bars", title=f"gradient ({what})", values=lengths, columns=words[first:])
        yield Panel(
            kind="bars", title=f"integrated gradients ({what})", values=sums, columns=words[first:], signed=True
        )
        return
    values, _ = subject.side(0)
    shown = np.asarray(values[example])
    kind = "picture" if shown.ndim == 3 or (shown.ndim == 2 and shown.shape[1] > 1) else "lines"
    flat = shown.ndim == 2 and kind == "picture"
    for title, array, signed in (
        (what, shown, False),
        ("gradient", raw, True),
        ("integrated gradients", whole, True),
    ):
        merged = array.mean(axis=-1) if array.ndim == 3 else array.T if flat else array.reshape(-1, 1)
        yield Panel(kind=kind, title=title, values=merged, signed=signed)


def filters(subject: Subject) -> Iterator[Explanation]:
    """The weights of the first layer, where it sees pixels, points or rows."""
    shape = subject.weights.shapes.inputs
    if subject.has_tokens or subject.is_pair:
        return
    found = _first_kernel(subject, shape)
    if found is None:
        return
    name, kernels = found
    order = np.argsort([-np.linalg.norm(kernel) for kernel in kernels], kind="stable")[:MOST_FILTERS]
    panels = tuple(
        Panel(
            kind="picture" if kernels[place].ndim == 2 and kernels[place].shape[1] > 1 else "lines",
            title=str(place),
            values=kernels[place],
            signed=True,
        )
        for place in order
    )
    yield Explanation(
        name="filters",
        trial=subject.trial,
        caption=f"Weights of the first layer ({name}) into each of its units, the largest first; red is positive, blue "
        "negative, the mean over the channels where there are several.",
        panels=panels,
        across=6,
    )


_FIRST = {"mlp": ("hidden_0", "logits"), "transformer": ("project",), "ltsf_linear": ("linear", "trend")}
"""The modules that see the inputs of these families; the first one that there is."""


def _first_kernel(subject: Subject, shape: tuple[int, ...]) -> tuple[str, list[np.ndarray]] | None:
    """The name and the filters of the layer that sees the inputs; None where they are no picture."""
    kernels = {
        module: np.asarray(content["kernel"])
        for module, content in subject.params.items()
        if isinstance(content, Mapping) and "kernel" in content
    }
    for module, kernel in kernels.items():
        if kernel.ndim == len(shape) + 1 >= 3 and kernel.shape[-2] == shape[-1]:  # a convolution of the inputs
            return module, [_merged(kernel[..., unit]) for unit in range(kernel.shape[-1])]
    config = subject.weights.config.model
    module = next((name for name in _FIRST.get(config.name, ()) if name in kernels), None)
    if module is None or len(shape) < 2:
        return None
    kernel = kernels[module]
    if config.name == "ltsf_linear":
        return module, [kernel]
    if config.name == "transformer":
        side = getattr(config, "patch_size", 1)
        shape = (side, side, shape[-1])
    if kernel.shape[0] != np.prod(shape):  # the features of a sequence, which are no picture
        return None
    return module, [_merged(kernel[:, unit].reshape(shape)) for unit in range(kernel.shape[1])]


def _merged(kernel: np.ndarray) -> np.ndarray:
    """A filter as a matrix of places; that of a signal has its channels side by side."""
    return kernel.mean(axis=-1) if kernel.ndim == 3 else kernel


def gates(subject: Subject) -> Iterator[Explanation]:
    """The gates of a recurrent network along the first example, the units that vary most."""
    panels: list[Panel] = []
    for name, values in subject.inspected()[1].items():
        layer, _, gate = name.rpartition("/")
        if not (gate.endswith("_gate") or gate in ("cell", "hidden")) or "layer_0" not in layer:
            continue
        shown = values[0][: subject.length(0)].T
        order = np.argsort(-shown.var(axis=1), kind="stable")[:MOST_UNITS]
        panels.append(
            Panel(
                kind="heat",
                title=f"{layer} {gate.replace('_', ' ')}",
                values=shown[order][:, -LONGEST:],
                columns=subject.words(0)[-LONGEST:],
                signed=not gate.endswith("_gate"),
                limits=(0.0, 1.0) if gate.endswith("_gate") else (),
            )
        )
    if panels:
        yield Explanation(
            name="gates",
            trial=subject.trial,
            caption="Gates and states of the first recurrent layer along one validation example, position by position; "
            "rows are the units that vary most. Gates go from closed (0, dark) to open (1, bright).",
            panels=tuple(panels),
            across=1 if subject.has_tokens else 2,
        )


def neighbours(subject: Subject) -> Iterator[Explanation]:
    """The tokens whose vectors point in the most similar direction."""
    content = subject.params.get("tokens")
    if not subject.has_tokens or content is None or not subject.task.spell:
        return
    table = np.asarray(content["embedding"], np.float64)
    spelled = [subject.task.spell[0](token) for token in range(len(table))]
    usable = [token for token, text in enumerate(spelled) if text.strip() not in ("", "\N{REPLACEMENT CHARACTER}")]
    asked = _asked(subject, frozenset(usable))
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    likeness = unit[asked] @ unit[usable].T
    likeness[np.array(asked)[:, None] == np.array(usable)[None]] = -np.inf
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :NEIGHBOURS]
    near = [[spelled[usable[place]] for place in row] for row in order]
    yield Explanation(
        name="neighbours",
        trial=subject.trial,
        caption="Tokens of the validation split, and those whose trained vectors point most nearly in the same "
        "direction (cosine similarity), the nearest first.",
        panels=(
            Panel(
                kind="words",
                title="nearest neighbours",
                values=np.take_along_axis(likeness, order, axis=1),
                rows=tuple(visible_word(spelled[token]) for token in asked),
                columns=tuple(visible_word(word) for row in near for word in row),
            ),
        ),
        across=1,
    )


def _asked(subject: Subject, usable: frozenset[int]) -> list[int]:
    """Tokens that occur in the examples, evenly spread over their numbers, which in vocabularies go by frequency."""
    tokens, mask = subject.side(0)
    seen = np.unique(np.asarray(tokens) if mask is None else np.asarray(tokens)[np.asarray(mask)])
    known = [int(token) for token in seen if int(token) in usable]
    places = np.linspace(0, len(known) - 1, min(MOST_WORDS, len(known))).round().astype(int)
    return [known[place] for place in places]


def visible_word(text: str) -> str:
    """A token as it stands in a table."""
    return text.replace("\n", "⏎").strip() or "␣"


def _few(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of positions, unless there are too many to be read."""
    return names if len(names) <= LONGEST else ()


METHODS: tuple[Callable[[Subject], Iterator[Explanation]], ...] = (attention, gradients, filters, gates, neighbours)
