"""Weight decay beside Adam's step or within its gradient: which one's best value survives another learning rate?

    python -m experiments --experiment=decoupled_decay

Expected: about 2 minutes on 2 CPU cores; both claims inconclusive. The best decay moves by half a decade either way
over a tenfold rate, up where it is decoupled and down where it is not. Tuned, AdamW is 0.75 points ahead [-1.1, +2.5].
The range of decays was chosen after a look at other seeds and the validation split. After a first run the best level of
a decay is interpolated (on so coarse a grid one step each way had passed for a difference without any spread), and
rates are tuned over a wider range, at whose end L2's best one lay.

In the paper's AdamW a step takes ``d w`` off the weights, whatever the learning rate; Optax and PyTorch take ``rate x
weight_decay`` off. The arms here have the paper's d: their ``weight_decay`` is d / rate.
"""

from experiments.spaces import Uniform
from experiments.study import About, Better, Metric, Preset, SteadierOptimum, Study, Tuning

SOURCE = "Loshchilov and Hutter 2019, Decoupled weight decay regularization"

ABOUT = About(
    group="Gradient descent and Adam",
    claim="Decay decoupled from Adam's step has a best value that a tenfold learning rate hardly moves, and "
    "generalises better than L2 within the gradient.",
    source=f"{SOURCE}, sections 4.2 to 4.4",
    time={"smoke": "15 s", "cpu": "2 min on 2 cores", "full": "12 h on one GPU"},
)

RATES = (1e-3, 1e-2)
DECAYS = {
    "smoke": (1e-4, 1e-3, 1e-2),
    "cpu": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "full": (3e-6, 3e-5, 3e-4, 3e-3, 3e-2),
}


def study(preset: Preset) -> Study:
    """A grid of two rates and several decays by both methods, and each method with its best of both."""
    from models import mlp, resnet
    from train.config import Augmentation, Config, Training
    from train.data import cifar10, mnist1d
    from train.optimizers import adam_l2, adamw
    from train.schedules import cosine

    full = preset == "full"
    decays = DECAYS[preset]
    epochs = {"smoke": 0, "cpu": 50, "full": 100}[preset]
    batch, examples = (128, 45_000) if full else (100, 4_000)
    steps = max(20, epochs * examples // batch)
    baseline = Config(
        data=cifar10.Config() if full else mnist1d.Config(),
        model=resnet.Config(depth=26, width=32) if full else mlp.Config(depth=2, width=100),
        optimizer=adamw.Config(),
        schedule=cosine.Config(final_fraction=0.0),
        training=Training(steps=steps, batch_size=batch, evaluate_every=max(1, steps // 5)),
        augmentation=Augmentation(flip_probability=0.5, crop_padding=4) if full else Augmentation(),
    )
    methods = {"AdamW": (adamw, lambda rate, decay: decay / rate), "L2": (adam_l2, lambda _, decay: decay)}
    arms, levels = {"L2": {"optimizer": adam_l2.Config(weight_decay=5e-3)}}, {}
    for method, (module, weight_decay) in methods.items():
        for rate in RATES:
            names = {decay: f"{method} {rate:g}, {decay:g}" for decay in decays}
            levels[method, rate] = tuple((name, decay) for decay, name in names.items())
            arms |= {
                name: {"optimizer": module.Config(learning_rate=rate, weight_decay=weight_decay(rate, decay))}
                for decay, name in names.items()
            }
    rate, decay = "optimizer.learning_rate", "optimizer.weight_decay"
    return Study(
        name="decoupled_decay",
        preset=preset,
        about=ABOUT,
        baseline_name="AdamW",
        baseline=baseline,
        arms=arms,
        seeds=2 if preset == "smoke" else 10,
        metric=Metric.on_test("accuracy"),
        figure="best_levels",
        tuning=Tuning(
            space={rate: Uniform(1e-3, 1e-1, log=True), decay: Uniform(1e-4, 3e-2, log=True)},
            # AdamW's is d / rate here, so its range is that of d over a rate in the middle.
            arms={"AdamW": {decay: Uniform(0.03, 10.0, log=True)}}
            | {name: {rate: None, decay: None} for name in arms if name != "L2"},
            trials=2 if preset == "smoke" else 24,
        ),
        claims=(
            SteadierOptimum(
                statement="Over a tenfold rate the best decay moves less where it is decoupled",
                source=f"{SOURCE}, figure 2",
                steady=(levels["AdamW", RATES[0]], levels["AdamW", RATES[1]]),
                moving=(levels["L2", RATES[0]], levels["L2", RATES[1]]),
            ),
            Better(
                statement="With the best rate and decay of each, decoupled decay generalises better",
                source=f"{SOURCE}, section 4.4: 15% fewer errors on CIFAR-10",
                arm="AdamW",
                than="L2",
            ),
        ),
        notes=(
            "The paper trains a network of 26 layers on CIFAR-10 for 100 to 1,800 epochs; the presets smoke and cpu a "
            "perceptron on MNIST-1D, cpu for 50 epochs.",
            "The paper's network joins two branches by shake-shake; the one of the preset full has one.",
            "Biases and scales do not decay; in the paper all weights do.",
        ),
    )
