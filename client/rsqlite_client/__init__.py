"""The client of rsqlite: a PEP 249 module shaped like sqlite3, over HTTP or on a node of its own.

Bytes and replies are in `proto.py`, whom to ask in `routing.py`, what may be sent again in
`session.py`; none of them does I/O or keeps time. `http_sync.py`, `http_async.py` and `local.py`
carry them out, and `dbapi.py` and `aio.py` put cursors on top.
"""

from __future__ import annotations

from rsqlite_client.binding import PrepareProtocol, adapt, register_adapter
from rsqlite_client.connection import LEGACY_TRANSACTION_CONTROL
from rsqlite_client.converting import PARSE_COLNAMES, PARSE_DECLTYPES, register_converter
from rsqlite_client.dbapi import Connection, Cursor, connect
from rsqlite_client.errors import (
    AmbiguousResultError,
    AppliedError,
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    UnavailableError,
    Warning,
)
from rsqlite_client.pep249 import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
    apilevel,
    complete_statement,
    paramstyle,
    threadsafety,
)
from rsqlite_client.row import Row

__all__ = [
    "BINARY",
    "DATETIME",
    "LEGACY_TRANSACTION_CONTROL",
    "NUMBER",
    "PARSE_COLNAMES",
    "PARSE_DECLTYPES",
    "ROWID",
    "STRING",
    "AmbiguousResultError",
    "AppliedError",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "PrepareProtocol",
    "ProgrammingError",
    "Row",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "UnavailableError",
    "Warning",
    "adapt",
    "apilevel",
    "complete_statement",
    "connect",
    "paramstyle",
    "register_adapter",
    "register_converter",
    "threadsafety",
]
