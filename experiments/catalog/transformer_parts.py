"""The rows of Table 3 of "Attention is all you need", one knob each, on a small language model.

    python -m experiments --experiment=transformer_parts

Expected: in 8.5 minutes on 2 CPU cores (10 seeds) three claims are supported: a larger feedforward layer lowers the
loss (2.506, 2.479, 2.463), more label smoothing raises it (2.420, 2.479, 2.560), and a dropout of 0.2 is worse than
0.1. Refuted are that depth and width lower it (shallow 2.404, base 2.479, deep 2.589; narrow 2.518, base 2.479, wide
2.519) and that the base beats no dropout (2.453). The reason is the length: after 320 steps all are near 2.5 nats, far
from trained, and what takes longer to train, or slows training, is behind; nothing has been overfitted that dropout
could mend. One head, many heads, small keys and learned positions are inconclusive. A first run, of 500 steps, was
stopped while it trained: it would have taken 20 minutes.

A proxy: the directions are tested, not the numbers. The paper's perplexities belong to translation with 65 million
parameters; here a causal Transformer of its kind (post-norm, ReLU, sinusoidal positions) predicts characters.
"""

from typing import Literal

from experiments.spaces import Choice
from experiments.study import About, Better, Equivalent, Metric, Monotone, Preset, Study, Tuning

ABOUT = About(
    group="Transformers",
    claim="Each part of the Transformer matters in the direction that the rows of Table 3 say.",
    source="Vaswani et al. 2017, Attention is all you need, Table 3",
    time={"smoke": "25 s", "cpu": "8.5 min on 2 cores", "full": "about 12 hours on one GPU"},
)

PUBLISHED = {
    "base": 4.92,
    "1 head": 5.29,
    "most heads": 5.01,
    "small keys": 5.16,
    "shallow": 5.19,
    "deep": 4.88,
    "narrow": 5.75,
    "wide": 4.66,
    "small feedforward": 5.12,
    "large feedforward": 4.75,
    "no dropout": 5.77,
    "dropout 0.2": 4.95,
    "no smoothing": 4.67,
    "smoothing 0.2": 5.47,
    "learned positions": 4.92,
}
"""Perplexities of the development set, by what differs from the base: width 512, depth 6 (4 and 8: shallow and deep),
8 heads (32) of 64 (keys of 16), feedforward 2048, dropout 0.1, label smoothing 0.1."""

NOISE = 0.01
"""Nats by which two kinds of positions may differ and still count as equal."""

TRENDS: tuple[tuple[str, Literal["falling", "rising"], tuple[str, ...]], ...] = (
    ("C", "falling", ("shallow", "base", "deep")),
    ("C", "falling", ("narrow", "base", "wide")),
    ("C", "falling", ("small feedforward", "base", "large feedforward")),
    ("D", "rising", ("no smoothing", "base", "smoothing 0.2")),
)
"""Rows of the table along which the loss goes one way: its part, the direction, and the arms in order."""


def study(preset: Preset) -> Study:
    """The base, and an arm for each row of the table, every size scaled down by one factor."""
    from models import transformer
    from train.config import Config, Regularisation, Training
    from train.data import enwik8, sotu
    from train.optimizers import adam
    from train.schedules import inverse_square_root

    full = preset == "full"
    steps = {"smoke": 6, "cpu": 320, "full": 100_000}[preset]
    width, depth, heads = {"smoke": (16, 1, 2), "cpu": (32, 3, 4), "full": (512, 6, 8)}[preset]
    data = enwik8.Config(context=512) if full else sotu.Config(context=32, evaluation_characters=32_768)
    if preset == "smoke":
        data = sotu.Config(context=16, train_characters=300_000, evaluation_characters=1_024)
    baseline = Config(
        data=data,
        model=transformer.Config(
            width=width,
            depth=depth,
            heads=heads,
            feedforward=4 * width,
            activation="relu",
            norm_position="post",
            positions="sinusoidal",
            embedding_scale=True,
            tie_embeddings=True,
            dropout_rate=0.1,
        ),
        optimizer=adam.Config(learning_rate=1e-3, b2=0.98, eps=1e-9),
        schedule=inverse_square_root.Config(warmup_steps=max(1, steps // 25)),
        training=Training(
            steps=steps,
            batch_size=64 if full else 32,
            evaluate_every=max(1, steps // (4 if full else 2)),
            evaluation_batch_size=128,
        ),
        regularisation=Regularisation(label_smoothing=0.1),
    )
    arms = {
        "1 head": {"model.heads": 1},
        "most heads": {"model.heads": 4 * heads},
        "small keys": {"model.key_size": width // heads // 4, "model.value_size": width // heads},
        "shallow": {"model.depth": max(2, depth) // 2},
        "deep": {"model.depth": 2 * depth},
        "narrow": {"model.width": width // 2},
        "wide": {"model.width": 2 * width},
        "small feedforward": {"model.feedforward": 2 * width},
        "large feedforward": {"model.feedforward": 8 * width},
        "no dropout": {"model.dropout_rate": 0.0},
        "dropout 0.2": {"model.dropout_rate": 0.2},
        "no smoothing": {"regularisation.label_smoothing": 0.0},
        "smoothing 0.2": {"regularisation.label_smoothing": 0.2},
        "learned positions": {"model.positions": "learned"},
    }
    if preset == "smoke":
        arms = {name: arms[name] for name in ("no dropout", "no smoothing", "learned positions")}
    source = "Vaswani et al. 2017, Table 3, row "

    def worse(arm: str, row: str) -> Better:
        said = f"published perplexities {PUBLISHED['base']} against {PUBLISHED[arm]}"
        return Better(statement=f"The base beats: {arm} ({said})", source=source + row, arm="base", than=arm)

    claims = (
        worse("1 head", "A"),
        worse("most heads", "A"),
        worse("small keys", "B"),
        *(
            Monotone(
                statement=f"The loss is {direction} along: {', '.join(order)}",
                source=source + row,
                order=order,
                direction=direction,
            )
            for row, direction, order in TRENDS
        ),
        worse("no dropout", "D"),
        worse("dropout 0.2", "D"),
        Equivalent(
            statement="Learned and sinusoidal positions are equal within noise",
            source=source + "E",
            arm="learned positions",
            than="base",
            margin=NOISE,
        ),
    )
    return Study(
        name="transformer_parts",
        preset=preset,
        about=ABOUT,
        baseline_name="base",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 10,
        metric=Metric.on_test("loss", label="test loss in nats"),
        tuning=None
        if preset == "smoke"
        else Tuning(
            space={"optimizer.learning_rate": Choice((1e-3, 3e-3, 1e-2))}, search="grid", trials=3, steps=steps // 2
        ),
        claims=tuple(claim for claim in claims if set(claim.arms) <= {"base", *arms}),
        notes=(
            "The task is to predict characters, not to translate; the text is large, so that little is overfitted.",
            "Table 3 has perplexities; their logarithms, losses in nats, have the same order.",
            "All arms are tuned over the same rates; the paper's have one schedule.",
        ),
    )
