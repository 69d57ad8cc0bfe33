"""Where a data set's files come from on this machine, and the list of all of them.

A file is looked for in the folder that the user names (``DATA_DIR/NAME/FILE``), then where the operating
system's own package of the data set puts it, then in the cache, then on the network. Wherever it was
found, its content is verified.
"""

import logging
from pathlib import Path

import pooch

from models.base import BadInput, plugin, plugin_names
from train.data.download import download
from train.data.files import File, Packaged, Remote, read, verified

LOGGER = logging.getLogger("paribus")


def cache_folder() -> Path:
    """The private folder of the user's cache where downloads are kept, made if it is absent.

    Raises:
        BadInput: it cannot be made.
    """
    root = Path(pooch.os_cache("paribus"))
    try:
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
        folder = root / "data"
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise BadInput(f"the cache folder {root} cannot be used: {error.strerror}; give --data_dir") from None
    return folder


def obtain(remote: Remote, name: str, data_dir: Path | None, *, installed: Path | None = None) -> File:
    """The verified content of a file of the data set ``name``.

    Args:
        remote: the file.
        name: the data set, which is also the folder that its files lie in.
        data_dir: the user's folder of data sets, or None. Nothing in it is ever changed.
        installed: a folder where a package of the operating system may have put the file.

    Raises:
        BadInput: the user's file is wrong, or the file is nowhere and cannot be downloaded.
    """
    if data_dir is not None:
        if not data_dir.is_dir():
            raise BadInput(f"data_dir={str(data_dir)!r} is not a folder")
        names = (remote.filename,) if remote.archive else (remote.filename, remote.filename.removesuffix(".gz"))
        for filename in dict.fromkeys(names):
            if (data_dir / name / filename).exists():
                return verified(read(data_dir / name / filename, archive=remote.archive), remote)
    if installed is not None and (installed / remote.filename).exists():
        return verified(read(installed / remote.filename, archive=remote.archive), remote)
    folder = cache_folder() / name
    path = folder / remote.filename
    if path.exists():
        try:
            return verified(read(path, archive=remote.archive), remote)
        except BadInput as error:
            LOGGER.warning("%s (removed from the cache)", error)
            path.unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    path = download(remote, folder, place=folder if data_dir is None else data_dir / name)
    return read(path, archive=remote.archive)


def listing() -> dict[str, tuple[Remote | Packaged, ...]]:
    """The files of every data set by its name, as declared by the constant ``FILES`` of the data set's own file."""
    return {name: plugin("train.data", name, kind="data set").FILES for name in plugin_names("train.data")}
