"""A replicated SQLite: several nodes hold the same database.

`rsqlite.connect` is the client, a DB-API module shaped like sqlite3; `rsqlite.Node` runs a node
inside a Python program. Names are loaded when they are first used, so that `import rsqlite` costs
nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsqlite_client import BINARY as BINARY
    from rsqlite_client import DATETIME as DATETIME
    from rsqlite_client import LEGACY_TRANSACTION_CONTROL as LEGACY_TRANSACTION_CONTROL
    from rsqlite_client import NUMBER as NUMBER
    from rsqlite_client import PARSE_COLNAMES as PARSE_COLNAMES
    from rsqlite_client import PARSE_DECLTYPES as PARSE_DECLTYPES
    from rsqlite_client import ROWID as ROWID
    from rsqlite_client import STRING as STRING
    from rsqlite_client import AmbiguousResultError as AmbiguousResultError
    from rsqlite_client import AppliedError as AppliedError
    from rsqlite_client import Binary as Binary
    from rsqlite_client import Connection as Connection
    from rsqlite_client import Cursor as Cursor
    from rsqlite_client import DatabaseError as DatabaseError
    from rsqlite_client import DataError as DataError
    from rsqlite_client import Date as Date
    from rsqlite_client import DateFromTicks as DateFromTicks
    from rsqlite_client import Error as Error
    from rsqlite_client import IntegrityError as IntegrityError
    from rsqlite_client import InterfaceError as InterfaceError
    from rsqlite_client import InternalError as InternalError
    from rsqlite_client import NotSupportedError as NotSupportedError
    from rsqlite_client import OperationalError as OperationalError
    from rsqlite_client import PrepareProtocol as PrepareProtocol
    from rsqlite_client import ProgrammingError as ProgrammingError
    from rsqlite_client import Row as Row
    from rsqlite_client import Time as Time
    from rsqlite_client import TimeFromTicks as TimeFromTicks
    from rsqlite_client import Timestamp as Timestamp
    from rsqlite_client import TimestampFromTicks as TimestampFromTicks
    from rsqlite_client import UnavailableError as UnavailableError
    from rsqlite_client import Warning as Warning
    from rsqlite_client import adapt as adapt
    from rsqlite_client import apilevel as apilevel
    from rsqlite_client import complete_statement as complete_statement
    from rsqlite_client import paramstyle as paramstyle
    from rsqlite_client import register_adapter as register_adapter
    from rsqlite_client import register_converter as register_converter
    from rsqlite_client import threadsafety as threadsafety

    from rsqlite import aio as aio
    from rsqlite.config import Settings as Settings
    from rsqlite.embedded import connect as connect
    from rsqlite.errors import RsqliteError as RsqliteError
    from rsqlite.errors import SqlError as SqlError
    from rsqlite.node.node import Node as Node
    from rsqlite.server.app import HttpServer as HttpServer

__version__ = "0.1.0"

_CLIENT = (
    "AmbiguousResultError",
    "AppliedError",
    "BINARY",
    "Binary",
    "Connection",
    "Cursor",
    "DATETIME",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "LEGACY_TRANSACTION_CONTROL",
    "NUMBER",
    "NotSupportedError",
    "OperationalError",
    "PARSE_COLNAMES",
    "PARSE_DECLTYPES",
    "PrepareProtocol",
    "ProgrammingError",
    "ROWID",
    "Row",
    "STRING",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "UnavailableError",
    "Warning",
    "adapt",
    "apilevel",
    "complete_statement",
    "paramstyle",
    "register_adapter",
    "register_converter",
    "threadsafety",
)
_HOMES = {
    **dict.fromkeys(_CLIENT, "rsqlite_client"),
    "connect": "rsqlite.embedded",
    "HttpServer": "rsqlite.server.app",
    "Node": "rsqlite.node.node",
    "RsqliteError": "rsqlite.errors",
    "Settings": "rsqlite.config",
    "SqlError": "rsqlite.errors",
}

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
    "HttpServer",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "Node",
    "NotSupportedError",
    "OperationalError",
    "PrepareProtocol",
    "ProgrammingError",
    "Row",
    "RsqliteError",
    "Settings",
    "SqlError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "UnavailableError",
    "Warning",
    "__version__",
    "adapt",
    "apilevel",
    "complete_statement",
    "connect",
    "paramstyle",
    "register_adapter",
    "register_converter",
    "threadsafety",
]


def __getattr__(name: str) -> Any:
    if name == "aio":
        return importlib.import_module("rsqlite.aio")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
