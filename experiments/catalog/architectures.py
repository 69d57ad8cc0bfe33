"""Four architectures on handwritten digits: does a convolutional network need fewer parameters?

    python -m experiments --experiment=architectures

Expected: two to three minutes on 2 CPU cores (4 arms x 8 seeds); the CNN is more accurate on the test
digits than the fully connected network, by about 2 points, with 8% of its parameters.

Each arm has the learning rate with the best mean validation accuracy among 1e-3, 3e-3, 5e-3, 1e-2
and 2e-2, over seeds from 1000 on, which no result uses. To repeat that, run the study with
``--config.optimizer.learning_rate`` and read ``validation_accuracy`` in ``trials.csv``.
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
    from train.schedules import cosine

    steps = STEPS[preset]
    baseline = Config(
        data=mnist.Config() if preset == "full" else digits.Config(),
        model=mlp.Config(depth=2, width=128),
        optimizer=adam.Config(learning_rate=5e-3),
        schedule=cosine.Config(warmup_steps=steps // 10, final_fraction=0.0),
        training=Training(steps=steps, batch_size=64, evaluate_every=max(1, steps // 10)),
    )
    return Study(
        name="architectures",
        preset=preset,
        about=ABOUT,
        baseline_name="mlp",
        baseline=baseline,
        arms={
            "cnn": {
                "model": cnn.Config(channels=(8, 16), kernel_size=3, width=0),
                "optimizer.learning_rate": 1e-2,
            },
            "lstm": {
                "model": rnn.Config(cell="lstm", width=64, depth=1),
                "optimizer.learning_rate": 1e-2,
            },
            "transformer": {
                "model": transformer.Config(width=48, depth=2, heads=4, feedforward=96, patch_size=7),
                "optimizer.learning_rate": 1e-2,
            },
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
        notes=(
            "The presets smoke and cpu use 5,000 of MNIST's 70,000 digits: 3,500 train, 500 validate, 1,000 test.",
            "The networks are far smaller than the paper's, and trained by Adam with warm-up and cosine decay.",
            "The LSTM reads an image row by row; the Transformer reads it as 16 patches.",
        ),
    )
