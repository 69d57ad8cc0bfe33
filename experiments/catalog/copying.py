"""Copying a string: how many examples does a Transformer need, and how many an LSTM?

    python -m experiments --experiment=copying

Expected: in 4.5 minutes on 2 CPU cores the Transformer copies all strings of every length (8 seeds); the LSTM 97.9% of
5 letters [96.4, 99.2], 17.6% of 10 [14.6, 20.3], none of 20. It never comes to 95% of 10 or 20 letters in 600 steps, so
its ratios of steps are 0. All claims are supported. Every arm was best at the highest rate tried, 0.01.

Strings of one length, new in every step: an arm for each length and family, with one batch size, so that steps count
examples. A string counts as copied when its every token and its end are right.
"""

from experiments.spaces import Choice
from experiments.study import About, Better, Metric, Preset, StepsToTarget, Study, Tuning

ABOUT = About(
    group="Transformers",
    claim="Transformers learn to copy a string from far fewer examples than recurrent networks, the more so the longer "
    "the string.",
    source="Jelassi et al. 2024, Repeat after me, section 4.1",
    time={"smoke": "15 s", "cpu": "4.5 min on 2 cores", "full": "about 2 hours on one GPU"},
)

LENGTHS = {"smoke": (4, 6), "cpu": (5, 10, 20), "full": (20, 40, 80, 160, 300)}
LEARNT = 0.95
"""Share of strings without a mistake at which copying counts as learnt."""


def study(preset: Preset) -> Study:
    """A Transformer on the longest strings (baseline), an LSTM on the same, and both on shorter ones."""
    from models import rnn, transformer
    from train.config import Config, Regularisation, Training
    from train.data import copying
    from train.optimizers import adamw
    from train.schedules import cosine

    steps = {"smoke": 10, "cpu": 600, "full": 50_000}[preset]
    width, depth = {"smoke": (16, 1), "cpu": (64, 2), "full": (768, 12)}[preset]
    *shorter, longest = LENGTHS[preset]
    attention = transformer.Config(width=width, depth=depth, heads=4, feedforward=4 * width, positions="rotary")
    recurrence = rnn.Config(width={"smoke": 24, "cpu": 96, "full": 1536}[preset], depth=depth, embedding=width)
    baseline = Config(
        data=copying.Config(
            shortest=longest, longest=longest, evaluation_examples={"smoke": 16, "cpu": 128, "full": 256}[preset]
        ),
        model=attention,
        optimizer=adamw.Config(learning_rate=2e-3, weight_decay=0.0),
        schedule=cosine.Config(warmup_steps=steps // 20, final_fraction=0.1),
        training=Training(steps=steps, batch_size=8 if preset == "smoke" else 32, evaluate_every=max(1, steps // 25)),
        regularisation=Regularisation(clip_norm=1.0),
    )
    arms = {f"lstm {longest}": {"model": recurrence}}
    for length in shorter:
        strings = {"data.shortest": length, "data.longest": length}
        arms |= {f"transformer {length}": strings, f"lstm {length}": {**strings, "model": recurrence}}
    source = "Jelassi et al. 2024, figure 2 and section 4.1"
    first, second = LENGTHS[preset][:2]
    return Study(
        name="copying",
        preset=preset,
        about=ABOUT,
        baseline_name=f"transformer {longest}",
        baseline=baseline,
        arms=arms,
        seeds={"smoke": 2, "cpu": 8, "full": 10}[preset],
        metric=Metric.on_test("string_accuracy", label="test strings copied"),
        tuning=None
        if preset == "smoke"
        else Tuning(
            space={"optimizer.learning_rate": Choice((1e-3, 3e-3, 1e-2))},
            search="grid",
            trials=3,
            steps=steps // 2,
            column="validation_loss",
        ),
        claims=(
            StepsToTarget(
                statement=f"At length {longest} the Transformer needs at most a third of the LSTM's examples",
                source=source,
                arm=f"transformer {longest}",
                than=f"lstm {longest}",
                target=LEARNT,
                ratio_at_most=1 / 3,
            ),
            StepsToTarget(
                statement=f"For strings of {second} letters the LSTM needs {second / first:g} times the examples, or "
                f"more, that it needs for {first}",
                source=source,
                arm=f"lstm {first}",
                than=f"lstm {second}",
                target=LEARNT,
                ratio_at_most=first / second,
            ),
            Better(
                statement=f"With as many examples the Transformer copies more of the strings of {longest} letters",
                source=source,
                arm=f"transformer {longest}",
                than=f"lstm {longest}",
            ),
        ),
        factors=("data.longest",),
        notes=(
            "The paper's models have about 160 million parameters; those of the preset cpu have about 0.1 million.",
            "The paper packs several strings into one context; here each has a context of its own.",
            "Steps are counted by evaluations: every twenty-fifth part of the training.",
            "The rate is chosen by the loss: of the strings of slow learners none is right by then.",
        ),
    )
