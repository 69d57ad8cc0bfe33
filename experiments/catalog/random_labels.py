"""Random labels: networks that generalise well can learn labels by heart that mean nothing.

    python -m experiments --experiment=random_labels

Networks with more parameters than examples, trained on true and on random labels alike.

Expected: 90 s on 2 CPU cores; every claim supported. Both networks learn random labels to 100% and test at
9.1 and 9.4%: of the random labels 9.3% happen to be right. With true labels the CNN tests at 58.0%, the perceptron at
44.5%.
"""

from typing import Any

from experiments.study import About, Better, Metric, Preset, Study, Within

SOURCE = "Zhang et al. 2017, Understanding deep learning requires rethinking generalization, section 2 and table 1"

ABOUT = About(
    group="Convolutional networks for images",
    claim="The networks that generalise also fit random labels, with the same settings, and then test at chance.",
    source=SOURCE,
    time={"smoke": "15 s", "cpu": "90 s on 2 cores", "full": "about 1 h on one GPU"},
)

CLASSES = 10


def study(preset: Preset) -> Study:
    """A perceptron (baseline) and a convolutional network, on true labels and on random ones."""
    from models import cnn, mlp
    from train.config import Config, Diagnostics, Training
    from train.data import cifar10, mnist1d
    from train.optimizers import adam, momentum
    from train.schedules import cosine, exponential

    steps = {"smoke": 20, "cpu": 3_000, "full": 35_200}[preset]  # full: 100 epochs of 352 steps
    data: Any = mnist1d.Config(samples=20_000 if preset == "cpu" else 5_000, train_examples=1_000)
    networks: dict[str, Any] = {
        "mlp": mlp.Config(depth=2, width=256),
        "cnn": cnn.Config(channels=(64, 64, 64), kernel_size=(5, 3, 3), stride=2, pooling="none"),
    }
    optimizer: Any = adam.Config(learning_rate=1e-3)
    schedule: Any = cosine.Config(final_fraction=0.0)
    if preset == "full":
        data = cifar10.Config(crop=28, standardisation="image")
        networks = {
            "mlp": mlp.Config(depth=3, width=512),
            "cnn": cnn.Config(channels=(64, 64), kernel_size=5, pool_size=3, width=384, further_widths=(192,)),
        }
        optimizer = momentum.Config(learning_rate=0.01, momentum=0.9)
        schedule = exponential.Config(final_fraction=0.95**100)
    baseline = Config(
        data=data,
        model=networks["mlp"],
        optimizer=optimizer,
        schedule=schedule,
        training=Training(
            steps=steps,
            batch_size=128 if preset == "full" else 100,
            evaluate_every=steps // 5,
            evaluation_batch_size=500,
        ),
        diagnostics=Diagnostics(training_split=True),
    )
    noise = {"data.label_noise": 1.0, "data.label_noise_kind": "any"}
    arms = {"cnn": {"model": networks["cnn"]}}
    arms |= {f"{name}, random labels": {**arms.get(name, {}), **noise} for name in networks}
    training = Metric(
        column="training_accuracy",
        label="training accuracy",
        curve="training_accuracy",
        higher_is_better=True,
        percent=True,
    )
    claims = []
    for name in networks:
        random = f"{name}, random labels"
        claims += [
            Within(
                statement=f"The {name} learns random labels by heart: 99% of the training examples",
                source=SOURCE,
                metric=training,
                arm=random,
                low=0.99,
            ),
            Within(
                statement=f"With random labels the {name} tests at chance, within two points",
                source=SOURCE,
                arm=random,
                low=1 / CLASSES - 0.02,
                high=1 / CLASSES + 0.02,
            ),
            Better(
                statement=f"With the same settings and true labels the {name} generalises: 20 points more",
                source=SOURCE,
                arm=name,
                than=random,
                margin=0.2,
            ),
        ]
    return Study(
        name="random_labels",
        preset=preset,
        about=ABOUT,
        baseline_name="mlp",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 8,
        metric=Metric.on_test("accuracy"),
        claims=tuple(claims),
        notes=(
            "Nothing is tuned: that the settings are the same for true and random labels is the paper's point.",
            "The presets smoke and cpu have 1,000 signals of MNIST-1D, and networks of more parameters than that.",
            "The small AlexNet of the preset full is the paper's without its local response normalisation.",
        ),
    )
