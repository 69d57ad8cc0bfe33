"""Vanishing gradients: how far back does a recurrent network's state still matter?

    python -m experiments --experiment=vanishing_gradients

Measured is the norm of dh_T/dh_t against the lag T - t, for a tanh network, GRU and LSTM as they begin, and after
training on the adding problem. For the tanh network sigma_max(W)^(T - t) bounds it.

Expected: 3.6 minutes on 2 CPU cores; of seven claims one is refuted. No gradient is above its bound. Untrained, an
LSTM's gradients fade more slowly than those of an orthogonal tanh network, those of a GRU, whose gates begin half open,
faster: by 0.093 powers of ten per step of lag. Trained, both fade more slowly, by 0.12 and 0.11. A look at two seeds
had shown as much before the claims were run.
"""

from experiments.spaces import Choice
from experiments.study import About, Better, Metric, Preset, Study, Tuning, Within

ABOUT = About(
    group="Recurrent networks and their limits",
    claim="The gradient from state to state of a tanh network never exceeds the lag's power of the largest singular "
    "value of its recurrent weights; that of gated networks fades more slowly.",
    source="Pascanu, Mikolov and Bengio 2013, On the difficulty of training recurrent neural networks, section 2.1",
    time={"smoke": "15 s", "cpu": "3.6 min on 2 cores", "full": "about 1 h on one GPU"},
)

RATE = Metric(
    column="state_gradient_rate",
    label="change of the gradient's norm, in powers of ten per step of lag",
    curve="state_gradient_rate",
    higher_is_better=True,
)
EXCESS = Metric(
    column="state_gradient_excess",
    label="most by which a norm is above its bound, in powers of ten",
    curve="state_gradient_excess",
    higher_is_better=False,
)
ROUNDING = 1e-3
"""The bound is attained where W is orthogonal and tanh is not yet bent; products in 32 bits then round to this."""

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def study(preset: Preset) -> Study:
    """A tanh network (baseline) and gated ones, untrained; and the same trained."""
    from models import rnn
    from train.config import Config, Groups, Regularisation, Training
    from train.data import adding_problem
    from train.optimizers import adam
    from train.schedules import constant
    from train.sections import Diagnostics

    length = {"smoke": 8, "cpu": 128, "full": 512}[preset]
    steps = {"smoke": 4, "cpu": 1_500, "full": 10_000}[preset]
    untrained = Training(steps=1, batch_size=50, evaluate_every=1)
    baseline = Config(
        data=adding_problem.Config(length=length, evaluation_examples=250),
        model=rnn.Config(cell="vanilla", width=128 if preset == "full" else 32),
        optimizer=adam.Config(),
        schedule=constant.Config(),
        training=untrained,
        regularisation=Regularisation(clip_norm=1.0),
        groups=Groups(patterns=("kernel|bias",), learning_rates=(0.0,)),
        diagnostics=Diagnostics(state_gradients=True),
    )
    cells = {
        "tanh": {},
        "tanh, small": {"initialisation.gain": 0.5, "initialisation.pattern": "recurrent_kernel"},
        "gru": {"model.cell": "gru"},
        "lstm": {"model.cell": "lstm"},
        "lstm without bias": {"model.cell": "lstm", "model.forget_bias": 0.0},
    }
    learning = {
        "groups": Groups(),
        "training.steps": steps,
        "training.evaluate_every": max(1, steps // 4),
    }
    if preset == "smoke":
        cells = {name: cells[name] for name in ("tanh", "gru")}
    trained = [name for name in ("tanh", "gru", "lstm") if preset != "smoke" or name == "tanh"]
    arms = {name: delta for name, delta in cells.items() if name != "tanh"}
    arms |= {f"{name} trained": {**cells[name], **learning} for name in trained}
    pascanu = "Pascanu et al. 2013, section 2.1"
    fixed = {name: {"optimizer.learning_rate": None} for name in cells}
    rate = Tuning(
        space={"optimizer.learning_rate": Choice(RATES)},
        arms=fixed,
        search="grid",
        trials=len(RATES),
        seeds=2,
        column="validation_mse",
    )
    return Study(
        name="vanishing_gradients",
        preset=preset,
        about=ABOUT,
        baseline_name="tanh",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 12,
        figure="state_gradients",
        metric=RATE,
        tuning=None if preset == "smoke" else rate,
        claims=(
            *(
                Within(
                    statement=f"No gradient of the arm {name} is above the bound sigma_max(W)^lag",
                    source=pascanu,
                    metric=EXCESS,
                    arm=name,
                    high=ROUNDING,
                )
                for name in ("tanh", "tanh, small", "tanh trained")
                if name in cells or name in arms
            ),
            *(
                Better(
                    statement=f"The gradient of the arm {name} fades more slowly than that of the tanh network",
                    source="Hochreiter and Schmidhuber 1997; Cho et al. 2014",
                    arm=name,
                    than="tanh trained" if name.endswith("trained") else "tanh",
                )
                for name in ("gru", "lstm", "gru trained", "lstm trained")
                if name in arms
            ),
        ),
        notes=(
            "h_t is the whole state, with the cells of an LSTM. The norm is the largest singular value; the mean of "
            "its logarithm over 8 sequences is what counts.",
            "Untrained arms take one step at rate 0. W is orthogonal, so that its bound is 1 at every lag; of the "
            "arm tanh, small it is half of that and its bound 2^-lag.",
        ),
    )
