"""Where training begins: which depth trains under which scheme, and which rate serves which width.

    python -m experiments --experiment=initialisation

Rectified perceptrons of 30 and of 5 layers begin from kernels of variance 2 / inputs (He), and of 2 / (inputs +
outputs) (Glorot), which halves the signal's variance at each layer. Beside them, a perceptron 8 times as wide takes
the learning rate that is best for the narrow one, in the ordinary parametrisation and in muP.

Expected: to be measured. He et al. found that 30 layers do not begin to train from Glorot's kernels.
"""

from experiments.spaces import Choice
from experiments.study import About, Better, Equivalent, Metric, Preset, Study, Tuning

HE = "He et al. 2015, Delving deep into rectifiers, section 2.2 and figure 3"
MUP = "Yang et al. 2022, Tensor Programs V, figure 1"

ABOUT = About(
    group="Layers and neurons",
    claim="Deep rectified networks train from He's kernels and not from Glorot's; in muP a rate serves every width.",
    source=f"{HE}; {MUP}",
    time={"smoke": "15 s", "cpu": "about 5 min on 2 cores", "full": "about 5 min on one GPU"},
)

DEEP = {"smoke": 3, "cpu": 30, "full": 30}
RATES = (0.003, 0.01, 0.03, 0.1)
NARROW, WIDE = 64, 512
TRANSFERRED = 0.01
"""The Adam rate that is carried from the narrow width to the wide one: chosen beforehand, not tuned yet."""


def study(preset: Preset) -> Study:
    """He's kernels in a deep network (baseline), others, and a shallow one; and two widths in two parametrisations."""
    from models import mlp
    from train.config import Config, Training
    from train.data import mnist1d
    from train.optimizers import adam, momentum
    from train.schedules import cosine

    steps, deep = 20 if preset == "smoke" else 1_000, DEEP[preset]
    wide = 2 * NARROW if preset == "smoke" else WIDE
    baseline = Config(
        data=mnist1d.Config(),
        model=mlp.Config(depth=deep, width=64),
        optimizer=momentum.Config(learning_rate=0.01),
        schedule=cosine.Config(warmup_steps=steps // 20, final_fraction=0.0),
        training=Training(steps=steps, batch_size=100, evaluate_every=steps // 10),
    )
    kernels, depth = "initialisation.kernels", "model.depth"
    schemes = {f"he, {deep}": {}, f"glorot, {deep}": {kernels: "glorot_normal"}}
    if preset != "smoke":
        schemes[f"orthogonal, {deep}"] = {kernels: "orthogonal", "initialisation.gain": 2**0.5}
        schemes |= {"he, 5": {depth: 5}, "glorot, 5": {depth: 5, kernels: "glorot_normal"}}
    transfer = {
        f"{name}, width {width}": {
            "model": mlp.Config(depth=3, width=width),
            "optimizer": adam.Config(learning_rate=TRANSFERRED),
            "initialisation.mup_base_width": base,
        }
        for name, base, width in (("narrow", 0, NARROW), ("ordinary", 0, wide), ("muP", NARROW, wide))
    }
    if preset == "smoke":
        del transfer[f"narrow, width {NARROW}"]
    rate = "optimizer.learning_rate"
    shallow = Equivalent(
        statement="At 5 layers Glorot's kernels do as well as He's: less than 3 points apart",
        source=HE,
        arm="glorot, 5",
        than="he, 5",
        margin=0.03,
    )
    wider = Better(
        statement="In muP the wide network does better than the narrow one at the same rate",
        source=MUP,
        arm=f"muP, width {wide}",
        than=f"narrow, width {NARROW}",
    )
    del schemes[f"he, {deep}"]
    return Study(
        name="initialisation",
        preset=preset,
        about=ABOUT,
        baseline_name=f"he, {deep}",
        baseline=baseline,
        arms=schemes | transfer,
        seeds=2 if preset == "smoke" else 9,
        metric=Metric.on_test("accuracy"),
        tuning=None
        if preset == "smoke"
        else Tuning(
            space={rate: Choice(RATES)},
            arms={arm: {rate: None} for arm in transfer},
            search="grid",
            trials=len(RATES),
        ),
        claims=(
            Better(
                statement=f"A network of {deep} layers trains from He's kernels and not from Glorot's: 20 points apart",
                source=HE,
                arm=f"he, {deep}",
                than=f"glorot, {deep}",
                margin=0.2,
            ),
            *(() if preset == "smoke" else (shallow,)),
            Better(
                statement="At the narrow network's rate the wide one does better in muP than in the ordinary form",
                source=MUP,
                arm=f"muP, width {wide}",
                than=f"ordinary, width {wide}",
            ),
            *(() if preset == "smoke" else (wider,)),
        ),
        notes=(
            "Perceptrons of width 64 on MNIST-1D; He et al. train convolutional networks on ImageNet.",
            "Kernels of the width transfer are the model's own, He's; their rate was chosen once, at the narrow width.",
        ),
    )
