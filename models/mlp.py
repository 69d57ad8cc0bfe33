"""The multilayer perceptron: fully connected layers on flattened inputs."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from flax import linen as nn
from jaxtyping import Array, Float

from models.base import BadInput, Configuration, Shapes, Static, Traced, check_divides
from models.inputs import Padded, filled
from models.layers.activations import activation
from models.layers.dense import Dense
from models.layers.dropout import Dropout
from models.layers.normalisation import Norm
from models.layers.recording import record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A multilayer perceptron.

    Attributes:
        depth: number of hidden layers; 0 is a linear model, of which width and activation are no part.
        width: units of each hidden layer.
        widths: the same where they differ: these layers stand in place of ``depth`` layers of ``width``.
        activation: nonlinearity of the hidden layers.
        normalisation: between a dense layer and its nonlinearity: ``batch`` (Ioffe and Szegedy 2015),
            ``layer`` (Ba et al. 2016), ``group`` (Wu and He 2018).
        norm_groups: groups of units that ``group`` normalises together; they divide the width.
        norm_momentum: of the running averages of ``batch``: ``r <- m r + (1 - m) batch``.
        residual: every hidden layer but the first adds to its input, ``h + f(h)`` (He et al. 2016,
            "Deep Residual Learning", section 3.1, with one layer a block).
        prenormalisation: a residual layer normalises its input instead, ``h + activation(dense(norm(h)))``, and the
            logits normalise theirs; the first layer does not (He et al. 2016, "Identity Mappings").
        scaled_branches: what a residual layer adds is divided by the square root of the depth, so that the sum of
            all stays of the size of one (De and Smith 2020, "Batch Normalization Biases Residual Blocks Towards the
            Identity Function in Deep Networks").
        dropout_rate: probability of dropping a hidden unit.
        input_dropout_rate: the same of an input (Srivastava et al. 2014, appendix A.4: 0.2).
    """

    depth: Annotated[int, Static(ge=0)] = 1
    width: Annotated[int, Static(ge=1)] = 128
    widths: Annotated[tuple[int, ...], Static(ge=1)] = ()
    activation: Annotated[Literal["relu", "gelu", "tanh"], Static()] = "relu"
    normalisation: Annotated[Literal["none", "batch", "layer", "group"], Static()] = "none"
    norm_groups: Annotated[int, Static(ge=1)] = 8
    norm_momentum: Annotated[float, Traced(ge=0, le=1)] = 0.9
    residual: Annotated[bool, Static()] = False
    prenormalisation: Annotated[bool, Static()] = False
    scaled_branches: Annotated[bool, Static()] = False
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0
    input_dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0

    def validate(self) -> None:
        """Raise BadInput where groups do not share the units equally, or what acts on hidden layers has none."""
        if not self.widths and not self.depth:
            for name, off in (("normalisation", "none"), ("residual", False), ("dropout_rate", 0.0)):
                if getattr(self, name) != off:
                    raise BadInput(f"{name}={getattr(self, name)} acts on hidden layers: depth must be at least 1")
        if self.residual and len(set(self.widths)) > 1:
            raise BadInput(f"residual=true adds layers to each other: widths={self.widths} must be equal")
        if self.scaled_branches and not self.residual:
            raise BadInput("scaled_branches=true scales what residual layers add: residual must be true")
        if self.prenormalisation and not (self.residual and self.normalisation != "none"):
            raise BadInput("prenormalisation=true needs residual=true and a normalisation")
        for width in self.widths or (self.width,) if self.normalisation == "group" else ():
            check_divides("norm_groups", self.norm_groups, "width", width)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The units of each hidden layer."""
        return self.widths or (self.width,) * self.depth


class MLP(nn.Module):
    """Hidden layers ``h <- dropout(activation(norm(dense(h))))`` and a dense layer of logits.

    Kernels of hidden layers begin as He's normal (variance 2 / inputs; He et al. 2015, "Delving
    Deep into Rectifiers", equation 10), with tanh as LeCun's (variance 1 / inputs; LeCun et al.
    1998, "Efficient BackProp", section 4.6). So does the kernel of the logits. Biases begin at 0.
    Dropout of hidden units: Srivastava et al. 2014, "Dropout", JMLR 15, section 4. Intermediates:
    ``activations_0``, ``activations_1``, ... after the nonlinearity.

    Attributes:
        config: sizes and defaults.
        outputs: number of logits.
    """

    config: Config
    outputs: int

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch ..."] | Padded, *, train: bool, hyperparameters: Mapping[str, Any]
    ) -> Float[Array, "batch outputs"]:
        """Logits of real inputs of any shape; sequences that end in padding end in zeros."""
        config = self.config
        rate = hyperparameters.get("dropout_rate", config.dropout_rate)
        momentum = hyperparameters.get("norm_momentum", config.norm_momentum)
        is_tanh = config.activation == "tanh"
        kernel_init = nn.initializers.lecun_normal() if is_tanh else nn.initializers.he_normal()
        input_rate = hyperparameters.get("input_dropout_rate", config.input_dropout_rate)
        scale = len(config.sizes) ** -0.5 if config.scaled_branches else 1.0

        def norm(x: Array, name: str) -> Array:
            return Norm(config.normalisation, groups=config.norm_groups, name=name)(x, train=train, momentum=momentum)

        x = filled(inputs)
        x = Dropout(name="input_dropout")(x.reshape(x.shape[0], -1), input_rate, train=train)
        for i, width in enumerate(config.sizes):
            hidden = norm(x, f"norm_{i}") if config.prenormalisation and i else x
            hidden = Dense(width, kernel_init=kernel_init, name=f"hidden_{i}")(hidden)
            hidden = hidden if config.prenormalisation else norm(hidden, f"norm_{i}")
            hidden = activation(config.activation)(hidden)
            record(self, f"activations_{i}", lambda hidden=hidden: hidden)
            hidden = Dropout()(hidden, rate, train=train)
            x = x + scale * hidden if config.residual and i else hidden
        x = norm(x, "norm_logits") if config.prenormalisation else x
        return Dense(self.outputs, name="logits")(x)


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The perceptron for a task of these shapes.

    Raises:
        BadInput: the inputs are tokens, or the task wants an output for every position.
    """
    if shapes.vocabulary is not None:
        raise BadInput("model 'mlp' takes real inputs, and this task gives tokens; rnn and transformer take tokens")
    if shapes.per_position:
        raise BadInput(
            "model 'mlp' gives one output for an example, and this task wants one for every position; "
            "rnn and transformer give that"
        )
    return MLP(config, shapes.outputs)
