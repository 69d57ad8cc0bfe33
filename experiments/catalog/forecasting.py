"""Temperatures of a transformer, 96 hours ahead: does a Transformer beat one linear map?

    python -m experiments --experiment=forecasting --data_dir=DIR

Asked is the mean squared error on ETTh1, standardised, all seven columns, every window of the test months.

Expected: 3.3 minutes on 2 CPU cores; every claim supported. Linear 0.378, DLinear 0.389 (published: 0.375 each),
NLinear 0.374, the small Transformer 1.13; after half as many steps 0.377, 0.377, 0.380 and 1.02. A first look (2 seeds,
a thousand steps) had shown as much.
"""

from experiments.spaces import Uniform
from experiments.study import About, Better, Metric, Preset, Study, Tuning, Within

ABOUT = About(
    group="Applications",
    claim="One linear map forecasts ETTh1 at least as well as a Transformer.",
    source="Zeng et al. 2023, Are Transformers Effective for Time Series Forecasting?, table 2 (AAAI; the figures "
    "below as the authors' repository cure-lab/LTSF-Linear prints them)",
    time={"smoke": "15 s", "cpu": "3.3 min on 2 cores", "full": "about 10 min on one GPU"},
)

LINEAR = 0.375
"""Published error of Linear and of DLinear, both with 336 hours to look back on; FEDformer 0.376, Autoformer 0.449,
Informer 0.865, which look back on 96."""


def study(preset: Preset) -> Study:
    """Linear, DLinear and NLinear over two weeks; an encoder over two weeks and over four days."""
    from models import ltsf_linear, transformer
    from train.config import Config, Training
    from train.data import electricity, ett
    from train.optimizers import adam
    from train.schedules import cosine

    smoke, full = preset == "smoke", preset == "full"
    steps = {"smoke": 20, "cpu": 1_200, "full": 2_560}[preset]
    long, short = (48, 24) if smoke else (336, 96)
    data = electricity.Config(horizon=12, context=long) if smoke else ett.Config(context=long)
    encoder = transformer.Config(width=32, depth=1, heads=4, feedforward=64, dropout_rate=0.1, positions="sinusoidal")
    if full:
        encoder = transformer.Config(
            width=512, depth=2, heads=8, feedforward=2048, dropout_rate=0.05, positions="sinusoidal"
        )
    baseline = Config(
        data=data,
        model=ltsf_linear.Config(),
        optimizer=adam.Config(learning_rate=5e-3),
        schedule=cosine.Config(warmup_steps=0),
        training=Training(steps=steps, batch_size=32, evaluate_every=max(1, steps // (5 if full else 2))),
    )
    arms = {
        "dlinear": {"model": ltsf_linear.Config(decomposition="moving_average")},
        "nlinear": {"data.subtract_last": True},
        f"transformer {long}": {"model": encoder},
        f"transformer {short}": {"model": encoder, "data.context": short},
    }
    wanted = {"smoke": (f"transformer {short}",), "cpu": ("dlinear", "nlinear", f"transformer {short}")}
    arms = {name: arms[name] for name in wanted.get(preset, arms)}
    transformers = tuple(name for name in arms if name.startswith("transformer"))
    return Study(
        name="forecasting",
        preset=preset,
        about=ABOUT,
        baseline_name="linear",
        baseline=baseline,
        arms=arms,
        seeds=2 if smoke else 8,
        metric=Metric.on_test("mse", label="test MSE"),
        tuning=Tuning(space={"optimizer.learning_rate": Uniform(1e-4, 3e-2, log=True)}, trials=2 if smoke else 5),
        claims=(
            *(
                Better(
                    statement=f"The linear map has a lower error than a Transformer over {name.split()[1]} rows",
                    source=ABOUT.source,
                    arm="linear",
                    than=name,
                )
                for name in transformers
            ),
            *(
                Within(
                    statement=f"The error of {name} is within 0.02 of the published {LINEAR}",
                    source=ABOUT.source,
                    arm=name,
                    low=LINEAR - 0.02,
                    high=LINEAR + 0.02,
                )
                for name in ("linear", "dlinear")
                if name in ("linear", *arms)
            ),
        ),
        notes=(
            "Every window of the test months counts; the authors' program drops the last incomplete batch.",
            "The Transformer is an encoder over the rows, its mean mapped to the whole forecast; the published ones "
            "are of other kinds, and all of them are larger.",
            "Adam with cosine decay; the authors halve the rate after each epoch and stop early.",
            "For time, the Transformer was cut to one block and the presets shortened after the first look that the "
            "head tells of; the claims were not changed.",
            "Only the preset full has the Transformer over 336 hours: attention over them is dear on a CPU.",
            "The preset smoke forecasts demand of electricity, which is no part of the claims.",
        ),
    )
