"""The sections of a configuration that every trial has, whatever its data, model and optimizer. Imports no jax."""

import dataclasses
import math
import re
from collections.abc import Set
from typing import Annotated, Literal

from models.base import BadInput, Configuration, Static, Traced, check_divides


def check_pattern(name: str, pattern: str) -> None:
    """Refuse a text that is no regular expression.

    Raises:
        BadInput: it is none.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise BadInput(f"{name}={pattern!r} must be a regular expression: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regularisation(Configuration):
    """What keeps a network from fitting noise, beside what a model or an optimizer brings itself.

    Attributes:
        label_smoothing: epsilon of Szegedy et al. 2016, section 7: targets become
            (1 - epsilon) one-hot + epsilon / classes.
        l1: lambda in ``loss + lambda sum |w|`` over the decayed parameters.
        l2: lambda in ``loss + lambda / 2 sum w^2`` over the decayed parameters (coupled: it goes
            through the optimizer, unlike an optimizer's own ``weight_decay``).
        clip_norm: gradients are scaled down to this global norm (Pascanu et al. 2013).
        clip_value: each element of the gradients is cut to at most this size, before ``clip_norm``.
        z_loss: coefficient of the squared logarithm of the softmax's denominator, added to the loss
            of each item (Chowdhery et al. 2022, "PaLM", section 5).
        max_norm: after each step, the weights into a unit (a column of a decayed kernel) are scaled
            down to this norm (Srivastava et al. 2014, section 5.1).
        sam_radius: rho of sharpness-aware minimisation (Foret et al. 2021, equation 3) around the
            optimizer: the gradient is taken at the point this far uphill. It is not clipped again.
        ema_decay: d of an average of the parameters, ``a <- d a + (1 - d) w``, which evaluations take
            in place of w (Polyak and Juditsky 1992; exponential as in Izmailov et al. 2018, section 3).
            Running statistics of batch normalisation stay those of w.
        swa_every: c of stochastic weight averaging: every c steps the weights join an equal-weight average,
            which evaluations take as soon as there is one (Izmailov et al. 2018, algorithm 1). Its running statistics
            of batch normalisation are its own: from the first average on, each training batch goes
            through the averaged weights too. The paper makes a pass over the data at the end instead.
        swa_start: steps before the first weights are taken; those after step ``swa_start`` are the first.
        gradient_noise: eta of Gaussian noise of variance ``eta / (1 + t)^gamma`` at step t = 0, 1, ... on every
            element of the gradients, after clipping (Neelakantan et al. 2015, equation 1).
        gradient_noise_decay: gamma; the paper's is 0.55.
        early_stopping_patience: a trial stops after this many evaluations in a row without a new least value of
            the first metric on the validation split, its loss or squared error; the weights of that least
            value are what is kept (Goodfellow et al. 2016, algorithm 7.1).
        early_stopping_improvement: a value counts as less when it is lower by more than this.
        undecayed: regular expression; parameters whose path it finds are left out of L1, L2 and
            weight decay. The default leaves out biases and the scales of normalisation.
    """

    label_smoothing: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0
    l1: Annotated[float, Traced(ge=0, off=0.0)] = 0.0
    l2: Annotated[float, Traced(ge=0, off=0.0)] = 0.0
    clip_norm: Annotated[float, Traced(gt=0, off=math.inf)] = math.inf
    clip_value: Annotated[float, Traced(gt=0, off=math.inf)] = math.inf
    z_loss: Annotated[float, Traced(ge=0, off=0.0)] = 0.0
    max_norm: Annotated[float, Traced(gt=0, off=math.inf)] = math.inf
    sam_radius: Annotated[float, Traced(ge=0, off=0.0)] = 0.0
    ema_decay: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0
    swa_every: Annotated[int, Traced(ge=0, off=0)] = 0
    swa_start: Annotated[int, Traced(ge=0)] = 0
    gradient_noise: Annotated[float, Traced(ge=0, off=0.0)] = 0.0
    gradient_noise_decay: Annotated[float, Traced(ge=0)] = 0.55
    early_stopping_patience: Annotated[int, Traced(ge=0, off=0)] = 0
    early_stopping_improvement: Annotated[float, Traced(ge=0)] = 0.0
    undecayed: Annotated[str, Static()] = r"(bias|scale)$"

    def validate(self) -> None:
        """The pattern is a regular expression, and an evaluation takes one average."""
        check_pattern("undecayed", self.undecayed)
        if self.ema_decay and self.swa_every:
            raise BadInput(
                f"ema_decay={self.ema_decay} and swa_every={self.swa_every} are two averages, and an evaluation takes "
                "one; one of them must be 0"
            )

    def idle(self) -> Set[str]:
        """Fields that change nothing, because what they belong to is off."""
        mechanisms = {
            "swa_start": self.swa_every,
            "gradient_noise_decay": self.gradient_noise,
            "early_stopping_improvement": self.early_stopping_patience,
        }
        return {name for name, switch in mechanisms.items() if not switch}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups(Configuration):
    """Groups of parameters with rates and decays of their own.

    A pattern is a regular expression that is searched for in each parameter's path, such as ``embedding`` or
    ``^hidden_0/kernel$``. Every parameter belongs to exactly one group: that of the one pattern which finds it, or
    to the rest, which has factor 1. The optimizer of a group is the same with another rate and decay. Patterns of
    one list stand apart by commas, so that none has a comma in it::

        --config.groups.patterns=embedding,logits --config.groups.learning_rates=0.1,2

    Attributes:
        patterns: one for each group.
        learning_rates: for each group, the factor of the learning rate (of all of them, where an optimizer has
            several); 0 freezes a group, but for decay that the rate does not multiply. None given: 1 for each.
        weight_decays: for each group, the factor of the optimizer's own ``weight_decay``. None given: 1 for each.
    """

    patterns: Annotated[tuple[str, ...], Static()] = ()
    learning_rates: Annotated[tuple[float, ...], Traced(ge=0)] = ()
    weight_decays: Annotated[tuple[float, ...], Traced(ge=0)] = ()

    def validate(self) -> None:
        """Patterns are regular expressions, and there is a factor for each."""
        for pattern in self.patterns:
            if not pattern or "," in pattern or pattern != pattern.strip():
                raise BadInput(f"patterns={pattern!r} must be a regular expression without commas or outer spaces")
            check_pattern("patterns", pattern)
        for name in ("learning_rates", "weight_decays"):
            factors = getattr(self, name) or (1.0,) * len(self.patterns)
            if len(factors) != len(self.patterns):
                raise BadInput(f"{name}={factors} must be {len(self.patterns)} numbers, one for each of the patterns")
            object.__setattr__(self, name, factors)

    def idle(self) -> Set[str]:
        """Factors that change nothing: those of no groups, and decays that are all 1."""
        names = ("learning_rates", "weight_decays")
        return {name for name in names if not self.patterns} | (
            {"weight_decays"} if set(self.weight_decays) <= {1.0} else set()
        )


Scheme = Literal[
    "model",
    "lecun_normal",
    "lecun_uniform",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "orthogonal",
    "normal",
    "uniform",
]
"""The distributions that kernels may be drawn from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Initialisation(Configuration):
    """Where training begins; by default where each model begins of its own accord. See :mod:`train.initialisation`.

    Attributes:
        kernels: what the kernels are drawn from. ``lecun``: variance 1 / fan-in (LeCun et al. 1998, section 4.6);
            ``glorot``: 2 / (fan-in + fan-out) (Glorot and Bengio 2010, equation 16); ``he``: 2 / fan-in (He et al.
            2015, equation 10); each as a truncated normal or a uniform distribution. ``orthogonal``: Saxe et
            al. 2014, section 3. ``normal``: variance 1; ``uniform``: from -1 to 1. ``model``: the model's own.
        gain: factor of the kernels.
        pattern: regular expression; the parameters of at least two axes whose path it finds are the kernels.
        zeros: regular expression; parameters whose path it finds begin at 0, such as the last layer of each
            residual branch (Zhang et al. 2019, "Fixup", section 3) or the last scale (Goyal et al. 2017, section
            5.1). Empty: none.
        mup_base_width: the width at which the maximal update parametrisation is the ordinary one: a model of any
            other width is drawn and trained with the factors of Yang et al. 2022, table 3 (see :mod:`train.mup`).
            0 is off.
    """

    kernels: Annotated[Scheme, Static()] = "model"
    gain: Annotated[float, Traced(gt=0, off=1.0)] = 1.0
    pattern: Annotated[str, Static()] = "kernel"
    zeros: Annotated[str, Static()] = ""
    mup_base_width: Annotated[int, Static(ge=0)] = 0

    def validate(self) -> None:
        """Patterns are regular expressions."""
        check_pattern("pattern", self.pattern)
        check_pattern("zeros", self.zeros)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(Configuration):
    """What is changed at random in the images of a training batch, in this order; never in an evaluation.

    Each draws from a random stream of its own, so that one more disturbs no other. See :mod:`train.augmentation`.

    Attributes:
        flip_probability: that an image is mirrored left to right (Krizhevsky et al. 2012, section 4.1: one half).
        crop_padding: p in pixels: the image is padded by p zeros on every side, zero being the mean of the
            training pixels, and cut to its size at a random place, (2 p + 1)^2 of them (He et al. 2016, section 4.2).
        cutout_size: side, in pixels, of a square that is set to zero; its centre lies anywhere in the image, so
            that it may reach over the edge (DeVries and Taylor 2017, section 3.2).
        mixup_alpha: images and targets of the batch are mixed with those of a random partner by
            lambda ~ Beta(alpha, alpha), one for a batch (Zhang et al. 2018, section 2).
        cutmix_alpha: a box of the partner's image is pasted, whose area is 1 - lambda of the image before it is
            cut at the edges, with lambda ~ Beta(alpha, alpha), one for a batch (Yun et al. 2019, equations 1 and
            2). Where mixup is on as well, a fair coin chooses one of the two at each step.
    """

    flip_probability: Annotated[float, Traced(ge=0, le=1, off=0.0)] = 0.0
    crop_padding: Annotated[int, Traced(ge=0, off=0)] = 0
    cutout_size: Annotated[int, Traced(ge=0, off=0)] = 0
    mixup_alpha: Annotated[float, Traced(ge=0, off=0.0)] = 0.0
    cutmix_alpha: Annotated[float, Traced(ge=0, off=0.0)] = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Configuration):
    """How long and how finely.

    Attributes:
        steps: optimizer steps.
        batch_size: items (examples, or windows of text) in a step. 0: all of the training split in one order, which is
            gradient descent without noise.
        accumulation: a batch is gone through in this many parts of equal size, one after another, and their gradients
            are added up: memory for one part, and the step of the whole batch up to rounding, whatever the items
            weigh. Two things are a part's own: its dropout, and the statistics of batch normalisation.
        rematerialise: what the backward pass computes again instead of keeping it (Chen et al. 2016): ``nothing``;
            ``elementwise``: all but the results of matrix products and convolutions; ``everything``: the whole forward
            pass. Results stay the same, bit for bit. The model is one piece here, so the peak of memory hardly falls
            (a perceptron of 30 layers on CPU: not at all); a Transformer's own ``remat`` goes block by block.
        evaluate_every: steps between evaluations on the validation split; the end is always one.
        target_metric: a metric on the validation split, such as ``accuracy``; a trial is over at the first evaluation
            that finds it at ``target`` or beyond, so that the steps of its row are the steps to the target (Shallue et
            al. 2019, section 3.1). Empty: trials take all their steps.
        target: the value.
        evaluation_batch_size: most items in one batch of an evaluation; batches are made equal, and a CPU takes no
            more than 64 (``train/splits.py``). Changes memory and speed only.
        compute_dtype: number format that the model computes in; parameters, their gradients and the
            optimizer keep 32 bits (mixed precision; Micikevicius et al. 2018, section 3.1). ``float16`` scales
            the loss: see :mod:`train.precision`.
        loss_scale: what the loss is multiplied by at first, with ``float16``.
        loss_scale_interval: steps in a row without overflow after which the factor doubles.
    """

    steps: Annotated[int, Static(ge=1)] = 1000
    batch_size: Annotated[int, Static(ge=0)] = 64
    accumulation: Annotated[int, Static(ge=1)] = 1
    rematerialise: Annotated[Literal["nothing", "elementwise", "everything"], Static()] = "nothing"
    evaluate_every: Annotated[int, Static(ge=1)] = 100
    target_metric: Annotated[str, Static()] = ""
    target: Annotated[float, Traced()] = 0.0
    evaluation_batch_size: Annotated[int, Static(ge=1)] = 250
    compute_dtype: Annotated[Literal["float32", "bfloat16", "float16"], Static()] = "float32"
    loss_scale: Annotated[float, Traced(ge=1)] = 2.0**16
    loss_scale_interval: Annotated[int, Traced(ge=1)] = 2000

    def validate(self) -> None:
        """The parts of a batch are equal."""
        if self.batch_size:
            check_divides("accumulation", self.accumulation, "batch_size", self.batch_size)

    def idle(self) -> Set[str]:
        """Fields that no program takes: the target, which the loop looks at, and loss scaling without float16."""
        return {"target"} | (set() if self.compute_dtype == "float16" else {"loss_scale", "loss_scale_interval"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnostics(Configuration):
    """What is measured of the training itself, at every evaluation, into columns of ``curves.csv``.

    Measured is the next step: its batch, its random draws, the parameters before it; at the end, where none follows,
    the last one's batch, and no update. What is found at the end stands in ``trials.csv`` as well, so that a study may
    compare it. What is off costs nothing, and nothing of it changes what is trained. See
    :mod:`train.diagnostics`.

    Attributes:
        norms: of each layer's gradient, parameters and update (Euclidean), and the ratio of update to parameters.
        activations: mean and standard deviation of what each layer records, and the share of its dead units: those
            that are 0 for every item of the batch.
        attention_entropy: of each layer's attention weights, the mean over queries and heads, in nats.
        state_gradients: of a recurrent network, the logarithm of the norm of dh_T/dh_t against the lag T - t, and for
            the simple network its bound sigma_max(W)^(T - t) (see :mod:`train.state_gradients`).
        curvature: the largest and the least eigenvalue of the loss's Hessian (see :mod:`train.curvature`).
        curvature_iterations: products of the Hessian with a vector that they take.
        noise_scale: the simple gradient noise scale (McCandlish et al. 2018, equation 2.9), from the gradients of parts
            of the batch.
        noise_scale_parts: how many of them, of equal size; more give less noise in the estimate.
        small_weights: of each kernel, the share of weights that are less than a hundredth of its largest.
        training_split: the task's metrics over the whole training split, as an evaluation measures it: without
            dropout, by the weights of one moment. Labels are those that are trained on, wrong ones too.
    """

    norms: Annotated[bool, Static()] = False
    activations: Annotated[bool, Static()] = False
    attention_entropy: Annotated[bool, Static()] = False
    state_gradients: Annotated[bool, Static()] = False
    curvature: Annotated[bool, Static()] = False
    curvature_iterations: Annotated[int, Static(ge=2)] = 20
    noise_scale: Annotated[bool, Static()] = False
    noise_scale_parts: Annotated[int, Static(ge=2)] = 2
    small_weights: Annotated[bool, Static()] = False
    training_split: Annotated[bool, Static()] = False

    @property
    def of_a_step(self) -> bool:
        """Whether anything of a training step is measured."""
        return dataclasses.replace(self, training_split=False).is_on

    @property
    def is_on(self) -> bool:
        """Whether anything is measured."""
        return any(getattr(self, field.name) is True for field in dataclasses.fields(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execution(Configuration):
    """How trials run. Changes nothing of what they compute beyond float rounding.

    Attributes:
        strategy: ``vectorised`` runs the lanes of a device as one batched program, ``sequential`` one after another
            inside the program; ``measured`` tries both and takes the faster; ``auto`` is ``sequential`` on a CPU, where
            that won in every family, and ``measured`` elsewhere.
        spread: lanes are spread over all devices (on a CPU: over the cores), or kept on one.
        max_lanes: trials in one population at the most.
        checkpoint_seconds: the least time between two checkpoints of a population; longer where they take long, so
            that they cost 2% of the time at the most. 0: as often as possible.
        keep_newest: this many of the newest checkpoints are kept; with two, one may be damaged.
        keep_best: for each trial, this many checkpoints are kept, too, at which the first metric on the validation
            split (its loss or squared error) was least. There is then a checkpoint at each evaluation that
            finds such a value, whatever ``checkpoint_seconds``. 0: none, and evaluations are not waited for.
        stream_above_gib: a split of more gibibytes (2^30 bytes) stays on the host, in memory or in memory-mapped
            files, and its batches are brought to the devices while these compute.
        input_workers: processes that read the training split where it is streamed from memory-mapped files;
            0: threads of this process.
        mesh: how devices compute each trial together, e.g. ``data:4,fsdp:2`` (see :mod:`train.meshes`). Empty: each
            device has trials of its own.
    """

    strategy: Annotated[Literal["auto", "measured", "vectorised", "sequential"], Static()] = "auto"
    spread: Annotated[bool, Static()] = True
    max_lanes: Annotated[int, Static(ge=1)] = 64
    checkpoint_seconds: Annotated[float, Static(ge=0)] = 20.0
    keep_newest: Annotated[int, Static(ge=1)] = 2
    keep_best: Annotated[int, Static(ge=0)] = 0
    stream_above_gib: Annotated[float, Static(ge=0)] = 1.0
    input_workers: Annotated[int, Static(ge=0)] = 0
    mesh: Annotated[str, Static()] = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seeds(Configuration):
    """Where a trial's random streams begin.

    By default all begin at the trial's seed, so that trials of equal seed are paired: equal data order and, where the
    shapes allow, equal initial weights. Holding all but one stream fixed shows how much that one contributes to the
    spread of results (Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks").

    Attributes:
        offset: added to the trial's seed: the same experiment once more, with other chances.
        init: where the initial weights begin; None for the trial's seed.
        order: the same for the order of the data.
        noise: the same for all that is drawn while training: dropout, stochastic depth, augmentation, noise.
        split: ``own`` is the division of the data set; ``seed`` pools training and validation examples and divides
            them anew, in parts of the same sizes, by the trial's seed. The test split stays as it is.
    """

    offset: Annotated[int, Traced(ge=0, lt=2**32)] = 0
    init: Annotated[int | None, Traced(ge=0, lt=2**32)] = None
    order: Annotated[int | None, Traced(ge=0, lt=2**32)] = None
    noise: Annotated[int | None, Traced(ge=0, lt=2**32)] = None
    split: Annotated[Literal["own", "seed"], Static()] = "own"

    def idle(self) -> Set[str]:
        """All of them: seeds enter a program as whole numbers, not as hyperparameters."""
        return {"offset", "init", "order", "noise"}
