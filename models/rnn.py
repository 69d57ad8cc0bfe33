"""Recurrent networks: vanilla, GRU, LSTM and its variants; stacked, in one direction or two."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num

from models.base import BadInput, Configuration, Shapes, Static, Traced
from models.inputs import Padded, unpad
from models.layers.dense import Dense
from models.layers.dropout import Dropout
from models.layers.embeddings import Embedding
from models.layers.lstm_variants import Variant
from models.layers.recurrent_layer import Cell, Regularisation, State, last, stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A stack of recurrent layers.

    Attributes:
        cell: vanilla (Elman 1990), gru (Cho et al. 2014) or lstm (Hochreiter and Schmidhuber 1997).
        width: units of each layer, in each direction.
        depth: number of layers.
        embedding: length of a token's vector; used where the inputs are tokens.
        bidirectional: a second network reads from the last step to the first, and each layer gets
            the states of both (Schuster and Paliwal 1997); not for causal tasks.
        activation: of the vanilla cell: tanh, or relu (Le, Jaitly and Hinton 2015, "A simple way to
            initialize recurrent networks of rectified linear units").
        recurrent_init: of the recurrent kernels, a block for each gate: orthogonal (Saxe et al. 2014),
            identity (Le et al. 2015, for the relu cell; here for any) or glorot (Glorot and Bengio 2010).
        input_init: of the input kernels: glorot, or small_normal, a normal of deviation 0.001 as Le et
            al. 2015 have it (section 3).
        forget_bias: initial bias of the LSTM's forget gate (Jozefowicz et al. 2015, section 2.2). With
            coupled gates the input gate's begins at its negative, so that the forget gate begins at
            the same value. Greff et al. 2015 have none (0).
        chrono_range: T_max of the chrono initialisation of an LSTM (Tallec and Ollivier 2018): the bias of
            its forget gate begins at log u with u from U(1, T_max - 1), unit by unit, in place of ``forget_bias``, that
            of its input gate at the negative of it. Its cells then forget over 1 to T_max steps. 0 is off.
        variant: the LSTM with one part changed (Greff et al. 2015, "LSTM: A Search Space Odyssey",
            section 3): no_input_gate (NIG), no_forget_gate (NFG), no_output_gate (NOG),
            no_input_activation (NIAF), no_output_activation (NOAF), coupled_gates (CIFG) or
            full_gate_recurrence (FGR). The paper's variants all have peepholes: set ``peephole`` as well.
        peephole: the LSTM's gates see its cell (Gers and Schmidhuber 2000). The paper's vanilla LSTM
            is ``variant=none peephole=true``; its variant without peepholes (NP) is this one's default.
        readout: what one output for a sequence is made from: the ``last`` state of each direction, or ``all``
            states side by side, as many as there are steps (Greydanus 2020, section 3); those of padding are 0.
        dropout_rate: probability of dropping, on the inputs of every layer but the first and of
            the output layer (Zaremba et al. 2014: never on the recurrent connections).
        variational: one draw of that dropout for a whole sequence instead of one for each step, on the
            inputs of the first layer too (Gal and Ghahramani 2016, section 4.1). Whole words are not
            dropped from the embedding, as their section 4.2 does.
        recurrent_dropout_rate: probability of dropping units of the hidden state on its way into the
            recurrent product, one draw for a whole sequence, the same for all gates (Gal and
            Ghahramani 2016, equation 7).
    """

    cell: Annotated[Literal["vanilla", "gru", "lstm"], Static()] = "lstm"
    width: Annotated[int, Static(ge=1)] = 64
    depth: Annotated[int, Static(ge=1)] = 1
    embedding: Annotated[int, Static(ge=1)] = 64
    bidirectional: Annotated[bool, Static()] = False
    activation: Annotated[Literal["tanh", "relu"], Static()] = "tanh"
    recurrent_init: Annotated[Literal["orthogonal", "identity", "glorot"], Static()] = "orthogonal"
    input_init: Annotated[Literal["glorot", "small_normal"], Static()] = "glorot"
    forget_bias: Annotated[float, Static()] = 1.0
    chrono_range: Annotated[int, Static(ge=0)] = 0
    variant: Annotated[Variant, Static()] = "none"
    peephole: Annotated[bool, Static()] = False
    readout: Annotated[Literal["last", "all"], Static()] = "last"
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0
    variational: Annotated[bool, Static()] = False
    recurrent_dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0

    def validate(self) -> None:
        """Options of one cell are not set for another."""
        if self.activation != "tanh" and self.cell != "vanilla":
            raise BadInput(f"activation={self.activation} is an option of cell=vanilla, not of cell={self.cell}")
        if self.cell != "lstm" and (self.variant != "none" or self.peephole):
            name = "peephole=true" if self.peephole else f"variant={self.variant}"
            raise BadInput(f"{name} is an option of cell=lstm, not of cell={self.cell}")
        if self.chrono_range:
            self._check_chrono()

    def _check_chrono(self) -> None:
        """Chrono initialisation sets the biases of two gates, and needs a range."""
        if self.cell != "lstm" or self.variant in ("no_input_gate", "no_forget_gate", "coupled_gates"):
            needed = "cell=lstm with an input and a forget gate of their own"
            raise BadInput(f"chrono_range={self.chrono_range} needs {needed}; set it to 0")
        if self.chrono_range < 3:
            raise BadInput(f"chrono_range={self.chrono_range} must be 0 or at least 3")

    def step(self) -> Cell:
        """What each layer computes at a step."""
        return Cell(
            kind=self.cell,
            width=self.width,
            forget_bias=self.forget_bias,
            chrono_range=self.chrono_range,
            recurrent_init=self.recurrent_init,
            input_init=self.input_init,
            activation=self.activation,
            variant=self.variant,
            peephole=self.peephole,
        )


class RNN(nn.Module):
    """Embedding (for tokens), recurrent layers, dense logits.

    Images are read row by row: time is the height, features are width times channels. The logits
    come from every step for a task of one output a position. Otherwise they come from the last real
    step, and with two directions from the last state of each: forward at the last real step,
    backward at the first; or from all states. At padded positions the hidden states are zero.
    """

    config: Config
    shapes: Shapes

    @nn.compact
    def __call__(
        self,
        inputs: Num[Array, "batch time *features"] | Padded,
        *,
        train: bool,
        hyperparameters: Mapping[str, Any],
        carry: tuple[State, ...] | None = None,
    ) -> Float[Array, "batch *time outputs"] | tuple[Float[Array, "batch *time outputs"], tuple[State, ...]]:
        """Logits [batch, outputs], or [batch, time, outputs] for a task of one output a position.

        Args:
            inputs: sequences or images.
            train: whether to drop.
            hyperparameters: traced fields of the config.
            carry: the states that :meth:`start` or an earlier call gave. The call then gives
                ``(logits, carry)``: the sequences go on, for truncated backpropagation through time or
                step by step. Gradients stop where the sequence of one call begins, unless the carry
                itself is differentiated. Dropout draws its masks anew in each call.
        """
        config = self.config
        rate = hyperparameters.get("dropout_rate", config.dropout_rate)
        recurrent_rate = hyperparameters.get("recurrent_dropout_rate", config.recurrent_dropout_rate)
        values, mask = unpad(inputs)
        lengths = None
        if mask is not None:
            lengths = jnp.sum(mask, axis=1, dtype=jnp.int32)
            # Not-a-number times zero would reach the gradients.
            values = jnp.where(mask.reshape(*mask.shape, *(1,) * (values.ndim - 2)), values, 0)
        table = None
        x = jnp.swapaxes(values, 0, 1)
        if self.shapes.vocabulary is not None:
            table = Embedding(self.shapes.vocabulary, config.embedding, nn.initializers.normal(1.0), name="tokens")
        else:
            x = x.reshape(*x.shape[:2], -1)
        x, finals = stack(
            config.step(),
            x,
            table,
            depth=config.depth,
            bidirectional=config.bidirectional,
            lengths=lengths,
            carry=carry,
            final=carry is not None,
            dropout=Regularisation(rate, recurrent_rate, config.variational, train),
        )
        if not self.shapes.per_position:
            x = self._summary(x, lengths, carry, finals)
        shared = (0,) if config.variational and self.shapes.per_position else ()
        logits = Dense(self.shapes.outputs, name="logits")(Dropout(shared)(x, rate, train=train))
        logits = jnp.swapaxes(logits, 0, 1) if self.shapes.per_position else logits
        return logits if carry is None else (logits, tuple(directions[0] for directions in finals))

    def _summary(self, x: Any, lengths: Any, carry: Any, finals: Any) -> Array:
        """The state that stands for the whole sequence, or all of them."""
        if self.config.readout == "all":
            return jnp.swapaxes(x, 0, 1).reshape(x.shape[1], -1)
        if carry is not None:
            return finals[-1][0][0].astype(x.dtype)
        if not self.config.bidirectional:
            return last(x, lengths, None)
        width = self.config.width
        return jnp.concatenate([last(x[..., :width], lengths, None), x[0, :, width:]], axis=-1)

    def start(self, source: int, *, length: int) -> tuple[State, ...]:
        """The state before the first step: zeros, for each layer the arrays [batch, width] of its state.

        Args:
            source: batch size.
            length: positions that will follow; any number.

        Raises:
            BadInput: the network reads in both directions.
        """
        del length
        if self.config.bidirectional:
            raise BadInput(
                "bidirectional=true reads a sequence from both ends, never step by step; set bidirectional=false"
            )
        dtype = jax.tree.leaves(self.variables["params"])[0].dtype
        return (self.config.step().zero_state(source, dtype),) * self.config.depth


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The network for a task of these shapes: tokens [T], real sequences [T, F] or images [H, W, C].

    Raises:
        BadInput: the inputs are none of these, one output a position is wanted of an image, the task
            is causal and the network bidirectional, or the task has a target sequence.
    """
    if len(shapes.inputs) not in ((2, 3) if shapes.vocabulary is None else (1,)):
        raise BadInput(
            f"model 'rnn' cannot read inputs of shape {shapes.inputs}; it takes tokens (time,), "
            "real sequences (time, features) and images (height, width, channels)"
        )
    if shapes.per_position and len(shapes.inputs) == 3:
        raise BadInput("model 'rnn' gives one output for an image, and this task wants one for every position")
    if shapes.target is not None:
        raise BadInput("model 'rnn' reads one sequence, and this task maps one to another; use model 'seq2seq'")
    if config.readout == "all" and shapes.per_position:
        raise BadInput("readout=all gives one output for a sequence, and this task wants one for every position")
    if config.bidirectional and shapes.causal:
        raise BadInput("bidirectional=true sees what comes later, which a causal task forbids; set bidirectional=false")
    return RNN(config, shapes)
