"""Our own tables, and where a database lies.

`<data>/db/CURRENT` names the generation in use, `<data>/db/<n>/main.db` is its database. A
database that is installed later gets a folder of its own, and CURRENT is replaced by rename and
synced: a new file swapped in under the old name would be undone by the old `-wal` after a crash.
Its second line is a checksum of the first. Where it is damaged, it is the only generation there
that is in use; if there are several, the database is lost, and nothing but the database.

`_rsqlite_applied` holds one row: what has been applied, written in the same transaction as its
effects. `_rsqlite_meta` holds what changes rarely (the configuration, the format), so that the row
written with every entry stays small. Both are visible in `sqlite_schema`, and neither can be read
or written by users.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

from rsqlite.errors import DamagedDatabase, DiskFault, ForeignDirectory, disk_fault
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


class Current(NamedTuple):
    """Which generation is in use, its database, what is wrong with the file that should say so, and
    whether it says so as this program would write it."""

    generation: int
    database: str
    problem: str
    is_written: bool


def current_database(root: str) -> str:
    """The path of the database in use. A new root gets its first generation. DiskFault when the
    disk refuses."""
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        current = read_current(root)
        if not current.is_written:
            set_current(root, current.generation)
        os.makedirs(os.path.dirname(current.database), mode=0o700, exist_ok=True)
        sync_directory(root)
    except OSError as error:
        raise disk_fault(f"cannot prepare {root}: {error}", error) from error
    return current.database


def find_current_database(root: str) -> str:
    """The path of the database in use; DamagedDatabase when it cannot be known."""
    return read_current(root).database


def read_current(root: str) -> Current:
    """What CURRENT says, or else what there is. DamagedDatabase when there is too much."""
    path = os.path.join(root, CURRENT)
    numbers = generations_in(root)
    found = [n for n in numbers if os.path.exists(database_of(root, n))]
    data, problem = b"", ""
    try:
        with open(path, "rb") as file:
            data = file.read(64)
        # A number alone somebody has written by hand, or a program before the checksum was there.
        is_number = data.strip().isdigit()
        number = int(data if is_number else decode_note(data))
        return Current(number, database_of(root, number), "", is_written=not is_number)
    except FileNotFoundError:
        problem = f"{path} is missing" if found else ""
    except OSError as error:
        raise DiskFault(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        problem = f"{path} is damaged: {error}"
    if len(found) > 1:
        listed = ", ".join(map(str, found))
        raise DamagedDatabase(
            f"{problem}, and which of the generations {listed} is in use is not known: write its"
            " number into that file"
        )
    number = found[0] if found else max(numbers, default=1)
    return Current(number, database_of(root, number), problem, is_written=False)


def database_of(root: str, number: int) -> str:
    """The path of the database of a generation."""
    return os.path.join(root, str(number), DATABASE)


def generations_in(folder: str) -> list[int]:
    """The numbers that are names in a folder, sorted; none if it is not there."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def set_current(root: str, generation: int) -> None:
    """Make this generation the one in use; durable when it returns."""
    replace_note(os.path.join(root, CURRENT), str(generation))
    sync_directory(root)


def replace_note(path: str, text: str) -> None:
    """Write a small file anew, so that a crash leaves the old one or the new one. The caller syncs
    its folder."""
    with open(f"{path}.new", "wb") as file:
        file.write(encode_note(text))
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)


def encode_note(text: str) -> bytes:
    """A line of a small file, and the checksum of it."""
    return f"{text}\n{crc32(text.encode()):08x}\n".encode()


def decode_note(data: bytes) -> str:
    """The inverse of `encode_note`; ValueError for anything else."""
    text = data.partition(b"\n")[0].decode()
    if encode_note(text) != data:
        raise ValueError("it fails its checksum")
    return text


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


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return f'"{name.replace(chr(34), chr(34) * 2)}"'
