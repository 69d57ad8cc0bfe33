"""CIFAR-100: 50,000 + 10,000 colour images of 32 x 32 pixels in a hundred classes of twenty groups (Krizhevsky 2009).

The test split is the published one. The last 5,000 of the published training images are for validation and the
45,000 before them for training (as many of each as He et al. 2016, section 4.2, took of CIFAR-10).
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from models.base import Static
from train.data import cifar
from train.data.files import Remote
from train.data.images import ImagesConfig, Labelled, classification
from train.data.task import Task

FILES = (
    Remote(
        filename="cifar-100-binary.tar.gz",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        size=168_513_733,
        licence="none stated; cite Krizhevsky 2009",
        archive=True,
    ),
)

_TRAIN_RECORDS, _TEST_RECORDS = 50_000, 10_000
_VALIDATION = 5_000
_COARSE = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
    insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
    medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""
_FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASSES = {"coarse": tuple(_COARSE.split()), "fine": tuple(_FINE.split())}
"""Names of the groups and of the classes as published, in the order of the label bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImagesConfig):
    """The whole of CIFAR-100.

    Attributes:
        labels: the hundred classes, or the twenty groups of five of them.
    """

    labels: Annotated[Literal["fine", "coarse"], Static()] = "fine"


def load(config: Config, data_dir: Path | None) -> Task:
    """The task: 45,000 images to train on, 5,000 to validate, 10,000 to test.

    Raises:
        BadInput: a file is broken, or is nowhere and cannot be downloaded.
    """
    members = ("train.bin", "test.bin")
    train, test = cifar.files(FILES[0], "cifar100", data_dir, folder="cifar-100-binary", members=members)
    classes, column = [len(names) for names in CLASSES.values()], list(CLASSES).index(config.labels)
    pixels, labels = cifar.records([train], classes=classes, count=_TRAIN_RECORDS)
    test_pixels, test_labels = cifar.records([test], classes=classes, count=_TEST_RECORDS)
    return classification(
        "cifar100",
        FILES,
        train=Labelled(pixels[:-_VALIDATION], labels[:-_VALIDATION, column]),
        validation=Labelled(pixels[-_VALIDATION:], labels[-_VALIDATION:, column]),
        test=Labelled(test_pixels, test_labels[:, column]),
        classes=CLASSES[config.labels],
        options=config,
    )
