"""Which family of models to take for a data set: a fair tuned comparison of all that fit, and a recommendation.

    python -m experiments --experiment=model_selection --config.data.name=NAME [--data_dir=DIR]

Whatever the data are (images, texts, language, series, pairs of sentences), the families that can treat them are
compared by the metric that the data report: each at a usual size, each with the same number of tuning trials for its
learning rate. Quality stands beside parameters, operations, training time and inference latency.

Expected: a table, the Pareto fronts of the four costs, and advice in words. For the digits, in 4.2 minutes on 2 CPU
cores: take the ResNet, 98.3% of the test digits; the CNN has 97.4% for an eighth of the parameters and a sixth of the
latency, the LSTM 94.5, a perceptron 94.2, a linear model 91.5 and the Transformer, after so few steps, 87.4% (8 seeds).
With six rates in place of eight the CNN had 97.9% and was the advice: the rate that one tuning seed chose for it since
lies at the end of its space.
"""

from typing import TYPE_CHECKING

from experiments.spaces import Uniform
from experiments.study import About, Metric, Preset, Study, Tuning

if TYPE_CHECKING:
    from train.data.task import Task

ABOUT = About(
    group="Applications",
    claim="Which family is worth its cost depends on the data: try them all, equally tuned.",
    source="Dehghani et al. 2021, The Efficiency Misnomer, for looking at several costs at once",
    time={"smoke": "15 s", "cpu": "4.2 min on 2 cores for digits", "full": "depends on the data"},
)


def study(preset: Preset) -> Study:
    """The digits, until the command line names other data; the arms follow from the data."""
    from models import mlp
    from train.config import Config, Regularisation, Training
    from train.data import digits
    from train.optimizers import adam
    from train.schedules import cosine

    steps = {"smoke": 10, "cpu": 400, "full": 10_000}[preset]
    return Study(
        name="model_selection",
        preset=preset,
        about=ABOUT,
        baseline_name="linear",
        baseline=Config(
            data=digits.Config(),
            model=mlp.Config(depth=0),
            optimizer=adam.Config(),
            schedule=cosine.Config(warmup_steps=steps // 20),
            training=Training(
                steps=steps,
                batch_size=32,
                evaluate_every=max(1, steps // (10 if preset == "full" else 2)),
            ),
            regularisation=Regularisation(clip_norm=1.0),
        ),
        arms={},
        seeds=2 if preset == "smoke" else 8,
        metric=Metric.on_test("accuracy"),
        tuning=Tuning(
            space={"optimizer.learning_rate": Uniform(1e-4, 3e-2, log=True)}, trials=2 if preset == "smoke" else 8
        ),
        claims=(),
        adapt=fitted,
        recommends=True,
        figure="fronts",
        notes=(
            "Nothing was claimed of these data beforehand: the comparison is the result.",
            "The preset smoke tries three families alone.",
        ),
    )


def fitted(study: Study, task: "Task") -> Study:
    """The study with every family that fits the task, the simplest as the baseline."""
    import dataclasses

    from experiments import fitting

    sizes: dict[str, fitting.Size] = {"smoke": "tiny", "cpu": "small", "full": "large"}
    (simplest, model), *others = fitting.families(task, sizes[study.preset]).items()
    others = others[:2] if study.preset == "smoke" else others  # each one is some programs to compile
    return dataclasses.replace(
        study,
        baseline_name=simplest,
        baseline=dataclasses.replace(study.baseline, model=model),
        arms={name: {"model": config} for name, config in others},
        metric=fitting.metric(task),
    )
