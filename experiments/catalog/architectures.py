"""Four architectures on handwritten digits: does a convolutional network need fewer parameters?

    python -m experiments --experiment=architectures

Expected: a minute and a half on 2 CPU cores (4 arms x 8 seeds); the CNN is more accurate on the test
digits than the fully connected network, by about 2 points, with 8% of its parameters.

Each arm has the learning rate with the best mean validation accuracy among 1e-3, 3e-3, 5e-3, 1e-2
and 2e-2, over 4 seeds from 1000 on, which no result uses: 1e-2 for all but the Transformer, whose 2e-2
is no edge, for 5e-2 is far worse. To repeat that, add ``--tune.optimizer.learning_rate=1e-3,3e-3,5e-3,1e-2,2e-2
--tuning_search=grid --tuning_trials=5 --tuning_seeds=4``.

The preset full is another setting, with numbers to meet: a small AlexNet and perceptrons on CIFAR-10.
"""

from experiments.study import About, Better, Metric, Preset, Study, Within

ABOUT = About(
    group="Convolutional networks for images",
    claim="A convolutional network beats a fully connected one on images with at most a third of its parameters.",
    source="LeCun et al. 1998, Gradient-based learning applied to document recognition, sections II and III",
    time={"smoke": "20 s", "cpu": "90 s on 2 cores", "full": "about 2 h on one GPU"},
)

STEPS = {"smoke": 20, "cpu": 1_200}

ZHANG = "Zhang et al. 2017, Understanding deep learning requires rethinking generalization, table 1"
PUBLISHED = {"mlp": 0.5239, "mlp 1x512": 0.5051, "cnn": 0.7607}
"""Test accuracies on CIFAR-10; with weight decay 53.35, 50.39 and 77.36 per cent."""

ACCURACY = Metric.on_test("accuracy")


def study(preset: Preset) -> Study:
    """On digits, or on CIFAR-10 at full size."""
    return on_cifar10() if preset == "full" else on_digits(preset)


def on_digits(preset: Preset) -> Study:
    """MLP (baseline), CNN, LSTM over rows, Transformer over patches; all else equal."""
    from models import cnn, mlp, rnn, transformer
    from train.config import Config, Training
    from train.data import digits
    from train.optimizers import adam
    from train.schedules import cosine

    steps = STEPS[preset]
    baseline = Config(
        data=digits.Config(),
        model=mlp.Config(depth=2, width=128),
        optimizer=adam.Config(learning_rate=1e-2),
        schedule=cosine.Config(warmup_steps=steps // 10, final_fraction=0.0),
        training=Training(steps=steps, batch_size=64, evaluate_every=max(1, steps // 5)),
    )
    return Study(
        name="architectures",
        preset=preset,
        about=ABOUT,
        baseline_name="mlp",
        baseline=baseline,
        arms={
            "cnn": {"model": cnn.Config(channels=(8, 16), kernel_size=3, width=0)},
            "lstm": {"model": rnn.Config(cell="lstm", width=64, depth=1)},
            "transformer": {
                "model": transformer.Config(width=48, depth=2, heads=4, feedforward=96, patch_size=7),
                "optimizer.learning_rate": 2e-2,
            },
        },
        seeds=2 if preset == "smoke" else 8,
        metric=ACCURACY,
        claims=(
            Better(
                statement="The CNN is more accurate than the fully connected network "
                "with at most a third of its parameters",
                source="LeCun et al. 1998",
                arm="cnn",
                than="mlp",
                parameters_at_most=1 / 3,
            ),
        ),
        notes=(
            "The digits are 5,000 of MNIST's 70,000 digits: 3,500 train, 500 validate, 1,000 test.",
            "The networks are far smaller than the paper's, and trained by Adam with warm-up and cosine decay.",
            "The LSTM reads an image row by row; the Transformer reads it as 16 patches.",
        ),
    )


def on_cifar10() -> Study:
    """Zhang's setting: the middle 28 x 28 pixels, each image standardised by itself, and one schedule for all."""
    from models import cnn, mlp
    from train.config import Config, Training
    from train.data import cifar10
    from train.optimizers import momentum
    from train.schedules import exponential

    epochs, epoch = 100, 352  # of 45,000 images in batches of 128
    baseline = Config(
        data=cifar10.Config(crop=28, standardisation="image"),
        model=mlp.Config(depth=3, width=512),
        optimizer=momentum.Config(learning_rate=0.01, momentum=0.9),
        schedule=exponential.Config(final_fraction=0.95**epochs),
        training=Training(steps=epochs * epoch, batch_size=128, evaluate_every=10 * epoch, evaluation_batch_size=500),
    )
    alexnet = cnn.Config(channels=(64, 64), kernel_size=5, pool_size=3, width=384, further_widths=(192,))
    return Study(
        name="architectures",
        preset="full",
        about=ABOUT,
        baseline_name="mlp",
        baseline=baseline,
        arms={"mlp 1x512": {"model.depth": 1}, "cnn": {"model": alexnet}},
        seeds=8,
        metric=ACCURACY,
        claims=(
            Better(
                statement="The CNN is more accurate by 18 points with fewer parameters",
                source=ZHANG,
                arm="cnn",
                than="mlp",
                margin=0.18,
                parameters_at_most=0.99,
            ),
            *(
                Within(
                    statement=f"The accuracy of '{arm}' is within two points of the published {accuracy:.2%}",
                    source=ZHANG,
                    arm=arm,
                    low=accuracy - 0.02,
                    high=accuracy + 0.02,
                )
                for arm, accuracy in PUBLISHED.items()
            ),
        ),
        notes=(
            "The learning rate and its fall by 5% an epoch are the paper's; the number of epochs is not stated there.",
            "The small AlexNet is the paper's without its local response normalisation.",
            "5,000 of the 50,000 training images are for validation.",
        ),
    )
