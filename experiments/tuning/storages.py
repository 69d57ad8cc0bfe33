"""Where an adaptive search lies: a file in the study's folder, or what ``--tuning_storage`` names for many machines.

    sqlite:///FILE                      a database for the processes of one machine
    journal:///FILE                     a file that only grows, in a folder that machines share
    postgresql://USER@HOST:PORT/NAME    a server; its password belongs into ~/.pgpass, but may stand in the URL

As in every such URL, three slashes begin a relative path and four an absolute one. No message names a password.
"""

import contextlib
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.tuning.declaration import Prepared
from models.base import BadInput
from train.records import whole_lines

FORMS = "sqlite:///FILE, journal:///FILE or postgresql://USER@HOST/NAME"

CONNECT_SECONDS = 10
"""How long a server may take to answer."""

LOCKED_SECONDS = 60
"""How long a process waits for its turn to write to a SQLite file."""

FIRST_WORD = b'{"op_code":'
"""With which each line of a journal begins."""

ATTEMPTS = 6
"""At making the tables of a new database, which several machines may do at the same moment."""


def check(url: str | None, prepared: Prepared | None) -> None:
    """Refuse what is no URL of a storage, what nothing would use, and what cannot be reached.

    Raises:
        BadInput: it is one of these.
    """
    if url is None:
        return
    if prepared is None or prepared.points is not None:
        raise BadInput("tuning_storage is for searches that learn: it needs a tuning with --tuning_search=tpe or gp")
    parsed = _parsed(url)
    if parsed.drivername == "journal" or parsed.get_backend_name() == "sqlite":
        memory = parsed.database in (None, "", ":memory:")
        if memory or parsed.host:
            raise BadInput(f"tuning_storage={shown(url)!r} must name a file: {parsed.drivername}:///FILE")
        folder = Path(str(parsed.database).removeprefix("file:")).parent
        if not folder.is_dir():
            raise BadInput(
                f"tuning_storage={shown(url)!r}: there is no folder {folder} (three slashes begin a relative path, "
                "four an absolute one)"
            )
        return
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(parsed, **_options(parsed))
        with _named(url, "cannot be used"), engine.connect():
            pass
        engine.dispose()
    except ImportError as error:
        ours = parsed.drivername == "postgresql+psycopg"
        remedy = "install psycopg with: pip install -e '.[postgres]'" if ours else str(error).partition("\n")[0]
        raise BadInput(f"tuning_storage={shown(url)!r} needs a driver that is not installed: {remedy}") from None


@contextlib.contextmanager
def opened(url: str) -> Iterator[Any]:
    """The storage of a URL, with its tables. What goes wrong with it meanwhile is one clear line.

    Raises:
        BadInput: it cannot be reached, or no longer; it cannot be written to; or another version of Optuna made it.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parsed = _parsed(url)
    if parsed.drivername == "journal":
        with _journal(url, Path(str(parsed.database))) as journal:
            yield journal
        return
    with _named(url, "cannot be used"):
        storage = _database(parsed, url)
    try:
        with _named(url, "failed"):
            yield storage
    finally:
        storage.engine.dispose()


def shown(url: str) -> str:
    """The URL without what may be secret."""
    parsed = _parsed(url)
    return parsed.set(query={}).render_as_string(hide_password=True)


def _parsed(url: str) -> Any:
    """The parts of a URL.

    Raises:
        BadInput: it is none, or of a kind that is not known. The text is not repeated: it may hold a password.
    """
    import sqlalchemy.exc

    try:
        parsed = sqlalchemy.make_url(url)
        if parsed.drivername == "journal":
            return parsed
        if parsed.drivername == "postgresql":  # of which SQLAlchemy 2.0 and 2.1 have different default drivers
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect()
    except sqlalchemy.exc.NoSuchModuleError:
        kind = url.partition(":")[0]
        raise BadInput(f"tuning_storage: {kind!r} is no kind of database that is known; give {FORMS}") from None
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise BadInput(f"tuning_storage must be a URL such as {FORMS}") from None
    if "@" in (parsed.host or ""):
        raise BadInput("tuning_storage: write an @ in the password as %40")
    return parsed


def _options(parsed: Any) -> dict[str, Any]:
    """How to connect."""
    import sqlalchemy

    if parsed.get_backend_name() == "sqlite":
        # Without a pool no connection stays open where Optuna gives up before anyone has its engine to dispose of.
        return {"connect_args": {"timeout": LOCKED_SECONDS}, "poolclass": sqlalchemy.NullPool}
    # A connection may have been lost while a population trained: it is tried before it is used.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if parsed.get_backend_name() == "postgresql" and "connect_timeout" not in parsed.query:
        options["connect_args"] = {"connect_timeout": CONNECT_SECONDS}
    return options


@contextlib.contextmanager
def _journal(url: str, path: Path) -> Iterator[Any]:
    """A journal, cut back to its last whole line, where a full disk or a crash left another."""
    import optuna.storages.journal

    damaged = BadInput(
        f"tuning_storage={shown(url)!r} is no journal that this version of Optuna can read; name another"
    )
    lock = optuna.storages.journal.JournalFileSymlinkLock(str(path))
    backend = optuna.storages.journal.JournalFileBackend(str(path), lock)
    lock.acquire()
    try:
        whole = whole_lines(path)
        torn = path.read_bytes()[len(whole) :]
        is_ours = all(line.startswith(FIRST_WORD) for line in whole.splitlines())
        if not is_ours or not FIRST_WORD.startswith(torn[: len(FIRST_WORD)]):
            raise damaged
        storage = optuna.storages.JournalStorage(backend)
        os.truncate(path, len(whole))
    except (ValueError, LookupError, TypeError, AssertionError):
        raise damaged from None
    finally:
        lock.release()
    try:
        yield storage
    except json.JSONDecodeError:
        raise damaged from None


def _database(parsed: Any, url: str) -> Any:
    import alembic.util
    import optuna
    import sqlalchemy.exc

    # Optuna takes braces in a URL for places to fill in.
    text = parsed.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    for attempt in range(ATTEMPTS):
        try:
            storage = optuna.storages.RDBStorage(text, _options(parsed))
            break
        except (
            sqlalchemy.exc.SQLAlchemyError,
            optuna.exceptions.StorageInternalError,
            alembic.util.CommandError,
        ):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.3))
        except RuntimeError as error:
            told = " ".join(str(error).replace("$STORAGE_URL", "URL").split())
            raise BadInput(f"tuning_storage={shown(url)!r} is of another version of Optuna. {told}") from None
    else:
        raise AssertionError
    if parsed.get_backend_name() == "sqlite":
        _in_turn(storage.engine)
    return storage


def _in_turn(engine: Any) -> None:
    """Let each transaction on a SQLite file begin by taking the file.

    Optuna reads whether a trial still runs, then writes what it came to; a server locks the row between the two, and
    SQLite does not.
    """
    import sqlalchemy.event

    engine.dispose()  # connections that were made before

    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # lest Python begin transactions of its own

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sqlalchemy.event.listen(engine, "connect", connect)
    sqlalchemy.event.listen(engine, "begin", begin)


@contextlib.contextmanager
def _named(url: str, what: str) -> Iterator[None]:
    """Turn an error of the database into one line that says which one it was.

    Raises:
        BadInput: instead of that error.
    """
    import optuna
    import sqlalchemy.exc

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause: BaseException = error
        while not isinstance(cause, sqlalchemy.exc.SQLAlchemyError) and cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())[:300]
        password = _parsed(url).password
        if password:
            reason = reason.replace(password, "***")
        raise BadInput(
            f"the storage of the tuning, {shown(url)}, {what}: {reason}; once that is mended, the same command goes on"
        ) from None
