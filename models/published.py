"""Networks as they were published, by name, with the number of parameters that their authors state."""

import dataclasses
from typing import Literal, NamedTuple

from models import cnn, encoder_decoder, resnet, transformer
from models.base import Configuration, Shapes


class Published(NamedTuple):
    """A network of a paper.

    Attributes:
        config: the model.
        shapes: what it was trained on.
        parameters: trained values, as the source states them.
        digit: what the last stated digit is worth: 10,000 where the source says 0.27 M.
        source: paper and place, and where the figure comes from when the paper has none.
        uncounted: parameters of this model that the stated figure leaves out; the source says why.
    """

    config: Configuration
    shapes: Shapes
    parameters: int
    digit: int
    source: str
    uncounted: int = 0


CIFAR = Shapes(inputs=(32, 32, 3), vocabulary=None, outputs=10, per_position=False)
IMAGENET = Shapes(inputs=(224, 224, 3), vocabulary=None, outputs=1000, per_position=False)
MNIST_32 = Shapes(inputs=(32, 32, 1), vocabulary=None, outputs=10, per_position=False)
"""MNIST with two pixels of margin on each side, as LeNet-5 reads it."""

_LENET = cnn.Config(
    channels=(6, 16),
    kernel_size=5,
    padding="valid",
    pooling="average",
    activation="tanh",
    width=120,
    further_widths=(84,),
)
_VGG_16 = cnn.Config(
    channels=(64, 128, 256, 512, 512),
    convolutions=(2, 2, 3, 3, 3),
    width=4096,
    further_widths=(4096,),
    dropout_rate=0.5,
)
_GPT2 = transformer.Config(
    width=768,
    depth=12,
    heads=12,
    feedforward=3072,
    dropout_rate=0.1,
    initialisation="gpt2",
    tie_embeddings=True,
)
_BERT = dataclasses.replace(
    _GPT2,
    activation="gelu",
    norm_position="post",
    embedding_norm=True,
    scale_residual=False,
    segments=2,
    head="masked_language_model",
)
_VIT = transformer.Config(
    width=768,
    depth=12,
    heads=12,
    feedforward=3072,
    activation="gelu",
    patch_size=16,
    pooling="class_token",
)


def _language(vocabulary: int, length: int, *, causal: bool) -> Shapes:
    return Shapes(inputs=(length,), vocabulary=vocabulary, outputs=vocabulary, per_position=True, causal=causal)


def _cifar_resnet(depth: int, parameters: int, digit: int) -> Published:
    source = "He et al. 2016, Deep Residual Learning for Image Recognition, table 6"
    return Published(resnet.Config(depth=depth), CIFAR, parameters, digit, source)


def _imagenet_resnet(depth: int, block: Literal["basic", "bottleneck"], parameters: int) -> Published:
    source = (
        "He et al. 2016, Deep Residual Learning for Image Recognition, table 1, with projections (option B); "
        "the paper states no figure, this one is of PyTorch's torchvision.models"
    )
    config = resnet.Config(form="imagenet", depth=depth, block=block, shortcut="projection")
    return Published(config, IMAGENET, parameters, 1, source)


PUBLISHED = {
    "lenet5": Published(
        _LENET,
        MNIST_32,
        60_000,
        1,
        "LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition, section II.B. The second "
        "convolution sees all maps here (900 more weights) and the outputs are dense (850 more); the original's "
        "two subsamplings have a factor and a bias for each map (44)",
        uncounted=900 + 850 - 44,
    ),
    "vgg16": Published(
        _VGG_16,
        IMAGENET,
        138_000_000,
        1_000_000,
        "Simonyan and Zisserman 2015, Very Deep Convolutional Networks, table 1 column D, table 2",
    ),
    "resnet20": _cifar_resnet(20, 270_000, 10_000),
    "resnet32": _cifar_resnet(32, 460_000, 10_000),
    "resnet44": _cifar_resnet(44, 660_000, 10_000),
    "resnet56": _cifar_resnet(56, 850_000, 10_000),
    "resnet110": _cifar_resnet(110, 1_700_000, 100_000),
    "resnet18": _imagenet_resnet(18, "basic", 11_689_512),
    "resnet34": _imagenet_resnet(34, "basic", 21_797_672),
    "resnet50": _imagenet_resnet(50, "bottleneck", 25_557_032),
    "wrn_28_10": Published(
        resnet.Config(depth=28, width_multiplier=10, shortcut="projection", preactivation=True),
        CIFAR,
        36_500_000,
        100_000,
        "Zagoruyko and Komodakis 2016, Wide Residual Networks, table 4",
    ),
    "gpt2": Published(
        _GPT2,
        _language(50_257, 1024, causal=True),
        124_439_808,
        1,
        "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, table 2, which says 117 M; "
        "this figure is that of the released weights",
    ),
    "gpt2_xl": Published(
        dataclasses.replace(_GPT2, width=1600, depth=48, heads=25, feedforward=6400),
        _language(50_257, 1024, causal=True),
        1_557_611_200,
        1,
        "Radford et al. 2019, table 2, which says 1,542 M; this figure is that of the released weights",
    ),
    "bert_base": Published(
        _BERT,
        _language(30_522, 512, causal=False),
        110_000_000,
        1_000_000,
        "Devlin et al. 2019, BERT, section 3; with the masked language model's head, without the layers for "
        "whole sequences (592,130 parameters); vocabulary of the released uncased weights",
    ),
    "transformer_base": Published(
        encoder_decoder.BASE,
        Shapes(inputs=(256,), vocabulary=41_000, outputs=41_000, per_position=True, target=256),
        65_000_000,
        1_000_000,
        "Vaswani et al. 2017, Attention Is All You Need, table 3. Its figures, those of the rows that vary depth "
        "and sizes too, fit a vocabulary of 41,000; section 5.1 says about 37,000, with which there are 63 M",
    ),
    "vit_b16": Published(
        _VIT,
        IMAGENET,
        86_000_000,
        1_000_000,
        "Dosovitskiy et al. 2021, An Image is Worth 16x16 Words, table 1, without the layer of the logits",
        uncounted=768 * 1000 + 1000,
    ),
}
"""By name. What belongs to training (its data, its schedule, weight decay) is not here."""
