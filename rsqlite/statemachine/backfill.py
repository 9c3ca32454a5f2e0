"""How far a checkpoint has gone through a WAL, written beside the database before it goes there.

At a start SQLite believes a WAL up to the first frame that fails its checksum, as after a power
loss, and reads everything else from the database file. If frames behind that one had been brought
into the file already, it is a mixture of two moments, sound in every page (tried: half of a
transaction was there). So before frames are brought into the file their number is written down, and
a start looks whether the WAL still has as many. If not:

- and the file holds all of them: then it needs no WAL, which is set aside. The log has what was
  committed after them;
- and bringing them was under way: the database is damaged.

Where nothing is in the WAL the note is removed: a WAL that was only set apart, to have its room, is
zeros until the first COMMIT, and not one that has lost its header.

The number is written when its frames are on the disk, so a power loss never makes it a lie. `name`
tells one WAL from the next one in the same file: what SQLite calls salts.

The note lies in the folder of the database: `backfill`, its words in one line and a checksum.
"""

from __future__ import annotations

import operator
import os
from typing import Any, NamedTuple

import apsw

from rsqlite.errors import DamagedDatabase, disk_fault
from rsqlite.statemachine import schema
from rsqlite.statemachine.opening import open_error
from rsqlite.statemachine.vfs import OpenFile
from rsqlite.statemachine.walfile import (
    FRAME_HEADER_BYTES,
    FRAME_SALTS,
    HEADER_BYTES,
    SALTS,
    frame_bytes,
    is_header_sound,
    is_unwritten,
    name_in,
)

BACKFILL = "backfill"
ASIDE = "main.db-wal.damaged"
"""A WAL that was not used any more."""


class Backfill(NamedTuple):
    """Of the WAL of this name, `frames` are being brought into the database file, or are there:
    `is_done`, and then none behind them are."""

    name: str
    frames: int
    is_done: bool


def note_backfill(database: str, backfill: Backfill, *, syncs: bool) -> None:
    """Write it down, durably if `syncs`. DiskFault when the disk refuses."""
    path = _path(database)
    text = f"{backfill.name} {backfill.frames} {'done' if backfill.is_done else 'begun'}"
    try:
        is_new = not os.path.exists(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Always as long, in one sector: it is written over, and never seen half-written.
            os.pwrite(descriptor, schema.encode_note(text.ljust(64)), 0)
            if syncs:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if is_new and syncs:
            schema.sync_directory(os.path.dirname(path))
    except OSError as error:
        raise disk_fault(f"cannot write {path}: {error}", error) from error


def forget_backfill(database: str) -> None:
    """Call when nothing is in the WAL: all that was noted is in the file, and synced. Durable.
    DiskFault when the disk refuses."""
    path = _path(database)
    try:
        os.unlink(path)
        schema.sync_directory(os.path.dirname(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise disk_fault(f"cannot remove {path}: {error}", error) from error


def noted_backfill(database: str) -> Backfill | None:
    """What is written; None if nothing is that can be believed."""
    try:
        return _read(database)
    except ValueError:
        return None


def _read(database: str) -> Backfill | None:
    path = _path(database)
    try:
        with open(path, "rb") as file:
            name, frames, state = schema.decode_note(file.read(256)).split()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_fault(f"cannot read {path}: {error}", error) from error
    return Backfill(name, int(frames), state == "done")


class WalState(NamedTuple):
    """What is wrong with the WAL of a database that nobody uses. `is_short`: frames are missing
    that may be in the file; `is_needed`: and the file is none without them."""

    problem: str
    is_short: bool = False
    is_needed: bool = False


def judge_wal(database: str) -> WalState:
    """Look at it; changes nothing."""
    path = f"{database}-wal"
    if not os.path.exists(database) or is_unwritten(path):
        return WalState("")
    if not os.path.getsize(database):
        # SQLite would take it for a new one, and remove the WAL.
        return WalState(f"{database} is empty, and its WAL is not", is_short=True, is_needed=True)
    header, frames, page_bytes, is_longer = _look(database)
    try:
        note = _read(database)
    except ValueError as error:
        # As good as none: the WAL itself says whether it is whole.
        return WalState(f"{_path(database)} is damaged: {error}")
    is_sound = is_header_sound(header)
    is_noted = note is not None and (not is_sound or note.name == name_in(header))
    is_short = note is not None and is_noted and (not is_sound or frames < note.frames)
    problem = ""
    if not is_sound:
        problem = f"{path} at byte 0: the header fails its checksum"
    elif is_short or is_longer:
        at = HEADER_BYTES + frames * frame_bytes(page_bytes)
        problem = f"{path} at byte {at}: frame {frames + 1} is damaged, or of no whole transaction"
    if note is None or not is_short:
        return WalState(problem)
    if note.is_done:
        problem += f"; the database file holds all up to frame {note.frames}"
    else:
        problem += f"; up to frame {note.frames} it was being brought into the database file"
    return WalState(problem, is_short, is_needed=not note.is_done)


def check_wal(database: str) -> str:
    """Before the database is opened: set its WAL aside if it cannot be used and is not needed. What
    was wrong with it, or nothing. DamagedDatabase if it was needed."""
    if is_unwritten(f"{database}-wal"):
        forget_backfill(database)
        return ""
    state = judge_wal(database)
    if state.is_needed:
        raise DamagedDatabase(state.problem)
    if not state.is_short:
        return state.problem
    folder = os.path.dirname(database)
    try:
        os.replace(f"{database}-wal", os.path.join(folder, ASIDE))
        schema.sync_directory(folder)
    except OSError as error:
        raise disk_fault(f"cannot set {database}-wal aside: {error}", error) from error
    return f"{state.problem}, and the WAL was set aside"


def _look(database: str) -> tuple[bytes, int, int, bool]:
    """The header of the WAL; how many frames SQLite finds in it; bytes of a page; and whether a
    further frame was written in it."""
    try:
        # Who closes a database last brings its WAL into the file, if it may write.
        connection = apsw.Connection(
            database, flags=apsw.SQLITE_OPEN_READONLY, vfs=apsw.vfs_names()[0]
        )
        try:
            connection.execute("PRAGMA schema_version").fetchall()
            rows: Any = connection.execute("PRAGMA page_size").fetchall()
            page_bytes = int(rows[0][0])
            frames, _ = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
            wal = OpenFile(connection, is_wal=True)
            header = wal.read(HEADER_BYTES, 0)
            at = HEADER_BYTES + frames * frame_bytes(page_bytes)
            frame = wal.read(FRAME_HEADER_BYTES, at)
            # Those of the WAL before differ in half of their bytes at least; one may be damaged.
            equal = map(operator.eq, frame[FRAME_SALTS], header[SALTS])
            return header, frames, page_bytes, sum(equal) >= 7
        finally:
            connection.close()
    except apsw.Error as error:
        raise open_error(error, database) from error


def _path(database: str) -> str:
    return os.path.join(os.path.dirname(database), BACKFILL)
