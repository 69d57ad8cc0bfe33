"""A recurrent decoder over target tokens that attends to a source."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from models.layers.alignment import additive_scores, contexts, multiplicative_scores, normalise
from models.layers.dense import Dense, matmul
from models.layers.dropout import Dropout
from models.layers.embeddings import Embedding
from models.layers.recording import record
from models.layers.recurrence import gru_step, lstm_step, previous
from models.layers.recurrent_layer import Cell, is_on
from models.layers.scan import scan

Attention = Literal["none", "additive", "dot", "general"]


class LayerWeights(nn.Module):
    """The parameters of one recurrent layer, by name."""

    cell: Cell

    @nn.compact
    def __call__(self, features: int) -> dict[str, Array]:
        """Declare them for inputs of so many features."""
        return self.cell.parameters(self, features)


class AttentionDecoder(nn.Module):
    """Stacked GRU or LSTM layers over target tokens, attention, and the logits of the next token.

    With E y the vector of the token that is read, and c_t the mean of the source's values under the
    attention weights of step t (:mod:`models.layers.alignment`):

    * none: the layers read E y; logits from the top state s_t (Sutskever et al. 2014).
    * additive: the scores compare s_{t-1}; the layers read [E y, c_t]; the logits are made from
      ``t_j = max(u_{2j-1}, u_{2j})`` with ``u = W [s_t, c_t, E y]`` (Bahdanau et al. 2015, A.1.2 and A.2.2).
    * dot, general: the layers read E y, and with input feeding v_{t-1}; the scores compare s_t; the
      logits are made from ``v_t = tanh(W [c_t, s_t])`` (Luong et al. 2015, equation 5).

    Where no step needs the attention of the step before, the recurrence runs alone and attention follows
    for all steps at once.
    """

    cell: Cell
    depth: int
    embedding: int
    outputs: int
    attention: Attention
    input_feeding: bool

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch time"], carry: Mapping[str, Any], rate: Any, *, train: bool, final: bool
    ) -> tuple[Float[Array, "batch time outputs"], dict[str, Any]]:
        """The logits at every position, and the carry after the last.

        Args:
            tokens: what the decoder reads.
            carry: ``states`` and what attention needs, as the encoder gives it.
            rate: dropout on the inputs of every layer but the first and of the output layer.
            train: whether to drop.
            final: whether that carry is wanted; otherwise what is given for it may be the one before.
        """
        width, looped = self.cell.width, self.attention == "additive" or self.input_feeding
        tokens = tokens.T
        table = Embedding(self.outputs, self.embedding, nn.initializers.normal(1.0), name="tokens")
        extra = carry["values"].shape[-1] if self.attention == "additive" else width if self.input_feeding else 0
        layers = [
            LayerWeights(self.cell, name=f"layer_{i}")(width if i else self.embedding + extra)
            for i in range(self.depth)
        ]
        kernel = layers[0]["input_kernel"]
        projected = table.project(tokens, kernel[: self.embedding]) + layers[0]["bias"][None, None]
        factors = []
        if is_on(rate, train=train):
            ones = jnp.ones((*tokens.shape, width), projected.dtype)
            factors = [Dropout(name=f"dropout_{i}")(ones, rate, train=train) for i in range(1, self.depth)]
        attention = self._attention_weights(carry)
        if looped:
            states, extra_out, begin = self._loop(
                layers, kernel[self.embedding :], attention, carry, projected, factors
            )
        else:
            states, begin = self._recurrences(layers, carry, projected, factors, final)
            extra_out = None
        record(self, "hidden", lambda: jnp.swapaxes(states, 0, 1))
        vector = self._readout(states, extra_out, attention, carry, lambda: table(tokens))
        vector = Dropout(name="dropout_logits")(vector, rate, train=train)
        logits = jnp.swapaxes(Dense(self.outputs, name="logits")(vector), 0, 1)
        return logits, {**carry, **begin}

    def _attention_weights(self, carry: Mapping[str, Any]) -> dict[str, Array]:
        """The parameters of attention and of the vector that it makes."""
        width = self.cell.width
        init = nn.initializers.lecun_normal()
        if self.attention == "none":
            return {}
        if self.attention == "additive":
            return {
                "query": self.param("query_kernel", init, (width, width)),
                "vector": self.param("score_vector", nn.initializers.normal(width**-0.5), (width,)),
            }
        features = carry["values"].shape[-1] + width
        return {"readout": self.param("readout_kernel", init, (features, width))}

    def _recurrences(
        self, layers: list[dict[str, Array]], carry: Mapping[str, Any], projected: Any, factors: list[Any], final: bool
    ) -> tuple[Any, dict[str, Any]]:
        """The top states [time, batch, width], each layer over all steps before the next begins."""
        last, x = [], projected
        for i, weights in enumerate(layers):
            if i:
                x = x * factors[i - 1] if factors else x
                x = matmul(x, weights["input_kernel"]) + weights["bias"][None, None]
            initial = carry["states"][i]
            if final:
                states = self.cell.trajectory(weights, x, initial, None)
                last.append(tuple(part[-1] for part in states))
                x = states[0].astype(projected.dtype)
            else:
                x = self.cell.hidden(weights, x, initial, None).astype(projected.dtype)
        return x, {"states": tuple(last)} if final else {}

    def _loop(
        self,
        layers: list[dict[str, Array]],
        context_kernel: Any,
        attention: dict[str, Array],
        carry: Mapping[str, Any],
        projected: Any,
        factors: list[Any],
    ) -> tuple[Any, Any, dict[str, Any]]:
        """The top states and the contexts (additive) or vectors (input feeding) [time, batch, features]."""
        kernels = {"context": context_kernel, "values": carry["values"]}
        kernels |= {f"recurrent_{i}": weights["recurrent_kernel"] for i, weights in enumerate(layers)}
        kernels |= {f"input_{i}": weights["input_kernel"] for i, weights in enumerate(layers) if i}
        constants = {"layers": [{k: v for k, v in w.items() if "kernel" not in k} for w in layers]}
        constants["mask"] = carry["mask"]
        if self.attention == "additive":
            kernels["query"] = attention["query"]
            constants |= {"keys": carry["keys"], "vector": attention["vector"]}
        else:
            kernels |= {"readout": attention["readout"], "keys": jnp.swapaxes(carry["keys"], 1, 2)}
        step = functools.partial(_step, kind=self.cell.kind, additive=self.attention == "additive")
        first = (carry["states"], carry.get("fed"))
        result: Any = scan(step, kernels, constants, first, (projected, factors))
        (states, fed), (top, more) = result
        begin = {"states": states} if fed is None else {"states": states, "fed": fed}
        return top.astype(projected.dtype), more.astype(projected.dtype), begin

    def _readout(self, states: Any, more: Any, attention: Any, carry: Mapping[str, Any], embedded: Any) -> Any:
        """What the logits are made from [time, batch, width]."""
        if self.attention == "none":
            return states
        if self.attention == "additive":

            def weights() -> Array:
                before = previous(states, carry["states"][-1][0])
                queries = matmul(jnp.swapaxes(before, 0, 1), attention["query"])
                return normalise(additive_scores(queries, carry["keys"], attention["vector"]), carry["mask"])

            record(self, "attention_weights", weights)
            pieces = Dense(2 * self.cell.width, use_bias=False, name="readout")(
                jnp.concatenate([states, more, embedded()], axis=-1)
            )
            return jnp.max(pieces.reshape(*pieces.shape[:-1], self.cell.width, 2), axis=-1)
        queries = jnp.swapaxes(states, 0, 1)
        aligned = functools.cache(lambda: normalise(multiplicative_scores(queries, carry["keys"]), carry["mask"]))
        record(self, "attention_weights", aligned)
        if more is not None:
            return more
        means = jnp.swapaxes(contexts(aligned(), carry["values"]), 0, 1)
        return jnp.tanh(matmul(jnp.concatenate([means, states], axis=-1), attention["readout"]))


def _step(times: Any, constants: Any, carry: Any, at: Any, *, kind: str, additive: bool) -> tuple[Any, Any]:
    """One step of a decoder whose next step needs its attention (see :func:`models.layers.scan.scan`)."""
    (states, fed), (x, factors) = carry, at
    context = None
    if additive:
        scores = additive_scores(times("query", states[-1][0]), constants["keys"], constants["vector"])
        context = times("values", normalise(scores, constants["mask"]))
    x = x + times("context", context if additive else fed)
    new: list[Any] = []
    for i, (layer, state) in enumerate(zip(constants["layers"], states, strict=True)):
        if i:
            x = new[-1][0] * factors[i - 1] if factors else new[-1][0]
            x = times(f"input_{i}", x) + layer["bias"][None]
        product = times(f"recurrent_{i}", state[0])
        if kind == "gru":
            new.append((gru_step(state[0], x, product + layer["recurrent_bias"][None])[0],))
        else:
            new.append(lstm_step(state[1], x + product)[0])
    top = new[-1][0]
    if additive:
        return (tuple(new), None), (top, context)
    context = times("values", normalise(times("keys", top), constants["mask"]))
    fed = jnp.tanh(times("readout", jnp.concatenate([context, top], axis=-1)))
    return (tuple(new), fed), (top, fed)
