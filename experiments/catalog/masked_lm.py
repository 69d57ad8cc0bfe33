"""Does guessing masked words first help to tell the class of a text, where few texts are labelled?

    python -m experiments --experiment=masked_lm

Expected: in 12.2 minutes on 2 CPU cores test accuracies of 38.2% [36.2, 40.3] from labelled texts alone, 39.7% [35.7,
41.5] with more steps and 36.6% [34.2, 39.6] after masked words (8 seeds; the most frequent class has 45.5% of the test
passages, as presidents are held out whole). Both claims are inconclusive. The records show why: 1,200 steps bring the
loss of masked words from 5.2 to 4.6 nats, of words with 1,008 tokens, which is little more than how frequent each is.
What BERT does before it is of use has hardly begun. A first run was stopped while it tuned: most of its time went into
evaluations of all passages, and 2,000 are evaluated since.

Passages of the presidents' messages, by era; a few hundred of them are labelled. One arm learns from those alone. The
other names masked words of all passages first, without their labels, and then learns from the same labelled ones in the
same order. A third has labelled ones alone, and as many steps as the second.
"""

from experiments.spaces import Choice
from experiments.study import About, Better, Metric, Preset, Study, Tuning

ABOUT = About(
    group="Transformers",
    claim="Pre-training on masked words of unlabelled text helps a Transformer encoder to classify.",
    source="Devlin et al. 2019, BERT, sections 3 and 4; Dai and Le 2015, Semi-supervised sequence learning",
    time={"smoke": "20 s", "cpu": "12 min on 2 cores", "full": "about 2 hours on one GPU"},
)


def study(preset: Preset) -> Study:
    """An encoder that reads labelled texts alone (baseline), for longer, and after masked words."""
    from models import transformer
    from train.config import Config, Regularisation, Training
    from train.data import imdb, sotu_era
    from train.optimizers import adamw
    from train.schedules import warmup_stable_decay

    full, smoke = preset == "full", preset == "smoke"
    labelled_steps = {"smoke": 4, "cpu": 500, "full": 4_000}[preset]
    masked_steps = {"smoke": 6, "cpu": 1_200, "full": 100_000}[preset]
    width, depth, heads = {"smoke": (16, 1, 2), "cpu": (64, 2, 4), "full": (512, 8, 8)}[preset]
    longer = labelled_steps + masked_steps
    baseline = Config(
        data=imdb.Config(label_tokens=True, length=256, vocabulary=20_000, train_examples=1_000)
        if full
        else sotu_era.Config(
            label_tokens=True,
            length=32,
            vocabulary=50 if smoke else 1_000,
            train_examples=16 if smoke else 400,
            evaluation_examples=200 if smoke else 2_000,
        ),
        model=transformer.Config(
            width=width,
            depth=depth,
            heads=heads,
            feedforward=4 * width,
            activation="gelu",
            dropout_rate=0.1,
            head="masked_language_model",
            tie_embeddings=True,
        ),
        optimizer=adamw.Config(learning_rate=1e-3, weight_decay=0.01),
        # Constant while words are masked; then, in every arm, down to nothing over as many steps.
        schedule=warmup_stable_decay.Config(warmup_steps=labelled_steps // 10, decay_fraction=1.0),
        training=Training(
            steps=labelled_steps,
            batch_size=8 if smoke else 32,
            evaluate_every=labelled_steps if smoke else labelled_steps // 2,
            evaluation_batch_size=256,
        ),
        regularisation=Regularisation(clip_norm=1.0),
    )
    late = {"training.steps": longer, "schedule.decay_fraction": labelled_steps / longer}
    source = "Devlin et al. 2019, sections 3 and 4"
    return Study(
        name="masked_lm",
        preset=preset,
        about=ABOUT,
        baseline_name="labelled alone",
        baseline=baseline,
        arms={"labelled for longer": late, "pre-trained": {**late, "data.masked_steps": masked_steps}},
        seeds=2 if smoke else 8,
        metric=Metric.on_test("accuracy"),
        tuning=None
        if smoke
        else Tuning(space={"optimizer.learning_rate": Choice((5e-4, 1e-3, 2e-3))}, search="grid", trials=3),
        claims=tuple(
            Better(
                statement=f"Pre-training on masked words classifies better than {than}",
                source=source,
                arm="pre-trained",
                than=than,
            )
            for than in ("labelled alone", "labelled for longer")
        ),
        notes=(
            "Classes are tokens that the model names at the first place, by the output layer of the masked words; BERT "
            "puts a new layer there.",
            "Both phases are one training with one rate, which falls over the labelled steps.",
            "BERT's second task, whether two sentences follow one another, is left out (Liu et al. 2019, section 4.2).",
            "In the presets smoke and cpu the words with a token of their own are the most frequent ones.",
        ),
    )
