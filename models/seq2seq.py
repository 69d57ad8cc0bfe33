"""Encoder-decoder of recurrent networks, with additive, multiplicative or no attention."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from models.base import BadInput, Configuration, Shapes, Static, Traced
from models.inputs import Padded, Pair, unpad
from models.layers.attention_decoder import AttentionDecoder
from models.layers.dense import Dense
from models.layers.embeddings import Embedding
from models.layers.recurrent_layer import Cell, Regularisation, reverse, stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A recurrent encoder reads the source, a recurrent decoder writes the target, a token at a time.

    Attributes:
        cell: gru (Cho et al. 2014) or lstm (Sutskever et al. 2014), of both.
        width: units of each layer, in each direction; of additive attention; of the output layer's input.
        depth: layers of the encoder, and of the decoder.
        embedding: length of a token's vector, in the source and in the target.
        bidirectional: the encoder reads in both directions (Bahdanau et al. 2015, section 3.2).
        attention: none (Sutskever et al. 2014: the decoder knows the encoder's last states only), additive
            (Bahdanau et al. 2015, equations 4 to 6), dot or general (Luong et al. 2015, equation 8).
        input_feeding: the decoder also reads the attentional vector of the step before (Luong et al.
            2015, section 3.3); with dot and general.
        reverse_source: the encoder reads the source backwards (Sutskever et al. 2014, section 3.3).
        forget_bias: initial bias of the LSTM's forget gate (Jozefowicz et al. 2015, section 2.2).
        dropout_rate: probability of dropping, on the inputs of every layer but the first and of the
            output layer (Zaremba et al. 2014).

    Where Paribus differs from the papers: weights begin as those of ``rnn`` (Bahdanau et al. draw most
    from a normal of deviation 0.01, and ``v_a`` is zero; Luong et al. draw uniformly from ±0.1); the
    GRU's reset gate comes after the recurrent product; ``t_i`` of the deep output is made from ``s_i`` as in
    equation 4, where appendix A.2.2 has ``s_{i-1}``; attention is global, never local or by ``concat``.
    """

    cell: Annotated[Literal["gru", "lstm"], Static()] = "gru"
    width: Annotated[int, Static(ge=1)] = 64
    depth: Annotated[int, Static(ge=1)] = 1
    embedding: Annotated[int, Static(ge=1)] = 64
    bidirectional: Annotated[bool, Static()] = True
    attention: Annotated[Literal["none", "additive", "dot", "general"], Static()] = "additive"
    input_feeding: Annotated[bool, Static()] = False
    reverse_source: Annotated[bool, Static()] = False
    forget_bias: Annotated[float, Static()] = 1.0
    dropout_rate: Annotated[float, Traced(ge=0, lt=1, off=0.0)] = 0.0

    def validate(self) -> None:
        """Attention and its options fit each other."""
        if self.input_feeding and self.attention not in ("dot", "general"):
            raise BadInput(f"input_feeding=true needs attention=dot or general, not {self.attention}")
        if self.attention == "dot" and self.bidirectional:
            raise BadInput(
                f"attention=dot compares a decoder's state of {self.width} with an encoder's of {2 * self.width}; "
                "set bidirectional=false, or attention=general"
            )

    def step(self) -> Cell:
        """What each layer computes at a step."""
        return Cell(kind=self.cell, width=self.width, forget_bias=self.forget_bias)


class Encoder(nn.Module):
    """Reads the source and gives what the decoder begins from.

    The decoder's layers begin at the last states of the encoder's (Sutskever et al. 2014). With two
    directions they begin at ``tanh(W_s h)`` of the backward one's state at the first position (Bahdanau
    et al. 2015, A.2.2); the LSTM's cells likewise, with weights of their own.
    """

    config: Config
    shapes: Shapes

    @nn.compact
    def __call__(self, source: Padded, rate: Any, *, train: bool) -> dict[str, Any]:
        """The carry of the decoder.

        ``states``: a state for each layer. With attention: ``values`` [batch, source, features], the encoder's
        hidden states; ``keys`` [batch, source, units], what the scores are made from; ``mask`` [batch, source].
        With input feeding: ``fed`` [batch, width], zero.
        """
        config = self.config
        values, mask = unpad(source)
        mask = jnp.ones(values.shape[:2], bool) if mask is None else mask
        lengths = jnp.sum(mask, axis=1, dtype=jnp.int32)
        # Not-a-number times zero would reach the gradients.
        values = jnp.where(mask.reshape(*mask.shape, *(1,) * (values.ndim - 2)), values, 0)
        x, table = jnp.swapaxes(values, 0, 1), None
        x = reverse(x, lengths) if config.reverse_source else x
        if self.shapes.vocabulary is not None:
            table = Embedding(self.shapes.vocabulary, config.embedding, nn.initializers.normal(1.0), name="tokens")
        hidden, finals = stack(
            config.step(),
            x,
            table,
            depth=config.depth,
            bidirectional=config.bidirectional,
            lengths=lengths,
            carry=None,
            final=True,
            dropout=Regularisation(rate, 0.0, False, train),
        )
        carry: dict[str, Any] = {
            "states": tuple(self._begin(i, final[-1], hidden.dtype) for i, final in enumerate(finals))
        }
        if config.attention == "none":
            return carry
        hidden = reverse(hidden, lengths) if config.reverse_source else hidden
        hidden = jnp.swapaxes(hidden, 0, 1)
        keys = hidden if config.attention == "dot" else Dense(config.width, use_bias=False, name="keys")(hidden)
        if config.input_feeding:
            carry["fed"] = jnp.zeros_like(carry["states"][0][0])
        return carry | {"values": hidden, "keys": keys, "mask": mask}

    def _begin(self, layer: int, state: Any, dtype: Any) -> Any:
        """The decoder's first state in a layer; ``dtype`` is that of products."""
        if not self.config.bidirectional:
            return state

        def one(name: str, part: Any) -> Any:
            dense = Dense(self.config.width, use_bias=False, name=f"initial_{name}_{layer}")
            return jnp.tanh(dense(part.astype(dtype))).astype(part.dtype)

        return tuple(one(name, part) for name, part in zip(("hidden", "cell"), state, strict=False))


class Seq2Seq(nn.Module):
    """The encoder, the decoder, and the logits of the next target token at every target position.

    Records ``decoder/attention_weights`` [batch, target, source], ``decoder/hidden``, and the encoder's
    gates and states, as ``encoder/layer_0/update_gate``.
    """

    config: Config
    shapes: Shapes

    def setup(self) -> None:
        """Make both halves."""
        config = self.config
        self.encoder = Encoder(config, self.shapes)
        self.decoder = AttentionDecoder(
            cell=config.step(),
            depth=config.depth,
            embedding=config.embedding,
            outputs=self.shapes.outputs,
            attention=config.attention,
            input_feeding=config.input_feeding,
        )

    def __call__(
        self,
        inputs: Pair | Int[Array, "batch time"],
        *,
        train: bool,
        hyperparameters: Mapping[str, Any],
        carry: dict[str, Any] | None = None,
    ) -> Float[Array, "batch time outputs"] | tuple[Float[Array, "batch time outputs"], dict[str, Any]]:
        """Logits [batch, target time, outputs].

        Args:
            inputs: source and target, or with a carry the next target tokens.
            train: whether to drop.
            hyperparameters: traced fields of the config.
            carry: what :meth:`start` or an earlier call gave. The call then gives ``(logits, carry)``.
        """
        rate = hyperparameters.get("dropout_rate", self.config.dropout_rate)
        if carry is not None:
            return self.decoder(cast(Array, inputs), carry, rate, train=train, final=True)
        source, target = cast(Pair, inputs)
        tokens, mask = unpad(target)
        # A padded token may be no token of the vocabulary.
        tokens = tokens if mask is None else jnp.where(mask, tokens, 0)
        return self.decoder(tokens, self.encoder(source, rate, train=train), rate, train=train, final=False)[0]

    def start(self, source: Padded, *, length: int) -> dict[str, Any]:
        """The source read, and the decoder before the first target token.

        Args:
            source: source sequences.
            length: target positions that will follow; any number.
        """
        del length
        return self.encoder(source, 0.0, train=False)


def build(config: Config, shapes: Shapes) -> nn.Module:
    """The network for a task whose source is tokens [T] or real sequences [T, F], and whose target is tokens.

    Raises:
        BadInput: the source is neither, or the task has no target.
    """
    if shapes.target is None:
        raise BadInput("model 'seq2seq' maps one sequence to another, and this task has no target; use model 'rnn'")
    if len(shapes.inputs) != (2 if shapes.vocabulary is None else 1):
        raise BadInput(
            f"model 'seq2seq' cannot read a source of shape {shapes.inputs}; it takes tokens (time,) "
            "and real sequences (time, features)"
        )
    return Seq2Seq(config, shapes)
