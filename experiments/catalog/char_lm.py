"""Characters of English: a Transformer against an LSTM of the same size.

    python -m experiments --experiment=char_lm

Expected: about 6 minutes on 2 CPU cores (2 arms x 8 seeds), and the claim refuted at this size: the
LSTM is ahead by 0.32 bits per character (2.11 against 2.43 on the test split, 115,000 parameters
each, a thousand steps). Attention is expected to win at larger sizes and longer contexts: preset full.

Each arm has the learning rate with the best mean validation loss among 2e-3, 5e-3, 1e-2, 2e-2, 4e-2
and 8e-2 (Transformer: to 1e-2, past its best), over seeds from 1000 on, which no result uses.
"""

from experiments.study import About, Better, Metric, Preset, Study

ABOUT = About(
    group="Transformers",
    claim="A decoder-only Transformer predicts characters better than an LSTM with as many parameters.",
    source="Vaswani et al. 2017; Kaplan et al. 2020, section 3.2.1 (at far larger size)",
    time={"smoke": "30 s", "cpu": "about 6 min on 2 cores", "full": "about 10 min on one GPU"},
)


def study(preset: Preset) -> Study:
    """LSTM (baseline) and GPT-like Transformer with parameter counts within 3% of each other."""
    from models import rnn, transformer
    from train.config import Config, Regularisation, Training
    from train.data import sotu, tinyshakespeare
    from train.optimizers import adamw
    from train.schedules import cosine

    large = preset == "full"
    steps = {"smoke": 10, "cpu": 1000, "full": 5000}[preset]
    lstm = rnn.Config(cell="lstm", width=128, depth=1, embedding=64)
    decoder = transformer.Config(width=64, depth=2, heads=4, feedforward=256)
    if large:
        lstm = rnn.Config(cell="lstm", width=904, depth=2, embedding=256, dropout_rate=0.2)
        decoder = transformer.Config(
            width=384, depth=6, heads=6, feedforward=1536, dropout_rate=0.2, initialisation="gpt2"
        )
    baseline = Config(
        data=tinyshakespeare.Config(context=256) if large else sotu.Config(context=64, evaluation_characters=65_536),
        model=lstm,
        optimizer=adamw.Config(learning_rate=2e-3 if large else 4e-2, b2=0.99, weight_decay=0.1),
        schedule=cosine.Config(warmup_steps=max(1, steps // 20), final_fraction=0.1),
        training=Training(
            steps=steps,
            batch_size=64 if large else 16,
            evaluate_every=max(1, steps // 10),
            evaluation_batch_size=64,
        ),
        regularisation=Regularisation(clip_norm=1.0),
    )
    return Study(
        name="char_lm",
        preset=preset,
        about=ABOUT,
        baseline_name="lstm",
        baseline=baseline,
        arms={"transformer": {"model": decoder, "optimizer.learning_rate": 1e-3 if large else 5e-3}},
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
        notes=(
            "The claim was published for networks and texts that are orders of magnitude larger.",
            "The presets smoke and cpu are evaluated on the first 65,536 characters of each held-out split.",
            "The learning rates of the preset full are not tuned.",
        ),
    )
