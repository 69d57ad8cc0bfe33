"""One feature tells the class: gradient descent finds it, adaptive methods never do.

    python -m experiments --experiment=adaptive_generalises_worse

Expected: 75 s on 2 CPU cores; every claim supported. All five methods fit the training examples: RMSProp to a loss of
5e-5, the others below 1e-13. Gradient descent, with and without momentum, is right on every test example. AdaGrad,
RMSProp and Adam are wrong on every negative one and on no other, exactly as proved, whatever rate the validation split
chooses.

Why: the adaptive methods keep all weights that move at one size, so the sum of the two constant features outvotes the
one that tells the class. The outputs of the adaptive methods are 1/4 and 3/4, far beyond what 32 bits could blur.
"""

from experiments.spaces import Uniform
from experiments.study import About, Better, Metric, Preset, Study, Tuning, Within

ABOUT = About(
    group="Gradient descent and Adam",
    claim="On a separable problem that all methods fit, gradient descent errs on no test example and adaptive methods "
    "err on the whole smaller class.",
    source="Wilson et al. 2017, The marginal value of adaptive gradient methods in machine learning, section 3.3",
    time={"smoke": "10 s", "cpu": "75 s on 2 cores", "full": "2 min on one GPU"},
)

EXACT = 1e-6
"""Half the width of the band around an exact share; the tables count whole examples."""

SIZES = {"smoke": (20, 50), "cpu": (300, 500), "full": (500, 500)}
"""Training examples, and those of each held-out split."""


def study(preset: Preset) -> Study:
    """Least squares from zero on the whole training split, by two methods that adapt nothing and three that do."""
    from models import mlp
    from train.config import Config, Groups, Initialisation, Seeds, Training
    from train.data import wilson_construction
    from train.optimizers import adagrad, adam, momentum, rmsprop, sgd
    from train.schedules import cosine

    steps = 50 if preset == "smoke" else 4_000
    train, held_out = SIZES[preset]
    data = wilson_construction.Config(train_examples=train, evaluation_examples=held_out)
    positive = 1 - float(wilson_construction.load(data, None).facts["test_negatives"]) / held_out
    baseline = Config(
        data=data,
        model=mlp.Config(depth=0),
        optimizer=sgd.Config(),
        schedule=cosine.Config(final_fraction=0.0),
        training=Training(steps=steps, batch_size=0, evaluate_every=steps // 5),
        initialisation=Initialisation(zeros="kernel"),
        # The construction has no bias: it begins at 0 and stays there.
        groups=Groups(patterns=("bias",), learning_rates=(0.0,)),
        seeds=Seeds(split="seed"),
    )
    adaptive = {"adam": adam.Config(), "adagrad": adagrad.Config(), "rmsprop": rmsprop.Config()}
    if preset == "smoke":
        adaptive = {"adam": adam.Config()}
    source = "Wilson et al. 2017, lemma 3.1 and section 3.3"
    return Study(
        name="adaptive_generalises_worse",
        preset=preset,
        about=ABOUT,
        baseline_name="gd",
        baseline=baseline,
        arms={name: {"optimizer": each} for name, each in {"momentum": momentum.Config(), **adaptive}.items()},
        seeds=2 if preset == "smoke" else 8,
        metric=Metric.on_test("accuracy"),
        tuning=Tuning(
            space={"optimizer.learning_rate": Uniform(3e-3, 0.3, log=True)}, trials=2 if preset == "smoke" else 4
        ),
        claims=(
            *(
                Within(statement=f"{name} is right on every test example", source=source, arm=name, low=1 - EXACT)
                for name in ("gd", "momentum")
            ),
            *(
                Within(
                    statement=f"{name} is right on the {positive:.2%} of the test examples that are positive, exactly",
                    source=source,
                    arm=name,
                    low=positive - EXACT,
                    high=positive + EXACT,
                )
                for name in adaptive
            ),
            *(
                Better(statement=f"Gradient descent errs less than {name}", source=source, arm="gd", than=name)
                for name in adaptive
            ),
        ),
        notes=(
            "Trained in 32 bits; the claims count signs of outputs that are at least 1/4 from 0.",
            "Each seed divides training and validation examples anew; nothing else is left to chance.",
        ),
    )
