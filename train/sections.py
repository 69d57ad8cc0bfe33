"""The sections of a configuration that every trial has, whatever its data, model and optimizer. Imports no jax."""

import dataclasses
import math
import re
from typing import Annotated, Literal

from models.base import BadInput, Configuration, Static, Traced


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
    undecayed: Annotated[str, Static()] = r"(bias|scale)$"

    def validate(self) -> None:
        """The pattern must be a regular expression."""
        try:
            re.compile(self.undecayed)
        except re.error as error:
            raise BadInput(f"undecayed={self.undecayed!r} must be a regular expression: {error}") from None


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
        batch_size: items (examples, or windows of text) in a step.
        evaluate_every: steps between evaluations on the validation split; the end is always one.
        evaluation_batch_size: items in one batch of an evaluation; changes memory and speed only.
        compute_dtype: number format that the model computes in; parameters, their gradients and the
            optimizer keep 32 bits (mixed precision; Micikevicius et al. 2018, section 3.1).
    """

    steps: Annotated[int, Static(ge=1)] = 1000
    batch_size: Annotated[int, Static(ge=1)] = 64
    evaluate_every: Annotated[int, Static(ge=1)] = 100
    evaluation_batch_size: Annotated[int, Static(ge=1)] = 250
    compute_dtype: Annotated[Literal["float32", "bfloat16"], Static()] = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execution(Configuration):
    """How trials run. Changes nothing of what they compute beyond float rounding.

    Attributes:
        strategy: ``vectorised`` runs the lanes of a device as one batched program, ``sequential``
            one after another inside the program; ``auto`` takes what was measured to be fastest
            for the family and the backend.
        spread: lanes are spread over all devices (on a CPU: over the cores), or kept on one.
        max_lanes: trials in one population at the most.
        checkpoint_seconds: the least time between two checkpoints of a population.
    """

    strategy: Annotated[Literal["auto", "vectorised", "sequential"], Static()] = "auto"
    spread: Annotated[bool, Static()] = True
    max_lanes: Annotated[int, Static(ge=1)] = 64
    checkpoint_seconds: Annotated[float, Static(ge=0)] = 20.0
