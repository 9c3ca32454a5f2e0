"""Our own tables, and where a database lies.

`<data>/db/CURRENT` names the generation in use, `<data>/db/<n>/main.db` is its database. A
database that is installed later gets a folder of its own, and CURRENT is replaced by rename and
synced: a new file swapped in under the old name would be undone by the old `-wal` after a crash.

`_rsqlite_applied` holds one row: what has been applied, written in the same transaction as its
effects. `_rsqlite_meta` holds what changes rarely (the configuration, the format), so that the row
written with every entry stays small. Both are visible in `sqlite_schema`, and neither can be read
or written by users.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rsqlite.errors import DamagedFile, ForeignDirectory
from rsqlite.raft.types import Configuration

FORMAT = 1
CURRENT = "CURRENT"
DATABASE = "main.db"

CREATE = (
    "CREATE TABLE _rsqlite_applied(id INTEGER PRIMARY KEY CHECK (id = 1),"
    " applied_index INTEGER NOT NULL, applied_term INTEGER NOT NULL, time_ms INTEGER NOT NULL)",
    "CREATE TABLE _rsqlite_meta(name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID",
)
SELECT_APPLIED = "SELECT applied_index, applied_term, time_ms FROM _rsqlite_applied"
SELECT_INDEX = "SELECT applied_index FROM _rsqlite_applied"
INSERT_APPLIED = "INSERT INTO _rsqlite_applied VALUES (1, 0, 0, 0)"
UPDATE_APPLIED = (
    "UPDATE _rsqlite_applied SET applied_index = ?, applied_term = ?, time_ms = ? WHERE id = 1"
)
SELECT_META = "SELECT value FROM _rsqlite_meta WHERE name = ?"
SET_META = "INSERT OR REPLACE INTO _rsqlite_meta VALUES (?, ?)"
RESET_CHANGES = "DELETE FROM _rsqlite_applied WHERE 0"
"""Changes nothing and leaves `changes()` at 0."""
MAKE_CHANGES = (
    "INSERT INTO _rsqlite_applied WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
    " WHERE i < ?) SELECT 1, 0, 0, 0 FROM n WHERE true ON CONFLICT (id) DO UPDATE SET id = 1"
)
"""Changes nothing either, as often as asked, and leaves `changes()` at that number."""
RAISE_SCHEMA_VERSION = (
    "CREATE VIEW _rsqlite_statistics AS SELECT 1",
    "DROP VIEW _rsqlite_statistics",
)
"""The schema version itself cannot be assigned in DEFENSIVE mode."""


def current_database(root: str) -> str:
    """The path of the database in use. A new root gets its first generation."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    if not os.path.exists(os.path.join(root, CURRENT)):
        if any(os.path.exists(os.path.join(root, name, DATABASE)) for name in os.listdir(root)):
            raise _current_is_gone(root)
        set_current(root, 1)
    path = find_current_database(root)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    sync_directory(root)
    return path


def find_current_database(root: str) -> str:
    """The path of the database in use; DamagedFile when CURRENT does not name one."""
    current = os.path.join(root, CURRENT)
    if not os.path.exists(current):
        raise _current_is_gone(root)
    with open(current, encoding="ascii", errors="replace") as file:
        text = file.read(64)
    if not text.endswith("\n") or not text[:-1].isdigit():
        raise DamagedFile(f"{current} does not name a generation: {text!r}")
    return os.path.join(root, text[:-1], DATABASE)


def _current_is_gone(root: str) -> DamagedFile:
    return DamagedFile(
        f"{root} has no {CURRENT}: a file was removed by hand; write the number of the folder of"
        f" the database in use into it"
    )


def set_current(root: str, generation: int) -> None:
    """Make this generation the one in use; durable when it returns."""
    temporary = os.path.join(root, f"{CURRENT}.new")
    with open(temporary, "w", encoding="ascii") as file:
        file.write(f"{generation}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(root, CURRENT))
    sync_directory(root)


def sync_directory(path: str) -> None:
    """Return when the names in the directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def configuration_in(meta: Mapping[str, Any], path: str) -> Configuration:
    """The configuration that `_rsqlite_meta` holds; ForeignDirectory for one of a later form."""
    data = meta.get("configuration")
    try:
        return Configuration() if data is None else Configuration.from_bytes(data)
    except ValueError as error:
        raise ForeignDirectory(f"{path}: {error}; use the release that wrote it") from error


def check_format(value: object, path: str) -> None:
    """ForeignDirectory when the database is not one of ours that this release can use."""
    if value is None:
        raise ForeignDirectory(f"{path} is a SQLite database that rsqlite did not make")
    if value != FORMAT:
        raise ForeignDirectory(
            f"{path} has format {value!r}, this release knows {FORMAT}:"
            " use the release that wrote it"
        )
