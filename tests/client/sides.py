"""The two sides of the comparison: sqlite3, and a connection of ours in one of its shapes.

Both play the same calls and give outcomes that can be compared: a value or an exception, and what
the cursor says afterwards.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import rsqlite
from tests.client.random_calls import Call

CURSORS = 3
ROW_FACTORIES: dict[str | None, Any] = {
    None: None,
    "Row": sqlite3.Row,
    "list": lambda cursor, row: [cursor.description[0][0], *row],
}
TEXT_FACTORIES: dict[str, Any] = {"str": str, "bytes": bytes}


def mark(value: bytes) -> tuple[str, bytes]:
    return "marked", value


def register() -> None:
    """The same converter on both sides."""
    sqlite3.register_converter("marked", mark)
    rsqlite.register_converter("marked", mark)


class Side:
    """Plays calls. `call` carries out one of a connection or a cursor (and awaits it, say)."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.cursors = [self.call(connection.cursor) for _ in range(CURSORS)]

    def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        return method(*arguments)

    def play(self, call: Call) -> Any:
        """The outcome of one call."""
        cursor = self.connection if call.on is None else self.cursors[call.on]
        try:
            value = self._play(call, cursor)
        except Exception as error:  # noqa: BLE001 - it is compared
            return outcome_of(error), state_of(cursor)
        if call.method == "execute" and call.on is None:
            cursor, value = value, "a cursor"
        return value, state_of(cursor)

    def _play(self, call: Call, target: Any) -> Any:
        match call.method:
            case "new cursor":
                assert call.on is not None
                self.cursors[call.on] = self.call(self.connection.cursor)
                return "made"
            case "close cursor":
                return self.call(target.close)
            case "arraysize":
                target.arraysize = call.arguments[0]
                return "set"
            case "row_factory":
                self.connection.row_factory = ROW_FACTORIES[call.arguments[0]]
                return "set"
            case "text_factory":
                self.connection.text_factory = TEXT_FACTORIES[call.arguments[0]]
                return "set"
            case "next":
                return self.next(target)
            case "execute" | "executemany" | "executescript":
                done = self.execute(call, target)
                return done if call.on is None else "done"
        value = self.call(getattr(target, call.method), *call.arguments)
        return comparable(value)

    def execute(self, call: Call, target: Any) -> Any:
        return self.call(getattr(target, call.method), *call.arguments)

    def next(self, target: Any) -> Any:
        return comparable(next(target))

    def close(self) -> None:
        self.call(self.connection.close)


class AsyncSide(Side):
    """Awaits what it calls, on a loop of its own."""

    def __init__(self, connection: Any, runner: asyncio.Runner) -> None:
        self.runner = runner
        super().__init__(connection)

    def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        async def awaited() -> Any:
            # Awaited or not, a call makes its mistakes here.
            return await method(*arguments)

        return self.runner.run(awaited())

    def next(self, target: Any) -> Any:
        try:
            return comparable(self.call(target.__anext__))
        except StopAsyncIteration:
            raise StopIteration from None


class Stdlib(Side):
    """sqlite3, made to have what ours has: many rows and scripts take effect together or not at
    all, and a statement runs to its end at once."""

    def __init__(self) -> None:
        super().__init__(
            # Without its cache, in which a compiled statement outlives its tables.
            sqlite3.connect(
                ":memory:",
                isolation_level=None,
                detect_types=sqlite3.PARSE_DECLTYPES,
                cached_statements=0,
            )
        )
        self.rows: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

    def execute(self, call: Call, target: Any) -> Any:
        cursor = self.connection.cursor() if call.on is None else target
        method = getattr(cursor, call.method)
        rows = [] if call.method != "executescript" else self.rows.get(cursor, [])
        try:
            if call.method == "execute":
                method(*call.arguments)
                rows = cursor.fetchall()
            else:
                self._whole(method, *call.arguments)
        except TypeError:
            rows = self.rows.get(cursor, [])  # it never began
            raise
        finally:
            self.rows[cursor] = rows
        return cursor

    def _whole(self, method: Callable[..., Any], *arguments: Any) -> None:
        if method.__name__ == "executescript":
            script = arguments[0]
            method(script if "BEGIN" in script or not script else f"BEGIN;{script};COMMIT")
        else:
            self.connection.execute("BEGIN")
            method(*arguments)
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")

    def play(self, call: Call) -> Any:
        found = super().play(call)
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        return found

    def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        name = method.__name__
        if not name.startswith("fetch"):
            return method(*arguments)
        cursor = method.__self__  # type: ignore[attr-defined]
        method()  # finds that it is closed
        rows = self.rows.get(cursor, [])
        if name == "fetchone":
            return rows.pop(0) if rows else None
        count = len(rows)
        if name == "fetchmany":
            count = arguments[0] if arguments else cursor.arraysize
        fetched = rows[:count]
        del rows[:count]
        return fetched

    def next(self, target: Any) -> Any:
        self.call(target.fetchmany, 0)
        rows = self.rows.get(target, [])
        if not rows:
            raise StopIteration
        return comparable(rows.pop(0))


def comparable(value: Any) -> Any:
    """A value with its type, row by row."""
    if isinstance(value, list):
        return [comparable(one) for one in value]
    if isinstance(value, sqlite3.Row | rsqlite.Row):
        return "row", value.keys(), [(one, type(one)) for one in value]
    if isinstance(value, tuple):
        return "tuple", [(one, type(one)) for one in value]
    return value, type(value)


def outcome_of(error: Exception) -> Any:
    """An exception by what a program can see of it."""
    kind = type(error).__name__
    code = getattr(error, "sqlite_errorcode", None)
    name = getattr(error, "sqlite_errorname", None)
    return "raised", kind, str(error), code, name


def state_of(cursor: Any) -> Any:
    """What a cursor shows after a call; None for a connection."""
    if not hasattr(cursor, "rowcount"):
        return None
    found: dict[str, Any] = {}
    for name in ("description", "rowcount", "lastrowid", "arraysize"):
        with suppress(sqlite3.ProgrammingError):
            found[name] = getattr(cursor, name)
    return found
