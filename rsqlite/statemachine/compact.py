"""A compact copy of the database: what VACUUM makes, as a new generation beside the one in use.

`VACUUM INTO` writes what is committed to a new file, page after page in the order of the tables,
without the pages that nothing uses. Rowids, page size and room for checksums stay. What it changes
of what SQL sees is brought back, so that a replica that goes on with the copy computes what the
others do: the order of the schema's rows, and `sqlite_sequence`, which outlives the last table that
needs it.

The checksums themselves need a second pass. `cksmvfs` computes them once it has seen that page 1
has room for them, and SQLite writes page 1 last: whatever its cache could not hold until then has
none (tried: 460 MB through a cache of 16 MiB). Every page is written once more through `cksmvfs`,
page 1 first: 26 µs a page beside a busy loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import apsw

from rsqlite.errors import DamagedFile
from rsqlite.ports import Done
from rsqlite.raft.types import EntryId, Index, Term
from rsqlite.statemachine import schema
from rsqlite.statemachine.background import Background, BrokenOff
from rsqlite.statemachine.image import CHUNK_BYTES, read_image
from rsqlite.statemachine.opening import PAGE_BYTES, expect
from rsqlite.statemachine.vfs import load_checksum_vfs

_SEQUENCE = "sqlite_sequence"
_READ_WRITE = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_MAIN_DB


def copy_compactly(
    background: Background, path: str, done: Done[EntryId], *, timeout_s: float
) -> None:
    """Have what is committed now written to a new file at `path`, compact and synced; the last
    entry that it holds. BrokenOff when it cannot be written."""
    background.begin(partial(_copy, path), done, timeout_s)


def _copy(path: str, connection: apsw.Connection, is_over: Callable[[], bool]) -> EntryId:
    """In a thread."""
    # VACUUM wants no transaction; it makes a snapshot of its own.
    connection.execute("COMMIT")
    try:
        # What is the same before and after is what it was at the moment that is copied.
        rows, numbers = _schema(connection), _numbers(connection)
        connection.execute("VACUUM INTO ?", (path,))
        if _schema(connection) != rows:
            raise BrokenOff("the schema changes")
        are_same = _numbers(connection) == numbers
        _write_checksums(path, is_over)
        with closing(apsw.Connection(path, vfs=load_checksum_vfs())) as copy:
            is_left = _restore_schema(copy, rows, numbers)
        if is_left and not are_same:
            raise BrokenOff("sqlite_sequence changes")
        _use_wal(path)
        sync(path)
        schema.sync_directory(os.path.dirname(path))
        index, term, _ = read_image(path)
    except (apsw.FullError, apsw.CantOpenError, DamagedFile, OSError) as error:
        raise BrokenOff(f"cannot write {path}: {error}") from error
    return EntryId(Term(term), Index(index))


def _write_checksums(path: str, is_over: Callable[[], bool]) -> None:
    target = apsw.VFSFile(load_checksum_vfs(), path, [_READ_WRITE, 0])
    try:
        with open(path, "rb", buffering=0) as source:
            offset = 0
            while chunk := source.read(CHUNK_BYTES):
                if is_over():
                    raise BrokenOff("broken off")
                for start in range(0, len(chunk), PAGE_BYTES):
                    # A slice is a copy, into which the checksum is written on its way.
                    target.xWrite(chunk[start : start + PAGE_BYTES], offset + start)
                offset += len(chunk)
    finally:
        target.xClose()


def _schema(connection: apsw.Connection) -> list[Any]:
    return connection.execute(
        "SELECT rowid, type, name FROM sqlite_schema ORDER BY rowid"
    ).fetchall()


def _numbers(connection: apsw.Connection) -> list[Any]:
    """What AUTOINCREMENT notes, if there is such a table, or was one."""
    if ("table", _SEQUENCE) not in {(kind, name) for _, kind, name in _schema(connection)}:
        return []
    return connection.execute(f"SELECT rowid, name, seq FROM {_SEQUENCE}").fetchall()


def _restore_schema(copy: apsw.Connection, rows: list[Any], numbers: list[Any]) -> bool:
    """Give each row of the schema its number in the database that was copied. True if AUTOINCREMENT
    had left its table, with these rows, and nobody who needs it."""
    for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "writable_schema = ON"):
        copy.execute(f"PRAGMA {pragma}")
    copy.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    copied = {(kind, name) for _, kind, name in _schema(copy)}
    is_left = {(kind, name) for _, kind, name in rows} - copied == {("table", _SEQUENCE)}
    if is_left:
        copy.execute("CREATE TABLE _rsqlite_sequence(id INTEGER PRIMARY KEY AUTOINCREMENT)")
        copy.execute("DROP TABLE _rsqlite_sequence")
        copy.executemany(f"INSERT INTO {_SEQUENCE}(rowid, name, seq) VALUES(?, ?, ?)", numbers)
    with copy:
        copy.execute("UPDATE sqlite_schema SET rowid = -rowid")
        copy.executemany("UPDATE sqlite_schema SET rowid = ? WHERE type = ? AND name = ?", rows)
    if _schema(copy) != rows:
        raise BrokenOff("the schema changes")
    return is_left


def _use_wal(path: str) -> None:
    """A new file begins without a WAL, and the change to one syncs: not for the loop, which opens
    it next."""
    connection = apsw.Connection(path, vfs=load_checksum_vfs())
    try:
        expect(connection, "journal_mode", "wal", "wal")
    finally:
        connection.close()


def sync(path: str) -> None:
    """Return when what was written to the copy so far is on the disk; in a thread. Nobody relies on
    SQLite's locks on it yet, which the closing takes away."""
    with open(path, "rb+", buffering=0) as file:
        os.fdatasync(file.fileno())
