"""Connections and cursors for event loops, shaped like those of aiosqlite.

    async with rsqlite.aio.connect("http://h1:4001,h2:4001") as db:
        async with db.execute("SELECT 1") as cursor:
            print(await cursor.fetchall())

The commands of one connection run one after the other, in the order of their calls; more at once
need more connections. A task that is cancelled while it waits leaves the fate of its write unknown.
"""

from __future__ import annotations

import asyncio
import random
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from rsqlite_client.connection import BaseConnection, check_isolation
from rsqlite_client.cursor import SESSION_TEXT, BaseCursor, Level, Mistake
from rsqlite_client.dsn import Options, Target, options_of, seconds
from rsqlite_client.errors import InterfaceError, NotSupportedError, ProgrammingError
from rsqlite_client.proto import Command, Result
from rsqlite_client.routing import Routing
from rsqlite_client.session import Session

T = TypeVar("T")
S = TypeVar("S")
P = ParamSpec("P")


class ConnectionClosed(ProgrammingError, ValueError):
    """Also the ValueError that aiosqlite raises."""

    def __init__(self) -> None:
        super().__init__("Connection closed")


class AsyncChannel(Protocol):
    """What carries out the commands of one connection: HTTP, or a node in this process."""

    async def run(self, command: Command) -> Result: ...

    async def close(self) -> None: ...


class Pending(Generic[T]):
    """Something to await, or to enter with `async with`, which closes it afterwards."""

    __slots__ = ("_made", "_work")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._made: T

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work.__await__()

    async def __aenter__(self) -> T:
        self._made = await self._work
        return self._made

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(self._made, Cursor):
            await self._made.close()


def _pending(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Pending[T]]:
    @wraps(method)
    def call(self: S, /, *arguments: P.args, **options: P.kwargs) -> Pending[T]:
        return Pending(method(self, *arguments, **options))

    return call


class Cursor(BaseCursor):
    """Runs statements and holds the rows of the last one."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.settings)
        self._connection = connection
        self._is_closed = False

    @property
    def connection(self) -> Connection:
        return self._connection

    async def execute(
        self,
        sql: str,
        parameters: Any = None,
        /,
        *,
        read: Level | None = None,
        freshness: float | str | None = None,
    ) -> Self:
        """Run one statement. `read` and `freshness` say how fresh a read must be, for this one."""
        self._enter(sql, "execute")
        self._check()
        fresh_s = None if freshness is None else seconds("freshness", freshness)
        try:
            command = self.prepare_one(sql, () if parameters is None else parameters, read, fresh_s)
        except Mistake as mistake:
            await self._explain(mistake)
        self.take(command, await self._connection.run(command))
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any], /) -> Self:
        """Run one statement once for each of the parameters, as one request: all or nothing."""
        self._enter(sql, "executemany")
        self._check()
        try:
            command = self.prepare_many(sql, parameters)
        except Mistake as mistake:
            await self._explain(mistake)
        self.take(command, await self._connection.run(command))
        return self

    async def executescript(self, script: str, /) -> Self:
        """Run all statements of a text, as one request: all or nothing."""
        self._check()
        command = self.prepare_script(script)
        self.take(command, await self._connection.run(command))
        return self

    async def fetchone(self) -> Any:
        """The next row, or None."""
        self._check()
        try:
            return self.next_row()
        except StopIteration:
            return None

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next `size` rows, by default `arraysize`."""
        self._check()
        return self.next_rows(self.arraysize if size is None else size)

    async def fetchall(self) -> list[Any]:
        """The rows that are left."""
        self._check()
        return self.next_rows(None)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self._check()
        try:
            return self.next_row()
        except StopIteration:
            raise StopAsyncIteration from None

    async def close(self) -> None:
        """Let the rows go. Safe to call twice."""
        self._is_closed = True
        self._rows = iter(())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _check(self) -> None:
        if self._is_closed:
            raise ProgrammingError("Cannot operate on a closed cursor.")
        self._connection.check()

    async def _explain(self, mistake: Mistake) -> None:
        """SQLite's own objection to the statement comes before ours to the call."""
        await self._connection.run(mistake.probe)
        raise mistake.error from None


class Connection(BaseConnection):
    """A connection to a cluster, or to a node in this process. Await it, or enter it with `async
    with`, which closes it. Each statement commits by itself."""

    def __init__(
        self,
        connector: Callable[[], Awaitable[AsyncChannel]],
        options: Options,
        *,
        detect_types: int,
    ) -> None:
        super().__init__(options, detect_types)
        self.settings = self._settings
        self._connector = connector
        self._channel: AsyncChannel | None = None
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<rsqlite.aio.Connection {self._channel or 'closed'}>"

    def __del__(self) -> None:
        if getattr(self, "_channel", None) is not None:
            warnings.warn(
                f"{self!r} was deleted before being closed: use `async with`, or await close()",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._connect().__await__()

    async def _connect(self) -> Self:
        if self._channel is None:
            self._channel = await self._connector()
        return self

    async def __aenter__(self) -> Self:
        return await self._connect()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close it, after what is under way. Safe to call twice."""
        async with self._lock:
            channel, self._channel = self._channel, None
            if channel is not None:
                await channel.close()

    @_pending
    async def cursor(self) -> Cursor:
        """A new cursor."""
        self.check()
        return Cursor(self)

    @_pending
    async def execute(
        self,
        sql: str,
        parameters: Any = None,
        /,
        *,
        read: Level | None = None,
        freshness: float | str | None = None,
    ) -> Cursor:
        """`execute` of a new cursor, which is returned."""
        return await Cursor(self).execute(sql, parameters, read=read, freshness=freshness)

    @_pending
    async def execute_insert(self, sql: str, parameters: Any = None, /) -> tuple[int] | None:
        """Run an INSERT; a row with the last rowid."""
        cursor = await Cursor(self).execute(sql, parameters)
        return None if cursor.lastrowid is None else (cursor.lastrowid,)

    @_pending
    async def execute_fetchall(self, sql: str, parameters: Any = None, /) -> list[Any]:
        """Run a statement; all its rows."""
        return await (await Cursor(self).execute(sql, parameters)).fetchall()

    @_pending
    async def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor:
        """`executemany` of a new cursor, which is returned."""
        return await Cursor(self).executemany(sql, parameters)

    @_pending
    async def executescript(self, script: str, /) -> Cursor:
        """`executescript` of a new cursor, which is returned."""
        return await Cursor(self).executescript(script)

    async def commit(self) -> None:
        """Nothing: each statement is committed when it returns."""
        self.check()

    async def rollback(self) -> None:
        """NotSupportedError: what has been executed is committed."""
        self.check()
        raise NotSupportedError(SESSION_TEXT.format(what="rollback()"))

    async def run(self, command: Command) -> Result:
        """Carry out one command; one at a time, in the order of the calls."""
        if command.answer is not None:
            return command.answer
        async with self._lock:
            channel = self._channel
            if channel is None:
                raise ConnectionClosed
            return await channel.run(command)

    def check(self) -> None:
        """ConnectionClosed when it is not open."""
        if self._channel is None:
            raise ConnectionClosed


class AsyncLocalOpener(Protocol):
    """Opens nodes in this process: how is the business of the package that has nodes."""

    async def open_async(self, target: object, options: Options) -> AsyncChannel: ...

    def owns(self, target: object) -> bool: ...


class AsyncConnector:
    """`connect`, with or without nodes in this process."""

    def __init__(self, local: AsyncLocalOpener | None = None) -> None:
        self._local = local

    def connect(
        self,
        database: Target | object = None,
        *,
        timeout: float | None = None,
        detect_types: int = 0,
        isolation_level: str | None = None,
        autocommit: bool | int = True,
        read: Level | None = None,
        freshness: float | str | None = None,
    ) -> Connection:
        """A connection to hosts ("http://h1:4001,h2:4001", or a list), to what RSQLITE_URL says, or
        to a node in this process: ":memory:", a directory, an rsqlite.Node. Await it or enter it.

        `timeout` bounds each statement, in seconds, changes of the leader included. `read` is the
        level of reads, `freshness` how old they may be at level none.
        """
        check_isolation(isolation_level, autocommit)
        target: Any = database
        local = self._local
        if local is not None and local.owns(target):
            options = options_of(":memory:", timeout=timeout, read=read, freshness=freshness)
        else:
            options = options_of(target, timeout=timeout, read=read, freshness=freshness)
            target = options.path

        async def open_channel() -> AsyncChannel:
            if not target:
                from rsqlite_client.http_async import AsyncHttpChannel

                routing = Routing(options.hosts, random.randrange(len(options.hosts)))
                return AsyncHttpChannel(Session(routing, options.timeout_s))
            if local is None:
                raise InterfaceError(
                    "a node in this process needs the package rsqlite: rsqlite.aio.connect"
                )
            return await local.open_async(target, options)

        return Connection(open_channel, options, detect_types=detect_types)


connect = AsyncConnector().connect
