"""Where training begins: which depth trains under which scheme, and which rate serves which width.

    python -m experiments --experiment=initialisation

Rectified perceptrons of 30 and of 5 layers begin from kernels of variance 2 / inputs (He), and of 2 / (inputs +
outputs) (Glorot), which halves the signal's variance at each layer. Beside them, a narrow perceptron and one 8 times as
wide are trained at five rates each, the wide one in the ordinary parametrisation and in muP. Where the width is the
base width the two are the same.

Expected: 3.5 minutes on 2 CPU cores. Thirty layers learn nothing from Glorot's kernels (8.9%) and train from He's, but
not from every seed at the rate that was best over the tuning's two seeds (0.03): nine of ten reach 38 to 50%, one
learns nothing. So the mean is 42.2% and the claim, 20 points apart, inconclusive (+33.3 [+0.2, +42.0]); at 0.01, which
one tuning seed had chosen before, all ten train (45.2%), and it was supported. From a width of 32 to one of 256 the
rate with the least training loss moves from 0.019 to 0.030 in muP and to 0.0059 in the ordinary form: supported.
Refuted: that muP is better at the rate of 0.01 (4.6 points worse; it is below its best there, and the ordinary form at
its own). A first run compared widths 64 and 512 at that one rate and refuted it as well (2.5 points); the claim on the
best rate, which is the published one, was added then. Five layers from Glorot's kernels do as well as from He's:
inconclusive (+1.6 [-0.6, +4.3]).
"""

from experiments.spaces import Choice
from experiments.study import About, Better, Equivalent, Metric, Preset, SteadierOptimum, Study, Tuning

HE = "He et al. 2015, Delving deep into rectifiers, section 2.2 and figure 3"
MUP = "Yang et al. 2022, Tensor Programs V, figure 1"

ABOUT = About(
    group="Layers and neurons",
    claim="Deep rectified networks train from He's kernels and not from Glorot's; in muP a rate serves every width.",
    source=f"{HE}; {MUP}",
    time={"smoke": "15 s", "cpu": "3.5 min on 2 cores", "full": "about 5 min on one GPU"},
)

DEEP = {"smoke": 3, "cpu": 30, "full": 30}
RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
NARROW, WIDE = 32, 256
TRANSFERS = {"smoke": (0.003, 0.01, 0.03), "cpu": (0.001, 0.003, 0.01, 0.03, 0.1)}
TRANSFERS["full"] = TRANSFERS["cpu"]
"""Rates of Adam at each width."""

TRANSFERRED = 0.01
"""The one at which the two forms are compared: chosen before any run."""


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
        training=Training(steps=steps, batch_size=100, evaluate_every=steps // 5),
    )
    kernels, depth = "initialisation.kernels", "model.depth"
    schemes = {f"he, {deep}": {}, f"glorot, {deep}": {kernels: "glorot_normal"}}
    if preset != "smoke":
        schemes[f"orthogonal, {deep}"] = {kernels: "orthogonal", "initialisation.gain": 2**0.5}
        schemes |= {"he, 5": {depth: 5}, "glorot, 5": {depth: 5, kernels: "glorot_normal"}}
    transfer, levels = {}, {}
    for name, base, width in (("narrow", 0, NARROW), ("ordinary", 0, wide), ("muP", NARROW, wide)):
        levels[name] = tuple((f"{name} {width}, {rate:g}", rate) for rate in TRANSFERS[preset])
        transfer |= {
            arm: {
                "model": mlp.Config(depth=3, width=width),
                "optimizer": adam.Config(learning_rate=rate),
                "initialisation.mup_base_width": base,
            }
            for arm, rate in levels[name]
        }
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
        arm=f"muP {wide}, {TRANSFERRED:g}",
        than=f"narrow {NARROW}, {TRANSFERRED:g}",
    )
    del schemes[f"he, {deep}"]
    return Study(
        name="initialisation",
        preset=preset,
        about=ABOUT,
        baseline_name=f"he, {deep}",
        baseline=baseline,
        arms=schemes | transfer,
        seeds=2 if preset == "smoke" else 10,
        metric=Metric.on_test("accuracy"),
        figure="best_levels",
        tuning=None
        if preset == "smoke"
        else Tuning(
            space={rate: Choice(RATES)},
            arms={arm: {rate: None} for arm in transfer},
            search="grid",
            trials=len(RATES),
            seeds=2,
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
                statement=f"At a rate of {TRANSFERRED:g} the wide network does better in muP than in the ordinary form",
                source=MUP,
                arm=f"muP {wide}, {TRANSFERRED:g}",
                than=f"ordinary {wide}, {TRANSFERRED:g}",
            ),
            *(() if preset == "smoke" else (wider,)),
            SteadierOptimum(
                statement="From the narrow to the wide network the best rate moves less in muP",
                source=MUP,
                metric=Metric(column="train_loss", label="training loss", curve="train_loss", higher_is_better=False),
                steady=(levels["narrow"], levels["muP"]),
                moving=(levels["narrow"], levels["ordinary"]),
            ),
        ),
        notes=(
            "Perceptrons of width 64 on MNIST-1D; He et al. train convolutional networks on ImageNet.",
            "Kernels of the width transfer are the model's own, He's.",
        ),
    )
