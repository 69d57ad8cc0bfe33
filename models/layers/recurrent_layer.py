"""Recurrent layers with their parameters: one direction or two, stacked, over sequences of any length.

Arrays are time-major here: ``[time, batch, ...]``. A state is a tuple of arrays [batch, hidden]: the
hidden state, the LSTM's cell, and with full gate recurrence its gates.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from models.layers import lstm_variants, recurrence
from models.layers.dense import matmul
from models.layers.dropout import Dropout
from models.layers.embeddings import Embedding
from models.layers.partitioning import by_batch, gathered
from models.layers.recording import record

State = tuple[Float[Array, "batch _"], ...]
Trajectory = tuple[Float[Array, "time batch _"], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """What a recurrent layer computes at each step. The options are those of ``models.rnn.Config``."""

    kind: Literal["vanilla", "gru", "lstm"]
    width: int
    forget_bias: float
    chrono_range: int = 0
    recurrent_init: Literal["orthogonal", "identity", "glorot"] = "orthogonal"
    input_init: Literal["glorot", "small_normal"] = "glorot"
    activation: Literal["tanh", "relu"] = "tanh"
    variant: lstm_variants.Variant = "none"
    peephole: bool = False

    @property
    def is_variant(self) -> bool:
        """Whether this is an LSTM other than the usual one, which has a faster form."""
        return self.variant != "none" or self.peephole

    @property
    def blocks(self) -> tuple[str, ...]:
        """The parts that have weights, in the order in which the weights lie side by side."""
        if self.kind == "lstm":
            return lstm_variants.blocks(self.variant)
        return ("reset_gate", "update_gate", "candidate") if self.kind == "gru" else ("hidden",)

    def parameters(self, module: nn.Module, features: int) -> dict[str, Array]:
        """Declare the parameters in ``module``, for inputs of so many features."""
        width, count = self.width, len(self.blocks)

        def declare(name: str, init: Any, *shape: int) -> Array:
            return module.param(name, init, shape)

        weights = {
            "input_kernel": declare("input_kernel", self._input_init, features, count * width),
            "recurrent_kernel": declare(
                "recurrent_kernel", recurrence.recurrent_init(self.recurrent_init, count), width, count * width
            ),
            "bias": declare("bias", self._bias_init, count * width),
        }
        if self.kind == "gru":
            weights["recurrent_bias"] = declare("recurrent_bias", nn.initializers.zeros_init(), count * width)
        # The paper draws every weight from a normal of deviation 0.1 (Greff et al. 2015, section 4).
        if self.peephole:
            gates = lstm_variants.gates(self.variant)
            weights["peepholes"] = declare("peepholes", nn.initializers.normal(0.1), len(gates), width)
        if self.variant == "full_gate_recurrence":
            weights["gate_kernel"] = declare("gate_kernel", nn.initializers.normal(0.1), 3 * width, 3 * width)
        return weights

    def _input_init(self, key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """Glorot's limit for one block, sqrt(6 / (features + hidden)), in all of them; or a small normal."""
        if self.input_init == "small_normal":
            return 0.001 * jax.random.normal(key, shape, dtype)
        limit = math.sqrt(6 / (shape[0] + self.width))
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    def _bias_init(self, key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        bias = jnp.zeros(shape, dtype)
        if self.kind != "lstm" or self.variant == "no_forget_gate":
            return bias
        if self.chrono_range:
            forget = jnp.log(jax.random.uniform(key, (self.width,), dtype, 1, self.chrono_range - 1))
            for gate, values in (("forget_gate", forget), ("input_gate", -forget)):
                at = self.width * self.blocks.index(gate)
                bias = bias.at[at : at + self.width].set(values)
            return bias
        # Coupled: f = 1 - sigmoid(a_i) = sigmoid(-a_i), which begins where the forget gate of the others does.
        coupled = self.variant == "coupled_gates"
        at = self.width * self.blocks.index("input_gate" if coupled else "forget_gate")
        return bias.at[at : at + self.width].set(-self.forget_bias if coupled else self.forget_bias)

    def zero_state(self, batch: int, dtype: Any) -> State:
        """The state before the first step, in at least 32 bits."""
        extra = {"vanilla": 0, "gru": 0, "lstm": 1}[self.kind]
        zero = jnp.zeros((batch, self.width), recurrence.wide(dtype))
        gates = jnp.zeros((batch, 3 * self.width), zero.dtype)
        return (zero,) * (1 + extra) + ((gates,) if self.variant == "full_gate_recurrence" else ())

    def hidden(self, weights: Mapping[str, Array], projected: Any, initial: State | None, keep: Any) -> Array:
        """The hidden states at every step, in at least 32 bits; ``initial`` None is the zero state."""
        if self.kind == "lstm" and not self.is_variant:
            return recurrence.lstm(projected, weights["recurrent_kernel"], initial, keep)
        return self.trajectory(weights, projected, initial, keep)[0]

    def trajectory(self, weights: Mapping[str, Array], projected: Any, initial: State | None, keep: Any) -> Trajectory:
        """The states at every step, in at least 32 bits, each array [time, batch, units]."""
        kernel = weights["recurrent_kernel"]
        first = None if initial is None else initial[0]
        if self.kind == "vanilla":
            return (recurrence.vanilla(projected, kernel, first, keep, self.activation),)
        if self.kind == "gru":
            return (recurrence.gru(projected, kernel, weights["recurrent_bias"], first, keep),)
        if not self.is_variant:
            return recurrence.lstm_with_cells(projected, kernel, initial, keep)
        initial = self.zero_state(projected.shape[1], projected.dtype) if initial is None else initial
        return lstm_variants.lstm_variant(projected, weights, initial, keep, variant=self.variant)[0]

    def values(
        self, weights: Mapping[str, Array], projected: Any, initial: State | None, keep: Any
    ) -> dict[str, Array]:
        """What the cell computes at every step, by name: hidden states, cells, gates, candidate."""
        kernel = weights["recurrent_kernel"]
        if self.kind == "vanilla":
            return {"hidden": self.hidden(weights, projected, initial, keep)}
        if self.kind == "gru":
            first = None if initial is None else initial[0]
            states, gates = recurrence.gru_with_gates(projected, kernel, weights["recurrent_bias"], first, keep)
            return {"hidden": states, **dict(zip(self.blocks, gates, strict=False))}
        if not self.is_variant:
            states, cells, gates = recurrence.lstm_with_gates(projected, kernel, initial, keep)
            return {"hidden": states, "cell": cells, **dict(zip(self.blocks, gates, strict=True))}
        initial = self.zero_state(projected.shape[1], projected.dtype) if initial is None else initial
        (states, cells, *_), gates = lstm_variants.lstm_variant(
            projected, weights, initial, keep, variant=self.variant, with_gates=True
        )
        return {"hidden": states, "cell": cells, **gates}

    def names(self) -> tuple[str, ...]:
        """The names of :meth:`values`."""
        first = ("hidden", "cell") if self.kind == "lstm" else ("hidden",)
        return first + tuple(name for name in self.blocks if name != "hidden")


class Regularisation(NamedTuple):
    """Dropout of a stack of layers.

    Attributes:
        rate: on the inputs of the layers.
        recurrent_rate: on the hidden state as it enters the recurrent product.
        variational: one draw for a whole sequence, and on the inputs of the first layer too.
        train: whether to drop at all.
    """

    rate: Any
    recurrent_rate: Any
    variational: bool
    train: bool


@jax.custom_vjp
def reverse(x: Array, lengths: Int[Array, " batch"] | None) -> Array:
    """Each sequence from its last real step to its first; padding stays behind it.

    It is its own inverse, and its own transpose: the gradient is a reversal too, no scatter.

    Args:
        x: [time, batch, ...].
        lengths: real steps of each sequence; all where it is None.
    """
    return _reversed(x, lengths)


def _reversed(x: Any, lengths: Any) -> Any:
    if lengths is None:
        return jnp.flip(x, axis=0)
    time = jnp.arange(x.shape[0], dtype=lengths.dtype)[:, None]
    source = jnp.where(time < lengths[None], lengths[None] - 1 - time, time)
    return jnp.take_along_axis(x, source.reshape(source.shape + (1,) * (x.ndim - 2)), axis=0)


reverse.defvjp(
    lambda x, lengths: (_reversed(x, lengths), lengths),
    lambda lengths, g: (_reversed(g, lengths), None),
)


def last(states: Any, lengths: Any, initial: Any) -> Array:
    """The state [batch, units] at each sequence's last real step; ``initial`` where it has none.

    Args:
        states: [time, batch, units].
        lengths: real steps of each sequence; all where it is None.
        initial: [batch, units]; zero where it is None.
    """
    if lengths is None:
        return states[-1]
    at = jnp.maximum(lengths - 1, 0)[None, :, None]
    found = jnp.take_along_axis(states, at, axis=0)[0]
    return jnp.where((lengths > 0)[:, None], found, jnp.zeros_like(found) if initial is None else initial)


class RecurrentLayer(nn.Module):
    """One recurrent layer in one direction over a whole sequence.

    Parameters: ``input_kernel`` [features, blocks * hidden], ``recurrent_kernel`` [hidden, blocks *
    hidden], ``bias``, for the GRU ``recurrent_bias``, for LSTM variants ``peepholes`` [gates, hidden] and
    ``gate_kernel`` [3 * hidden, 3 * hidden]. Biases begin at 0 but the forget gate's.

    Records, each [batch, time, hidden]: ``hidden``, ``cell``, the gates and the ``candidate``.
    """

    cell: Cell
    backward: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "time batch features"] | Int[Array, "time batch"],
        table: Embedding | None = None,
        *,
        lengths: Int[Array, " batch"] | None = None,
        initial: State | None = None,
        final: bool = False,
        recurrent_rate: Any = 0.0,
        train: bool = False,
    ) -> tuple[Float[Array, "time batch hidden"], State | None]:
        """The hidden states at every step, zero at padded ones, and the state after the last real step.

        Args:
            x: real inputs, or tokens where there is a table.
            table: the tokens' vectors.
            lengths: real steps of each sequence; all where it is None.
            initial: the state before the first step; zero where it is None.
            final: whether the last state is wanted; it is None otherwise.
            recurrent_rate: dropout of the hidden state in the recurrent product, one mask a sequence.
            train: whether to drop.
        """
        cell = self.cell
        weights = jax.tree.map(gathered, cell.parameters(self, x.shape[-1] if table is None else table.features))
        x = reverse(x, lengths) if self.backward else x
        projected = matmul(x, weights["input_kernel"]) if table is None else table.project(x, weights["input_kernel"])
        projected = by_batch(projected + weights["bias"][None, None], axis=1)
        keep = None
        if is_on(recurrent_rate, train=train):
            ones = jnp.ones((x.shape[1], cell.width), projected.dtype)
            keep = Dropout(name="recurrent_dropout")(ones, recurrent_rate, train=train)

        def in_order(states: Array) -> Array:
            states = by_batch(states.astype(projected.dtype), axis=1)
            if lengths is not None:
                real = jnp.arange(states.shape[0])[:, None] < lengths[None]
                states = jnp.where(real[..., None], states, jnp.zeros((), states.dtype))
            return reverse(states, lengths) if self.backward else states

        values = functools.cache(lambda: cell.values(weights, projected, initial, keep))
        for name in cell.names():
            record(self, name, lambda name=name: jnp.swapaxes(in_order(values()[name]), 0, 1))
        if not final:
            return in_order(cell.hidden(weights, projected, initial, keep)), None
        states = cell.trajectory(weights, projected, initial, keep)
        before = (None,) * len(states) if initial is None else initial
        return in_order(states[0]), tuple(last(part, lengths, zero) for part, zero in zip(states, before, strict=True))


def is_on(rate: Any, *, train: bool) -> bool:
    """Whether dropout of this rate is in the program: as ``Dropout`` decides it."""
    return train and not (isinstance(rate, int | float) and rate == 0)


def stack(
    cell: Cell,
    x: Float[Array, "time batch features"] | Int[Array, "time batch"],
    table: Embedding | None,
    *,
    depth: int,
    bidirectional: bool,
    lengths: Int[Array, " batch"] | None,
    carry: tuple[State, ...] | None,
    final: bool,
    dropout: Regularisation,
) -> tuple[Float[Array, "time batch hidden"], tuple[tuple[Any, ...], ...]]:
    """Recurrent layers, each over the states of the one below; called within a module, which owns them.

    With two directions (Schuster and Paliwal 1997, section II.C) a layer's states are those of the forward
    direction, then those of the backward one, side by side; the backward direction begins at the last
    real step.

    Args:
        cell: what each layer computes.
        x: real inputs, or tokens where there is a table.
        table: the tokens' vectors.
        depth: number of layers.
        bidirectional: whether to read in both directions.
        lengths: real steps of each sequence; all where it is None.
        carry: a state for each layer of a stack of one direction; zero where it is None.
        final: whether the last states are wanted.
        dropout: its rates and form.

    Returns:
        The last layer's hidden states, and for each layer and direction the last state (None unless wanted).
    """
    shared = (0,) if dropout.variational else ()
    finals = []
    for index in range(depth):
        if index:
            x = Dropout(shared)(x, dropout.rate, train=dropout.train)
        elif dropout.variational and is_on(dropout.rate, train=dropout.train):
            x = x if table is None else table(x)
            x, table = Dropout(shared, name="dropout_input")(x, dropout.rate, train=dropout.train), None
        directions = []
        for suffix in ("", "_backward")[: 1 + bidirectional]:
            layer = RecurrentLayer(cell, bool(suffix), name=f"layer_{index}{suffix}")
            directions.append(
                layer(
                    x,
                    None if index else table,
                    lengths=lengths,
                    initial=None if carry is None else carry[index],
                    final=final,
                    recurrent_rate=dropout.recurrent_rate,
                    train=dropout.train,
                )
            )
        x = jnp.concatenate([states for states, _ in directions], axis=-1) if bidirectional else directions[0][0]
        finals.append(tuple(state for _, state in directions))
    return x, tuple(finals)
