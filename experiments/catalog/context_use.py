"""Who makes use of a long context: what do the tokens further back gain a Transformer, and what an LSTM?

    python -m experiments --experiment=context_use

Expected: in 5.7 minutes on 2 CPU cores the loss of the Transformer falls by 0.015 nats [0.009, 0.024] from early to
late tokens, that of the LSTM rises by 0.010 [0.000, 0.019]: 0.025 more [0.011, 0.037], of which at least 0.02 are
claimed, so that is inconclusive. Late in its context the Transformer is ahead by 0.048 nats [0.017, 0.083]: supported
(8 seeds). After 700 steps both predict 1.95 bits per character: long dependencies are learnt last. The best rate of
both is the highest of four.

Compared is the loss by the place of a token in its window of T: at the tokens from T/16 to T/8, where little is known
of what came before, less the loss in the last quarter. A network that uses a long context gains more.
"""

from experiments.spaces import Choice
from experiments.study import About, Better, Metric, Preset, Study, Tuning

ABOUT = About(
    group="Transformers",
    claim="The loss of a Transformer goes on falling along its context where that of an LSTM has stopped.",
    source="Kaplan et al. 2020, Scaling laws for neural language models, section 3.2.1 and figure 7",
    time={"smoke": "15 s", "cpu": "5.7 min on 2 cores", "full": "about 8 hours on one GPU"},
)

MORE = 0.02
"""Nats by which the Transformer's loss should fall more from early to late tokens."""


def study(preset: Preset) -> Study:
    """A Transformer (baseline) and an LSTM with as many parameters beside those of tokens, positions and logits."""
    from models import rnn, transformer
    from train.config import Config, Regularisation, Training
    from train.data import enwik8, sotu
    from train.optimizers import adamw
    from train.schedules import cosine

    full, smoke = preset == "full", preset == "smoke"
    steps = {"smoke": 6, "cpu": 700, "full": 60_000}[preset]
    width, depth, heads = {"smoke": (16, 1, 2), "cpu": (64, 2, 4), "full": (512, 8, 8)}[preset]
    units, layers = {"smoke": (21, 1), "cpu": (129, 1), "full": (1364, 2)}[preset]
    options = {
        "smoke": {"context": 32, "train_characters": 300_000, "evaluation_characters": 1_024},
        "cpu": {
            "context": 256,
            "tokens": "bpe",
            "vocabulary": 512,
            "train_characters": 2_000_000,
            "evaluation_characters": 131_072,
        },
        "full": {"context": 1024},
    }[preset]
    baseline = Config(
        data=(enwik8 if full else sotu).Config(by_position=True, **options),
        model=transformer.Config(width=width, depth=depth, heads=heads, feedforward=4 * width, positions="rotary"),
        optimizer=adamw.Config(learning_rate=2e-3, b2=0.99, weight_decay=0.1),
        schedule=cosine.Config(warmup_steps=max(1, steps // 20), final_fraction=0.1),
        training=Training(
            steps=steps,
            batch_size=64 if full else 8,
            evaluate_every=max(1, steps // (5 if full else 2)),
            evaluation_batch_size=32,
        ),
        regularisation=Regularisation(clip_norm=1.0),
    )
    lstm = rnn.Config(cell="lstm", width=units, depth=layers, embedding=width)
    return Study(
        name="context_use",
        preset=preset,
        about=ABOUT,
        baseline_name="transformer",
        baseline=baseline,
        arms={"lstm": {"model": lstm, "optimizer.learning_rate": 4e-3}},
        seeds=2 if smoke else 8,
        metric=Metric(
            column="test_context_gain",
            label="gain from context in nats",
            curve="validation_context_gain",
            higher_is_better=True,
        ),
        tuning=None
        if smoke
        else Tuning(
            space={"optimizer.learning_rate": Choice((1e-3, 2e-3, 4e-3, 8e-3))},
            search="grid",
            trials=4,
            steps=steps // 3,
            column="validation_loss",
        ),
        claims=(
            Better(
                statement=f"From early to late tokens the Transformer's loss falls by {MORE} nat more than the LSTM's",
                source="Kaplan et al. 2020, section 3.2.1",
                arm="transformer",
                than="lstm",
                margin=MORE,
            ),
            Better(
                statement="Late in its context the Transformer predicts better than the LSTM",
                source="Kaplan et al. 2020, figure 7",
                arm="transformer",
                than="lstm",
                metric=Metric.on_test("loss_late", label="loss of the last quarter in nats"),
            ),
        ),
        notes=(
            "The paper's context is 1,024 tokens of a large web text; at the preset cpu it is 256 pieces of words of "
            "the presidents' messages, about 600 characters.",
            "The learning rate is chosen by the validation loss, not by the gain.",
        ),
    )
