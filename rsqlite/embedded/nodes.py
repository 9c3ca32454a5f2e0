"""The nodes of this process that connections use: opened, shared, read, closed."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from rsqlite_client.dsn import MEMORY, Options
from rsqlite_client.errors import DataError, InterfaceError, OperationalError, ProgrammingError
from rsqlite_client.local import AsyncLocalChannel, Done, LocalChannel, Reply
from rsqlite_client.proto import Command

from rsqlite.embedded.directory import Directory, Turns
from rsqlite.errors import RsqliteError

if TYPE_CHECKING:
    from rsqlite.node.node import Node
    from rsqlite.request import Answer
    from rsqlite.statemachine.aside import AsideReader

T = TypeVar("T")

log = logging.getLogger(__name__)

ASIDE_READERS_MAX = 4
"""Reading connections that a node keeps for threads; when more read at once, they come and go."""
CLOSE_AT_EXIT_S = 10.0
"""For nodes that nobody closed, when Python ends."""


class EmbeddedNode:
    """A node that runs, and how many connections use it."""

    def __init__(
        self,
        node: Node,
        loop: asyncio.AbstractEventLoop,
        owner: Nodes | None,
        directory: Directory,
    ) -> None:
        # Loaded by now, and not with this module.
        from rsqlite.embedded import commands
        from rsqlite.statemachine.aside import AsideReader

        self._node = node
        self._loop = loop
        self._owner = owner
        self.directory = directory
        self.references = 1
        self._process = os.getpid()
        self._commands = commands
        self._new_reader = AsideReader
        self._idle: list[AsideReader] = []

    def __repr__(self) -> str:
        return f"<EmbeddedNode {self.directory.path or self._node!r} references={self.references}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        self._refuse_child()
        return self._loop

    def _refuse_child(self) -> None:
        if self._process != os.getpid():
            raise ProgrammingError(
                "this connection was made before a fork: its node runs in the parent process"
            )

    def submit(self, command: Command, timeout_s: float, min_index: int, done: Done) -> None:
        """Have the node carry out a command; called on its loop."""
        settings, commands = self._node.settings, self._commands
        request = commands.request_of(command)
        if len(request.sqls) > settings.statements_max:
            text = f"{len(request.sqls)} statements, at most {settings.statements_max} are accepted"
            done(DataError(text), 0)
            return
        request.min_index = min_index
        if timeout_s != settings.request_timeout or not command.is_read:
            request.timeout_s = timeout_s

        def answered(answer: Answer) -> None:
            try:
                if isinstance(answer, RsqliteError):
                    done(commands.error_of(answer, command), 0)
                else:
                    done(commands.reply_of(answer, command), answer.index)
            except Exception:
                # One connection's trouble is not the node's, in whose midst this runs.
                log.exception("an answer could not be given")

        self._node.submit(request, answered)

    def read(self, command: Command, timeout_s: float, min_index: int) -> tuple[Reply, int] | None:
        """The answer to a read, in the thread that asks; None when the loop must be asked."""
        self._refuse_child()
        node = self._node
        request = self._commands.request_of(command)
        if request.freshness_s or not node.may_read_aside(request.level):
            return None
        machine = node.machine
        try:
            reader = self._reader(machine.path)
        except RsqliteError:
            return None  # as where it reads
        machine.reads_beside.add(reader)
        try:
            outcome = reader.query(request, timeout_s)
        except RsqliteError:
            reader.close()
            return None  # the loop meets the same, and sees to it
        except BaseException:
            reader.close()
            raise
        finally:
            machine.reads_beside.discard(reader)
        if len(self._idle) < ASIDE_READERS_MAX:
            self._idle.append(reader)
        else:
            reader.close()
        if outcome.index < min_index:
            return None
        return self._commands.reply_of(outcome, command), outcome.index

    def _reader(self, path: str) -> AsideReader:
        while self._idle:
            try:
                reader = self._idle.pop()
            except IndexError:
                break  # another thread has it
            if reader.path == path:
                return reader
            reader.close()  # of a database that is not in use any more
        return self._new_reader(path, self._node.settings, time.monotonic)

    @property
    def has_died(self) -> bool:
        """The loop that it lived on was closed."""
        return self._loop.is_closed()

    @property
    def is_closed(self) -> bool:
        """It has let go of its directory."""
        return not self._node.open_parts

    def bury(self) -> None:
        """What `stop` does, for one that has died."""
        self.close_readers()
        try:
            self._node.bury()
        finally:
            self.directory.remove()

    def release(self) -> None:
        if self._process != os.getpid():
            return
        if self._owner is None:
            self.close_readers()
        else:
            self._owner.close(self)

    async def release_async(self) -> None:
        if self._owner is None:
            self.close_readers()
        else:
            await self._owner.close_async(self)

    def close_readers(self) -> None:
        """Those that nobody reads with."""
        while self._idle:
            self._idle.pop().close()

    async def stop(self) -> None:
        """Stop the node, and remove what was only for its lifetime."""
        self.close_readers()
        await self._node.stop()
        self.directory.remove()


class Nodes:
    """The nodes that connections of this process have opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns = Turns()
        self._open: dict[str, EmbeddedNode] = {}
        """By their directories. Changes in a turn of the directory."""
        self._background: asyncio.AbstractEventLoop | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a child that was forked: the nodes, their loops and directories are the parent's."""
        atexit.unregister(self._close_all)
        self._lock = threading.Lock()
        self._turns = Turns()
        self._open = {}
        self._background = None

    def open(self, given: Any, options: Options) -> LocalChannel:
        """For a blocking connection: to the Node that is given, or to that on a directory."""
        if given is not None:
            node = self._of_somebody(given)
        else:
            directory = Directory(options.path)
            with self._turns.turn(directory.path):
                node = self._find(directory) or _run_on(self._thread(), self._start(directory))
        return LocalChannel(node, options.timeout_s)

    async def open_async(self, given: Any, options: Options) -> AsyncLocalChannel:
        """For a connection on the running loop."""
        if given is not None:
            node = self._of_somebody(given)
        else:
            directory = Directory(options.path)
            async with self._turns.turn_async(directory.path):
                node = self._find(directory) or await self._start(directory)
        return AsyncLocalChannel(node, options.timeout_s)

    def close(self, node: EmbeddedNode) -> None:
        """One connection less; the last one stops the node."""
        with self._turns.turn(node.directory.path), self._one_less(node) as is_last:
            if is_last and node.has_died:
                node.bury()
            elif is_last:
                _run_on(node.loop, node.stop())

    async def close_async(self, node: EmbeddedNode) -> None:
        """The same, in a task."""
        async with self._turns.turn_async(node.directory.path):
            with self._one_less(node) as is_last:
                if is_last and node.has_died:
                    node.bury()
                elif is_last and node.loop is asyncio.get_running_loop():
                    await node.stop()
                elif is_last:
                    stopped = asyncio.run_coroutine_threadsafe(node.stop(), node.loop)
                    await asyncio.wrap_future(stopped)

    @contextlib.contextmanager
    def _one_less(self, node: EmbeddedNode) -> Iterator[bool]:
        """Whether it was the last connection, whose caller stops the node. One whose stop is cut
        short is kept: if that was the end of its loop, it is to be buried."""
        node.references -= 1
        is_last = not node.references and self._open.get(node.directory.path) is node
        try:
            yield is_last
        finally:
            if is_last and node.is_closed:
                self._open.pop(node.directory.path, None)

    def _of_somebody(self, node: Any) -> EmbeddedNode:
        """What somebody else's node is for a connection."""
        if not node.is_started:
            raise InterfaceError("the node is not started: `async with node`, or await its start()")
        return EmbeddedNode(node, node.loop.asyncio_loop, None, Directory(MEMORY, path=""))

    def _find(self, directory: Directory) -> EmbeddedNode | None:
        """The node that is open on this directory, for one more connection."""
        node = self._open.get(directory.path)
        if node is None:
            return None
        if node.has_died:
            # Its loop has ended without it: what it answered is in the log.
            del self._open[directory.path]
            try:
                node.bury()
            except RsqliteError as error:
                raise OperationalError(f"unable to open database file: {error}") from error
            return None
        if not node.references:
            return None  # its stop goes on in the background
        node.references += 1
        return node

    async def _start(self, directory: Directory) -> EmbeddedNode:
        """A new node on the running loop."""
        from rsqlite.node.node import Node

        directory.check()
        node = Node(directory.path)
        try:
            await node.start()
            await node.wait_ready()
        except BaseException as error:
            await node.stop()
            directory.remove()
            if isinstance(error, RsqliteError | OSError):
                raise OperationalError(f"unable to open database file: {error}") from error
            raise
        found = EmbeddedNode(node, asyncio.get_running_loop(), self, directory)
        with self._lock:
            if not self._open:
                atexit.register(self._close_all)
            for path, other in list(self._open.items()):
                if other.is_closed:  # whoever stopped it has not waited for the end
                    self._open.pop(path, None)
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
