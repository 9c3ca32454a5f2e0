"""What PEP 249 wants beside connections: constructors of values, and objects for kinds of columns.

SQLite's columns have no type that would bind their values, so `description` gives none, as in
sqlite3; the objects compare equal to declared types, as `decltype` says them.
"""

from __future__ import annotations

import datetime
import sqlite3
import time

apilevel = "2.0"
threadsafety = 1
"""Threads may share the module; a connection is one thread's."""
paramstyle = "qmark"
"""Also `?1`, `:name`, `@name` and `$name`."""

Binary = memoryview
Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
complete_statement = sqlite3.complete_statement


def DateFromTicks(ticks: float) -> datetime.date:  # noqa: N802 - PEP 249 says so
    """The local date at `ticks` seconds."""
    return datetime.date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> datetime.time:  # noqa: N802
    """The local time of day at `ticks` seconds."""
    return datetime.time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> datetime.datetime:  # noqa: N802
    """The local date and time at `ticks` seconds."""
    # Without a time zone, as sqlite3's: what is stored is local time.
    return datetime.datetime(*time.localtime(ticks)[:6])  # noqa: DTZ001


class TypeObject:
    """Equal to the declared types of one kind, whatever their case and size."""

    def __init__(self, *names: str) -> None:
        self._names = frozenset(names)

    def __repr__(self) -> str:
        return f"<TypeObject {sorted(self._names)}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other.partition("(")[0].strip().upper() in self._names
        return self is other

    def __hash__(self) -> int:
        return hash(self._names)


STRING = TypeObject("TEXT", "CHAR", "CLOB", "VARCHAR", "NCHAR", "NVARCHAR", "CHARACTER")
BINARY = TypeObject("BLOB")
NUMBER = TypeObject(
    "INTEGER",
    "INT",
    "BIGINT",
    "SMALLINT",
    "REAL",
    "DOUBLE",
    "FLOAT",
    "NUMERIC",
    "DECIMAL",
    "BOOLEAN",
)
DATETIME = TypeObject("DATE", "DATETIME", "TIME", "TIMESTAMP")
ROWID = TypeObject("ROWID")
