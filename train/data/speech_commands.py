"""Speech Commands: 105,829 recordings of 35 words, one second each, 16 kHz (Warden 2018, arXiv:1804.03209).

Place the content of ``speech_commands_v0.02.tar.gz`` in ``DATA_DIR/speech_commands``: a folder for each word,
``_background_noise_``, ``validation_list.txt`` and ``testing_list.txt``. The two lists are the official
split, which keeps every speaker in one split; all other recordings are for training.

``words=35`` tells all words apart. ``words=10`` is the paper's challenge (section 5): ten words, ``unknown`` for
any other word, and ``silence``, the last two with a tenth as many recordings as the ten words have in the split.
Which other words are taken is told by the sha256 of their paths. Silence is a part of a recording of background
noise as it is, of the length of a recording: the first 80% of each such recording are for training, the next 10%
for validation, the last for testing.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from models.base import BadInput, Static, unknown
from train.data.feature_cache import Recording
from train.data.files import File, Packaged, Remote
from train.data.speech import SpeechConfig, Spoken, classification
from train.data.task import Task
from train.data.text import text
from train.data.waves import wave

FILES: tuple[Remote | Packaged, ...] = ()

_SOURCE = "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
_TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_OTHER = (
    *("backward", "bed", "bird", "cat", "dog", "eight", "five", "follow", "forward", "four", "happy", "house", "learn"),
    *("marvin", "nine", "one", "seven", "sheila", "six", "three", "tree", "two", "visual", "wow", "zero"),
)
_NOISE = "_background_noise_"
_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
_PARTS = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}  # of each recording of noise
_SHARE = 10  # of unknown words and of silence: one for so many recordings of the ten words


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SpeechConfig):
    """Spoken words.

    Attributes:
        words: all 35, or 10 beside ``unknown`` and ``silence``.
    """

    words: Annotated[Literal[35, 10], Static()] = 35


def load(config: Config, data_dir: Path | None) -> Task:
    """The task of telling the word.

    Raises:
        BadInput: the folder is not there or not of the official form, or a recording is broken.
    """
    folder = Path("DATA_DIR" if data_dir is None else data_dir) / "speech_commands"
    if data_dir is None or not folder.is_dir():
        raise BadInput(
            f"Speech Commands are not there: get {_SOURCE}, place what it holds in {folder} and give --data_dir"
        )
    paths = _paths(folder)
    splits = _split(folder, paths)
    if config.words == 35:
        classes = sorted((*_TEN, *_OTHER))
        spoken = {
            split: [_spoken(folder, name, classes.index(_word(name))) for name in names]
            for split, names in splits.items()
        }
    else:
        classes = [*_TEN, "unknown", "silence"]
        spoken = {split: list(_challenge(folder, split, names, config.seconds)) for split, names in splits.items()}
    origin = {"source": _SOURCE, "licence": "CC BY 4.0", "words": config.words}
    return classification("speech_commands", spoken, config=config, classes=classes, origin=origin)


def _paths(folder: Path) -> list[str]:
    """Every recording of a word, as ``word/file.wav``."""
    words = (*_TEN, *_OTHER)
    missing = [word for word in (*words, _NOISE) if not (folder / word).is_dir()]
    if missing:
        raise BadInput(f"{folder} is not the official folder: it lacks {', '.join(missing[:5])}; get {_SOURCE} again")
    paths = [f"{word}/{path.name}" for word in words for path in sorted((folder / word).glob("*.wav"))]
    empty = set(words) - {_word(name) for name in paths}
    if empty:
        raise BadInput(f"{folder / min(empty)} has no recording; get {_SOURCE} again")
    return paths


def _split(folder: Path, paths: Sequence[str]) -> dict[str, list[str]]:
    """The recordings of each split, by the two lists."""
    known, taken = set(paths), {}
    for split, filename in _LISTS.items():
        try:
            content = (folder / filename).read_bytes()
        except OSError as error:
            raise BadInput(f"{folder / filename} cannot be read: {error.strerror}; get {_SOURCE} again") from None
        for number, line in enumerate(text(File(str(folder / filename), content)).splitlines(), start=1):
            name, where = line.strip(), f"{folder / filename}, line {number}"
            if not name:
                continue
            if name not in known:
                words = {_word(path) for path in known}
                hint = (
                    f"{folder / name} does not exist" if _word(name) in words else unknown("word", _word(name), words)
                )
                raise BadInput(f"{where}: {hint}")
            if name in taken:
                raise BadInput(f"{where}: {name} is listed before; every recording belongs to one split")
            taken[name] = split
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name in paths:
        splits[taken.get(name, "train")].append(name)
    return splits


def _word(name: str) -> str:
    return name.partition("/")[0]


def _spoken(folder: Path, name: str, label: int) -> Spoken:
    return Spoken(name, label, Recording(str(folder / name), functools.partial(_bytes, folder / name)))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def _challenge(folder: Path, split: str, names: Sequence[str], seconds: float) -> Iterator[Spoken]:
    """The recordings of the ten words, and the share of unknown words and of silence that belongs to them."""
    wanted = [name for name in names if _word(name) in _TEN]
    yield from (_spoken(folder, name, _TEN.index(_word(name))) for name in wanted)
    others = sorted((name for name in names if _word(name) in _OTHER), key=_rank)
    share = max(1, round(len(wanted) / _SHARE))
    yield from (_spoken(folder, name, len(_TEN)) for name in others[:share])
    noises = _noises(folder, seconds)
    for number in range(share):
        path, (content, duration) = list(noises.items())[number % len(noises)]
        begin, end = (fraction * duration for fraction in _PARTS[split])
        name = f"{_NOISE}/{split}/{number}"
        place = int.from_bytes(_rank(name)[:4], "big") / 2**32
        # To the millisecond: a start says the same at every rate of samples.
        start = round(begin + place * (end - begin - seconds), 3)
        recording = Recording(f"{path} from {start} s on", lambda content=content: content, start, seconds)
        yield Spoken(name, len(_TEN) + 1, recording)


def _rank(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _noises(folder: Path, seconds: float) -> Mapping[Path, tuple[bytes, float]]:
    """Content and seconds of every recording of background noise whose tenth is long enough."""
    found = {}
    for path in sorted((folder / _NOISE).glob("*.wav")):
        content = _bytes(path)
        whole = wave(File(str(path), content))
        duration = whole.samples.size / whole.rate
        if duration / 10 >= seconds:
            found[path] = content, duration
    if not found:
        raise BadInput(
            f"{folder / _NOISE} has no recording of at least {10 * seconds:g} s, ten times seconds={seconds}"
        )
    return found
