"""Scaling laws: the loss of a language model falls with its size as a power.

    python -m experiments --experiment=scaling_law

Decoders of growing width on characters of English, each with the best of equally many rates.

Expected: about 4 minutes on 2 CPU cores; both claims supported. Test losses of 2.27, 2.09, 1.88 and 1.71 nats at widths
8 to 64: an exponent of 0.070 [0.065, 0.075], by which the three smaller foretell the largest. Kaplan et al. found 0.076
at far larger sizes.
"""

from experiments.spaces import Choice
from experiments.study import About, Exponent, Metric, Monotone, Preset, Study, Tuning

SOURCE = "Kaplan et al. 2020, Scaling laws for neural language models, equation 1.1"

ABOUT = About(
    group="Layers and neurons",
    claim="The test loss falls with the number of parameters, on a straight line in logarithms.",
    source=SOURCE,
    time={"smoke": "15 s", "cpu": "4 min on 2 cores", "full": "about 1 h on one GPU"},
)

DEPTHS = {"smoke": 1, "cpu": 2, "full": 6}
WIDTHS = {"smoke": (8, 12, 16), "cpu": (8, 16, 32, 64), "full": (64, 128, 256, 512, 1024)}
STEPS = {"smoke": 5, "cpu": 1_000, "full": 10_000}
RATES = {"cpu": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "full": (1e-4, 3e-4, 1e-3, 3e-3)}


def kaplan_size(depth: int, width: int) -> int:
    """Parameters without embeddings, ``12 depth width^2`` (Kaplan et al. 2020, equation 2.1)."""
    return 12 * depth * width**2


def study(preset: Preset) -> Study:
    """The narrowest decoder is the baseline."""
    from models import transformer
    from train.config import Config, Regularisation, Training
    from train.data import sotu
    from train.optimizers import adamw
    from train.schedules import cosine

    steps, depth, widths = STEPS[preset], DEPTHS[preset], WIDTHS[preset]
    large = preset == "full"

    def decoder(width: int) -> transformer.Config:
        return transformer.Config(width=width, depth=depth, heads=max(1, width // 16), feedforward=4 * width)

    models = {f"width {width}": decoder(width) for width in widths}
    first = f"width {widths[0]}"
    baseline = Config(
        data=sotu.Config(context=256 if large else 64, evaluation_characters=65_536 if large else 16_384),
        model=models[first],
        optimizer=adamw.Config(learning_rate=1e-2, b2=0.99, weight_decay=0.1),
        schedule=cosine.Config(warmup_steps=max(1, steps // 20), final_fraction=0.1),
        training=Training(
            steps=steps,
            batch_size=64 if large else 16,
            evaluate_every=max(1, steps // 5),
            evaluation_batch_size=64,
        ),
        regularisation=Regularisation(clip_norm=1.0),
    )
    return Study(
        name="scaling_law",
        preset=preset,
        about=ABOUT,
        baseline_name=first,
        baseline=baseline,
        arms={name: {"model": model} for name, model in models.items() if name != first},
        seeds=2 if preset == "smoke" else 10,
        metric=Metric.on_test("loss"),
        tuning=None
        if preset == "smoke"
        else Tuning(
            space={"optimizer.learning_rate": Choice(RATES[preset])},
            search="grid",
            trials=len(RATES[preset]),
            seeds=1 if large else 2,
        ),
        claims=(
            Monotone(
                statement="The loss falls with every doubling of the width",
                source=SOURCE,
                order=tuple(models),
                direction="falling",
            ),
            Exponent(
                statement="The loss is a power of the number of parameters, with an exponent from 0.02 to 0.2",
                source=f"{SOURCE}: 0.076 at far larger sizes",
                sizes=tuple((f"width {width}", float(kaplan_size(depth, width))) for width in widths),
                low=0.02,
                high=0.2,
            ),
        ),
        notes=(
            "Kaplan's exponents, 0.076 for parameters and 0.095 for data, are for sizes far beyond a CPU: what is "
            "tested is that the loss falls, and the size of the exponent within a factor.",
            "All sizes train for equally many steps; Kaplan's law is for models that are trained to convergence.",
            "Sizes are parameters without embeddings.",
        ),
    )
