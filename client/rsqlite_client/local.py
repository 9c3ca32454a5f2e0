"""The shells for a node in this process: commands go to its loop as values, and no byte is made.

Where nodes come from is not this package's business: whoever has one hands it over as a
`LocalNode`. It finds the leader by itself; what is left to do here is to wait, to ask again when
nothing took effect, and to cross from the caller's thread to the loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol

from rsqlite_client.errors import (
    AMBIGUOUS_ADVICE,
    AmbiguousResultError,
    ProgrammingError,
    UnavailableError,
)
from rsqlite_client.proto import Command, ReadLevel, Result
from rsqlite_client.routing import pause_before_round
from rsqlite_client.session import GRACE_S


class NotApplied(Exception):
    """The node could not do it now; nothing took effect, so it may be asked again."""


Reply = Result | Exception
Done = Callable[[Reply, int], None]
"""Gets what came of a command, and the raft index that it saw."""


class LocalNode(Protocol):
    """A node in this process, from the client's side."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where it lives."""

    def submit(self, command: Command, timeout_s: float, min_index: int, done: Done) -> None:
        """Called on its loop. `done` is called once, there, possibly before this returns."""

    def read(self, command: Command, timeout_s: float, min_index: int) -> tuple[Reply, int] | None:
        """The answer to a command that reads, found in the thread that asks, with the index that it
        saw, which is at least `min_index`. None when the loop must be asked."""

    def release(self) -> None:
        """This connection needs it no longer. Called on any thread but the loop's; returns when
        what must be closed is closed."""

    async def release_async(self) -> None:
        """The same for whoever waits on a loop."""


class Patience:
    """How one command goes on when the node could not do it, in any shell."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.deadline_s = time.monotonic() + timeout_s
        self._failures = 0

    def left_s(self) -> float:
        return max(self.deadline_s - time.monotonic(), 0.0)

    def pause_s(self, error: NotApplied) -> float:
        """How long to wait before the node is asked again. UnavailableError when time is over."""
        self._failures += 1
        pause_s = pause_before_round(self._failures)
        if pause_s >= self.left_s():
            raise UnavailableError(
                f"the node could not do it within {self.timeout_s:g} s, and nothing was applied:"
                f" {error}"
            ) from error
        return pause_s


class _Local:
    """What both shells share."""

    def __init__(self, node: LocalNode, timeout_s: float) -> None:
        self._node = node
        self._timeout_s = timeout_s
        self._last_index = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._node!r}>"

    def _min_index(self, command: Command) -> int:
        return self._last_index if command.level is ReadLevel.NONE else 0

    def _taken(self, reply: Reply, index: int) -> Result | NotApplied:
        if isinstance(reply, Result):
            if index > self._last_index:
                self._last_index = index
            return reply
        if isinstance(reply, NotApplied):
            return reply
        raise reply


def _silence(command: Command, timeout_s: float) -> Exception:
    """The node has not even said that it is late: its loop is blocked, or ended."""
    text = f"the node in this process did not answer within {timeout_s:g} s"
    if command.is_read:
        return UnavailableError(text)
    return AmbiguousResultError(f"{text}; {AMBIGUOUS_ADVICE}")


def _submit(
    node: LocalNode, command: Command, timeout_s: float, min_index: int, done: Done
) -> None:
    """On the node's loop. The edge between two threads: whatever is raised here, the other one is
    waiting for it."""
    try:
        node.submit(command, timeout_s, min_index, done)
    except Exception as error:  # noqa: BLE001 - handed over
        done(error, 0)


def _hand_over(
    node: LocalNode, command: Command, timeout_s: float, min_index: int, done: Done
) -> None:
    """The same from anywhere else. ProgrammingError when the node's loop is no more."""
    try:
        node.loop.call_soon_threadsafe(_submit, node, command, timeout_s, min_index, done)
    except RuntimeError as error:
        raise ProgrammingError(f"the node's event loop has ended: {error}") from error


class LocalChannel(_Local):
    """For blocking connections: the node's loop runs in another thread."""

    def run(self, command: Command) -> Result:
        """Carry out one command; raises what it ends with."""
        patience = Patience(self._timeout_s)
        while True:
            found = self._taken(*self._ask(command, patience.left_s()))
            if isinstance(found, Result):
                return found
            time.sleep(patience.pause_s(found))

    def close(self) -> None:
        """Let the node go."""
        self._refuse_own_loop()
        self._node.release()

    def _ask(self, command: Command, left_s: float) -> tuple[Reply, int]:
        self._refuse_own_loop()
        if command.is_read and (found := self._node.read(command, left_s, self._last_index)):
            return found
        replies: list[tuple[Reply, int]] = []
        answered = threading.Lock()
        answered.acquire()

        def done(reply: Reply, index: int) -> None:
            replies.append((reply, index))
            answered.release()

        _hand_over(self._node, command, left_s, self._min_index(command), done)
        if not answered.acquire(timeout=left_s + GRACE_S):
            return _silence(command, left_s + GRACE_S), 0
        return replies[0]

    def _refuse_own_loop(self) -> None:
        if asyncio._get_running_loop() is self._node.loop:
            raise ProgrammingError(
                "this would wait for the event loop that it runs on: use rsqlite.aio.connect there"
            )


class AsyncLocalChannel(_Local):
    """For connections on an event loop, the node's own or another one."""

    async def run(self, command: Command) -> Result:
        """Carry out one command; raises what it ends with."""
        patience = Patience(self._timeout_s)
        while True:
            found = self._taken(*await self._ask(command, patience.left_s()))
            if isinstance(found, Result):
                return found
            await asyncio.sleep(patience.pause_s(found))

    async def close(self) -> None:
        """Let the node go."""
        await self._node.release_async()

    async def _ask(self, command: Command, left_s: float) -> tuple[Reply, int]:
        node, here = self._node, asyncio.get_running_loop()
        is_own = node.loop is here
        replies: list[tuple[Reply, int]] = []
        future: asyncio.Future[tuple[Reply, int]] | None = None

        def settle(reply: Reply, index: int) -> None:
            assert future is not None
            if not future.done():
                future.set_result((reply, index))

        def done(reply: Reply, index: int) -> None:
            if not is_own:
                with contextlib.suppress(RuntimeError):  # that loop has ended: nobody waits
                    here.call_soon_threadsafe(settle, reply, index)
            elif future is None:
                replies.append((reply, index))  # before submit returned: most reads are
            elif not here.is_closed():
                settle(reply, index)

        min_index = self._min_index(command)
        if is_own:
            node.submit(command, left_s, min_index, done)
            if replies:
                return replies[0]
            future = here.create_future()
        else:
            future = here.create_future()
            _hand_over(node, command, left_s, min_index, done)
        try:
            async with asyncio.timeout(left_s + GRACE_S):
                return await future
        except TimeoutError:
            return _silence(command, left_s + GRACE_S), 0
