"""The learning rate: how far it may be off, what a warm-up allows, and what a decay gives.

    python -m experiments --experiment=learning_rate

Expected: about 3 minutes on 2 CPU cores. Constant 67.4%, cosine 68.5 (inconclusive), linear 70.8 (supported), steps,
one cycle and a late decay 72. At 0.15 a warm-up does not help but harms (inconclusive, for it diverges less often): 11%
against 36%, both mostly lost after it, in six layers without normalisation. A first run compared losses on the test
split, by which each arm was tuned: the best were small rates that hardly learn (49% right), since who is right more
often is also wrong with more confidence. It began at 0.5 with and without a warm-up, where both diverged. The metric
and that rate were changed then; the rate by other seeds. A rate of 1 diverged, which leaves no difference to claim: now
it is claimed that it never arrives.
"""

from experiments import designs
from experiments.spaces import Uniform
from experiments.study import About, Better, Metric, Preset, StepsToTarget, Study, Tuning

ABOUT = About(
    group="Learning rate and batch size",
    claim="Rates far too small or too large cost much, a warm-up makes large rates trainable, and rates that fall to "
    "zero beat a constant one.",
    source="Smith 2017, Cyclical learning rates, section 3; Goyal et al. 2017, section 2.2; Loshchilov and Hutter "
    "2017, SGDR, section 4",
    time={"smoke": "15 s", "cpu": "3 min on 2 cores", "full": "20 min on one GPU"},
)

RANGE = (1e-3, 1e-2, 0.1, 1.0)
LARGE = 0.15
"""The rate at which training begins with and without a warm-up."""


def study(preset: Preset) -> Study:
    """A fully connected network with momentum: fixed rates, a warm-up, and schedules each at its own best peak."""
    from models import mlp
    from train.config import Config, Training
    from train.data import mnist, mnist1d
    from train.optimizers import momentum
    from train.schedules import constant, cosine, inverse_square_root, linear, one_cycle, step, warmup_stable_decay

    steps = {"smoke": 20, "cpu": 2_000, "full": 20_000}[preset]
    baseline = Config(
        data=mnist.Config() if preset == "full" else mnist1d.Config(),
        model=mlp.Config(depth=2 if preset == "smoke" else 6, width=100),
        optimizer=momentum.Config(learning_rate=0.05),
        schedule=constant.Config(),
        training=Training(steps=steps, batch_size=100, evaluate_every=steps // 10),
    )
    schedules = {
        "linear": linear.Config(),
        "cosine": cosine.Config(final_fraction=0.0),
        "step": step.Config(),
        "inverse square root": inverse_square_root.Config(warmup_steps=steps // 10),
        "one cycle": one_cycle.Config(),
        "warm-up, stable, decay": warmup_stable_decay.Config(warmup_steps=steps // 20),
    }
    rate = "optimizer.learning_rate"
    fixed = designs.each(RANGE, lambda value: {rate: value}, name=lambda value: f"rate {value:g}")
    fixed["large, warm-up"] = {rate: LARGE, "schedule": constant.Config(warmup_steps=steps // 5)}
    fixed["large, none"] = {rate: LARGE}
    if preset == "smoke":
        schedules = {"cosine": schedules["cosine"]}
    return Study(
        name="learning_rate",
        preset=preset,
        about=ABOUT,
        baseline_name="constant",
        baseline=baseline,
        arms={**{name: {"schedule": each} for name, each in schedules.items()}, **fixed},
        seeds=2 if preset == "smoke" else 10,
        metric=Metric.on_test("accuracy"),
        tuning=Tuning(
            space={rate: Uniform(3e-3, 1.0, log=True)},
            arms={name: {rate: None} for name in fixed},
            trials=2 if preset == "smoke" else 8,
            search="grid",
        ),
        claims=(
            Better(
                statement="A fixed rate of 0.1 beats one of 0.001",
                source="Smith 2017, section 3.3",
                arm="rate 0.1",
                than="rate 0.001",
            ),
            StepsToTarget(
                statement="A fixed rate of 0.1 comes to an accuracy of 50% within the steps in which one of 1 does not",
                source="Smith 2017, section 3.3",
                arm="rate 0.1",
                than="rate 1",
                target=0.5,
                ratio_at_most=0.999,
            ),
            Better(
                statement=f"At a rate of {LARGE:g}, a warm-up over the first fifth is better than none",
                source="Goyal et al. 2017, section 2.2",
                arm="large, warm-up",
                than="large, none",
            ),
            *(
                Better(
                    statement=f"Each at its best peak, a rate that falls to zero ({name}) beats a constant one",
                    source="Loshchilov and Hutter 2017, section 4",
                    arm=name,
                    than="constant",
                )
                for name in ("cosine", "linear")
                if name in schedules
            ),
        ),
        notes=(
            "The papers' networks are residual ones on CIFAR and ImageNet; the presets smoke and cpu train a fully "
            "connected one of six hidden layers on MNIST-1D, with momentum 0.9 and without normalisation.",
            "Constant rates and schedules have the best of eight peaks; the arms with a rate in their name have that.",
        ),
    )
