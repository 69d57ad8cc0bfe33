"""Decoding, token after token: greedy, or sampled with temperature, top-k and top-p.

It stands on ``start`` and ``advance`` of :class:`models.base.Model`, so it serves every family that
reads step by step. A whole decoding is one compiled program. Strengths (temperature, top-k, top-p)
are arguments of it: other values compile nothing new.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from models.base import BadInput, Configuration, Model, Static, Traced
from models.inputs import Padded, unpad

Advance = Callable[[Any, Any], tuple[Any, Any]]
"""``(tokens [batch, time], carry) -> (logits [batch, time, vocabulary], carry)``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(Configuration):
    """How the next token is chosen from the model's distribution.

    The order is: temperature, then top-k, then top-p of what top-k left, renormalised. Fan et al. and
    Holtzman et al. use one of the two, and the same order follows when the other one is off. While
    both are off the program sorts nothing; that is the one difference between strengths that compiles
    anew.

    Attributes:
        method: greedy (the most likely token; strengths have no effect) or sample.
        temperature: the logits are divided by it (Ackley et al. 1985); 1 leaves the distribution.
        top_k: only the k most likely tokens remain (Fan et al. 2018, section 5.4); of equally likely
            ones the lower token goes first. None, or more than the vocabulary: all remain.
        top_p: only the smallest set of most likely tokens whose probability is at least p remains
            (nucleus sampling; Holtzman et al. 2020, section 3.1, equation 2).
    """

    method: Annotated[Literal["greedy", "sample"], Static()] = "sample"
    temperature: Annotated[float, Traced(gt=0)] = 1.0
    top_k: Annotated[int | None, Traced(ge=1)] = None
    top_p: Annotated[float, Traced(gt=0, le=1, off=1.0)] = 1.0


class Generated(NamedTuple):
    """What was generated, without the prompt.

    Attributes:
        tokens: the tokens; the pad token after the end.
        lengths: number of tokens, that of the end included.
        scores: natural log-probability of these tokens given the prompt, under the model itself
            (before temperature and truncation).
    """

    tokens: Int[Array, "batch steps"]
    lengths: Int[Array, " batch"]
    scores: Float[Array, " batch"]


def generate(
    model: Model,
    variables: Any,
    prompt: Int[Array, "batch time"] | Padded,
    *,
    steps: int,
    key: Key[Array, ""],
    sampling: Sampling,
    end: int | None = None,
    pad: int = 0,
    source: Any = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Generated:
    """Go on with each prompt for at most ``steps`` tokens.

    A row of the batch draws from a key of its own, so what it draws does not depend on its
    neighbours, nor on how its prompt is padded. The program ends when every row has.

    Args:
        model: a model of one output a position over its own tokens, which reads step by step.
        variables: its parameters.
        prompt: at least one token a row (the begin symbol, for a model of source and target). Prompts
            of different length come as ``Padded``; those are read token after token.
        steps: most tokens to generate.
        key: of the draws; greedy decoding does not use it.
        sampling: how a token is chosen.
        end: the token that ends a sequence; None: none does.
        pad: the token that follows the end.
        source: the source sequences of a model of source and target.
        hyperparameters: the model's own traced fields, where they differ from its configuration.

    Raises:
        BadInput: a prompt is empty, there are no steps, they exceed the positions that the model has,
            or a token is not in the vocabulary.
    """
    check_prompt(prompt, steps)
    everything = jnp.iinfo(jnp.int32).max
    top_k = everything if sampling.top_k is None else min(sampling.top_k, everything)
    return _generate(
        model,
        variables,
        prompt,
        source,
        key,
        {"temperature": sampling.temperature, "top_k": top_k, "top_p": sampling.top_p},
        hyperparameters or {},
        steps=steps,
        method=sampling.method,
        truncated=sampling.top_k is not None or sampling.top_p < 1,
        end=end,
        pad=pad,
    )


def truncate(logits: Float[Array, "*batch vocabulary"], *, top_k: Any, top_p: Any) -> Float[Array, "*batch vocabulary"]:
    """The logits with minus infinity at the tokens that top-k, then top-p leave out.

    Both strengths may be traced: the tokens are sorted, and what stays is told by rank.

    Args:
        logits: of one distribution on the last axis.
        top_k: how many tokens stay.
        top_p: the probability that those that stay must reach, after top-k and renormalisation. The
            token that reaches it stays. 1 leaves out nothing, whatever rounding does to a sum.
    """
    order = jnp.argsort(logits, axis=-1, stable=True, descending=True)
    ranked = jnp.take_along_axis(logits, order, axis=-1)
    among_k = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) < top_k
    probabilities = jax.nn.softmax(jnp.where(among_k, ranked, -jnp.inf), axis=-1)
    reached = jnp.cumsum(probabilities, axis=-1)
    before = jnp.concatenate([jnp.zeros_like(reached[..., :1]), reached[..., :-1]], axis=-1)
    stays_by_rank = among_k & ((before < top_p) | (top_p >= 1))
    stays = jnp.put_along_axis(jnp.zeros(logits.shape, bool), order, stays_by_rank, axis=-1, inplace=False)
    return jnp.where(stays, logits, -jnp.inf)


def check_prompt(prompt: Any, steps: int) -> None:
    """What can be known before anything is traced."""
    if steps < 1:
        raise BadInput(f"steps={steps} must be at least 1")
    values, mask = unpad(prompt)
    if values.shape[1] == 0:
        raise BadInput("the prompt is empty; it needs at least one token, such as a begin symbol")
    if mask is not None and not isinstance(mask, Tracer) and not bool(mask[:, 0].all()):
        raise BadInput(f"the prompt of row {int(mask[:, 0].argmin())} is empty; it needs at least one token")


def read_prompt(
    model: Model, variables: Any, prompt: Any, source: Any, hyperparameters: Any, *, steps: int
) -> tuple[Any, Any, Advance]:
    """Read the prompt but for its last token: that token [batch], the carry, and how to go on.

    So the loop that follows reads one token at every step, the first as well, and holds the one copy
    of what a step does.
    """

    def advance(inputs: Any, carry: Any) -> tuple[Any, Any]:
        return model.advance(variables, inputs, carry, train=False, rngs={}, hyperparameters=hyperparameters)

    values, mask = unpad(prompt)
    values = values.astype(jnp.int32)
    batch, time = values.shape
    # The last token that is generated is not read any more.
    carry = model.start(variables, batch if source is None else source, length=time + steps - 1)
    if mask is not None:
        last = jnp.sum(mask, axis=1, dtype=jnp.int32)[:, None] - 1
        carry = _read_padded(advance, values[:, :-1], mask[:, 1:], carry)
        return jnp.take_along_axis(values, last, axis=1)[:, 0], carry, advance
    if time > 1:
        _, carry = advance(values[:, :-1], carry)
    return values[:, -1], carry, advance


def _read_padded(advance: Advance, tokens: Any, mask: Any, carry: Any) -> Any:
    """Token after token; a row whose prompt is at its end keeps its carry."""

    def step(old: Any, item: Any) -> tuple[Any, None]:
        token, is_read = item
        _, new = advance(token[:, None], old)
        return jax.tree.map(lambda a, b: jnp.where(is_read.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old), None

    return jax.lax.scan(step, carry, (tokens.T, mask.T))[0]


def check_tokens(vocabulary: int, **tokens: int | None) -> None:
    """Raise BadInput for a token, given by what it is for, that is not in the vocabulary."""
    for name, token in tokens.items():
        if token is not None and not 0 <= token < vocabulary:
            raise BadInput(f"{name}={token} is not a token; they go from 0 to {vocabulary - 1}")


def log_softmax(logits: Float[Array, "*batch vocabulary"]) -> Float[Array, "*batch vocabulary"]:
    """Natural log-probabilities, in float32 at least."""
    return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), axis=-1)


class _Rows(NamedTuple):
    """A decoding under way: every field has a row for each of the batch, but ``step``."""

    step: Any
    token: Any  # the newest, not yet read
    carry: Any
    finished: Any
    generated: Generated


@partial(jax.jit, static_argnames=("model", "steps", "method", "truncated", "end", "pad"))
def _generate(
    model: Model,
    variables: Any,
    prompt: Any,
    source: Any,
    key: Any,
    strengths: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
    *,
    steps: int,
    method: str,
    truncated: bool,
    end: int | None,
    pad: int,
) -> Generated:
    token, carry, advance = read_prompt(model, variables, prompt, source, hyperparameters, steps=steps)
    batch = token.shape[0]
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(batch))

    def choose(log_probabilities: Any, step: Any) -> Any:
        if method == "greedy":
            return jnp.argmax(log_probabilities, axis=-1).astype(jnp.int32)
        # The largest becomes 0, so that a small temperature overflows to minus infinity only.
        scaled = log_probabilities - jnp.max(log_probabilities, axis=-1, keepdims=True)
        scaled = scaled / strengths["temperature"]
        if truncated:
            scaled = truncate(scaled, top_k=strengths["top_k"], top_p=strengths["top_p"])
        draw = jax.vmap(lambda row_key, row: jax.random.categorical(jax.random.fold_in(row_key, step), row))
        return draw(keys, scaled).astype(jnp.int32)

    def body(rows: _Rows) -> _Rows:
        outputs, carry = advance(rows.token[:, None], rows.carry)
        check_tokens(outputs.shape[-1], end=end, pad=pad)
        log_probabilities = log_softmax(outputs[:, 0])
        token = jnp.where(rows.finished, pad, choose(log_probabilities, rows.step))
        gained = jnp.take_along_axis(log_probabilities, token[:, None], axis=-1)[:, 0]
        tokens, lengths, scores = rows.generated
        generated = Generated(
            tokens.at[:, rows.step].set(token),
            lengths + ~rows.finished,
            scores + jnp.where(rows.finished, 0, gained.astype(scores.dtype)),
        )
        finished = rows.finished if end is None else rows.finished | (token == end)
        return _Rows(rows.step + 1, token, carry, finished, generated)

    nothing = Generated(jnp.full((batch, steps), pad, jnp.int32), jnp.zeros(batch, jnp.int32), jnp.zeros(batch))
    rows = _Rows(jnp.int32(0), token, carry, jnp.zeros(batch, bool), nothing)
    rows = jax.lax.while_loop(lambda rows: (rows.step < steps) & ~jnp.all(rows.finished), body, rows)
    return rows.generated
