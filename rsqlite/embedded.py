"""Nodes in this process, for the client: `rsqlite.connect(":memory:")`, a directory, or a `Node`.

A directory is opened once in a process, whoever asks for it: connections share the node, and the
last one that is closed stops it. Blocking connections have it on an event loop in a thread of its
own, asynchronous ones on the loop that opens it first. Node, SQLite and the rest are imported when
the first node is opened.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from rsqlite_client.dbapi import Connector
from rsqlite_client.dsn import MEMORY, Options
from rsqlite_client.errors import (
    AMBIGUOUS_ADVICE,
    AmbiguousResultError,
    AppliedError,
    DataError,
    InterfaceError,
    OperationalError,
    sql_error,
)
from rsqlite_client.local import AsyncLocalChannel, Done, LocalChannel, NotApplied, Reply
from rsqlite_client.proto import Command, Form, Result

from rsqlite.errors import Fate, NodeFault, RequestError, RequestTooLarge, RsqliteError, Stopped

if TYPE_CHECKING:
    from rsqlite.node.node import Node
    from rsqlite.request import Answer, Outcome, Request

T = TypeVar("T")

CLOSE_AT_EXIT_S = 10.0
"""For nodes that nobody closed, when Python ends."""


class Directory:
    """Where a node keeps its data. One for ":memory:" lives as long as the node."""

    def __init__(self, target: str, path: str | None = None) -> None:
        self._target = target
        self._is_temporary = target == MEMORY and path is None
        if path is None:
            path = tempfile.mkdtemp(prefix="rsqlite-") if self._is_temporary else target
        self.path = os.path.realpath(path) if path else ""

    def make(self) -> None:
        """Have it there. OperationalError if something else is."""
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise OperationalError(
                f"{self._target} is a file, and a node keeps its data in a directory"
            )

    def remove(self) -> None:
        """Remove it if it was only for the node's lifetime."""
        if self._is_temporary:
            shutil.rmtree(self.path, ignore_errors=True)


class EmbeddedNode:
    """A node that runs, and how many connections use it."""

    def __init__(
        self,
        node: Node,
        loop: asyncio.AbstractEventLoop,
        owner: Nodes | None,
        directory: Directory,
    ) -> None:
        self._node = node
        self._loop = loop
        self._owner = owner
        self.directory = directory
        self.references = 1

    def __repr__(self) -> str:
        return f"<EmbeddedNode {self.directory.path or self._node!r} references={self.references}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def submit(self, command: Command, timeout_s: float, min_index: int, done: Done) -> None:
        """Have the node carry out a command; called on its loop."""
        settings = self._node.settings
        request = request_of(command)
        if len(request.sqls) > settings.statements_max:
            text = f"{len(request.sqls)} statements, at most {settings.statements_max} are accepted"
            done(DataError(text), 0)
            return
        request.min_index = min_index
        if timeout_s != settings.request_timeout or not command.is_read:
            request.timeout_s = timeout_s

        def answered(answer: Answer) -> None:
            if isinstance(answer, RsqliteError):
                done(error_of(answer, command), 0)
            else:
                done(reply_of(answer, command), answer.index)

        self._node.submit(request, answered)

    def release(self) -> None:
        if self._owner is not None:
            self._owner.close(self)

    async def release_async(self) -> None:
        if self._owner is not None:
            await self._owner.close_async(self)

    async def stop(self) -> None:
        """Stop the node, and remove what was only for its lifetime."""
        await self._node.stop()
        self.directory.remove()


def request_of(command: Command) -> Request:
    """A command as nodes have it."""
    from rsqlite.request import ReadLevel, Request, RequestKind

    level = ReadLevel[command.level.name]
    if command.form is Form.SCRIPT:
        sqls = list(command.texts)
        return Request(RequestKind.MIXED, sqls, [None] * len(sqls), transaction=True)
    parameters: list[Any] = [list(row) for row in command.rows]
    sqls = [command.statement.text] * len(parameters)
    if command.form is Form.MANY:
        return Request(RequestKind.MIXED, sqls, parameters, transaction=True)
    kind = RequestKind.QUERY if command.is_read else RequestKind.MIXED
    return Request(kind, sqls, parameters, level=level, freshness_s=command.freshness_s)


def reply_of(outcome: Outcome, command: Command) -> Reply:
    """What a node answered, as the client has it."""
    from rsqlite.request import Failure, Rows

    results = outcome.results
    for result in results:
        if isinstance(result, Failure):
            return sql_error(result.message, result.code, result.name)
    if command.form is Form.ONE and len(results) == 1:
        (only,) = results
        if isinstance(only, Rows):
            return Result(
                only.columns,
                only.decltypes,
                only.rows,
                lastrowid=only.last_insert_rowid,
                changes=only.changes,
                is_read=only.is_read,
            )
    total = Result()
    for result in results:
        assert not isinstance(result, Failure)
        total.changes += result.changes
        total.lastrowid = result.last_insert_rowid or total.lastrowid
    return total


def error_of(error: RsqliteError, command: Command) -> Exception:
    """Why a node could not do it, as the client says it."""
    text = str(error)
    if error.fate is Fate.APPLIED:
        return AppliedError(f"the write was applied, but its result cannot be given: {text}")
    if error.fate is Fate.UNKNOWN and not command.is_read:
        return AmbiguousResultError(f"{text}; {AMBIGUOUS_ADVICE}")
    if isinstance(error, RequestTooLarge):
        return DataError(text)
    if isinstance(error, RequestError | Stopped | NodeFault):
        return OperationalError(text)
    return NotApplied(text)


class Turns:
    """Who opens or closes a directory waits until who came before has done so: for any mixture of
    threads and event loops, so futures that belong to none of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, Future[None]] = {}

    def _take(self, path: str) -> tuple[Future[None] | None, Future[None]]:
        mine: Future[None] = Future()
        with self._lock:
            before = self._last.get(path)
            self._last[path] = mine
        return before, mine

    def _give(self, path: str, mine: Future[None]) -> None:
        with self._lock:
            if self._last[path] is mine:
                del self._last[path]
        mine.set_result(None)

    @contextlib.contextmanager
    def turn(self, path: str) -> Iterator[None]:
        """For a thread that may block."""
        before, mine = self._take(path)
        if before is not None:
            before.result()
        try:
            yield
        finally:
            self._give(path, mine)

    @contextlib.asynccontextmanager
    async def turn_async(self, path: str) -> AsyncIterator[None]:
        """For a task."""
        before, mine = self._take(path)
        if before is not None:
            try:
                await asyncio.shield(asyncio.wrap_future(before))
            except asyncio.CancelledError:
                before.add_done_callback(lambda done: self._give(path, mine))
                raise
        try:
            yield
        finally:
            self._give(path, mine)


class Nodes:
    """The nodes that connections of this process have opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns = Turns()
        self._open: dict[str, EmbeddedNode] = {}
        """By their directories. Changes in a turn of the directory."""
        self._background: asyncio.AbstractEventLoop | None = None

    def owns(self, target: object) -> bool:
        """Is it a node? (If nobody has imported them, it is none.)"""
        module = sys.modules.get("rsqlite.node.node")
        return module is not None and isinstance(target, module.Node)

    def open(self, target: object, options: Options) -> LocalChannel:
        """For a blocking connection."""
        node = self._given(target)
        if node is None:
            directory = Directory(options.path)
            with self._turns.turn(directory.path):
                node = self._find(directory)
                if node is None:
                    node = _run_on(self._thread(), self._start(directory))
        return LocalChannel(node, options.timeout_s)

    async def open_async(self, target: object, options: Options) -> AsyncLocalChannel:
        """For a connection on the running loop."""
        node = self._given(target)
        if node is None:
            directory = Directory(options.path)
            async with self._turns.turn_async(directory.path):
                node = self._find(directory) or await self._start(directory)
        return AsyncLocalChannel(node, options.timeout_s)

    def close(self, node: EmbeddedNode) -> None:
        """One connection less; the last one stops the node."""
        with self._turns.turn(node.directory.path):
            node.references -= 1
            if not node.references:
                del self._open[node.directory.path]
                _run_on(node.loop, node.stop())

    async def close_async(self, node: EmbeddedNode) -> None:
        """The same, in a task."""
        async with self._turns.turn_async(node.directory.path):
            node.references -= 1
            if not node.references:
                del self._open[node.directory.path]
                if node.loop is asyncio.get_running_loop():
                    await node.stop()
                else:
                    stopped = asyncio.run_coroutine_threadsafe(node.stop(), node.loop)
                    await asyncio.wrap_future(stopped)

    def _given(self, target: object) -> EmbeddedNode | None:
        """What somebody else's node is for a connection."""
        if not self.owns(target):
            return None
        node: Any = target
        if not node.is_started:
            raise InterfaceError("the node is not started: `async with node`, or await its start()")
        return EmbeddedNode(node, node.loop.asyncio_loop, None, Directory(MEMORY, path=""))

    def _find(self, directory: Directory) -> EmbeddedNode | None:
        """The node that is open on this directory, for one more connection."""
        node = self._open.get(directory.path)
        if node is not None:
            node.references += 1
        return node

    async def _start(self, directory: Directory) -> EmbeddedNode:
        """A new node on the running loop."""
        from rsqlite.node.node import Node

        directory.make()
        node = Node(directory.path)
        try:
            await node.start()
            await node.wait_ready()
        except RsqliteError as error:
            await node.stop()
            directory.remove()
            raise OperationalError(str(error)) from error
        found = EmbeddedNode(node, asyncio.get_running_loop(), self, directory)
        with self._lock:
            if not self._open:
                atexit.register(self._close_all)
            self._open[directory.path] = found
        return found

    def _thread(self) -> asyncio.AbstractEventLoop:
        """The loop for blocking connections, which runs from the first of them on."""
        with self._lock:
            if self._background is None:
                self._background = _new_loop()
                run, name = self._background.run_forever, "rsqlite nodes"
                threading.Thread(target=run, name=name, daemon=True).start()
            return self._background

    def _close_all(self) -> None:
        """What nobody closed, when Python ends. (Loops of others have ended by then.)"""
        left, self._open = self._open, {}
        for node in left.values():
            if node.loop is self._background:
                with contextlib.suppress(TimeoutError):
                    _run_on(node.loop, node.stop(), CLOSE_AT_EXIT_S)
            node.directory.remove()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _run_on(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], timeout_s: float | None = None
) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result(timeout_s)


NODES = Nodes()
connect = Connector(NODES).connect
