"""Where an embedded node keeps its data, and whose turn it is to open or close it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future

from rsqlite_client.dsn import MEMORY
from rsqlite_client.errors import sql_error

_CANTOPEN = 14


class Directory:
    """Where a node keeps its data. One for ":memory:" lives as long as the node."""

    def __init__(self, target: str, path: str | None = None) -> None:
        self._target = target
        self._is_temporary = target == MEMORY and path is None
        if path is None:
            path = tempfile.mkdtemp(prefix="rsqlite-") if self._is_temporary else target
        self.path = os.path.realpath(path) if path else ""

    def check(self) -> None:
        """OperationalError, as sqlite3 words it, where no node can be: the node makes its own
        directory, not those above."""
        reason = ""
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            reason = f"{self._target} is a file, and a node keeps its data in a directory"
        elif not os.path.isdir(os.path.dirname(self.path)):
            reason = f"{os.path.dirname(self.path)} is no directory"
        if reason:
            message = f"unable to open database file: {reason}"
            raise sql_error(message, _CANTOPEN, "SQLITE_CANTOPEN")

    def remove(self) -> None:
        """Remove it if it was only for the node's lifetime."""
        if self._is_temporary:
            shutil.rmtree(self.path, ignore_errors=True)


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
            try:
                before.result()
            except BaseException:
                before.add_done_callback(lambda done: self._give(path, mine))
                raise
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
