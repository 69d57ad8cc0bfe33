"""The multilayer perceptron: fully connected layers on flattened inputs."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from flax import linen as nn
from jaxtyping import Array, Float

from models.base import BadInput, Configuration, Shapes, Static, Traced
from models.layers.activations import activation
from models.layers.dense import Dense
from models.layers.dropout import Dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A multilayer perceptron.

    Attributes:
        depth: number of hidden layers.
        width: units of each hidden layer.
        activation: nonlinearity of the hidden layers.
        dropout_rate: probability of dropping a hidden unit.
    """

    depth: Annotated[int, Static(ge=1)] = 1
    width: Annotated[int, Static(ge=1)] = 128
    activation: Annotated[Literal["relu", "gelu", "tanh"], Static()] = "relu"
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0


class MLP(nn.Module):
    """Hidden layers ``h ← dropout(activation(dense(h)))`` and a dense layer of logits.

    Kernels of hidden layers begin as He's normal (variance 2 / inputs; He et al. 2015, "Delving
    Deep into Rectifiers", equation 10), with tanh as LeCun's (variance 1 / inputs; LeCun et al.
    1998, "Efficient BackProp", section 4.6). So does the kernel of the logits. Biases begin at 0.
    Dropout of hidden units: Srivastava et al. 2014, "Dropout", JMLR 15, section 4.

    Attributes:
        config: sizes and defaults.
        outputs: number of logits.
    """

    config: Config
    outputs: int

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch ..."], *, train: bool, hyperparameters: Mapping[str, Any]
    ) -> Float[Array, "batch outputs"]:
        """Logits of real inputs of any shape."""
        rate = hyperparameters.get("dropout_rate", self.config.dropout_rate)
        is_tanh = self.config.activation == "tanh"
        kernel_init = nn.initializers.lecun_normal() if is_tanh else nn.initializers.he_normal()
        x = inputs.reshape(inputs.shape[0], -1)
        for i in range(self.config.depth):
            x = Dense(self.config.width, kernel_init=kernel_init, name=f"hidden_{i}")(x)
            x = activation(self.config.activation)(x)
            x = Dropout()(x, rate, train=train)
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
