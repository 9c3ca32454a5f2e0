"""What SQLite's errors mean here: a result for the client, or the end of this node.

CONSTRAINT, ERROR, MISMATCH, TOOBIG, RANGE and AUTH are what a statement may end with, on every
replica alike (design 4). I/O errors and corruption are this node's own and stop it. Everything else
(interrupted, full, out of memory, ...) is told to the client and never reaches the log.
"""

from __future__ import annotations

from typing import TypeVar

import apsw

from rsqlite.errors import DamagedDatabase, DiskFault, DiskFull, DoubtedDatabase, NodeFault
from rsqlite.request import Failure

Error = TypeVar("Error", bound=BaseException)

_RESULT_CODES = frozenset(
    {
        apsw.SQLITE_ERROR,
        apsw.SQLITE_CONSTRAINT,
        apsw.SQLITE_MISMATCH,
        apsw.SQLITE_TOOBIG,
        apsw.SQLITE_RANGE,
        apsw.SQLITE_AUTH,
    }
)
_DAMAGE_CODES = frozenset({apsw.SQLITE_NOTADB, apsw.SQLITE_IOERR_DATA})
_FAULT_CODES = frozenset(
    {apsw.SQLITE_IOERR, apsw.SQLITE_CANTOPEN, apsw.SQLITE_PROTOCOL, apsw.SQLITE_READONLY}
)

NO_TEMPORARY_ROOM = (
    "SQLite finds no directory for its temporary files on this node: give rsqlited one, writable,"
    " in SQLITE_TMPDIR"
)
VACUUM_TEXT = (
    "VACUUM is sent alone, as a request of its own (or as POST /vacuum), and VACUUM INTO is not"
    " replicated"
)


def kept(error: Error) -> Error:
    """The error, to be kept as a value: without its traceback, whose frames hold the error, and so
    would hold each other, and the values of the request, until the garbage collector comes. That
    counts objects, and not how large they are."""
    return error.with_traceback(None)


def extended_code(error: BaseException) -> int:
    """SQLite's extended result code; SQLITE_ERROR for what never reached SQLite (a parameter that
    cannot be bound)."""
    code = getattr(error, "extendedresult", None)
    return code if isinstance(code, int) and code > 0 else apsw.SQLITE_ERROR


def failure(error: BaseException, *, is_read: bool = False) -> Failure:
    """What the client is told."""
    if isinstance(error, apsw.BindingsError):
        return mistake(f"wrong number of parameters: {error}", is_read=is_read)
    if isinstance(error, KeyError):
        return mistake(f"parameter {error.args[0]!r} is missing", is_read=is_read)
    if isinstance(error, OverflowError):
        return mistake("parameter is no 64-bit integer", is_read=is_read)
    if isinstance(error, UnicodeError):
        return mistake("text is no valid Unicode (a lone surrogate)", is_read=is_read)
    message = str(error)
    if message.startswith("cannot VACUUM"):
        # SQLite compiles it without a word to the authorizer.
        return refusal(VACUUM_TEXT)
    code = extended_code(error)
    if lacks_temporary_room(error):
        message = NO_TEMPORARY_ROOM
    return Failure(message, code, code_name(code), is_read)


def mistake(message: str, *, is_read: bool = False) -> Failure:
    """A failure that SQLite itself did not report."""
    return Failure(message, apsw.SQLITE_ERROR, "SQLITE_ERROR", is_read)


def refusal(message: str) -> Failure:
    """SQL that may not be run here."""
    return Failure(message, apsw.SQLITE_AUTH, "SQLITE_AUTH")


def code_name(code: int) -> str:
    """The symbol of a result code."""
    name = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code & 255)
    return str(name) if name is not None else f"SQLITE_{code}"


def is_binding_error(error: BaseException) -> bool:
    """Did it fail before SQLite ran anything?"""
    return not isinstance(error, apsw.Error) or isinstance(error, apsw.BindingsError)


def is_answer(error: BaseException) -> bool:
    """Is it about the client's SQL or parameters at all, or a mistake in this program?"""
    return isinstance(
        error,
        apsw.Error | TypeError | OverflowError | UnicodeError | KeyError | ValueError,
    )


def is_statement_result(code: int) -> bool:
    """May a statement end with this extended code on every replica alike?"""
    return code & 255 in _RESULT_CODES


def is_full(error: BaseException) -> bool:
    """Has the volume no room? The file of the WAL's index says so in words of its own. Where there
    is no directory for temporary files there is no room for them."""
    code = extended_code(error)
    return isinstance(error, apsw.Error) and (
        code & 255 == apsw.SQLITE_FULL
        or code == apsw.SQLITE_IOERR_SHMSIZE
        or lacks_temporary_room(error)
    )


def lacks_temporary_room(error: BaseException) -> bool:
    """Did a sort find no directory for a temporary file?"""
    return isinstance(error, apsw.Error) and (extended_code(error) == apsw.SQLITE_IOERR_GETTEMPPATH)


def node_fault(error: BaseException) -> NodeFault | None:
    """The fault of this node that the error tells of, or None when it tells of none."""
    if isinstance(error, NodeFault):
        return error
    if not isinstance(error, apsw.Error) or is_full(error):
        return None
    code = extended_code(error)
    if code in _DAMAGE_CODES:
        return DamagedDatabase(f"the database is damaged: {error} ({code_name(code)})")
    if code == apsw.SQLITE_CORRUPT:
        # Also what a statement ends with when a read of the file does with EIO.
        text = f"the database is damaged, or its disk fails: {error} ({code_name(code)})"
        return DoubtedDatabase(text)
    if code & 255 in _FAULT_CODES:
        return DiskFault(f"the database cannot be read or written: {error} ({code_name(code)})")
    return None


def commit_fault(error: BaseException) -> NodeFault:
    """The fault behind a COMMIT or an apply that failed: nothing there is a result of SQL."""
    code = extended_code(error)
    text = f"a committed entry cannot be applied: {error} ({code_name(code)})"
    return node_fault(error) or (DiskFull if is_full(error) else DiskFault)(text)
