"""Blocking connections and cursors, shaped like those of sqlite3 (PEP 249)."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from rsqlite_client.connection import BaseConnection, check_isolation
from rsqlite_client.cursor import SESSION_TEXT, BaseCursor, Level, Mistake
from rsqlite_client.dsn import Options, Target, options_of, seconds
from rsqlite_client.errors import InterfaceError, NotSupportedError, ProgrammingError
from rsqlite_client.proto import Command, Result
from rsqlite_client.routing import Routing
from rsqlite_client.session import Session

C = TypeVar("C", bound="Cursor")


class Channel(Protocol):
    """What carries out the commands of one connection: HTTP, or a node in this process."""

    def run(self, command: Command) -> Result: ...

    def close(self) -> None: ...


class Cursor(BaseCursor):
    """Runs statements and holds the rows of the last one."""

    def __init__(self, connection: Connection) -> None:
        if not isinstance(connection, Connection):
            raise TypeError(
                f"Cursor() argument 1 must be Connection, not {type(connection).__name__}"
            )
        connection.check()
        super().__init__(connection.settings)
        self._connection = connection
        self._is_closed = False

    @property
    def connection(self) -> Connection:
        return self._connection

    def execute(
        self,
        sql: str,
        parameters: Any = (),
        /,
        *,
        read: Level | None = None,
        freshness: float | str | None = None,
    ) -> Self:
        """Run one statement. `read` and `freshness` say how fresh a read must be, for this one."""
        self._enter(sql, "execute")
        self._check()
        try:
            command = self.prepare_one(
                sql,
                parameters,
                read,
                None if freshness is None else seconds("freshness", freshness),
            )
        except Mistake as mistake:
            self._explain(mistake)
        self.take(command, self._connection.run(command))
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Self:
        """Run one statement once for each of the parameters, as one request: all or nothing."""
        self._enter(sql, "executemany")
        self._check()
        try:
            command = self.prepare_many(sql, parameters)
        except Mistake as mistake:
            self._explain(mistake)
        self.take(command, self._connection.run(command))
        return self

    def executescript(self, script: str, /) -> Self:
        """Run all statements of a text, as one request: all or nothing."""
        self._check()
        command = self.prepare_script(script)
        self.take(command, self._connection.run(command))
        return self

    def fetchone(self) -> Any:
        """The next row, or None."""
        self._check()
        return next(self, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next `size` rows, by default `arraysize`."""
        self._check()
        return self.next_rows(self.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        self._check()
        return self.next_rows(None)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._check()
        return self.next_row()

    def close(self) -> None:
        """Let the rows go. Safe to call twice."""
        self._connection.check_thread()
        self._is_closed = True
        self._rows = iter(())

    def setinputsizes(self, sizes: object, /) -> None:
        """Without effect, as in sqlite3."""

    def setoutputsize(self, size: object, column: object = None, /) -> None:
        """Without effect, as in sqlite3."""

    def _check(self) -> None:
        if self._is_closed:
            raise ProgrammingError("Cannot operate on a closed cursor.")
        self._connection.check()

    def _explain(self, mistake: Mistake) -> None:
        """SQLite's own objection to the statement comes before ours to the call."""
        self._connection.run(mistake.probe)
        raise mistake.error from None


class Connection(BaseConnection):
    """A connection to a cluster, or to a node in this process. Each statement commits by itself."""

    def __init__(
        self, channel: Channel, options: Options, *, detect_types: int, check_same_thread: bool
    ) -> None:
        super().__init__(options, detect_types)
        self.settings = self._settings
        self._channel: Channel | None = channel
        self._lock = threading.Lock()
        self._thread = threading.get_ident() if check_same_thread else 0

    def __repr__(self) -> str:
        return f"<rsqlite.Connection {self._channel or 'closed'}>"

    def cursor(self, factory: type[C] | None = None) -> C | Cursor:
        """A new cursor, of a class of your own if you like."""
        self.check()
        return Cursor(self) if factory is None else factory(self)

    def execute(
        self,
        sql: str,
        parameters: Any = (),
        /,
        *,
        read: Level | None = None,
        freshness: float | str | None = None,
    ) -> Cursor:
        """`execute` of a new cursor, which is returned."""
        return Cursor(self).execute(sql, parameters, read=read, freshness=freshness)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor:
        """`executemany` of a new cursor, which is returned."""
        return Cursor(self).executemany(sql, parameters)

    def executescript(self, script: str, /) -> Cursor:
        """`executescript` of a new cursor, which is returned."""
        return Cursor(self).executescript(script)

    def commit(self) -> None:
        """Nothing: each statement is committed when it returns."""
        self.check()

    def rollback(self) -> None:
        """NotSupportedError: what has been executed is committed."""
        self.check()
        raise NotSupportedError(SESSION_TEXT.format(what="rollback()"))

    def close(self) -> None:
        """Close it. Safe to call twice."""
        self.check_thread()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def __enter__(self) -> Self:
        self.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """As in sqlite3 without an open transaction: nothing, and it stays open. What was executed
        stays, also when the block ends with an error."""

    def run(self, command: Command) -> Result:
        """Carry out one command; one at a time."""
        with self._lock:
            channel = self._channel
            if channel is None:
                raise ProgrammingError("Cannot operate on a closed database.")
            return channel.run(command) if command.answer is None else command.answer

    def check(self) -> None:
        """ProgrammingError when it is closed, or another thread's."""
        self.check_thread()
        if self._channel is None:
            raise ProgrammingError("Cannot operate on a closed database.")

    def check_thread(self) -> None:
        if self._thread and self._thread != threading.get_ident():
            raise ProgrammingError(
                "SQLite objects created in a thread can only be used in that same thread. The"
                f" object was created in thread id {self._thread} and this is thread id"
                f" {threading.get_ident()}."
            )


class LocalOpener(Protocol):
    """Opens nodes in this process: how is the business of the package that has nodes."""

    def open(self, target: object, options: Options) -> Channel: ...

    def owns(self, target: object) -> bool: ...


class Connector:
    """`connect`, with or without nodes in this process."""

    def __init__(self, local: LocalOpener | None = None) -> None:
        self._local = local

    def connect(
        self,
        database: Target | object = None,
        timeout: float | None = None,
        detect_types: int = 0,
        isolation_level: str | None = None,
        check_same_thread: bool = True,
        factory: type[Connection] = Connection,
        cached_statements: int = 128,
        uri: bool = False,
        *,
        autocommit: bool | int = True,
        read: Level | None = None,
        freshness: float | str | None = None,
    ) -> Connection:
        """Connect to hosts ("http://h1:4001,h2:4001", or a list), to what RSQLITE_URL says, or to
        a node in this process: ":memory:", a directory, an rsqlite.Node.

        `timeout` bounds each statement, in seconds, changes of the leader included. `read` is the
        level of reads, `freshness` how old they may be at level none. `cached_statements` and
        `uri` are taken for the sake of sqlite3's signature, and have no effect.
        """
        check_isolation(isolation_level, autocommit)
        local = self._local
        if local is not None and local.owns(database):
            options = options_of(":memory:", timeout=timeout, read=read, freshness=freshness)
            channel = local.open(database, options)
        else:
            target: Any = database
            options = options_of(target, timeout=timeout, read=read, freshness=freshness)
            channel = self._channel(options)
        return factory(
            channel, options, detect_types=detect_types, check_same_thread=check_same_thread
        )

    def _channel(self, options: Options) -> Channel:
        if not options.path:
            from rsqlite_client.http_sync import HttpChannel

            routing = Routing(options.hosts, random.randrange(len(options.hosts)))
            return HttpChannel(Session(routing, options.timeout_s))
        if self._local is None:
            raise InterfaceError(
                "a node in this process needs the package rsqlite: rsqlite.connect"
            )
        return self._local.open(options.path, options)


connect = Connector().connect
