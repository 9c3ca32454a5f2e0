"""The errors of PEP 249 as subclasses of sqlite3's own, so that handlers written for it still work.

sqlite3.Warning ── Warning
sqlite3.Error ── Error
├── InterfaceError
└── DatabaseError
    ├── DataError, IntegrityError, InternalError, ProgrammingError
    ├── NotSupportedError       what sqlite3 has and this has not; the text says what to do instead
    └── OperationalError
        ├── UnavailableError        no node could do it in time: certainly not applied
        ├── AmbiguousResultError    a write was sent, and its answer never came
        └── AppliedError            the write took effect; what it returned could not be shown

Errors of SQLite have `sqlite_errorcode` (the extended code) and `sqlite_errorname`. The last three
say in `fate` what became of the write; every other error means that the statement had no effect,
or the effect that SQLite says it has (OR FAIL keeps rows).
"""

from __future__ import annotations

import sqlite3
from typing import ClassVar

AMBIGUOUS_ADVICE = (
    "it may have taken effect or not. It was not sent again: look for what it writes (a key of your"
    " own makes that easy) before you repeat it"
)


class Warning(sqlite3.Warning):
    """As in PEP 249; nothing here raises it."""


class Error(sqlite3.Error):
    """Base of all errors."""


class InterfaceError(Error, sqlite3.InterfaceError):
    """The module was used in a way that it does not allow."""


class DatabaseError(Error, sqlite3.DatabaseError):
    """Base of what has to do with the database."""


class DataError(DatabaseError, sqlite3.DataError):
    """A value is too long for SQLite."""


class OperationalError(DatabaseError, sqlite3.OperationalError):
    """SQLite, or the cluster, could not carry it out."""


class IntegrityError(DatabaseError, sqlite3.IntegrityError):
    """A constraint failed."""


class InternalError(DatabaseError, sqlite3.InternalError):
    """SQLite found an inconsistency of its own."""


class ProgrammingError(DatabaseError, sqlite3.ProgrammingError):
    """A mistake in how the module is called."""


class NotSupportedError(DatabaseError, sqlite3.NotSupportedError):
    """Known, and not there."""


class UnavailableError(OperationalError):
    """No node could do it before the timeout. Nothing took effect: it may be tried again."""

    fate: ClassVar[str] = "not applied"


class AmbiguousResultError(OperationalError):
    """The connection or the leader was lost after a write was sent, so nobody knows whether it took
    effect. It is never sent a second time by itself."""

    fate: ClassVar[str] = "unknown"


class AppliedError(OperationalError):
    """The write took effect, but its result could not be delivered."""

    fate: ClassVar[str] = "applied"


_CLASSES: dict[int, type[DatabaseError] | type[InterfaceError]] = {
    # ERROR, PERM, ABORT, BUSY, LOCKED, READONLY, INTERRUPT, IOERR
    **dict.fromkeys((1, 3, 4, 5, 6, 8, 9, 10), OperationalError),
    # FULL, CANTOPEN, PROTOCOL, EMPTY, SCHEMA
    **dict.fromkeys((13, 14, 15, 16, 17), OperationalError),
    **dict.fromkeys((19, 20), IntegrityError),  # CONSTRAINT, MISMATCH
    18: DataError,  # TOOBIG
    **dict.fromkeys((2, 12), InternalError),  # INTERNAL, NOTFOUND
    **dict.fromkeys((21, 25), InterfaceError),  # MISUSE, RANGE
}
"""As the sqlite3 module sorts SQLite's primary result codes; all others are DatabaseErrors."""


def class_of(code: int) -> type[DatabaseError] | type[InterfaceError]:
    """The class that the sqlite3 module raises for a result code of SQLite."""
    return _CLASSES.get(code & 255, DatabaseError)


def sql_error(message: str, code: int, name: str) -> Error:
    """What SQLite says of a statement, as an exception."""
    error = class_of(code)(message)
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error
