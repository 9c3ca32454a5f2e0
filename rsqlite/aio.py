"""`rsqlite.aio`: the client for event loops, shaped like aiosqlite."""

from rsqlite_client.aio import AsyncConnector, Connection, ConnectionClosed, Cursor
from rsqlite_client.binding import register_adapter
from rsqlite_client.converting import PARSE_COLNAMES, PARSE_DECLTYPES, register_converter
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

from rsqlite.embedded import LOCAL_NODES

paramstyle = "qmark"
connect = AsyncConnector(LOCAL_NODES).connect

__all__ = [
    "PARSE_COLNAMES",
    "PARSE_DECLTYPES",
    "AmbiguousResultError",
    "AppliedError",
    "Connection",
    "ConnectionClosed",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Row",
    "UnavailableError",
    "Warning",
    "connect",
    "paramstyle",
    "register_adapter",
    "register_converter",
]
