"""Chrono initialisation: an LSTM whose gates begin with the memory that the task needs.

    python -m experiments --experiment=chrono_init

An LSTM that forgets half of its cell at every step has to learn to remember before it can learn anything else. Chrono
initialisation draws the bias of the forget gate as log U(1, T_max - 1), so that the cells begin with memories of 1 to
T_max steps. Compared with it is the usual bias of 1, on the adding problem.

Expected: about 4 minutes on 2 CPU cores; every claim supported. To an error of 0.01 chrono initialisation takes 0.15 of
the steps at T = 200 and 0.46 at T = 100. At T = 200 its best rate is the highest of those that are tried.
"""

from experiments.spaces import Choice
from experiments.study import About, Better, Metric, Preset, StepsToTarget, Study, Tuning

ABOUT = About(
    group="Recurrent networks and their limits",
    claim="With chrono initialisation an LSTM learns long dependencies in a fraction of the steps.",
    source="Tallec and Ollivier 2018, Can recurrent neural networks warp time?, section 3",
    time={"smoke": "15 s", "cpu": "4 min on 2 cores", "full": "about 2 h on one GPU"},
)

PUBLISHED_SPEEDUP = 7
"""Fewer steps on the adding problem at T = 750, as the text says."""

SOLVED = 0.01
"""A squared error below this counts as solved; who always answers 1 has 1/6."""

RATES = (3e-3, 1e-2, 3e-2)


def study(preset: Preset) -> Study:
    """The LSTM with forget bias 1 (baseline) and with chrono initialisation, at a short and a long T."""
    from models import rnn
    from train.config import Config, Regularisation, Training
    from train.data import adding_problem
    from train.optimizers import adam
    from train.schedules import constant

    full = preset == "full"
    short, long = {"smoke": (10, 20), "cpu": (100, 200), "full": (200, 750)}[preset]
    steps = {"smoke": 10, "cpu": 1_500, "full": 30_000}[preset]
    baseline = Config(
        data=adding_problem.Config(length=long, evaluation_examples=500 if full else 250),
        model=rnn.Config(cell="lstm", width=128 if full else 32, forget_bias=1.0),
        optimizer=adam.Config(),
        schedule=constant.Config(),
        training=Training(steps=steps, batch_size=50, evaluate_every=max(1, steps // (60 if full else 30))),
        regularisation=Regularisation(clip_norm=1.0),
    )
    source = "Tallec and Ollivier 2018, section 3"
    names = {length: (f"bias 1, T={length}", f"chrono, T={length}") for length in (short, long)}
    arms: dict = {names[long][1]: {"model.chrono_range": long}}
    if preset != "smoke":
        arms[names[short][0]] = {"data.length": short}
        arms[names[short][1]] = {"data.length": short, "model.chrono_range": short}
    return Study(
        name="chrono_init",
        preset=preset,
        about=ABOUT,
        baseline_name=names[long][0],
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 8,
        metric=Metric.on_test("mse", label="test squared error"),
        tuning=None
        if preset == "smoke"
        else Tuning(space={"optimizer.learning_rate": Choice(RATES)}, search="grid", trials=len(RATES)),
        claims=(
            *(
                StepsToTarget(
                    statement=f"At T = {length} chrono initialisation needs at most {share} of the steps",
                    source=source,
                    arm=names[length][1],
                    than=names[length][0],
                    target=SOLVED,
                    ratio_at_most=ratio,
                )
                for length, share, ratio in ((long, "half", 0.5), (short, "all", 1.0))
                if names[length][1] in arms
            ),
            Better(
                statement=f"At T = {long} the error after all steps is less with chrono initialisation",
                source=source,
                arm=names[long][1],
                than=names[long][0],
            ),
        ),
        notes=(
            "T_max is the length of the sequences, as in the paper.",
            "Adam with a tuned rate and gradients clipped at 1; the paper has RMSProp at 1e-3, tuned for neither.",
            "The paper's second task, copying, is left to the study copy_memory.",
        ),
    )
