"""Real data where they lie beside the repository, and a server on the loopback that misbehaves to order."""

import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(os.environ.get("PARIBUS_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data sets in {folder}: set PARIBUS_TEST_DATA to a folder with mnist/, tinyshakespeare/")
    return folder


class Server:
    """Answers each request for a path with the next of its ``answers``; the last one stays.

    An answer is a status, or a body, or (body, number of bytes after which the connection is cut).
    """

    def __init__(self) -> None:
        self.answers: dict[str, list] = {}
        self.requests: list[str] = []
        self.pause = 0.0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                answers = outer.answers[self.path]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(answer, int):
                    self.send_error(answer)
                    return
                body, end = answer if isinstance(answer, tuple) else (answer, len(answer))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for start in range(0, end, 2**16):
                    time.sleep(outer.pause)
                    self.wfile.write(body[start : min(start + 2**16, end)])
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    yield made
    made.close()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache folder, empty."""
    import platformdirs

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(platformdirs.user_cache_dir("paribus"))
