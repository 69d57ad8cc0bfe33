"""Beam search: the most likely continuations, by a search that follows several at once."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.base import Configuration, Model, Static, Traced
from models.generation import check_prompt, check_tokens, log_softmax, read_prompt
from models.inputs import Padded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beam(Configuration):
    """How a beam search goes.

    Attributes:
        beams: hypotheses that are followed at once.
        length_penalty: alpha of Wu et al. 2016, equation 14: scores are divided by
            ``((5 + |Y|) / 6)**alpha``. 0: the plain log-probability.
    """

    beams: Annotated[int, Static(ge=1)] = 4
    length_penalty: Annotated[float, Traced(ge=0, off=0.0)] = 0.0


class Hypotheses(NamedTuple):
    """The best hypotheses of a beam search, the best first, without the prompt.

    Attributes:
        tokens: the tokens; the pad token after the end.
        lengths: number of tokens, that of the end included.
        scores: log-probability divided by the length penalty. Minus infinity, with length 0, where
            there are fewer hypotheses than beams.
    """

    tokens: Int[Array, "batch beams steps"]
    lengths: Int[Array, "batch beams"]
    scores: Float[Array, "batch beams"]


def beam_search(
    model: Model,
    variables: Any,
    prompt: Int[Array, "batch time"] | Padded,
    *,
    steps: int,
    beam: Beam,
    end: int | None = None,
    pad: int = 0,
    source: Any = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Hypotheses:
    """The most likely continuations of each prompt (Sutskever et al. 2014, section 3.2; Wu et al. 2016, section 7).

    A hypothesis is a sequence of at most ``steps`` tokens that ends with ``end``, or one of ``steps``
    tokens without it. Its score is ``log P(Y | X) / ((5 + |Y|) / 6)**alpha`` (equation 14; there is no
    coverage penalty), with the end counted in ``|Y|`` and the prompt not. A hypothesis that ends leaves
    its place to another, so that ``beams`` unfinished ones are always followed (Sutskever et al. let
    the beam shrink; Wu et al. prune by a margin). The program ends when no unfinished one can come
    to a better score than the worst that is kept, which changes no result.

    The arguments are those of :func:`generate`, with ``beam`` in the place of ``sampling`` and ``key``.

    Raises:
        BadInput: as :func:`generate`.
    """
    check_prompt(prompt, steps)
    return _beam_search(
        model,
        variables,
        prompt,
        source,
        beam.length_penalty,
        hyperparameters or {},
        steps=steps,
        beams=beam.beams,
        end=end,
        pad=pad,
    )


class _Search(NamedTuple):
    """A search under way; every field is [batch, beams, ...] but the step and the carry."""

    step: Any
    newest: Any  # the token of each unfinished hypothesis that is not yet read
    carry: Any  # [batch * beams, ...]
    tokens: Any  # of the unfinished ones, with their log-probabilities
    scores: Any
    ended: Hypotheses


@partial(jax.jit, static_argnames=("model", "steps", "beams", "end", "pad"))
def _beam_search(
    model: Model,
    variables: Any,
    prompt: Any,
    source: Any,
    alpha: Any,
    hyperparameters: Mapping[str, Any],
    *,
    steps: int,
    beams: int,
    end: int | None,
    pad: int,
) -> Hypotheses:
    token, carry, advance = read_prompt(model, variables, prompt, source, hyperparameters, steps=steps)
    batch = token.shape[0]

    def body(search: _Search) -> _Search:
        outputs, carry = advance(search.newest.reshape(-1, 1), search.carry)
        check_tokens(outputs.shape[-1], end=end, pad=pad)
        log_probabilities = log_softmax(outputs[:, 0]).reshape(batch, beams, -1).astype(search.scores.dtype)
        extended, places = _extend(search, log_probabilities, alpha, end)
        # What a step hands on as it got it (an encoded source) is the same for all beams of a row.
        carry = jax.tree.map(lambda new, old: old if new is old else new[places], carry, search.carry)
        return extended._replace(carry=carry)

    def may_improve(search: _Search) -> Any:
        # Log-probabilities only fall, and the penalty is the mildest at the greatest length.
        best_to_come = penalised(jnp.max(search.scores, axis=1), steps, alpha)
        return (search.step < steps) & jnp.any(best_to_come > jnp.min(search.ended.scores, axis=1))

    tokens = jnp.full((batch, beams, steps), pad, jnp.int32)
    none = jnp.full((batch, beams), -jnp.inf)
    search = _Search(
        jnp.int32(0),
        jnp.repeat(token[:, None], beams, axis=1),
        jax.tree.map(lambda leaf: jnp.repeat(leaf, beams, axis=0), carry),
        tokens,
        none.at[:, 0].set(0),  # all places hold the empty hypothesis, and one of them counts
        Hypotheses(tokens, jnp.zeros((batch, beams), jnp.int32), none),
    )
    search = jax.lax.while_loop(may_improve, body, search)
    # Where the loop ended early, the unfinished ones are not among the best.
    lengths = jnp.full((batch, beams), steps, jnp.int32)
    found = _best(search.ended, Hypotheses(search.tokens, lengths, penalised(search.scores, steps, alpha)))
    exists = found.scores > -jnp.inf
    return Hypotheses(
        jnp.where(exists[..., None], found.tokens, pad), jnp.where(exists, found.lengths, 0), found.scores
    )


def penalised(scores: Float[Array, "*batch"], length: Any, alpha: Any) -> Float[Array, "*batch"]:
    """Log-probabilities divided by ``((5 + length) / 6)**alpha`` (Wu et al. 2016, equation 14)."""
    return scores / (((5 + jnp.asarray(length, scores.dtype)) / 6) ** alpha)


def _extend(search: _Search, log_probabilities: Any, alpha: Any, end: int | None) -> tuple[_Search, Any]:
    """Each hypothesis by one token: the ended ones are kept apart, the best of the rest fill the beam.

    The second result is where in [batch * beams] each that is in the beam now was before.
    """
    step, tokens, ended = search.step, search.tokens, search.ended
    batch, beams, vocabulary = log_probabilities.shape
    totals = search.scores[..., None] + log_probabilities
    if end is not None:
        length = step + 1
        ending = Hypotheses(
            tokens.at[:, :, step].set(end),
            jnp.full((batch, beams), length),
            penalised(totals[..., end], length, alpha),
        )
        ended = _best(ended, ending)
        totals = totals.at[..., end].set(-jnp.inf)
    scores, candidates = jax.lax.top_k(totals.reshape(batch, -1), beams)
    parents, newest = candidates // vocabulary, candidates % vocabulary
    tokens = jnp.take_along_axis(tokens, parents[..., None], axis=1).at[:, :, step].set(newest)
    places = (jnp.arange(batch)[:, None] * beams + parents).reshape(-1)
    return _Search(step + 1, newest, search.carry, tokens, scores, ended), places


def _best(first: Hypotheses, second: Hypotheses) -> Hypotheses:
    """The best of two sets, as many as each has; of equally good ones those of the first."""
    scores, places = jax.lax.top_k(jnp.concatenate([first.scores, second.scores], axis=1), first.scores.shape[1])
    tokens = jnp.concatenate([first.tokens, second.tokens], axis=1)
    lengths = jnp.concatenate([first.lengths, second.lengths], axis=1)
    return Hypotheses(
        jnp.take_along_axis(tokens, places[..., None], axis=1), jnp.take_along_axis(lengths, places, axis=1), scores
    )
