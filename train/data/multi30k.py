"""Multi30k: descriptions of pictures in English, German and French (Elliott et al. 2016, 2017).

29,000 pairs train, 1,014 validate, the 1,000 of test_2016_flickr test; the raw sentences, as published.
Metrics of published tutorials are of lower-cased words; say so (``data.lower_case``) when comparing.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from models.base import BadInput, Static
from train.data.files import Remote
from train.data.lines import lines
from train.data.pairs import PairsConfig, SentencePair, translation
from train.data.registry import obtain
from train.data.task import Task

_SPLITS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
_CONTENTS = {
    "train.de": ("2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72", 2_110_398),
    "train.en": ("460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6", 1_801_238),
    "train.fr": ("5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d", 2_111_303),
    "val.de": ("660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660", 75_981),
    "val.en": ("1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227", 63_297),
    "val.fr": ("5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc", 73_924),
    "test_2016_flickr.de": ("4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16", 70_649),
    "test_2016_flickr.en": ("399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182", 62_076),
    "test_2016_flickr.fr": ("cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6", 72_261),
}

FILES = tuple(
    Remote(
        filename=f"{name}.gz",
        urls=(f"https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/{name}.gz",),
        sha256=sha256,
        size=size,
        licence="CC BY-NC-SA 4.0",
    )
    for name, (sha256, size) in _CONTENTS.items()
)

Language = Literal["en", "de", "fr"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(PairsConfig):
    """Descriptions of pictures in two languages.

    Attributes:
        source: the language to translate from.
        target: the language to translate into.
    """

    source: Annotated[Language, Static()] = "de"
    target: Annotated[Language, Static()] = "en"

    def validate(self) -> None:
        """The languages must differ."""
        if self.source == self.target:
            raise BadInput(f"source={self.source} and target={self.target} must be two languages of en, de, fr")


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of translating a description.

    Raises:
        BadInput: a file is broken, or is nowhere and cannot be downloaded.
    """
    needed = {f"{stem}.{language}.gz": "" for stem in _SPLITS.values() for language in (config.source, config.target)}
    files = [file for file in FILES if file.filename in needed]
    texts = {file.filename: lines(obtain(file, "multi30k", data_dir)) for file in files}
    splits = {
        split: [
            SentencePair(source.strip(), target.strip())
            for source, target in zip(
                texts[f"{stem}.{config.source}.gz"], texts[f"{stem}.{config.target}.gz"], strict=True
            )
        ]
        for split, stem in _SPLITS.items()
    }
    return translation("multi30k", files, splits, config=config)
