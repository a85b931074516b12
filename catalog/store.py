"""What the catalogue keeps on disk: an index that can be deleted and built again from journals and frames.

::

    <data_root>/catalog/
        catalog.db      nodes and metadata (SQLite)
        tables.db       rows of events (SQLite)
        arrays/         arrays of events that are too large for a table (Zarr)
        ingest.lock     held by the one process that ingests
        arrays-1a2b3c4d, arrays-1a2b3c4d.lock   the last two, of a catalogue whose database is in PostgreSQL
        index-1/        the same four, as `lunchbox rebuild` made them; a number more each time
        current         which of them is read, if not the first
        api_key         mode 0600
        server.json     address of the server that runs, if one does
        quarantine/     why a journal is not in the catalogue
        location        where this folder was when the catalogue was made
        moved/          a catalogue that was made elsewhere: set aside, and built again here
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from catalog.errors import DataRootError
from catalog.indexes import index_runs, index_tables, tables_connection
from catalog.keys import KeyStore, without_password
from catalog.layout import CATALOG_DIR, JOURNAL_DIR

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CatalogStore:
    """Files of the catalogue of one data root, and the databases that are elsewhere, by "catalog", "tables", "keys".

    `generation` is one of the folders that `lunchbox rebuild` makes, "" the place of the first catalogue, None the one
    that is current.
    """

    data_root: Path
    generation: str | None = None
    databases: Mapping[str, str] = field(default_factory=dict, repr=False)  # they hold passwords

    @classmethod
    def of(cls, settings: Any) -> CatalogStore:
        given = {name: getattr(settings.server, f"{name}_uri") for name in ("catalog", "tables", "keys")}
        return cls(
            # Links followed: Tiled records absolute paths, which must be the same whichever way the folder was reached.
            Path(settings.data_root).expanduser().resolve(),
            databases={name: uri.get_secret_value() for name, uri in given.items() if uri is not None},
        )

    @property
    def directory(self) -> Path:
        return self.data_root / CATALOG_DIR

    @property
    def journals(self) -> Path:
        return self.data_root / JOURNAL_DIR

    @property
    def pointer(self) -> Path:
        return self.directory / "current"

    @property
    def index(self) -> Path:
        """Folder of databases and arrays."""
        return self.directory / self.pinned().generation  # type: ignore[operator]

    def pinned(self) -> CatalogStore:
        """This store, with the generation that is current now."""
        if self.generation is not None:
            return self
        current = self.pointer.read_text().strip() if self.pointer.exists() else ""
        return replace(self, generation=current)

    @property
    def database(self) -> Path:
        return self.index / "catalog.db"

    @property
    def tables(self) -> Path:
        return self.index / "tables.db"

    @property
    def arrays(self) -> Path:
        # Each index has its own: none finds its place taken by an array of another.
        if (uri := self.databases.get("catalog")) is None:
            return self.index / "arrays"
        return self.directory / f"arrays-{hashlib.sha256(without_password(uri).encode()).hexdigest()[:8]}"

    @property
    def key_file(self) -> Path:
        return self.directory / "api_key"

    @property
    def catalog_uri(self) -> str:
        return self.databases.get("catalog", f"sqlite:///{self.database}")

    @property
    def tables_uri(self) -> str:
        return self.databases.get("tables", f"sqlite:///{self.tables}")

    @property
    def keys(self) -> KeyStore:
        return KeyStore(self.databases.get("keys", f"sqlite:///{self.data_root / 'keys.db'}"))

    @property
    def server_file(self) -> Path:
        return self.directory / "server.json"

    @property
    def ingest_lock(self) -> Path:
        # One for each index: who fills another one is not waited for.
        return self.arrays.with_suffix(".lock") if "catalog" in self.databases else self.index / "ingest.lock"

    @property
    def quarantine(self) -> Path:
        return self.directory / "quarantine"

    def create(self) -> None:
        """Make what is missing; nothing that is there is changed."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with (self.directory / "create.lock").open("a") as lock:
                import fcntl

                # Two processes that open a new catalogue at once: one makes the tables, the other waits for them.
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._set_aside_if_moved()
                self.arrays.mkdir(parents=True, exist_ok=True)
                # Before there is anything in them: making each of their many tables then waits for the disk once.
                if "catalog" not in self.databases:
                    _use_write_ahead_log(self.database)
                self.keys.make_private()
                if "keys" not in self.databases:
                    _use_write_ahead_log(self.data_root / "keys.db")
                with _named(self.databases.get("catalog"), "catalog_uri"):
                    _create_database(self.catalog_uri)
                with _named(self.databases.get("keys"), "keys_uri"):
                    self.keys.create(self.api_key())
                with _named(self.databases.get("tables"), "tables_uri"):
                    _prepare_tables(self.tables_uri)
        except DataRootError:
            raise
        except (OSError, sqlite3.OperationalError) as error:
            raise DataRootError(
                f"{self.directory} cannot hold the catalogue: {error}. "
                f"Give data_root in config/lunchbox.yml a folder that this user may write."
            ) from error

    def _set_aside_if_moved(self) -> None:
        location = self.directory / "location"
        before = location.read_text().strip() if location.exists() else str(self.directory)
        if before != str(self.directory) and "catalog" in self.databases:
            raise DataRootError(
                f"the catalogue's database was made for {before}, and the data root is at {self.data_root} now. "
                f"Give server.catalog_uri, and tables_uri, new databases: the catalogue is built again in them."
            )
        if before != str(self.directory):
            logger.warning("the data root moved from %s: the catalogue is built again from its journals", before)
            aside = self.directory / "moved" / f"{time.time():.0f}"
            aside.mkdir(parents=True)
            common = (self.directory / "arrays", self.pointer, self.quarantine, self.server_file)
            for path in (*self.directory.glob("*.db*"), *self.directory.glob("index-*"), *common):
                if path.exists():
                    path.rename(aside / path.name)
        location.write_text(f"{self.directory}\n")

    def api_key(self) -> str:
        """The key of this catalogue's server, made at its first use."""
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(self.key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        return self.key_file.read_text().strip()

    def running_server(self) -> str | None:
        """Address that a server of this catalogue wrote down; it may be dead by now."""
        try:
            return str(json.loads(self.server_file.read_text())["uri"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text`, readable by its owner only at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def _named(uri: str | None, setting: str) -> Iterator[None]:
    """Errors of a database that is elsewhere say which and what to do."""
    try:
        yield
    except Exception as error:
        if uri is None:
            raise
        raise DataRootError(
            f"{without_password(uri)} cannot be used: {' '.join(str(error).split()) or type(error).__name__}. "
            f"Start it, make an empty database there (createdb), or correct server.{setting} in the configuration."
        ) from error


def _create_database(uri: str) -> None:
    """What `tiled catalog init` does, without the seconds of a process of its own."""
    from sqlalchemy.ext.asyncio import create_async_engine
    from tiled.alembic_utils import UninitializedDatabase, check_database, stamp_head
    from tiled.catalog.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
    from tiled.catalog.core import ALL_REVISIONS, REQUIRED_REVISION, initialize_database
    from tiled.utils import ensure_specified_sql_driver

    uri = ensure_specified_sql_driver(uri)

    async def create() -> bool:
        engine = create_async_engine(uri)
        try:
            await check_database(engine, REQUIRED_REVISION, ALL_REVISIONS)
        except UninitializedDatabase:
            await initialize_database(engine)
            return True
        finally:
            await engine.dispose()
        return False

    async def index() -> None:
        engine = create_async_engine(uri)
        await index_runs(engine)
        await engine.dispose()

    if asyncio.run(create()):
        stamp_head(ALEMBIC_INI_TEMPLATE_PATH, ALEMBIC_DIR, uri)
    asyncio.run(index())


def _use_write_ahead_log(path: Path) -> None:
    # Tiled asks for it inside a transaction, where SQLite ignores the wish; and never for the tables.
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    _check_mode(path, mode)


def _prepare_tables(uri: str) -> None:
    if uri.startswith("sqlite:"):
        with tables_connection(uri) as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
            (mode,) = cursor.fetchone()
        _check_mode(uri, mode)
    index_tables(uri)


def _check_mode(path: object, mode: str) -> None:
    if mode != "wal":
        raise DataRootError(f"{path} cannot use SQLite's write-ahead log ({mode}); is it on a network drive?")
