"""Frequent and rare classes: why Adam is faster than gradient descent where classes have heavy tails.

    python -m experiments --experiment=rare_classes

Expected: 75 s on 2 CPU cores. On the rarest classes gradient descent keeps a loss of 3.2 of the 4.8 that
chance has, where Adam and descent by signs are below 0.1; so does momentum, nearly (0.4). Refuted: that gradient
descent has learnt the most frequent class by then. At its largest stable rate, 0.1, that class alone still swings, for
its own curvature allows about 0.06 (see the notes): the loss there is 1.3 in the mean, 0.4 in the best seeds.

A linear model could learn every label by heart. Each arm has the best of equally many constant, stable rates. The loss
is that of the training examples, by groups of classes of one frequency, which all have equally many examples.
"""

import math

from experiments.spaces import Uniform
from experiments.study import About, Better, Metric, Preset, Study, Tuning, Within

ABOUT = About(
    group="Gradient descent and Adam",
    claim="Gradient descent learns frequent classes and hardly any rare ones; Adam and descent by signs learn all.",
    source="Kunstner et al. 2024, Heavy-tailed class imbalance and why Adam outperforms gradient descent on language "
    "models, sections 1 and 3",
    time={"smoke": "10 s", "cpu": "75 s on 2 cores", "full": "15 min on one GPU"},
)

GROUPS = {"smoke": 3, "cpu": 7, "full": 9}
STEPS = {"smoke": 20, "cpu": 300, "full": 1_000}


def study(preset: Preset) -> Study:
    """Softmax regression by gradient descent, with momentum, by Adam and by the gradient's signs, without noise."""
    from models import mlp
    from train.config import Config, Training
    from train.data import rare_classes
    from train.optimizers import adam, lion, momentum, sgd
    from train.schedules import constant

    steps, groups = STEPS[preset], GROUPS[preset]
    baseline = Config(
        data=rare_classes.Config(groups=groups),
        model=mlp.Config(depth=0),
        optimizer=sgd.Config(),
        schedule=constant.Config(),
        training=Training(steps=steps, batch_size=0, evaluate_every=steps // 5),
    )
    rate = "optimizer.learning_rate"
    # Lion whose average has no part in the step is descent by signs.
    signs = lion.Config(b1=0.0, weight_decay=0.0)
    arms = {"momentum": momentum.Config(momentum=0.9), "adam": adam.Config(), "signs": signs}
    if preset == "smoke":
        arms = {"adam": adam.Config()}
    stable = {"momentum": (3e-4, 3e-2), "adam": (1e-4, 1e-2), "signs": (3e-5, 3e-3)}
    chance = math.log(2**groups - 1)
    frequent, rare = (
        Metric.on_test(f"loss_group_{group}", label=f"loss on the {which} classes")
        for group, which in ((0, "most frequent"), (groups - 1, "rarest"))
    )
    source = "Kunstner et al. 2024, figure 3 and section 3"
    return Study(
        name="rare_classes",
        preset=preset,
        about=ABOUT,
        baseline_name="gd",
        baseline=baseline,
        arms={name: {"optimizer": each} for name, each in arms.items()},
        seeds=2 if preset == "smoke" else 8,
        metric=Metric.on_test("loss", label="training loss"),
        tuning=Tuning(
            space={rate: Uniform(1e-3, 0.1, log=True)},
            arms={name: {rate: Uniform(*stable[name], log=True)} for name in arms},
            trials=2 if preset == "smoke" else 8,
            search="grid",
        ),
        claims=(
            Within(
                statement="Gradient descent learns the most frequent class: its loss falls below a tenth of chance",
                source=source,
                metric=frequent,
                arm="gd",
                high=chance / 10,
            ),
            Within(
                statement="On the rarest classes gradient descent keeps more than half of the loss of chance",
                source=source,
                metric=rare,
                arm="gd",
                low=chance / 2,
            ),
            *(
                Better(
                    statement=f"On the rarest classes {name} has a loss lower by more than a quarter of that of chance",
                    source=source,
                    metric=rare,
                    arm=name,
                    than="gd",
                    margin=chance / 4,
                )
                for name in arms
                if name != "momentum"
            ),
        ),
        notes=(
            "The presets smoke and cpu have 7 and 127 classes; the paper has 11 groups, 2,047 classes.",
            "Where the model predicts each class by its frequency, the most frequent one has a curvature of about "
            "31, p (1 - p) times a quarter of the 1,024 features: rates above 2 / 31 make its loss swing.",
            "Each arm's rate is the best of five over two decades that end with the largest rate on a grid of half "
            "decades at which the loss never rises above that of the beginning: the largest stable one.",
            "The bound came after a first run without it, in which gradient descent at a rate of 1, far beyond what is "
            "stable, went through losses above 60 and then knew all classes after 300 steps, the rarest as well.",
        ),
    )
