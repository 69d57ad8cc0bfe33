"""Which parts does an LSTM need? Each is taken out, or changed, by itself.

    python -m experiments --experiment=lstm_variants

The vanilla LSTM of the paper has peepholes. Eight variants each differ from it in one part; each is tuned by itself, as
in the paper, and predicts characters of English.

Expected: in 6.1 minutes on 2 CPU cores the vanilla LSTM comes to 2.380 bits per character [2.366, 2.397]; without the
forget gate 0.218 more [0.199, 0.234] (supported), without peepholes as many (supported), with coupled gates 0.045 more
[0.027, 0.061] (less than 0.05 claimed: inconclusive), and without the output activation 0.109 fewer [0.096, 0.126]:
refuted (10 seeds). There the paper found the greatest harm, after far longer training; here an unbounded output has the
lead early, and keeps less of it the longer it trains (0.168 fewer bits after 600 steps in a first run). Two runs
before, of 600 steps and rates up to 0.02 and 0.04, were best at their highest rate and gave the same verdicts; no claim
was changed.
"""

from typing import Any

from experiments.spaces import Choice
from experiments.study import About, Better, Equivalent, Metric, Preset, Study, Tuning

ABOUT = About(
    group="Recurrent networks and their limits",
    claim="Coupled gates or no peepholes cost an LSTM nothing; the forget gate and the output activation are what it "
    "needs most.",
    source="Greff, Srivastava, Koutník, Steunebrink and Schmidhuber 2015, LSTM: A Search Space Odyssey, section 5",
    time={"smoke": "20 s", "cpu": "6 min on 2 cores", "full": "about 2 h on one GPU"},
)

VARIANTS = {
    "NIG": "no_input_gate",
    "NFG": "no_forget_gate",
    "NOG": "no_output_gate",
    "NIAF": "no_input_activation",
    "NOAF": "no_output_activation",
    "CIFG": "coupled_gates",
    "FGR": "full_gate_recurrence",
}
"""The paper's names (section 3); its NP has no peepholes."""

MARGIN = 0.05
"""Bits per character within which two networks count as equal; the paper tests for a difference alone."""

RATES = {"cpu": (2e-2, 4e-2, 8e-2), "full": (2e-3, 5e-3, 1e-2, 2e-2)}


def study(preset: Preset) -> Study:
    """The vanilla LSTM (baseline) and its eight variants, of equal width."""
    from models import rnn
    from train.config import Config, Regularisation, Training
    from train.data import sotu, tinyshakespeare
    from train.optimizers import adam
    from train.schedules import cosine

    full = preset == "full"
    steps = {"smoke": 3, "cpu": 1_200, "full": 5_000}[preset]
    baseline = Config(
        data=tinyshakespeare.Config(context=128) if full else sotu.Config(context=64, evaluation_characters=16_384),
        model=rnn.Config(cell="lstm", width=256 if full else 48, embedding=32, peephole=True),
        optimizer=adam.Config(learning_rate=1e-2),
        schedule=cosine.Config(warmup_steps=max(1, steps // 20), final_fraction=0.1),
        training=Training(
            steps=steps, batch_size=64 if full else 16, evaluate_every=max(1, steps // 5), evaluation_batch_size=64
        ),
        regularisation=Regularisation(clip_norm=1.0),
    )
    variants = {"NFG": VARIANTS["NFG"]} if preset == "smoke" else VARIANTS
    arms: dict[str, dict[str, Any]] = {name: {"model.variant": variant} for name, variant in variants.items()}
    if preset != "smoke":
        arms["NP"] = {"model.peephole": False}
    greff = "Greff et al. 2015, section 5"
    needed = {"NFG": "the forget gate", "NOAF": "the output activation"}
    spared = {"CIFG": "Coupling input and forget gate", "NP": "Leaving out the peepholes"}
    return Study(
        name="lstm_variants",
        preset=preset,
        about=ABOUT,
        baseline_name="vanilla",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 10,
        metric=Metric.on_test("bits_per_character"),
        tuning=None
        if preset == "smoke"
        else Tuning(space={"optimizer.learning_rate": Choice(RATES[preset])}, search="grid", trials=len(RATES[preset])),
        claims=(
            *(
                Better(statement=f"Without {words} an LSTM is worse", source=greff, arm="vanilla", than=name)
                for name, words in needed.items()
                if name in arms
            ),
            *(
                Equivalent(
                    statement=f"{words} changes less than {MARGIN} bits per character",
                    source=greff,
                    arm=name,
                    than="vanilla",
                    margin=MARGIN,
                )
                for name, words in spared.items()
                if name in arms
            ),
        ),
        notes=(
            "The paper's data are TIMIT, IAM-OnDB and JSB Chorales, with 200 random settings for each variant; here it "
            "is text, one network of 48 units (256 at full), and an equal grid of rates.",
            "The forget gate's bias begins at 1; in the paper at 0.",
            "Widths are equal, so that CIFG, NIG, NFG and NOG have a quarter fewer weights, and FGR has more.",
        ),
    )
