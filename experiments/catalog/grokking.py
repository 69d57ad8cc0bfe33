"""Grokking: a network knows its examples by heart long before it understands them; decay and data decide when.

    python -m experiments --experiment=grokking

Expected: in 7.8 minutes on 2 CPU cores training is at 99% in 0.31 of the steps that validation takes (5 seeds), and
with 30% of the table none gets there in 3,000 steps: supported. Refuted: that without decay validation is not at 20% by
the time it is at 99% with decay; it is there ten times sooner, and stays at 48.6%. The reason is not understanding: a +
b is b + a, and of the equations not shown half have their mirror image among those shown, or 30% where 30% are shown
(26.5% came out). A network that has learnt only that the order does not matter gets so many. The claim was written
without that in mind, and stands.

That training is at 99% is read off the training loss: a mean of 0.01 ln 2 or less leaves at most 1% of the examples
wrong, since each of those costs ln 2 or more.
"""

import math

from experiments.study import About, Metric, Preset, StepsToTarget, Study

ABOUT = About(
    group="L1, L2, dropout",
    claim="On modular addition a Transformer generalises long after it fits; weight decay brings that forward, and "
    "less data puts it off.",
    source="Power et al. 2022, Grokking, sections 3.1 to 3.3",
    time={"smoke": "15 s", "cpu": "8 min on 2 cores", "full": "1 h on one GPU"},
)

TRAINED = 0.01 * math.log(2)
"""Mean loss in nats below which at most 1% of the training examples are wrong."""

STEPS = {"smoke": 20, "cpu": 3_000, "full": 100_000}


def study(preset: Preset) -> Study:
    """Half of a table of sums with decay 1; without decay; and with 30% of the table."""
    from models import transformer
    from train.config import Config, Training
    from train.data import modular_arithmetic
    from train.optimizers import adamw
    from train.schedules import constant

    full = preset == "full"
    modulus, width, heads, depth = (97, 128, 4, 2) if full else (59, 64, 4, 1)

    def part(fraction: float) -> dict:
        """The table's shown part, in batches of half of it and 512 at the most."""
        data = modular_arithmetic.Config(modulus=modulus, train_fraction=fraction)
        batch = min(512, round(fraction * data.equations) // 2)
        return {"data": data, "training": Training(steps=STEPS[preset], batch_size=batch, evaluate_every=every)}

    every = max(1, STEPS[preset] // 200)
    baseline = Config(
        model=transformer.Config(width=width, depth=depth, heads=heads, feedforward=4 * width),
        optimizer=adamw.Config(learning_rate=1e-3, weight_decay=1.0, b2=0.98),
        schedule=constant.Config(warmup_steps=10),
        **part(0.5),
    )
    accuracy = Metric.on_test("accuracy", label="accuracy on equations not shown")
    fitting = Metric(column="train_loss", label="training loss", curve="train_loss", higher_is_better=False)
    return Study(
        name="grokking",
        preset=preset,
        about=ABOUT,
        baseline_name="decay 1",
        baseline=baseline,
        arms={"decay 0": {"optimizer.weight_decay": 0.0}, "30% of the data": part(0.3)},
        seeds=2 if preset == "smoke" else 5,
        metric=accuracy,
        figure="learning_curves",
        claims=(
            StepsToTarget(
                statement="Training is at 99% in at most half of the steps that validation takes to 99%",
                source="Power et al. 2022, figure 1",
                metric=fitting,
                arm="decay 1",
                target=TRAINED,
                than="decay 1",
                than_metric=accuracy,
                than_target=0.99,
                ratio_at_most=0.5,
            ),
            StepsToTarget(
                statement="When validation is at 99% with decay, it is not yet at 20% without",
                source="Power et al. 2022, section 3.3 and figure 2",
                arm="decay 1",
                target=0.99,
                than="decay 0",
                than_target=0.2,
                ratio_at_most=1.0,
            ),
            StepsToTarget(
                statement="30% of the table needs at least 1.4 times the steps of 50%",
                source="Power et al. 2022, section 3.1: one point less costs 40 to 50% more steps at 25 to 30%",
                arm="decay 1",
                target=0.99,
                than="30% of the data",
                ratio_at_most=1 / 1.4,
            ),
        ),
        notes=(
            "The presets smoke and cpu have a table modulo 59 and one block of width 64. A first run, modulo 31, "
            "ended before it generalised; sizes and steps were then chosen by two seeds that no trial has.",
            "The rate is the paper's, 0.001, and is not tuned: the delay under the published setting is the claim.",
            "The held-out equations are divided between validation and test; the paper has one held-out set.",
        ),
    )
