"""Characters of English: a Transformer against an LSTM of the same size.

    python -m experiments --experiment=char_lm

Expected: see the README's table.
"""

from experiments.study import About, Better, Metric, Preset, Study

ABOUT = About(
    group="Transformers",
    claim="A decoder-only Transformer predicts characters better than an LSTM with as many parameters.",
    source="Vaswani et al. 2017; Kaplan et al. 2020, section 3.2.1 (at far larger size)",
    time={"smoke": "30 s", "cpu": "8 min on 2 cores", "full": "about 10 min on one GPU"},
)


def study(preset: Preset) -> Study:
    """LSTM (baseline) and GPT-like Transformer with parameter counts within 3% of each other."""
    from models import rnn, transformer
    from train.config import Config, Regularisation, Training
    from train.data import sotu, tinyshakespeare
    from train.optimizers import adamw
    from train.schedules import warmup_cosine

    steps = {"smoke": 10, "cpu": 1000, "full": 5000}[preset]
    data = tinyshakespeare.Config(context=64) if preset == "full" else sotu.Config(context=64, evaluation_characters=65_536)
    baseline = Config(
        data=data,
        model=rnn.Config(cell="lstm", width=128, depth=1, embedding=64),
        optimizer=adamw.Config(learning_rate=2e-3, b2=0.99, weight_decay=0.1),
        schedule=warmup_cosine.Config(warmup_steps=max(1, steps // 20), final_fraction=0.1),
        training=Training(steps=steps, batch_size=16, evaluate_every=max(1, steps // 6), evaluation_batch_size=64),
        regularisation=Regularisation(clip_norm=1.0),
    )
    return Study(
        name="char_lm",
        preset=preset,
        about=ABOUT,
        baseline_name="lstm",
        baseline=baseline,
        arms={"transformer": {"model": transformer.Config(width=64, depth=2, heads=4, feedforward=256)}},
        seeds=2 if preset == "smoke" else 8,
        metric=Metric(
            column="test_bits_per_character",
            label="test bits per character",
            curve="validation_bits_per_character",
            higher_is_better=False,
        ),
        claims=(
            Better(
                statement="The Transformer predicts characters better than an LSTM with as many parameters",
                source="Vaswani et al. 2017; Kaplan et al. 2020, section 3.2.1",
                arm="transformer",
                than="lstm",
            ),
        ),
    )
