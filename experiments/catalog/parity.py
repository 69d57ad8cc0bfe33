"""Parity: what attention cannot do, and one bit of state can.

    python -m experiments --experiment=parity

Named at every position is the parity of the bits so far. Trained are strings of 1 to 40 bits; tested are only positions
beyond the 40th of longer strings, which no network has seen.

Expected: about 2 minutes on 2 CPU cores; every claim supported. The tanh network and the LSTM are right at every unseen
position, the Transformer at half of them, which is chance.
"""

from typing import Any

from experiments.spaces import Choice
from experiments.study import About, Better, Metric, Preset, Study, Tuning, Within

ABOUT = About(
    group="Transformers",
    claim="Recurrent networks learn parity for strings of any length, and Transformers do not beyond the trained ones.",
    source="Delétang et al. 2023, Neural networks and the Chomsky hierarchy, table 2; Hahn 2020",
    time={"smoke": "15 s", "cpu": "2 min on 2 cores", "full": "about 1 h on one GPU"},
)

PUBLISHED = {"rnn": 1.0, "lstm": 1.0, "transformer": 0.52}
"""Accuracy at unseen lengths: parity (table 2); the Transformer has the best of its position encodings."""

RATES = (3e-4, 1e-3, 3e-3, 1e-2)


def study(preset: Preset) -> Study:
    """A tanh network (baseline), an LSTM and a Transformer."""
    from models import rnn, transformer
    from train.config import Config, Regularisation, Training
    from train.data import parity
    from train.optimizers import adam
    from train.schedules import constant

    full = preset == "full"
    steps = {"smoke": 10, "cpu": 1_500, "full": 20_000}[preset]
    longest, test_longest = {"smoke": (8, 16), "cpu": (40, 200), "full": (40, 500)}[preset]
    baseline = Config(
        data=parity.Config(longest=longest, test_longest=test_longest, evaluation_examples=1_000 if full else 250),
        model=rnn.Config(cell="vanilla", width=256 if full else 32, embedding=32),
        optimizer=adam.Config(),
        schedule=constant.Config(),
        training=Training(
            steps=steps, batch_size=128 if full else 32, evaluate_every=max(1, steps // (20 if full else 10))
        ),
        regularisation=Regularisation(clip_norm=1.0),
    )
    attention = transformer.Config(
        width=64 if full else 32, depth=5 if full else 2, heads=8 if full else 4, feedforward=256 if full else 128
    )
    arms: dict[str, dict[str, Any]] = {"transformer": {"model": attention}}
    if preset != "smoke":
        arms["lstm"] = {"model.cell": "lstm"}
    if full:
        arms["transformer, rotary"] = {"model": attention, "model.positions": "rotary"}
    source = "Delétang et al. 2023, table 2"
    return Study(
        name="parity",
        preset=preset,
        about=ABOUT,
        baseline_name="tanh",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 8,
        metric=Metric.on_test("accuracy", label="accuracy at unseen lengths"),
        tuning=None
        if preset == "smoke"
        else Tuning(space={"optimizer.learning_rate": Choice(RATES)}, search="grid", trials=len(RATES), seeds=2),
        claims=(
            *(
                Within(statement=f"{words} at least 99% right at unseen lengths", source=source, arm=arm, low=0.99)
                for arm, words in (("tanh", "The tanh network is"), ("lstm", "The LSTM is"))
                if arm in ("tanh", *arms)
            ),
            Within(
                statement="The Transformer is at most 60% right at unseen lengths",
                source=source,
                arm="transformer",
                high=0.6,
            ),
            Better(
                statement="The tanh network is more accurate at unseen lengths than the Transformer, by 30 points",
                source=source,
                arm="tanh",
                than="transformer",
                margin=0.3,
            ),
        ),
        notes=(
            "The parity of every prefix is asked for, not of the whole string alone: without the answers in between "
            "no gradient tells a network what to keep. The paper asks once, and trains for a million steps.",
            "Each string of a batch has a length of its own; the paper draws one for the batch.",
            "The preset cpu is tested on lengths up to 200, the paper and full on lengths up to 500.",
            "Rates are tuned by the accuracy at trained lengths: nothing is chosen by what is tested.",
        ),
    )
