"""The real `Loop`: asyncio (or uvloop) and threads."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from rsqlite.ports import Done, Handle

T = TypeVar("T")

log = logging.getLogger(__name__)

FILE_THREADS = 3
"""One each for an image that is given out, one that is fetched, and a new generation."""


class AsyncioLoop:
    """Everything runs on the event loop that is current when this is made. What a callback raises
    is told to `failed`: the event loop may be somebody else's, and would log it and go on.
    `threads` are for long reads."""

    def __init__(
        self, *, threads: int, failed: Callable[[BaseException], None] | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._read_pool = ThreadPoolExecutor(threads, thread_name_prefix="rsqlite-read")
        self._pool = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="rsqlite-file")
        self._failed = failed
        call: Callable[..., object] = self.call
        self.call_soon: Callable[..., Handle] = partial(self._loop.call_soon, call)
        self.call_later: Callable[..., Handle] = self._call_later
        self.monotonic = time.monotonic
        self.wall = time.time

    @property
    def asyncio_loop(self) -> asyncio.AbstractEventLoop:
        """For who must reach the node from another thread."""
        return self._loop

    def call(self, callback: Callable[..., object], *args: Any) -> None:
        """Run it now, as one that the loop was given is run."""
        try:
            callback(*args)
        except Exception as error:
            if self._failed is None:
                raise
            log.exception("a callback failed")
            self._failed(error)

    def _call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Handle:
        return self._loop.call_later(delay_s, self.call, callback, *args)

    def submit(self, work: Callable[[], T], done: Done[T]) -> None:
        self._pool.submit(self._run, work, done)

    def submit_read(self, work: Callable[[], T], done: Done[T]) -> None:
        self._read_pool.submit(self._run, work, done)

    def worker(self, name: str) -> ThreadWorker:
        return ThreadWorker(self._run, name)

    def end(self) -> None:
        """The event loop was closed: what it is given from now on is dropped without a word, as it
        has dropped what it was given before. Who stops now must not fail at that."""
        self.call_soon = self.call_later = _drop

    def close(self) -> None:
        """Wait for the threads of the pools."""
        self._read_pool.shutdown(wait=True)
        self._pool.shutdown(wait=True)

    def _run(self, work: Callable[[], T], done: Done[T]) -> None:
        """In a thread."""
        value: T | None = None
        error: BaseException | None = None
        try:
            value = work()
        except BaseException as caught:  # noqa: BLE001 - the edge of a thread: whoever submitted it must hear
            error = caught
        try:
            self._loop.call_soon_threadsafe(self.call, done, value, error)
        except RuntimeError:
            # The loop is closed: nobody is left to tell, the process is ending.
            if not self._loop.is_closed():
                raise


class _Dropped:
    """The handle of what never runs."""

    def cancel(self) -> None:
        """It is."""


def _drop(*_: object) -> Handle:
    return _Dropped()


class ThreadWorker:
    """A thread that takes work from a queue, and runs it by `run`. `SimpleQueue` wakes it without
    a lock held."""

    def __init__(self, run: Callable[[Callable[[], Any], Done[Any]], None], name: str) -> None:
        self._run_one = run
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
            self._run_one(*item)


__all__ = ["AsyncioLoop", "Handle", "ThreadWorker"]
