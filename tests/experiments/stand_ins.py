"""Tasks of the shapes of data sets that must be downloaded, so that every study can be planned without them."""

import string

import numpy as np

from models.base import Shapes
from models.inputs import Padded
from train import objectives
from train.data import images, sentences
from train.data.forecasting import Series, forecasting
from train.data.language import Texts, language_modelling
from train.data.pairs import SentencePair, translation
from train.data.sampling import ShuffledExamples
from train.data.task import Task, Test, Train, Validation


def mnist_shaped(config) -> Task:
    """A task of the shapes of MNIST or Fashion-MNIST, as the options change them."""
    return _images(config, (28, 28, 1), 20_000)


def cifar10_shaped(config) -> Task:
    """A task of the shapes of CIFAR-10, as the options change them."""
    return _images(config, (32, 32, 3), 256)


def _images(config, shape: tuple[int, ...], least: int) -> Task:
    size = max(least, config.train_examples or 0)
    pixels = np.random.default_rng(0).integers(0, 256, (size, *shape), np.uint8)
    train = images.Labelled(pixels, (np.arange(size) % 10).astype(np.uint8))
    held_out = images.Labelled(pixels[:256], train.classes[:256])
    return images.classification(
        config.name, (), train=train, validation=held_out, test=held_out, classes=10, options=config
    )


def text_shaped(config) -> Task:
    """A task with the 65 characters of tiny Shakespeare, or with bytes: of texts that must be downloaded."""
    text = (string.ascii_letters + "\n !$&',-.3:;?") * 40
    return language_modelling(config.name, (), Texts(text, text, text), config=config, least=1)


def reviews_shaped(config) -> Task:
    """Labelled texts of a few words, of which as many train as the configuration asks for: in place of IMDB."""
    texts = [sentences.Text([f"w{row * place % 97}" for place in range(300)], row % 2) for row in range(1000)]
    splits = {"train": texts, "validation": texts[:9], "test": texts[:9]}
    return sentences.classification(config.name, (), splits, classes=("negative", "positive"), config=config)


def series_shaped(config) -> Task:
    """A task of the shapes of ETTh1, which must be downloaded."""
    rows = np.random.default_rng(0).normal(size=(2500, 7))
    origin = {"source": "made for tests", "licence": "none"}
    return forecasting(
        "ett", [Series(rows, 900, 1700)], config=config, horizon=config.horizon, season=24, origin=origin
    )


def sentences_shaped(config) -> Task:
    """A task of the shapes of SST-2, which must be downloaded."""
    texts = [
        sentences.Text([f"w{number % 97}" for number in range(start, start + 60)], start % 2) for start in range(200)
    ]
    splits = {"train": texts, "validation": texts[:50], "test": texts[50:100]}
    return sentences.classification("sst2", (), splits, classes=("negative", "positive"), config=config)


def spectrograms_shaped(config) -> Task:
    """A task of the shapes of the spoken digits, which must be placed by hand."""
    inputs = np.zeros((256, 98, config.mels), np.float32)
    is_image = config.form == "image"
    inputs = inputs[..., None] if is_image else Padded(inputs, np.ones(inputs.shape[:2], bool))
    split = {"inputs": inputs, "targets": np.zeros(256, np.int32)}
    shape = (98, config.mels, 1) if is_image else (98, config.mels)
    shapes = Shapes(inputs=shape, vocabulary=None, outputs=10, per_position=False)
    return Task(
        name=config.name,
        shapes=shapes,
        objective=objectives.classification(),
        sampler=ShuffledExamples(),
        train=Train(split),
        validation=Validation(split),
        test=Test(split),
        facts={},
    )


def pairs_shaped(config) -> Task:
    """A task of pairs of sentences like those of Multi30k, which must be downloaded."""
    texts = [" ".join(f"w{(start * 7 + place) % 6000}" for place in range(12)) for start in range(2000)] * 4
    pairs = [SentencePair(text, text[::-1]) for text in texts]
    return translation("multi30k", (), {"train": pairs, "validation": pairs[:20], "test": pairs[:20]}, config=config)


STAND_INS = {
    "cifar10": cifar10_shaped,
    "enwik8": text_shaped,
    "ett": series_shaped,
    "fashion_mnist": mnist_shaped,
    "free_spoken_digits": spectrograms_shaped,
    "imdb": reviews_shaped,
    "mnist": mnist_shaped,
    "multi30k": pairs_shaped,
    "sst2": sentences_shaped,
    "tinyshakespeare": text_shaped,
}
