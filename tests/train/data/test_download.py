import gzip
import hashlib
import logging
import multiprocessing
import os
import socket
import stat
from types import SimpleNamespace

import numpy as np
import pytest

from models.base import BadInput
from train.data import download as downloads
from train.data import registry
from train.data.files import Remote

CONTENT = np.random.default_rng(0).integers(0, 256, 400_000).astype(np.uint8).tobytes()
DIGEST = hashlib.sha256(CONTENT).hexdigest()
# Not the time of day in its head: ids of tests must be the same in every process.
BODY = gzip.compress(CONTENT, 1, mtime=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch, cache):
    """No waiting between retries; the cache is an empty folder."""
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda _: None))


def remote(*urls):
    return Remote(filename="data.gz", urls=urls, sha256=DIGEST, size=len(CONTENT), licence="none")


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def test_downloads_once_into_a_private_folder(server, cache):
    server.answers["/data.gz"] = [BODY]
    for _ in range(2):
        assert registry.obtain(remote(f"{server.url}/data.gz"), "made_up", None).content == CONTENT
    assert server.requests == ["/data.gz"]
    assert [file.name for file in (cache / "data/made_up").iterdir()] == ["data.gz"]
    assert stat.S_IMODE(os.stat(cache).st_mode) == 0o700


@pytest.mark.parametrize(
    "first", [(BODY, 100_000), 500, 503, b"not it", BODY[:-9]], ids=["cut", "500", "503", "other", "short"]
)
def test_failure_that_passes_is_tried_again(server, cache, first):
    server.answers["/data.gz"] = [first, BODY]
    assert registry.obtain(remote(f"{server.url}/data.gz"), "made_up", None).content == CONTENT
    assert len(server.requests) == 2
    assert [file.name for file in (cache / "data/made_up").iterdir()] == ["data.gz"]


@pytest.mark.parametrize(
    ("answer", "reason", "requests"),
    [
        (404, "404 Not Found", 1),
        (500, "500 Internal Server Error", 1 + downloads.RETRIES),
        ((BODY, 100_000), "the connection was cut", 1 + downloads.RETRIES),
        (b"not it", f"found 6 bytes with sha256 {hashlib.sha256(b'not it').hexdigest()}", 1 + downloads.RETRIES),
    ],
    ids=["404", "500", "cut", "wrong"],
)
def test_failure_that_stays_is_one_line_and_leaves_nothing(server, cache, answer, reason, requests):
    server.answers["/data.gz"] = [answer]
    with pytest.raises(BadInput) as error:
        registry.obtain(remote(f"{server.url}/data.gz"), "made_up", None)
    message = one_line(error)
    assert reason in message
    assert f"{server.url}/data.gz" in message
    assert str(cache / "data/made_up") in message
    assert DIGEST in message
    assert len(server.requests) == requests
    assert not list((cache / "data/made_up").iterdir())


def test_mirrors_are_tried_in_turn(server):
    server.answers |= {"/first": [404], "/second": [b"not it"], "/third": [BODY]}
    urls = [f"{server.url}/{name}" for name in ("first", "second", "third")]
    assert registry.obtain(remote(*urls), "made_up", None).content == CONTENT
    assert list(dict.fromkeys(server.requests)) == ["/first", "/second", "/third"]


def test_offline_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/data.gz"
        with pytest.raises(BadInput) as error:
            registry.obtain(remote(url), "made_up", tmp_path)
    message = one_line(error)
    for part in (url, "no connection", str(tmp_path / "made_up"), DIGEST, "by hand"):
        assert part in message


def test_stalled_server_times_out_and_a_slow_one_shows_progress(server, monkeypatch, caplog):
    server.answers["/data.gz"] = [BODY]
    server.pause = 0.05
    monkeypatch.setattr(downloads, "PROGRESS_SECONDS", 0.1)
    with caplog.at_level(logging.INFO, logger="paribus"):
        registry.obtain(remote(f"{server.url}/data.gz"), "slow", None)
    assert any("of 0.4 MB" in line and "s left" in line for line in caplog.messages)
    monkeypatch.setattr(downloads, "TIMEOUT", (0.2, 0.2))
    monkeypatch.setattr(downloads, "RETRIES", 0)
    server.pause = 0.6
    with pytest.raises(BadInput, match=r"timed out|no connection"):
        registry.obtain(remote(f"{server.url}/data.gz"), "stalled", None)


def _obtain(url, results):
    results.put(registry.obtain(remote(url), "made_up", None).content == CONTENT)


def test_two_processes_at_once(server, cache):
    server.answers["/data.gz"] = [BODY]
    server.pause = 0.02
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = [context.Process(target=_obtain, args=(f"{server.url}/data.gz", results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert results.get()
    assert results.get()
    assert [file.name for file in (cache / "data/made_up").iterdir()] == ["data.gz"]


def test_spoilt_file_in_the_cache_is_replaced(server, cache, caplog):
    server.answers["/data.gz"] = [BODY]
    (cache / "data/made_up").mkdir(parents=True)
    (cache / "data/made_up/data.gz").write_bytes(BODY[:1000])
    assert registry.obtain(remote(f"{server.url}/data.gz"), "made_up", None).content == CONTENT
    assert any("removed from the cache" in line for line in caplog.messages)


@pytest.mark.parametrize(("filename", "content"), [("data.gz", gzip.compress(CONTENT, 9, mtime=0)), ("data", CONTENT)])
def test_users_folder_comes_first_compressed_anyhow_or_not(tmp_path, filename, content):
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / filename).write_bytes(content)
    file = registry.obtain(remote("http://127.0.0.1:9/never"), "made_up", tmp_path)
    assert file.content == CONTENT
    assert file.origin == str(tmp_path / "made_up" / filename)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"other", mtime=0), f"found 5 bytes with sha256 {hashlib.sha256(b'other').hexdigest()}"),
        (BODY[:5000], "cut short"),
        (BODY[:5000] + b"\0" * 100 + BODY[5100:], "corrupt|wrong content"),
    ],
    ids=["other", "truncated", "damaged"],
)
def test_users_wrong_file_is_an_error_and_stays(tmp_path, content, words):
    path = tmp_path / "made_up" / "data.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(BadInput, match=words) as error:
        registry.obtain(remote("http://127.0.0.1:9/never"), "made_up", tmp_path)
    assert str(path) in one_line(error)
    assert path.read_bytes() == content


def test_unusable_folders(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="not a folder"):
        registry.obtain(remote("http://127.0.0.1:9/never"), "made_up", tmp_path / "absent")
    (tmp_path / "made_up" / "data.gz").mkdir(parents=True)
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        registry.obtain(remote("http://127.0.0.1:9/never"), "made_up", tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="cache folder"):
        registry.cache_folder()
