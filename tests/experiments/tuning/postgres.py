"""A PostgreSQL server of the tests' own, in a temporary folder, on a port of the loopback, with a password."""

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "kept{secret}%:"
"""Of characters that mean something in URLs, in Optuna's templates and in its configuration files."""

QUOTED = "kept%7Bsecret%7D%25%3A"


def _program(name: str) -> str | None:
    return shutil.which(name) or max(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None)


class Server:
    """A server that can be stopped, and started again with what it held.

    Args:
        folder: its own; of the user that runs it.
        user: who runs it: it refuses to be run by root. None: who runs the tests.
    """

    def __init__(self, folder: Path, user: str | None) -> None:
        self._folder = folder
        self._as = ["runuser", "-u", user, "--"] if user else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "-U", "paribus", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "-E", "UTF8")

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self._as, _program(name), "-D", str(self._folder / "data"), *arguments]
        log = self._folder / "output.txt"
        with log.open("a") as output:  # a pipe would stay open as long as the server
            done = subprocess.run(command, stdout=output, stderr=output, cwd=self._folder, timeout=60, check=False)
        assert done.returncode == 0, log.read_text()

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self._folder}"
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log.txt"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def database(self, name: str) -> str:
        """The URL of a new database."""
        import psycopg

        about = {"host": "127.0.0.1", "port": self.port, "user": "paribus", "password": PASSWORD}
        with psycopg.connect(**about, dbname="postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql://paribus:{QUOTED}@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server, as long as the context lasts. Where there is none to start, the test is skipped."""
    pytest.importorskip("psycopg", reason="NOT TESTED with PostgreSQL: psycopg is not installed")
    if _program("initdb") is None or _program("pg_ctl") is None:
        pytest.skip("NOT TESTED with PostgreSQL: there is no server (initdb, pg_ctl); install postgresql")
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="paribus-postgresql-"))
    try:
        if user:
            shutil.chown(folder, user)
        server = Server(folder, user)
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(AssertionError):  # a test may have stopped it
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
