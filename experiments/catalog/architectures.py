"""Four architectures on handwritten digits: does a convolutional network need fewer parameters?

    python -m experiments --experiment=architectures

Expected: about two minutes on 2 CPU cores (32 trials); the CNN reaches a higher test accuracy than
the fully connected network with less than a third of its parameters.
"""

from experiments.study import About, Better, Metric, Preset, Study

ABOUT = About(
    group="Convolutional networks for images",
    claim="A convolutional network beats a fully connected one on images with at most a third of its parameters.",
    source="LeCun et al. 1998, Gradient-based learning applied to document recognition, sections II and III",
    time={"smoke": "20 s", "cpu": "2 min on 2 cores", "full": "about 10 min on one GPU"},
)

STEPS = {"smoke": 20, "cpu": 600, "full": 10_000}


def study(preset: Preset) -> Study:
    """MLP (baseline), CNN, LSTM over rows, Transformer over patches; all else equal."""
    from models import cnn, mlp, rnn, transformer
    from train.config import Config, Training
    from train.data import digits, mnist
    from train.optimizers import adam
    from train.schedules import warmup_cosine

    steps = STEPS[preset]
    baseline = Config(
        data=mnist.Config() if preset == "full" else digits.Config(),
        model=mlp.Config(depth=2, width=128),
        optimizer=adam.Config(learning_rate=2e-3),
        schedule=warmup_cosine.Config(warmup_steps=steps // 10, final_fraction=0.0),
        training=Training(steps=steps, batch_size=64, evaluate_every=max(1, steps // 10)),
    )
    return Study(
        name="architectures",
        preset=preset,
        about=ABOUT,
        baseline_name="mlp",
        baseline=baseline,
        arms={
            "cnn": {"model": cnn.Config(channels=(16, 32), kernel_size=3, width=0)},
            "lstm": {"model": rnn.Config(cell="lstm", width=64, depth=1)},
            "transformer": {"model": transformer.Config(width=48, depth=2, heads=4, feedforward=96, patch_size=7)},
        },
        seeds=2 if preset == "smoke" else 8,
        metric=Metric(
            column="test_accuracy",
            label="test accuracy",
            curve="validation_accuracy",
            higher_is_better=True,
            percent=True,
        ),
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
        notes=("5,000 of the 60,000 digits in the cpu preset; one learning rate for all arms.",),
    )
