"""A compact copy of the database: what VACUUM makes, as a new generation beside the one in use.

`VACUUM INTO` writes what is committed to a new file, page after page in the order of the tables,
without the pages that nothing uses. Rowids, page size and room for checksums stay, so a replica
that goes on with the copy computes what the others do.
"""

from __future__ import annotations

import os
from functools import partial

import apsw

from rsqlite.errors import DamagedFile
from rsqlite.ports import Done
from rsqlite.raft.types import EntryId, Index, Term
from rsqlite.statemachine import schema
from rsqlite.statemachine.background import Background, BrokenOff
from rsqlite.statemachine.image import read_image


def copy_compactly(
    background: Background, path: str, done: Done[EntryId], *, timeout_s: float
) -> None:
    """Have what is committed now written to a new file at `path`, compact and synced; the last
    entry that it holds. BrokenOff when it cannot be written."""
    background.begin(partial(_copy, path), done, timeout_s)


def _copy(path: str, connection: apsw.Connection) -> EntryId:
    """In a thread."""
    # VACUUM wants no transaction; it makes a snapshot of its own.
    connection.execute("COMMIT")
    try:
        connection.execute("VACUUM INTO ?", (path,))
        sync(path)
        schema.sync_directory(os.path.dirname(path))
        index, term, _ = read_image(path)
    except (apsw.FullError, apsw.CantOpenError, DamagedFile, OSError) as error:
        raise BrokenOff(f"cannot write {path}: {error}") from error
    return EntryId(Term(term), Index(index))


def sync(path: str) -> None:
    """Return when what was written to the copy so far is on the disk; in a thread. Nobody relies on
    SQLite's locks on it yet, which the closing takes away."""
    with open(path, "rb+", buffering=0) as file:
        os.fdatasync(file.fileno())
