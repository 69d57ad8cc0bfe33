"""A small training problem for every family of ``models/``, with data made from random numbers.

The study ``architectures`` trains four families. The others are
measured on these, which cost what real data of their shapes would:
the time of a step does not depend on what is in the arrays. All sequences of a case are of one length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from models import encoder_decoder, mlp, resnet, rnn, seq2seq, tcn, text_cnn, transformer
from models.base import Configuration, Shapes
from models.inputs import Padded, Pair
from train import objectives
from train.config import Config, Training, Trial
from train.data import digits
from train.data.sampling import ShuffledExamples, Windows
from train.data.task import Arrays, Sampler, Task, Test, Train, Validation
from train.optimizers import adam
from train.schedules import constant

EXAMPLES = 1024
"""Of each case; the permutation of an epoch comes every ``EXAMPLES // batch_size`` steps."""


class Case(NamedTuple):
    """What is measured: a trial, and the task that it trains on, made when asked for."""

    trial: Trial
    task: Callable[[], Task]


def cases() -> dict[str, Case]:
    """The cases by ``families/name``."""
    language, sentiment = _language(64), _sentiment(64)
    pairs = _pairs(20)
    result = {
        "mlp64": _case(mlp.Config(width=64, depth=2), 32, _vectors(64)),
        "resnet20": _case(resnet.Config(), 32, _images(32)),
        "lstm": _case(rnn.Config(width=128), 16, language),
        "gru": _case(rnn.Config(cell="gru", width=128), 16, language),
        "vanilla": _case(rnn.Config(cell="vanilla", width=128), 16, language),
        "bilstm": _case(rnn.Config(width=64, bidirectional=True), 32, sentiment),
        "tcn": _case(tcn.Config(), 16, language),
        "text_cnn": _case(text_cnn.Config(embedding=64, dropout_rate=0.0), 32, _sentiment(40)),
        "seq2seq": _case(seq2seq.Config(width=64), 16, pairs),
        "decoder": _case(transformer.Config(width=64, depth=2, heads=4, feedforward=256), 16, language),
        "encoder": _case(transformer.Config(width=64, depth=2, heads=4, feedforward=256), 32, sentiment),
        "encoder_decoder": _case(
            encoder_decoder.Config(width=64, depth=2, heads=4, feedforward=256, dropout_rate=0.0), 16, pairs
        ),
    }
    return {f"families/{name}": case for name, case in result.items()}


def _case(model: Configuration, batch_size: int, task: Callable[[], Task]) -> Case:
    config = Config(
        data=digits.Config(),  # a configuration names a data set; nothing here reads it
        model=model,
        optimizer=adam.Config(),
        schedule=constant.Config(),
        training=Training(steps=100_000, batch_size=batch_size),
    )
    return Case(Trial(arm=model.name, seed=0, config=config), task)


def _task(shapes: Shapes, sampler: Sampler, arrays: Arrays) -> Task:
    """One split in three roles: nothing is evaluated."""
    return Task(
        name="generated",
        shapes=shapes,
        objective=objectives.language_modelling("token") if shapes.per_position else objectives.classification(),
        sampler=sampler,
        train=Train(arrays),
        validation=Validation(arrays),
        test=Test(arrays),
        facts={"source": "random numbers"},
    )


def _vectors(features: int) -> Callable[[], Task]:
    """Vectors in 10 classes."""
    return lambda: _classes((features,))


def _images(side: int) -> Callable[[], Task]:
    """Square colour images in 10 classes."""
    return lambda: _classes((side, side, 3))


def _classes(shape: tuple[int, ...]) -> Task:
    """Noise of this shape in 10 classes."""
    generator = np.random.default_rng(0)
    arrays = {
        "inputs": generator.normal(size=(EXAMPLES, *shape)).astype(np.float32),
        "targets": generator.integers(0, 10, EXAMPLES).astype(np.int32),
    }
    shapes = Shapes(inputs=shape, vocabulary=None, outputs=10, per_position=False)
    return _task(shapes, ShuffledExamples(), arrays)


def _language(length: int, vocabulary: int = 65) -> Callable[[], Task]:
    """One long sequence of characters, cut into windows."""

    def make() -> Task:
        tokens = np.random.default_rng(0).integers(0, vocabulary, 100_000).astype(np.int32)
        shapes = Shapes(inputs=(length,), vocabulary=vocabulary, outputs=vocabulary, per_position=True, causal=True)
        return _task(shapes, Windows(length), {"tokens": tokens})

    return make


def _sentiment(length: int, vocabulary: int = 2000) -> Callable[[], Task]:
    """Sentences in two classes."""

    def make() -> Task:
        generator = np.random.default_rng(0)
        arrays = {
            "inputs": generator.integers(0, vocabulary, (EXAMPLES, length)).astype(np.int32),
            "targets": generator.integers(0, 2, EXAMPLES).astype(np.int32),
        }
        shapes = Shapes(inputs=(length,), vocabulary=vocabulary, outputs=2, per_position=False)
        return _task(shapes, ShuffledExamples(), arrays)

    return make


def _pairs(length: int, vocabulary: int = 100) -> Callable[[], Task]:
    """Source and target of one length over one vocabulary."""

    def make() -> Task:
        generator = np.random.default_rng(0)
        source: Any = generator.integers(0, vocabulary, (EXAMPLES, length)).astype(np.int32)
        target: Any = generator.integers(0, vocabulary, (EXAMPLES, length + 1)).astype(np.int32)
        real: Any = np.ones((EXAMPLES, length), bool)
        arrays = {
            "inputs": Pair(Padded(source, real), Padded(target[:, :-1], real)),
            "targets": target[:, 1:],
            "weights": real.astype(np.float32),
        }
        shapes = Shapes(
            inputs=(length,),
            vocabulary=vocabulary,
            outputs=vocabulary,
            per_position=True,
            causal=True,
            target=length,
        )
        return _task(shapes, ShuffledExamples(), arrays)

    return make
