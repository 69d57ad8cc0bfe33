"""What can be computed at once: one layer of attention and one of recurrence, at growing lengths.

    python -m experiments --experiment=parallelism

Expected: a minute and a half on 2 CPU cores; every claim supported. A GRU over T tokens has 2 T + 2 products in
sequence, attention the same number at every length.

Counted are the matrix products of a whole training step that must wait for one another, in the program itself (see
models/chains.py): no clock, no noise. Beside them stands the time of the training. Every arm sees as many tokens in a
step, so their times compare: a processor with few cores hides what the count says, one with thousands shows it.
"""

from experiments.study import About, Equivalent, Metric, Preset, Study, Within

ABOUT = About(
    group="Transformers",
    claim="A layer of attention needs a constant number of sequential operations, a recurrent one as many as the "
    "sequence is long.",
    source="Vaswani et al. 2017, Attention is all you need, section 4 and Table 1",
    time={"smoke": "15 s", "cpu": "90 s on 2 cores", "full": "about 5 min on one GPU"},
)

LENGTHS = {"smoke": (16, 32), "cpu": (64, 256, 1024), "full": (64, 256, 1024)}


def study(preset: Preset) -> Study:
    """One layer of attention at the shortest length (baseline), at longer ones, and a GRU at the same."""
    from models import rnn, transformer
    from train.config import Config, Training
    from train.data import sotu
    from train.optimizers import adam
    from train.schedules import constant

    width = {"smoke": 16, "cpu": 64, "full": 512}[preset]
    lengths = LENGTHS[preset]
    shortest, longest = lengths[0], lengths[-1]
    tokens = longest * (32 if preset == "full" else 2)
    attention = transformer.Config(width=width, depth=1, heads=4, feedforward=4 * width, positions="rotary")

    def read(length: int) -> dict[str, int]:
        return {"data.context": length, "training.batch_size": tokens // length}

    baseline = Config(
        data=sotu.Config(context=shortest, train_characters=300_000, evaluation_characters=4_096),
        model=attention,
        optimizer=adam.Config(learning_rate=1e-3),
        schedule=constant.Config(),
        training=Training(
            steps={"smoke": 4, "cpu": 300, "full": 500}[preset],
            batch_size=tokens // shortest,
            evaluate_every=500,
            evaluation_batch_size=4,
        ),
    )
    gru = {"model": rnn.Config(cell="gru", width=width, depth=1, embedding=width)}
    arms = {f"attention {length}": read(length) for length in lengths[1:]}
    arms |= {f"gru {length}": {**read(length), **gru} for length in lengths}
    source = "Vaswani et al. 2017, Table 1"
    return Study(
        name="parallelism",
        preset=preset,
        about=ABOUT,
        baseline_name=f"attention {shortest}",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 3,
        metric=Metric(
            column="sequential_products",
            label="matrix products in sequence",
            curve="train_loss",
            higher_is_better=False,
        ),
        claims=(
            *(
                Equivalent(
                    statement=f"Attention over {length} tokens has no longer chain of products than over {shortest}",
                    source=source,
                    arm=f"attention {length}",
                    than=f"attention {shortest}",
                    margin=0.5,
                )
                for length in lengths[1:]
            ),
            *(
                Within(
                    statement=f"A GRU over {length} tokens has a chain of at least {length} products, and at most two "
                    "for each token and ten more",
                    source=source,
                    arm=f"gru {length}",
                    low=length,
                    high=2 * length + 10,
                )
                for length in lengths
            ),
        ),
        factors=("data.context",),
        notes=(
            "The table counts operations of a layer; here are counted those of a training step, forward and backward.",
            "The time of a machine with two cores says little of the count: see the column of seconds.",
        ),
    )
