"""Descent, momentum and Adam on a convolutional network: tuned they are equal, untuned they are not.

    python -m experiments --experiment=optimizers

Expected: about 5 minutes on 2 CPU cores; every claim supported. On digits, tuned, momentum is 0.0 points and Adam 0.4
points ahead of stochastic gradient descent, neither beyond chance; at a rate of 0.001 for both, Adam is ahead by 15.

``full`` is DeepOBS's problem fmnist_2c2d, whose network has 3,274,634 parameters.
"""

from experiments.spaces import Uniform
from experiments.study import About, Better, Equivalent, Metric, Preset, Study, Tuning, Within

ABOUT = About(
    group="Gradient descent and Adam",
    claim="Once each has its own best learning rate, stochastic gradient descent, momentum and Adam are within a point "
    "of each other; at one common rate Adam is ahead.",
    source="Schneider, Balles and Hennig 2019, DeepOBS, and the numbers of its authors' repository DeepOBS_Baselines",
    time={"smoke": "15 s", "cpu": "5 min on 2 cores", "full": "3 h on one GPU"},
)

PUBLISHED = {"sgd": 0.9227, "momentum": 0.9214, "adam": 0.9234}
"""Final test accuracy on fmnist_2c2d, mean of ten seeds."""

UNTUNED_RATE = 1e-3


def study(preset: Preset) -> Study:
    """Three methods, each with the best of equally many rates, and two of them at one common rate."""
    from models import cnn
    from train.config import Config, Training
    from train.data import digits, fashion_mnist
    from train.optimizers import adam, momentum, sgd
    from train.schedules import constant

    full = preset == "full"
    epochs = {"smoke": 0, "cpu": 20, "full": 100}[preset]
    steps = max(10, epochs * (55_000 if full else 3_500) // 128)
    small = cnn.Config(channels=(8, 16), kernel_size=5, width=64)
    baseline = Config(
        data=fashion_mnist.Config() if full else digits.Config(),
        model=cnn.Config(channels=(32, 64), kernel_size=5, width=1024) if full else small,
        optimizer=sgd.Config(),
        schedule=constant.Config(),
        training=Training(steps=steps, batch_size=128, evaluate_every=max(1, steps // 10)),
    )
    # DeepOBS tunes the momentum too; on this problem it found 0.99.
    methods = {"momentum": momentum.Config(momentum=0.99 if full else 0.9), "adam": adam.Config(learning_rate=3e-4)}
    arms = {name: {"optimizer": each} for name, each in methods.items()}
    arms |= {
        "sgd untuned": {"optimizer": sgd.Config(learning_rate=UNTUNED_RATE)},
        "adam untuned": {"optimizer": adam.Config(learning_rate=UNTUNED_RATE)},
    }
    rate, source = "optimizer.learning_rate", "DeepOBS_Baselines, fmnist_2c2d"
    untuned = {name: {rate: None} for name in arms if name.endswith("untuned")}
    published = tuple(
        Within(
            statement=f"The accuracy of {name} is within 0.7 points of the published {value:.2%}",
            source=source,
            arm=name,
            low=value - 0.007,
            high=value + 0.007,
        )
        for name, value in PUBLISHED.items()
    )
    return Study(
        name="optimizers",
        preset=preset,
        about=ABOUT,
        baseline_name="sgd",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 10,
        metric=Metric.on_test("accuracy"),
        tuning=Tuning(
            space={rate: Uniform(1e-3, 1.0, log=True)},
            arms={
                "momentum": {rate: Uniform(1e-4, 0.3, log=True)},
                "adam": {rate: Uniform(1e-4, 0.1, log=True)},
                **untuned,
            },
            trials={"smoke": 2, "cpu": 10, "full": 36}[preset],
            search="grid",
        ),
        claims=(
            *(
                Equivalent(
                    statement=f"Tuned, {name} is within one point of stochastic gradient descent",
                    source=source,
                    arm=name,
                    than="sgd",
                    margin=0.01,
                )
                for name in methods
            ),
            Better(
                statement="At a rate of 0.001 for both, Adam is ahead of stochastic gradient descent by a point",
                source=f"{source}: 91.1 against 88.0",
                arm="adam untuned",
                than="sgd untuned",
                margin=0.01,
            ),
            *(published if full else ()),
        ),
        notes=(
            "The presets smoke and cpu train a network of 54,314 parameters on 3,500 of MNIST's digits.",
            "Kernels begin as He's normal; those of DeepOBS as a normal of deviation 0.05, and biases at 0.05.",
            "DeepOBS evaluates on 60,000 training images less 10,000; here 55,000 train and 5,000 validate.",
        ),
    )
