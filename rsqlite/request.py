"""The vocabulary of users: what is asked (`Request`) and what comes back (`Outcome`).

A request keeps its statements in columns (`sqls[i]` runs with `parameters[i]`), because a bulk
request has thousands and an object for each costs more than SQLite does. The structs are encoded
as msgpack arrays between nodes: append fields at the end only, each with a default.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec

from rsqlite.errors import RsqliteError

SqlValue = int | float | str | bytes | None
Parameters = list[SqlValue] | dict[str, SqlValue] | None
"""Positional, named (without the leading `:`, `@` or `$`), or none."""


class RequestKind(enum.IntEnum):
    """EXECUTE runs on the writer, QUERY must only read, MIXED is told apart by SQLite's parser."""

    EXECUTE = 1
    QUERY = 2
    MIXED = 3


class ReadLevel(enum.IntEnum):
    """How fresh a read must be, as rqlite names it (design 10)."""

    NONE = 0
    WEAK = 1
    LINEARIZABLE = 2
    STRONG = 3
    AUTO = 4


class Request(msgspec.Struct, array_like=True, gc=False):
    """One client's request. Times are seconds; 0 means none, or the default of `config.py`."""

    kind: RequestKind
    sqls: list[str]
    parameters: list[Any]
    """One `Parameters` for each statement."""
    transaction: bool = False
    level: ReadLevel = ReadLevel.WEAK
    freshness_s: float = 0.0
    freshness_strict: bool = False
    min_index: int = 0
    """Read at or after this raft index."""
    timeout_s: float = 0.0
    """For all of it, forwarding and waiting included."""
    linearizable_timeout_s: float = 0.0
    db_timeout_s: float = 0.0
    """For its SQL alone, measured on the node that executes it first."""
    qualify_columns: bool = False
    """Name result columns `table.column` where they come from a table."""
    timings: bool = False
    is_long: bool = False
    """Known to take too long for the leader's loop: it runs in a thread from the start."""
    is_forwarded: bool = False
    """It came from another node, which knows itself where to send it next."""


class Write(msgspec.Struct, array_like=True, tag=1, gc=False):
    """A statement that returned no columns: the connection's counters after it, as rqlite has
    them (a CREATE TABLE echoes the numbers of the statement before it in the same request)."""

    last_insert_rowid: int
    changes: int
    time_s: float = 0.0


class Rows(msgspec.Struct, array_like=True, tag=2):
    """A statement with columns. `decltypes` are as declared, None for an expression. `is_read` is
    False for a write that returns rows (RETURNING); the counters are then its own."""

    columns: list[str]
    decltypes: list[str | None]
    rows: list[tuple[Any, ...]]
    """The `SqlValue`s of each row."""
    is_read: bool = True
    last_insert_rowid: int = 0
    changes: int = 0
    time_s: float = 0.0


class Failure(msgspec.Struct, array_like=True, tag=3, gc=False):
    """A statement that SQLite refused or stopped. `code` is SQLite's extended result code,
    `name` its symbol, such as SQLITE_CONSTRAINT_UNIQUE. `is_read`: it would only have read, and
    it was compiled."""

    message: str
    code: int = 1
    name: str = "SQLITE_ERROR"
    is_read: bool = False
    time_s: float = 0.0


Result = Write | Rows | Failure


class Outcome(msgspec.Struct, array_like=True):
    """What a request got. There is one result for each statement, in order, except that a request
    with `transaction` ends with its first Failure, and that empty statements have none."""

    results: list[Result]
    index: int = 0
    """Writes: the raft index they have. Reads: the applied index that the read saw."""
    is_logged: bool = False
    """True when the request went through the log."""
    time_s: float = 0.0
    served_by: str = ""
    """The raft address of the node that served it, empty for this one."""


Answer = Outcome | RsqliteError
Done = Callable[[Answer], None]
"""Called exactly once, on the loop, possibly before the call that was given it returns."""
