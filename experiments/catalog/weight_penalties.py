"""Penalties on weights: L1 finds which of many features matter, and L2 does not.

    python -m experiments --experiment=weight_penalties

Linear regression on 1,000 features of which 20 matter, from 400 examples: fewer than least squares needs, more than the
lasso does (276). The preset full compares penalties, max-norm and dropout on MNIST.

Expected: 50 s on 2 CPU cores; every claim supported. The true weights have an error of 0.25, predictions of 0 one of
20.25; L1 has 0.32, with a little L2 0.36, L2 alone 12.6, bounded weights 20.0, none of them 28.5. L1 leaves most
weights near zero. (With 200 features of which 10 matter, and 150 examples, it came out the same way.)
"""

from experiments.spaces import Uniform
from experiments.study import About, Better, Metric, Preset, Study, Tuning, Within

SPARSE = "Tibshirani 1996, Regression shrinkage and selection via the lasso; Wainwright 2009, theorem 1"
SOURCE = "Srivastava et al. 2014, Dropout, JMLR 15, table 9"

ABOUT = About(
    group="L1, L2, dropout",
    claim="An L1 penalty recovers a sparse vector of weights from fewer examples than there are features; L2 does not.",
    source=SPARSE,
    time={"smoke": "15 s", "cpu": "50 s on 2 cores", "full": "about 6 h on one GPU"},
)

ERRORS = {
    "L2": 0.0162,
    "L2 + L1": 0.0160,
    "max-norm": 0.0135,
    "dropout": 0.0125,
    "dropout + L2": 0.0125,
    "dropout + max-norm": 0.0105,
}
"""Published test errors on MNIST; without any of them 1.60% (table 2)."""

STRENGTHS = Uniform(1e-3, 1.0, log=True)


def study(preset: Preset) -> Study:
    """Without a penalty (baseline), with L2, L1, both, and bounded weights."""
    return on_digits() if preset == "full" else sparse_regression(preset)


def sparse_regression(preset: Preset) -> Study:
    """The whole training split at every step; every seed has a division of its own into training and validation."""
    from models import mlp
    from train.config import Config, Diagnostics, Seeds, Training
    from train.data import sparse_regression
    from train.optimizers import adam
    from train.schedules import cosine

    steps = 20 if preset == "smoke" else 8_000
    features, nonzero, examples = (200, 10, 150) if preset == "smoke" else (1_000, 20, 400)
    data = sparse_regression.Config(features=features, nonzero=nonzero, noise=0.5, train_examples=examples)
    baseline = Config(
        data=data,
        model=mlp.Config(depth=0),
        optimizer=adam.Config(learning_rate=0.02),
        schedule=cosine.Config(final_fraction=0.0),
        training=Training(steps=steps, batch_size=0, evaluate_every=steps // 5),
        diagnostics=Diagnostics(small_weights=True),
        seeds=Seeds(split="seed"),
    )
    l1, l2, norm = ("regularisation.l1", "regularisation.l2", "regularisation.max_norm")
    arms = {"L2": {l2: 0.1}, "L1": {l1: 0.1}, "L1 + L2": {l1: 0.1, l2: 0.01}, "max-norm": {norm: 3.0}}
    none = {l1: None, l2: None, norm: None}
    spaces = {l1: STRENGTHS, l2: STRENGTHS, norm: Uniform(0.5, 5.0, log=True)}
    tuned = {"none": none} | {arm: none | {path: spaces[path] for path in paths} for arm, paths in arms.items()}
    least = data.noise**2
    sparsity = Metric(
        column="small_weights/logits",
        label="share of small weights",
        curve="small_weights/logits",
        higher_is_better=True,
        percent=True,
    )
    return Study(
        name="weight_penalties",
        preset=preset,
        about=ABOUT,
        baseline_name="none",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 8,
        metric=Metric.on_test("mse", label="test mean squared error"),
        tuning=None if preset == "smoke" else Tuning(space=spaces, arms=tuned, trials=12, seeds=2),
        claims=(
            Better(statement="L1 foretells better than no penalty", source=SPARSE, arm="L1", than="none"),
            Better(statement="L1 foretells better than L2", source=SPARSE, arm="L1", than="L2"),
            Within(
                statement="The error of L1 is at most twice that of the true weights",
                source=SPARSE,
                arm="L1",
                high=2 * least,
            ),
            Better(
                statement="L1 leaves half of the weights or more near zero that L2 does not",
                source=SPARSE,
                metric=sparsity,
                arm="L1",
                than="L2",
                margin=0.5,
            ),
        ),
        notes=(
            "A subgradient step never leaves a weight at exactly 0: small is less than a hundredth of the largest.",
            "Each arm's strengths are tuned; the learning rate is one for all, since the problem is convex and solved.",
        ),
    )


def on_digits() -> Study:
    """Table 9: the perceptron 784-1024-1024-2048-10 on all of MNIST, for a million steps."""
    from models import mlp
    from train.config import Config, Training
    from train.data import mnist
    from train.optimizers import momentum
    from train.schedules import cosine

    steps = 1_000_000
    baseline = Config(
        data=mnist.Config(),
        model=mlp.Config(widths=(1024, 1024, 2048)),
        optimizer=momentum.Config(learning_rate=0.03, momentum=0.95),
        schedule=cosine.Config(final_fraction=0.0),
        training=Training(steps=steps, batch_size=100, evaluate_every=steps // 20, evaluation_batch_size=500),
    )
    rate, l1, l2 = "optimizer.learning_rate", "regularisation.l1", "regularisation.l2"
    dropout = {"model.dropout_rate": 0.5, "model.input_dropout_rate": 0.2}
    norm = {"regularisation.max_norm": 2.0}
    arms = {
        "L2": {l2: 1e-5},
        "L2 + L1": {l2: 1e-5, l1: 1e-6},
        "max-norm": norm,
        "dropout": dropout,
        "dropout + L2": dropout | {l2: 1e-5},
        "dropout + max-norm": dropout | norm,
    }
    weak = Uniform(1e-7, 1e-3, log=True)
    tuned = {arm: {path: weak if path in paths else None for path in (l1, l2)} for arm, paths in arms.items()}
    return Study(
        name="weight_penalties",
        preset="full",
        about=ABOUT,
        baseline_name="none",
        baseline=baseline,
        arms=arms,
        seeds=9,
        metric=Metric.on_test("accuracy"),
        tuning=Tuning(
            space={rate: Uniform(3e-3, 0.3, log=True), l1: weak, l2: weak},
            arms={"none": {l1: None, l2: None}} | tuned,
            trials=8,
            steps=steps // 10,
        ),
        claims=(
            Better(
                statement="Dropout with max-norm beats max-norm alone",
                source=SOURCE,
                arm="dropout + max-norm",
                than="max-norm",
            ),
            Better(statement="Max-norm beats L2", source=SOURCE, arm="max-norm", than="L2"),
            *(
                Within(
                    statement=f"The error with {arm} is within 0.15 points of the published {error:.2%}",
                    source=SOURCE,
                    arm=arm,
                    low=1 - error - 0.0015,
                    high=1 - error + 0.0015,
                )
                for arm, error in ERRORS.items()
            ),
        ),
        notes=("Learning rate and strengths are tuned for every arm with a tenth of the steps.",),
    )
