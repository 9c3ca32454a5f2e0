"""The real `Loop`: asyncio (or uvloop) and threads."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from rsqlite.ports import Done, Handle

T = TypeVar("T")


class AsyncioLoop:
    """Everything runs on the event loop that is current when this is made."""

    def __init__(self, *, threads: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rsqlite")
        self.call_soon: Callable[..., Handle] = self._loop.call_soon
        self.call_later: Callable[..., Handle] = self._loop.call_later
        self.monotonic = time.monotonic
        self.wall = time.time

    @property
    def asyncio_loop(self) -> asyncio.AbstractEventLoop:
        """For who must reach the node from another thread."""
        return self._loop

    def submit(self, work: Callable[[], T], done: Done[T]) -> None:
        self._pool.submit(self._run, work, done)

    def worker(self, name: str) -> ThreadWorker:
        return ThreadWorker(self._loop, name)

    def end(self) -> None:
        """The event loop was closed: what it is given from now on is dropped without a word, as it
        has dropped what it was given before. Who stops now must not fail at that."""
        self.call_soon = self.call_later = _drop

    def close(self) -> None:
        """Wait for the threads of the pool."""
        self._pool.shutdown(wait=True)

    def _run(self, work: Callable[[], T], done: Done[T]) -> None:
        _run_and_report(self._loop, work, done)


class _Dropped:
    """The handle of what never runs."""

    def cancel(self) -> None:
        """It is."""


def _drop(*_: object) -> Handle:
    return _Dropped()


class ThreadWorker:
    """A thread that takes work from a queue. `SimpleQueue` wakes it without a lock held."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._queue: queue.SimpleQueue[tuple[Callable[[], Any], Done[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], done: Done[T]) -> None:
        self._queue.put((work, done))

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            _run_and_report(self._loop, *item)


def _run_and_report(loop: asyncio.AbstractEventLoop, work: Callable[[], T], done: Done[T]) -> None:
    value: T | None = None
    error: BaseException | None = None
    try:
        value = work()
    except BaseException as caught:  # noqa: BLE001 - the edge of a thread: whoever submitted it must hear
        error = caught
    try:
        loop.call_soon_threadsafe(done, value, error)
    except RuntimeError:
        # The loop is closed: nobody is left to tell, the process is ending.
        if not loop.is_closed():
            raise


__all__ = ["AsyncioLoop", "Handle", "ThreadWorker"]
