"""The adding problem: which recurrent network remembers a number over hundreds of steps?

    python -m experiments --experiment=adding_problem

At each step a number and a marker; to be named at the end is the sum of the two marked numbers, of which one stands in
each half. Who always answers 1 has a squared error of 1/6.

Expected: about 7 minutes on 2 CPU cores; every claim supported. At T = 200 the GRU ends at an error of 0.0002 and the
LSTM at 0.0007; the GRU takes 0.30 of the LSTM's steps to 0.01; the tanh network stays at 0.168, which is 1 / 6, the
variance of the sum, at the best of its rates, which is the least that is tried.
"""

from typing import Any

from experiments.spaces import Choice
from experiments.study import About, Better, Metric, Preset, StepsToTarget, Study, Tuning, Within

ABOUT = About(
    group="Recurrent networks and their limits",
    claim="A GRU solves the adding problem sooner than an LSTM, and a tanh network at its best rate does not solve it "
    "over hundreds of steps.",
    source="Hochreiter and Schmidhuber 1997, section 5.4; Bai et al. 2018, table 1",
    time={"smoke": "15 s", "cpu": "7 min on 2 cores", "full": "about 1 h on one GPU"},
)

PUBLISHED = {"gru": 5.3e-5, "lstm": 0.164, "tanh": 0.177, "tcn": 5.8e-5}
"""Squared error at T = 600 with about 70,000 parameters each (Bai et al. 2018, table 1). The LSTM failed there."""

SOLVED = 0.01
"""A squared error below this counts as solved."""

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def study(preset: Preset) -> Study:
    """GRU (baseline), LSTM and tanh network; at full size the LSTM without its bias and a convolutional network too."""
    from models import rnn, tcn
    from train.config import Config, Regularisation, Training
    from train.data import adding_problem
    from train.optimizers import adam
    from train.schedules import constant

    full = preset == "full"
    steps = {"smoke": 10, "cpu": 2_000, "full": 20_000}[preset]
    baseline = Config(
        data=adding_problem.Config(length={"smoke": 20, "cpu": 200, "full": 600}[preset], evaluation_examples=500),
        model=rnn.Config(cell="gru", width=128 if full else 32),
        optimizer=adam.Config(),
        schedule=constant.Config(),
        training=Training(steps=steps, batch_size=50, evaluate_every=max(1, steps // 40)),
        regularisation=Regularisation(clip_norm=1.0),
    )
    arms: dict[str, dict[str, Any]] = {"tanh": {"model.cell": "vanilla"}}
    if preset != "smoke":
        arms["lstm"] = {"model.cell": "lstm"}
    if full:
        arms["lstm without bias"] = {"model.cell": "lstm", "model.forget_bias": 0.0}
        arms["tcn"] = {"model": tcn.Config(width=24, depth=8, kernel_size=8)}
    bai = "Bai et al. 2018, table 1"
    return Study(
        name="adding_problem",
        preset=preset,
        about=ABOUT,
        baseline_name="gru",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 8,
        metric=Metric.on_test("mse", label="test squared error"),
        tuning=None
        if preset == "smoke"
        else Tuning(space={"optimizer.learning_rate": Choice(RATES)}, search="grid", trials=len(RATES)),
        claims=(
            Within(statement="The GRU solves it: its error is under 0.01", source=bai, arm="gru", high=SOLVED),
            Within(statement="The tanh network's error stays over 0.1", source=bai, arm="tanh", low=0.1),
            Better(statement="The GRU's error is less than the tanh network's", source=bai, arm="gru", than="tanh"),
            *(
                StepsToTarget(
                    statement=f"The {arm.upper()} solves it in {words}",
                    source=source,
                    arm=arm,
                    than=than,
                    target=SOLVED,
                    ratio_at_most=1.0,
                )
                for arm, than, words, source in (
                    ("gru", "lstm", "no more steps than the LSTM", bai),
                    (
                        "lstm",
                        "tanh",
                        "fewer steps than the tanh network",
                        "Hochreiter and Schmidhuber 1997, section 5.4",
                    ),
                )
                if "lstm" in arms
            ),
        ),
        notes=(
            "The form of Le et al. 2015: one marker in each half. Examples are new in every step.",
            "The preset cpu has T = 200 and 32 units; Bai et al. have T = 600 and 70,000 parameters, as full has.",
            "The LSTM's forget gate begins at a bias of 1, without which it is slower by far (Jozefowicz et al. 2015).",
            "Every network's learning rate is tuned on the validation error after all steps.",
        ),
    )
