"""WikiText: good and featured articles of Wikipedia as words (Merity et al. 2017, section 4).

Files are looked for as ``wiki.train.tokens``, ``wiki.valid.tokens`` and ``wiki.test.tokens`` in
``DATA_DIR/NAME``, then as the published archive there, in the cache and on the network.
"""

from pathlib import Path

from train.data import word_benchmarks, zipped
from train.data.files import Remote, read
from train.data.registry import obtain
from train.data.task import Task

_SPLITS = {"train": "wiki.train.tokens", "validation": "wiki.valid.tokens", "test": "wiki.test.tokens"}


def archive(title: str, *, size: int, sha256: str) -> Remote:
    """The published zip file of ``wikitext-2`` or ``wikitext-103``."""
    return Remote(
        filename=f"{title}-v1.zip",
        urls=(
            f"https://wikitext.smerity.com/{title}-v1.zip",
            f"https://s3.amazonaws.com/research.metamind.io/wikitext/{title}-v1.zip",
        ),
        sha256=sha256,
        size=size,
        licence="CC BY-SA 4.0",
        archive=True,
    )


def load(
    name: str,
    title: str,
    remote: Remote,
    counts: word_benchmarks.Counts,
    *,
    config: word_benchmarks.WordsConfig,
    data_dir: Path | None,
) -> Task:
    """The task of predicting the next word of the data set ``name``, which is published under ``title``.

    Raises:
        BadInput: the files are not the published ones, or cannot be had.
    """
    paths = word_benchmarks.placed(name, _SPLITS, data_dir)
    if paths is None:
        whole = obtain(remote, name, data_dir)
        splits = {split: zipped.member(whole, f"{title}/{filename}") for split, filename in _SPLITS.items()}
    else:
        splits = {split: read(path) for split, path in paths.items()}
    return word_benchmarks.task(name, (remote,), splits, counts, config=config)
