"""Downloads a published file into a folder: mirrors in turn, retries, progress, verification.

The transfer, the temporary file and the retries are pooch's. A file appears under its own name
only after its content was verified, by an atomic rename: two processes cannot spoil each other's.
"""

import logging
import time
from pathlib import Path
from typing import Any, cast

import pooch

from models.base import BadInput
from train.data.files import Remote, read, verified

LOGGER = logging.getLogger("paribus")

RETRIES = 2
"""How often a mirror is asked again after a failure that may pass (pooch waits 1 s, then 2 s)."""

TIMEOUT = (10.0, 30.0)
"""Seconds until a connection is made, and until the next byte arrives."""

PROGRESS_SECONDS = 2.0
"""Seconds between two lines of progress."""


class _Refused(Exception):
    """The server says that it will not give the file: asking again is of no use."""


class _Progress:
    """Progress in lines of the log: what, how far, how fast, how long still. The interface is pooch's."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = 0  # set by pooch; 0 where the server does not tell
        self.done = 0
        self.begin = self.last = time.monotonic()

    def update(self, count: int) -> None:
        """Count bytes, and log a line when the last one is old."""
        self.done += count
        now = time.monotonic()
        if now - self.last < PROGRESS_SECONDS:
            return
        self.last = now
        rate = self.done / (now - self.begin)
        if self.total:
            done = min(self.done, self.total)  # pooch counts whole chunks
            LOGGER.info(
                "%s: %.1f of %.1f MB, %.2f MB/s, %.0f s left",
                self.name,
                done / 1e6,
                self.total / 1e6,
                rate / 1e6,
                (self.total - done) / rate,
            )
        else:
            LOGGER.info("%s: %.1f MB, %.2f MB/s", self.name, self.done / 1e6, rate / 1e6)

    def reset(self) -> None:
        """Start the count again (pooch does before it reports the exact total)."""
        self.done = 0

    def close(self) -> None:
        """Nothing to close."""


class _VerifiedTransfer:
    """One attempt, for pooch: fetches into pooch's temporary file and verifies what arrived."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def __call__(self, url: str, output_file: str, _: pooch.Pooch | None) -> None:
        """Fetch ``url`` into ``output_file``.

        Raises:
            _Refused: the server answers that it has no such file, or not for us.
            requests.RequestException: the transfer failed; pooch tries again.
            BadInput: the content is wrong; pooch tries again (a cut connection can look like this).
        """
        from requests import HTTPError  # as late as pooch itself imports it

        LOGGER.info("downloading %s", url)
        progress = cast(Any, _Progress(self.remote.filename))  # pooch's annotation says bool
        try:
            pooch.HTTPDownloader(progressbar=progress, chunk_size=2**16, timeout=TIMEOUT)(url, output_file, None)
        except HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if 400 <= status < 500 and status not in (408, 429):
                raise _Refused(_reason(error)) from None
            raise
        try:
            verified(read(Path(output_file), archive=self.remote.archive), self.remote)
        except BadInput as error:
            raise BadInput(str(error).replace(str(output_file), "the download", 1)) from None


def _reason(error: Exception) -> str:
    """A failed transfer in a few words; the library's own text runs over several lines of objects."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not accepted"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error) or type(error).__name__


def download(remote: Remote, folder: Path, *, place: Path) -> Path:
    """Download ``remote`` into ``folder``, from the first of its mirrors that gives the right content.

    Args:
        remote: what to download.
        folder: an existing folder, where the file goes.
        place: the folder that the message names for a file placed by hand.

    Returns:
        The file, whose content is verified.

    Raises:
        BadInput: no mirror gave it, or the folder cannot be written to.
    """
    import requests

    pooch.get_logger().setLevel(logging.WARNING)  # its lines are ours, said twice
    failures = []
    for url in remote.urls:
        keeper = pooch.create(
            path=folder,
            base_url="",
            registry={remote.filename: None},
            urls={remote.filename: url},
            retry_if_failed=RETRIES,
        )
        try:
            # pooch's annotation names the arguments of a downloader differently from what it passes.
            return Path(keeper.fetch(remote.filename, downloader=cast(Any, _VerifiedTransfer(remote))))
        except (requests.RequestException, ValueError, _Refused) as error:
            failures.append(f"{url}: {_reason(error)}")
            LOGGER.warning("download failed: %s", failures[-1])
        except OSError as error:
            raise BadInput(f"cannot write {folder / remote.filename}: {error.strerror}") from None
    of = "it" if remote.archive else "its content (decompressed)" if remote.filename.endswith(".gz") else "its content"
    raise BadInput(
        f"{remote.filename} cannot be downloaded ({'; '.join(failures)}). Place it by hand in {place}; "
        f"the sha256 of {of} is {remote.sha256}"
    )
