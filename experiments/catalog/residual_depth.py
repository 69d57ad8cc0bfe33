"""Depth: plain networks get worse with it, in training already, and residual ones do not.

    python -m experiments --experiment=residual_depth

The presets smoke and cpu are a proxy: perceptrons of width 64 on MNIST-1D, plain, with layer normalisation, and
residual with the normalisation before each layer. The preset full is the paper's own setting on CIFAR-10.

Expected: 7 minutes on 2 CPU cores. Training losses at 4, 16, 32 and 64 layers: plain 0.95, 0.74, 1.02, 1.29; normalised
0.16, 0.81, 2.09, 2.16; residual 0.34, 0.88, 0.84, 0.82. Both claims are refuted. That of plain networks rises from 16
layers on, and falls before: of five rates with two tuning seeds, 16 layers get 0.1, at the end of what is tried; with
three rates up to 0.03 and one seed they had 0.003, a loss of 1.09, and the claim was supported. The 64 residual layers
are not within twice the loss of 4, for they have 2.5 times as much; beyond 16 depth costs them nothing more. What the
residual networks are for shows at 64 layers: 0.82 against 1.29 and 2.16.
"""

from typing import Any

from experiments.spaces import Choice
from experiments.study import About, Better, Metric, Monotone, Preset, Ratio, Study, Tuning, Within

SOURCE = "He et al. 2016, Deep Residual Learning, section 4.2, figure 6 and table 6"

ABOUT = About(
    group="Convolutional networks for images",
    claim="Plain networks train worse the deeper they are, and residual networks do not.",
    source=SOURCE,
    time={"smoke": "15 s", "cpu": "7 min on 2 cores", "full": "about 5 h on one GPU"},
)

PUBLISHED = {20: 0.0875, 32: 0.0751, 44: 0.0717, 56: 0.0697, 110: 0.0661}
"""Test errors of residual networks by depth; that of 110 layers is the mean of five runs, of deviation 0.16 points."""

RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "normalised": {"normalisation": "layer"},
    "residual": {"normalisation": "layer", "residual": True, "prenormalisation": True, "scaled_branches": True},
}

TRAIN_LOSS = Metric(column="train_loss", label="training loss", curve="train_loss", higher_is_better=False)
ACCURACY = Metric.on_test("accuracy")


def study(preset: Preset) -> Study:
    """Plain and residual networks, each of several depths."""
    return residual_networks() if preset == "full" else perceptrons(preset)


def perceptrons(preset: Preset) -> Study:
    """The proxy on MNIST-1D."""
    from models import mlp
    from train.config import Config, Training
    from train.data import mnist1d
    from train.optimizers import momentum
    from train.schedules import cosine

    steps, depths = (20, (1, 2, 3)) if preset == "smoke" else (1_000, (4, 16, 32, 64))
    first, *_, last = depths
    models = {
        f"{kind} {depth}": mlp.Config(depth=depth, width=64, **options)
        for kind, options in KINDS.items()
        for depth in depths
    }
    if preset == "smoke":
        del models["residual 2"], models["normalised 1"], models["normalised 2"], models["normalised 3"]
    baseline = Config(
        data=mnist1d.Config(),
        model=models.pop(f"plain {first}"),
        optimizer=momentum.Config(learning_rate=0.01),
        schedule=cosine.Config(warmup_steps=steps // 20, final_fraction=0.0),
        training=Training(steps=steps, batch_size=100, evaluate_every=steps // 10),
    )
    return Study(
        name="residual_depth",
        preset=preset,
        about=ABOUT,
        baseline_name=f"plain {first}",
        baseline=baseline,
        arms={name: {"model": model} for name, model in models.items()},
        seeds=2 if preset == "smoke" else 10,
        metric=ACCURACY,
        tuning=None
        if preset == "smoke"
        else Tuning(
            space={"optimizer.learning_rate": Choice(RATES)},
            search="grid",
            trials=len(RATES),
            seeds=2,
            column="validation_loss",
        ),
        claims=(
            Monotone(
                statement="The training loss of plain networks rises with their depth",
                source=SOURCE,
                metric=TRAIN_LOSS,
                order=tuple(f"plain {depth}" for depth in depths),
                direction="rising",
            ),
            Ratio(
                statement=f"The training loss of the residual network of {last} layers is within twice that of {first}",
                source=f"{SOURCE}, as a proxy",
                metric=TRAIN_LOSS,
                arm=f"residual {last}",
                than=f"residual {first}",
                at_most=2.0,
            ),
        ),
        notes=(
            "A proxy: perceptrons of width 64 with one layer a block on MNIST-1D; no number of it was published.",
            "A residual layer adds to its input relu(dense(layer_norm(input))) / sqrt(depth).",
        ),
    )


def residual_networks() -> Study:
    """The paper's setting: CIFAR-10, 45,000 images to train on, padded by 4, cropped and flipped."""
    from models import resnet
    from train.config import Augmentation, Config, Training
    from train.data import cifar10
    from train.optimizers import momentum
    from train.schedules import step

    baseline = Config(
        data=cifar10.Config(),
        model=resnet.Config(depth=20, shortcut="none"),
        optimizer=momentum.Config(learning_rate=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=step.Config(boundaries=(0.5, 0.75), gamma=0.1),
        training=Training(steps=64_000, batch_size=128, evaluate_every=3_200, evaluation_batch_size=500),
        augmentation=Augmentation(crop_padding=4, flip_probability=0.5),
    )
    depths = {f"residual {depth}": {"model": resnet.Config(depth=depth)} for depth in PUBLISHED}
    worse = "The plain network of 56 layers has a {} than that of 20"
    return Study(
        name="residual_depth",
        preset="full",
        about=ABOUT,
        baseline_name="plain 20",
        baseline=baseline,
        arms={"plain 56": {"model": resnet.Config(depth=56, shortcut="none")}} | depths,
        seeds=9,
        metric=ACCURACY,
        claims=(
            Better(
                statement=worse.format("higher training loss"),
                source=SOURCE,
                metric=TRAIN_LOSS,
                arm="plain 20",
                than="plain 56",
            ),
            Better(statement=worse.format("higher test error"), source=SOURCE, arm="plain 20", than="plain 56"),
            Better(
                statement="The residual network of 56 layers beats that of 20 by half a point",
                source=SOURCE,
                arm="residual 56",
                than="residual 20",
                margin=0.005,
            ),
            *(
                Within(
                    statement=f"The error of {depth} residual layers is within one point of {error:.2%}",
                    source=SOURCE,
                    arm=f"residual {depth}",
                    low=1 - error - 0.01,
                    high=1 - error + 0.01,
                )
                for depth, error in PUBLISHED.items()
            ),
        ),
        notes=(
            "The learning rate is the paper's, 0.1 for every arm; there 110 layers train at 0.01 for 400 steps first.",
            "Images are standardised by channel; the paper subtracts the mean of each pixel.",
        ),
    )
