"""Every family, small, with a batch that it reads: what tests of all families go through."""

import jax
import jax.numpy as jnp

from models import (
    Shapes,
    cnn,
    encoder_decoder,
    ltsf_linear,
    mlp,
    resnet,
    rnn,
    seq2seq,
    tcn,
    text_cnn,
    transformer,
)
from models.inputs import Padded, Pair

BATCH = 6
IMAGES = Shapes(inputs=(8, 8, 3), vocabulary=None, outputs=5, per_position=False)
SENTENCES = Shapes(inputs=(7,), vocabulary=11, outputs=5, per_position=False)
TEXT = Shapes(inputs=(7,), vocabulary=11, outputs=11, per_position=True, causal=True)
SERIES = Shapes(inputs=(9, 3), vocabulary=None, outputs=12, per_position=False)
TRANSLATION = Shapes(inputs=(7,), vocabulary=11, outputs=11, per_position=True, target=6)

FAMILIES = {
    "cnn": (cnn.Config(channels=(8, 16), width=16, normalisation="batch", activation="tanh"), IMAGES),
    "encoder_decoder": (encoder_decoder.Config(width=32, depth=1, feedforward=64, dropout_rate=0.0), TRANSLATION),
    "ltsf_linear": (ltsf_linear.Config(decomposition="moving_average", kernel_size=3), SERIES),
    "mlp": (mlp.Config(depth=2, width=32, normalisation="batch", activation="tanh"), IMAGES),
    "resnet": (resnet.Config(depth=8, width=8), IMAGES),
    "rnn": (rnn.Config(width=16, embedding=8, depth=2), TEXT),
    "seq2seq": (seq2seq.Config(width=16, embedding=8), TRANSLATION),
    "tcn": (tcn.Config(width=16, depth=2), TEXT),
    "text_cnn": (text_cnn.Config(channels=8, embedding=16, dropout_rate=0.0), SENTENCES),
    "transformer": (transformer.Config(width=32, heads=4, feedforward=64), TEXT),
}
"""By name: a configuration without dropout, with smooth activations where there is a choice, and the task."""

QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of the compiler for programs that run once on little data: a third of the time to compile."""


def inputs_of(shapes):
    """A batch for these shapes; its sequences differ in length where there are two of them."""
    keys = jax.random.split(jax.random.key(1))

    def tokens(key, time, vocabulary):
        return jax.random.randint(key, (BATCH, time), 0, vocabulary)

    def padded(values):
        lengths = 1 + jnp.arange(BATCH) % values.shape[1]
        return Padded(values, jnp.arange(values.shape[1])[None] < lengths[:, None])

    if shapes.vocabulary is None:
        return jax.random.normal(keys[0], (BATCH, *shapes.inputs))
    source = tokens(keys[0], shapes.inputs[0], shapes.vocabulary)
    if shapes.target is None:
        return source
    return Pair(padded(source), padded(tokens(keys[1], shapes.target, shapes.outputs)))
