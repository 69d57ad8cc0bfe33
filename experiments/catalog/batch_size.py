"""Steps to a target against batch size: perfect scaling, diminishing returns, and none.

    python -m experiments --experiment=batch_size

Expected: 2.7 minutes on 2 CPU cores. Steps fall as the batch to the power 0.89 below 64 and to that of 0.06 beyond
1,000; the law of McCandlish et al. has an R^2 of 0.999, with a critical batch of 122 where the noise scale is 411.
Momentum's plateau is at 0.44 [0.38, 0.51] of the steps: inconclusive, as is the flatness, 0.06 [-0.05, 0.17] of the 0.1
allowed. Sizes and ranges of rates come from a look at one seed that no arm uses. Two claims were undecided by five
seeds, so there are ten; all verdicts are marked exploratory for that. With eight rates of two tuning seeds in place of
ten of one, and twice as many evaluations, they were the same.

Every batch size has the rate that is quickest to the target among equally many. A trial ends at the first evaluation
that finds the target reached, and is as long as its steps until then.
"""

from experiments.spaces import Uniform
from experiments.study import About, BatchTradeoff, Exponent, Metric, Preset, Ratio, Study, Tuning

ABOUT = About(
    group="Learning rate and batch size",
    claim="Twice the batch takes half the steps, until it takes as many; momentum moves that end to larger batches.",
    source="Shallue et al. 2019, Measuring the effects of data parallelism on neural network training, section 4; "
    "McCandlish et al. 2018, An empirical model of large-batch training, section 2",
    time={"smoke": "15 s", "cpu": "2.7 min on 2 cores", "full": "3 h on one GPU"},
)

BATCHES = {
    "smoke": (16, 32, 64, 1_000),
    "cpu": (4, 8, 16, 32, 64, 256, 1_000, 2_000, 4_000),
    "full": (8, 16, 32, 64, 256, 1_024, 4_096, 8_192, 16_384),
}
"""At the preset cpu the largest is all of the examples."""


def study(preset: Preset) -> Study:
    """A network to a target by stochastic gradient descent, and with momentum where batches are large."""
    from models import cnn, mlp
    from train.config import Config, Diagnostics, Training
    from train.data import mnist, mnist1d
    from train.optimizers import momentum, sgd
    from train.schedules import constant

    full = preset == "full"
    batches = BATCHES[preset]
    noisy = 1_024 if full else 1_000

    def training(batch: int) -> Training:
        # Three times what the best rate needs: a step count that falls with the batch until it no longer does.
        least, critical = (300, 2_000) if full else (400, 80)
        steps = 20 if preset == "smoke" else round(least * (1 + critical / batch))
        return Training(
            steps=steps,
            batch_size=batch,
            evaluate_every=max(5, steps // (200 if full else 100)),
            target_metric="accuracy",
            target={"smoke": 0.15, "cpu": 0.55, "full": 0.99}[preset],
            evaluation_batch_size=1_000,
        )

    arms: dict[str, dict] = {f"sgd {batch}": {"training": training(batch)} for batch in batches[1:]}
    arms[f"sgd {noisy}"]["diagnostics"] = Diagnostics(noise_scale=True, noise_scale_parts=8)
    large = batches[-1:] if preset == "smoke" else batches[-4:]
    arms |= {
        f"momentum {batch}": {"training": training(batch), "optimizer": momentum.Config(momentum=0.9)}
        for batch in large
    }
    first, most = f"sgd {batches[0]}", batches[-1]
    baseline = Config(
        data=mnist.Config() if full else mnist1d.Config(),
        model=cnn.Config(channels=(32, 64), kernel_size=5, width=1024) if full else mlp.Config(depth=2, width=100),
        optimizer=sgd.Config(),
        schedule=constant.Config(),
        training=training(batches[0]),
    )
    rate = "optimizer.learning_rate"
    spaces = {
        arm: {rate: Uniform(1e-3 if "momentum" in arm else 1e-2, 1.0 if "momentum" in arm else 3.0, log=True)}
        for arm in (first, *arms)
    }
    small = {f"sgd {batch}": {rate: Uniform(3e-3, 0.6, log=True)} for batch in batches if batch <= 16}
    shallue, mccandlish = "Shallue et al. 2019, section 4.1", "McCandlish et al. 2018, equations 2.9 to 2.12"
    sizes = tuple((f"sgd {batch}", float(batch)) for batch in batches)
    claims = (
        Exponent(
            statement="Below 64, steps fall at least as the batch to the power 0.8",
            source=shallue,
            sizes=tuple((arm, batch) for arm, batch in sizes if batch <= 64),
            low=0.8,
            high=1.2,
        ),
        Exponent(
            statement="At the largest batches steps no longer fall: as the batch to a power of less than 0.1",
            source=shallue,
            sizes=sizes[-3:],
            low=-0.1,
            high=0.1,
        ),
        Ratio(
            statement="With momentum the largest batch takes at most half the steps",
            source="Shallue et al. 2019, section 4.2",
            arm=f"momentum {most}",
            than=f"sgd {most}",
            at_most=0.5,
        ),
        BatchTradeoff(
            statement="Steps and examples trade as (S / S_min - 1) (E / E_min - 1) = 1, with an R^2 of 0.9 or more",
            source=mccandlish,
            batches=sizes,
            low=0.9,
        ),
        BatchTradeoff(
            statement="The critical batch is the gradient noise scale to within a factor of 10",
            source=mccandlish,
            batches=sizes,
            noise_of=f"sgd {noisy}",
            low=0.1,
            high=10.0,
        ),
    )
    return Study(
        name="batch_size",
        preset=preset,
        about=ABOUT,
        baseline_name=first,
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 10,
        metric=Metric(column="steps", label="steps to the target", curve="validation_accuracy", higher_is_better=False),
        tuning=Tuning(
            space={rate: Uniform(1e-2, 3.0, log=True)},
            arms=spaces | small,
            trials=2 if preset == "smoke" else 10,
            seeds=1,
            search="grid",
            column="steps",
        ),
        claims=claims,
        factors=("training.batch_size", "optimizer.name"),
        figure="sensitivity",
        notes=(
            "The preset cpu takes MNIST-1D to 55% on the validation split, full MNIST to 99%, Shallue's error of 0.01.",
            "Momentum's coefficient stays at 0.9; Shallue et al. tune it, too. The rate stays constant.",
            "The noise scale is that at the target, by eight parts of one batch; it grows in training.",
        ),
    )
