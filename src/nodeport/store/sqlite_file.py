"""The file below a ``SqliteStore``: one table of changes, written and compacted by one connection.

A row is one key's change: its value (NULL for a deletion) and the row that it superseded. The current state is what
no row supersedes, the history is every row above the compacted revision, so each change is written exactly once. Rows
go in the order of their ids: revision * 2**20 + position within the commit.

SQLite holds an exclusive lock on the file for as long as it is open: a second opener, in this process or another, is
refused, and a killed process leaves no lock behind.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nodeport.store.base import Unavailable
from nodeport.store.state import Commit, State

Synchronous = Literal["FULL", "OFF"]

SCHEMA_VERSION = 1
POSITION_BITS = 20
MAX_OPERATIONS = 1 << POSITION_BITS
WAL_LIMIT = 16 << 20
"""Bytes to which the write-ahead log is cut back after a checkpoint."""

SCHEMA = """
CREATE TABLE changes (
    id              INTEGER PRIMARY KEY,
    key             TEXT    NOT NULL,
    value           BLOB,
    create_revision INTEGER NOT NULL,
    supersedes      INTEGER NOT NULL
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES ('compacted_revision', 0), ('revision', 0);
"""


@dataclass(frozen=True, slots=True)
class Compaction:
    """A wish in the writer's queue: forget history up to ``revision``."""

    revision: int


Write = Commit | Compaction


class SqliteFile:
    """All methods block, and run on one thread only. They raise ``Unavailable`` when the disk refuses."""

    def __init__(self, path: Path, *, synchronous: Synchronous) -> None:
        self._path = path
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._row_of_key: dict[str, int] = {}

    def open(self) -> None:
        try:
            _create_private(self._path)
            self._connection = sqlite3.connect(
                self._path, isolation_level=None, timeout=0, check_same_thread=False, cached_statements=16
            )
            self._prepare(self._connection)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise _unavailable(self._path, error) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT}")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise Unavailable(
                f"{self._path} has format {version}; this version reads format {SCHEMA_VERSION}"
            )
        connection.execute("COMMIT")

    def load(self, state: State) -> None:
        """Fill ``state``, which is empty."""
        connection = self._opened()
        try:
            compacted, revision = _fact(connection, "compacted_revision"), _newest(connection)
            rows = connection.execute(
                "SELECT key, value, create_revision, id FROM changes ORDER BY id"
            ).fetchall()
        except sqlite3.Error as error:
            raise _unavailable(self._path, error) from error
        self._row_of_key = {key: row_id for key, value, _, row_id in rows if value is not None}
        for key, value, _, row_id in rows:
            if value is None and self._row_of_key.get(key, row_id) < row_id:
                del self._row_of_key[key]
        state.restore(
            ((key, value, created, row_id >> POSITION_BITS) for key, value, created, row_id in rows),
            revision=revision,
            compacted_revision=compacted,
        )

    def write(self, writes: Sequence[Write]) -> None:
        """Make all of ``writes`` durable with one fsync, or none of them."""
        connection = self._opened()
        commits = [write for write in writes if isinstance(write, Commit)]
        rows, moved = self._rows(commits)
        compacted = max((write.revision for write in writes if isinstance(write, Compaction)), default=0)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", rows)
            if commits and not commits[-1].events:
                _set_fact(connection, "revision", commits[-1].revision)
            if compacted:
                _compact(connection, compacted)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not (commits and _landed(connection, commits[-1])):
                raise _unavailable(self._path, error) from error
        for key, row_id in moved.items():
            if row_id:
                self._row_of_key[key] = row_id
            else:
                self._row_of_key.pop(key, None)

    def _rows(
        self, commits: Iterable[Commit]
    ) -> tuple[list[tuple[int, str, bytes | None, int, int]], dict[str, int]]:
        """Rows to insert, and where each key's newest row will be (0: nowhere)."""
        rows: list[tuple[int, str, bytes | None, int, int]] = []
        moved: dict[str, int] = {}
        for commit in commits:
            base = commit.revision << POSITION_BITS
            for position, event in enumerate(commit.events):
                key, current = event.key, event.current
                superseded = moved[key] if key in moved else self._row_of_key.get(key, 0)
                value, created = (current.value, current.create_revision) if current else (None, 0)
                rows.append((base + position, key, value, created, superseded))
                moved[key] = base + position if current else 0
        return rows, moved

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise Unavailable(f"{self._path} is not open")
        return self._connection


def _fact(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return int(value)


def _set_fact(connection: sqlite3.Connection, name: str, value: int) -> None:
    connection.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))


def _newest(connection: sqlite3.Connection) -> int:
    """The newest revision: of the last row, or of a later commit that changed nothing, or whose rows are compacted."""
    (row_id,) = connection.execute("SELECT max(id) FROM changes").fetchone()
    return max(
        (row_id or 0) >> POSITION_BITS, _fact(connection, "revision"), _fact(connection, "compacted_revision")
    )


def _compact(connection: sqlite3.Connection, revision: int) -> None:
    """Delete what only history up to ``revision`` needs: superseded values, and deletions."""
    old = _fact(connection, "compacted_revision")
    if revision <= old:
        return
    bounds = ((old + 1) << POSITION_BITS, (revision + 1) << POSITION_BITS)
    connection.execute(
        "DELETE FROM changes WHERE id IN"
        " (SELECT supersedes FROM changes WHERE id >= ? AND id < ? AND supersedes > 0)", bounds,
    )  # fmt: skip
    connection.execute("DELETE FROM changes WHERE id >= ? AND id < ? AND value IS NULL", bounds)
    _set_fact(connection, "compacted_revision", revision)


def _landed(connection: sqlite3.Connection, last: Commit) -> bool:
    """Whether a transaction whose COMMIT reported an error is in the file all the same."""
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return _newest(connection) == last.revision
    except sqlite3.Error:
        return False


def _create_private(path: Path) -> None:
    """Make the file with mode 0600 before SQLite would make it with the umask's.

    An existing file is not opened here: closing any descriptor of it would drop the locks that SQLite holds on it
    elsewhere in this process (POSIX record locks).
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        return
    os.close(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _unavailable(path: Path, error: Exception) -> Unavailable:
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        why = "the file is in use by another process"
        return Unavailable(f"{path} is in use by another process", why)
    return Unavailable(f"{path}: {error}", str(error))
