"""Free Spoken Digits: 3,000 recordings of the ten digits by six speakers, 8 kHz (Jackson et al. 2018).

Place ``recordings.tar.gz``, a release's own ``.tar.gz``, or the folder ``recordings`` in ``DATA_DIR/fsdd``
(or ``DATA_DIR/free_spoken_digits``). Nothing is extracted. Files are called ``DIGIT_SPEAKER_INDEX.wav``.

``split=index`` is the official one: recordings 0 to 4 of each digit and speaker are for testing; here 5 to 9
are for validation and the others for training. All speakers are in all splits, so it says nothing of new
voices. ``split=speaker`` does: of the speakers in alphabetical order the last is for testing and the one before
for validation.
"""

import dataclasses
import hashlib
import logging
import re
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from models.base import BadInput, Static
from train.data.feature_cache import Recording
from train.data.files import Packaged, Remote
from train.data.speech import SpeechConfig, Spoken, classification
from train.data.task import Task

LOGGER = logging.getLogger("paribus")

FILES: tuple[Remote | Packaged, ...] = ()

_SOURCE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
_FOLDERS = ("free_spoken_digits", "fsdd")
_PATTERN = re.compile(r"([0-9])_([a-z]+)_([0-9]+)\.wav")
_KNOWN = "99f8865e8969e6d27cfac01a2b04b595f5ab77dc33bfb17b06503df10abf7066"
_TEST, _VALIDATION = 5, 10  # indices below


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SpeechConfig):
    """Spoken digits.

    Attributes:
        split: by the index of a recording, or by its speaker.
        sample_rate: see :class:`train.data.speech.SpeechConfig`.
    """

    split: Annotated[Literal["index", "speaker"], Static()] = "index"
    sample_rate: Annotated[int, Static(ge=1000, le=192_000)] = 8000


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of telling the digit.

    Raises:
        BadInput: the recordings are not there, or one is broken or has another kind of name.
    """
    place, contents = _contents(data_dir)
    parsed = {name: _parsed(name, place) for name in contents}
    speakers = sorted({speaker for _, speaker, _ in parsed.values()})
    if config.split == "speaker" and len(speakers) < 3:
        raise BadInput(f"{place} has {len(speakers)} speakers; split=speaker needs at least 3")
    splits: dict[str, list[Spoken]] = {"train": [], "validation": [], "test": []}
    for name, (digit, speaker, index) in sorted(parsed.items()):
        if config.split == "index":
            split = "test" if index < _TEST else "validation" if index < _VALIDATION else "train"
        else:
            split = {speakers[-1]: "test", speakers[-2]: "validation"}.get(speaker, "train")
        recording = Recording(f"{place}: {name}", lambda content=contents[name]: content)
        splits[split].append(Spoken(name, digit, recording))
    origin = {"source": _SOURCE, "licence": "CC BY-SA 4.0", "speakers": ", ".join(speakers), "split": config.split}
    classes = [str(digit) for digit in range(10)]
    return classification("free_spoken_digits", splits, config=config, classes=classes, origin=origin)


def _contents(data_dir: Path | None) -> tuple[Path, dict[str, bytes]]:
    """Where the recordings lie, and the bytes of each by its name."""
    for folder in (data_dir / name for name in _FOLDERS) if data_dir is not None else ():
        if (folder / "recordings").is_dir():
            place = folder / "recordings"
            try:
                contents = {path.name: path.read_bytes() for path in sorted(place.glob("*.wav"))}
            except OSError as error:
                raise BadInput(f"{error.filename} cannot be read: {error.strerror}") from None
            return place, _checked(contents, place)
        archives = sorted(folder.glob("*.tar.gz"))
        if archives:
            return archives[0], _checked(_archived(archives[0]), archives[0])
    folder = Path("DATA_DIR" if data_dir is None else data_dir) / _FOLDERS[1]
    raise BadInput(
        f"the spoken digits are not there: get them from {_SOURCE}, place the folder 'recordings' or a release's "
        f".tar.gz in {folder} and give --data_dir"
    )


def _archived(path: Path) -> dict[str, bytes]:
    """The wav files of an archive by their names without folders."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if not member.isfile() or name.startswith(".") or not name.endswith(".wav"):
                    continue
                if name in contents:
                    raise BadInput(f"{path} has two recordings called {name}")
                file = archive.extractfile(member)
                contents[name] = file.read() if file is not None else b""
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise BadInput(f"{path} is no archive that can be read ({error}); get it again") from None
    return contents


def _checked(contents: Mapping[str, bytes], place: Path) -> dict[str, bytes]:
    """The recordings, if there are any; a warning where they are not the usual ones."""
    if not contents:
        raise BadInput(f"{place} has no recording: expected files like 0_george_0.wav; get it from {_SOURCE}")
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(name.encode() + b"\n" + hashlib.sha256(content).digest())
    if digest.hexdigest() != _KNOWN:
        LOGGER.warning(
            "%s has other recordings than the 3,000 that published results rest on: results may differ", place
        )
    return dict(contents)


def _parsed(name: str, place: Path) -> tuple[int, str, int]:
    """Digit, speaker and index."""
    match = _PATTERN.fullmatch(name)
    if match is None:
        raise BadInput(f"{place}: {name} is not called DIGIT_SPEAKER_INDEX.wav, such as 0_george_0.wav")
    return int(match[1]), match[2], int(match[3])
