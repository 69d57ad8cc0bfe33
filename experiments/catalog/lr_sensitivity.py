"""How much does a badly chosen learning rate cost a language model, with and without two stabilisers?

    python -m experiments --experiment=lr_sensitivity

Expected: in 4.5 minutes on 2 CPU cores sensitivities of 0.377 nats for the plain network, 0.199 with normalised queries
and keys and 0.198 with the z-loss as well (5 seeds). That they are halved is refuted, narrowly: 0.53 of it. By twice as
many characters of the test split it was 0.53 as well, and inconclusive. Above a rate of 0.01 the plain network loses up
to 0.9 nats and the others up to 0.2; what spoils the ratio are the low rates, at which 400 steps leave all of them
equally far from trained. The z-loss changes nothing at this size.

The learning rate is the factor here, over three decades, and nothing is tuned. The sensitivity of a group of arms is
the mean over the rates of what each loses against the best rate, where no loss counts as more than that of guessing.
"""

import math

from experiments.study import About, LessSensitive, Metric, Preset, Study

ABOUT = About(
    group="Learning rate and batch size",
    claim="Normalised queries and keys and the z-loss halve a Transformer's sensitivity to the learning rate.",
    source="Wortsman et al. 2023, Small-scale proxies for large-scale Transformer training instabilities, section 3.1",
    time={"smoke": "15 s", "cpu": "4.5 min on 2 cores", "full": "about 3 hours on one GPU"},
)

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""Three decades around the paper's rates, 3e-4 to 1."""

CHARACTERS = {"smoke": 67, "cpu": 85, "full": 256}
"""Sizes of the vocabularies: guessing costs the logarithm."""

Z_LOSS = 1e-4
"""Coefficient of the z-loss, the paper's."""


def study(preset: Preset) -> Study:
    """A language model at seven rates as it is, with normalised queries and keys, with the z-loss, and with both."""
    from models import transformer
    from train.config import Config, Regularisation, Training
    from train.data import enwik8, sotu
    from train.optimizers import adamw
    from train.schedules import cosine

    full = preset == "full"
    steps = {"smoke": 6, "cpu": 400, "full": 20_000}[preset]
    rates = RATES[1::4] if preset == "smoke" else RATES
    width, depth, heads = {"smoke": (16, 1, 2), "cpu": (48, 3, 4), "full": (512, 8, 8)}[preset]
    data = enwik8.Config(context=512) if full else sotu.Config(context=48, evaluation_characters=16_384)
    if preset == "smoke":
        data = sotu.Config(context=16, train_characters=300_000, evaluation_characters=1_024)
    baseline = Config(
        data=data,
        model=transformer.Config(width=width, depth=depth, heads=heads, feedforward=4 * width, positions="rotary"),
        optimizer=adamw.Config(learning_rate=rates[0], b2=0.95, weight_decay=0.0),
        schedule=cosine.Config(warmup_steps=max(1, steps // 20), final_fraction=0.01),
        training=Training(
            steps=steps,
            batch_size=256 if full else 16,
            evaluate_every=max(1, steps // (4 if full else 2)),
            evaluation_batch_size=64,
        ),
        regularisation=Regularisation(clip_norm=1.0),
    )
    changes = {
        "plain": {},
        "qk norm": {"model.qk_norm": True},
        "both": {"model.qk_norm": True, "regularisation.z_loss": Z_LOSS},
    }
    if preset == "smoke":
        del changes["qk norm"]
    arms = {
        f"{name} {rate:g}": {"optimizer.learning_rate": rate, **change}
        for name, change in changes.items()
        for rate in rates
    }
    first = f"plain {rates[0]:g}"
    del arms[first]
    claims = tuple(
        LessSensitive(
            statement=f"{what} halve the sensitivity to the learning rate, or do better",
            source="Wortsman et al. 2023, figure 1 and section 3.1",
            group=tuple(f"{name} {rate:g}" for rate in rates),
            than=tuple(f"plain {rate:g}" for rate in rates),
            worst=math.log(CHARACTERS[preset]),
            ratio_at_most=0.5,
        )
        for name, what in (
            ("both", "Normalised queries and keys with the z-loss"),
            ("qk norm", "Normalised queries and keys alone"),
        )
        if name in changes
    )
    return Study(
        name="lr_sensitivity",
        preset=preset,
        about=ABOUT,
        baseline_name=first,
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 5,
        metric=Metric.on_test("loss", label="test loss in nats"),
        claims=claims,
        factors=("optimizer.learning_rate", "model.qk_norm", "regularisation.z_loss"),
        figure="sensitivity",
        notes=(
            "The paper's smallest model has 10 million parameters and reads C4; that of the preset cpu has 93,000.",
            "The paper decays weights independently of the rate; here nothing is decayed.",
        ),
    )
