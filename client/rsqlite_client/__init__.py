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
from rsqlite_client.row import Row

apilevel = "2.0"
threadsafety = 1
"""Threads may share the module; a connection is one thread's."""
paramstyle = "qmark"

__all__ = [
    "LEGACY_TRANSACTION_CONTROL",
    "PARSE_COLNAMES",
    "PARSE_DECLTYPES",
    "AmbiguousResultError",
    "AppliedError",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "PrepareProtocol",
    "ProgrammingError",
    "Row",
    "UnavailableError",
    "Warning",
    "adapt",
    "apilevel",
    "connect",
    "paramstyle",
    "register_adapter",
    "register_converter",
    "threadsafety",
]
