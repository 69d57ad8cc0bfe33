"""A language model small enough to be enumerated: the next token depends on the last two."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from models.base import BadInput, Model

POSITIONS = 12


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


class Counter:
    """How often a model's step was traced and run."""

    def __init__(self):
        self.traced = self.run = 0

    def ran(self):
        self.run += 1


def make_model(counter=None):
    def start(variables, source, *, length):
        if length > POSITIONS:
            raise BadInput(f"{length} positions are more than the model's {POSITIONS}")
        return {"previous": jnp.zeros(source, jnp.int32), "history": jnp.zeros((source, 2, 3))}

    def advance(variables, inputs, carry, *, train, rngs, hyperparameters):
        assert not train
        if counter:
            counter.traced += 1
            jax.debug.callback(counter.ran)
        before = jnp.concatenate([carry["previous"][:, None], inputs[:, :-1]], axis=1)
        logits = variables["params"]["logits"][before, inputs] * hyperparameters.get("sharpness", 1.0)
        return logits, {**carry, "previous": inputs[:, -1]}

    return Model(init=lambda *_: None, apply=advance, inspect=advance, start=start, advance=advance)


MODEL = make_model()  # one for all chains, so that they share their compilations


class Markov:
    """A second-order Markov chain in NumPy. ``MODEL`` with its variables is the same."""

    def __init__(self, vocabulary, *, seed=0, sharpness=1.5):
        # logits[previous, current] are those of the next token; before the first stands token 0.
        self.logits = sharpness * np.random.default_rng(seed).normal(size=(vocabulary,) * 3)

    @property
    def log_probabilities(self):
        return log_softmax(self.logits)

    @property
    def variables(self):
        return {"params": {"logits": jnp.asarray(self.logits)}}

    def after(self, sequence):
        """Log-probabilities of the token that follows a sequence."""
        return self.log_probabilities[sequence[-2] if len(sequence) > 1 else 0, sequence[-1]]

    def score(self, prompt, tokens):
        """The log-probability of tokens after a prompt."""
        return sum(self.after([*prompt, *tokens[:i]])[token] for i, token in enumerate(tokens))

    def hypotheses(self, prompt, steps, end, alpha):
        """All of them with their scores, the best first."""
        vocabulary = range(len(self.logits))
        found = list(itertools.product(vocabulary, repeat=steps))
        if end is not None:
            found = [tokens for tokens in found if end not in tokens[:-1]]
            others = [token for token in vocabulary if token != end]
            for length in range(1, steps):
                found += [(*tokens, end) for tokens in itertools.product(others, repeat=length - 1)]
        scored = [(self.score(prompt, tokens) / ((5 + len(tokens)) / 6) ** alpha, tokens) for tokens in found]
        return sorted(scored, reverse=True)
