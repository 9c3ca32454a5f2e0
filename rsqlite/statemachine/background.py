"""Long work on one snapshot of the database, in a thread and on a connection of its own, while
writers go on: hashing the content, writing a compact copy.

The snapshot is held from `begin` on, so it is exactly what was committed then. While it is held the
WAL does not begin anew, so the time is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import apsw
import apsw.sqlite_extra

from rsqlite.config import Settings
from rsqlite.errors import NodeFault
from rsqlite.ports import Done, Worker
from rsqlite.statemachine import results
from rsqlite.statemachine.opening import configure, require_checksums
from rsqlite.statemachine.vfs import load_checksum_vfs

T = TypeVar("T")

Work = Callable[[apsw.Connection, Callable[[], bool]], T]
"""Runs in the thread. The second argument tells whether it shall end; statements end by
themselves."""

STEPS_PER_LOOK = 200_000
"""VM steps between two looks whether it shall go on: some milliseconds."""


class BrokenOff(Exception):
    """The work was not done: its time was over, a stop came, a later one, or there is no room.
    Nothing is wrong with the database."""


class Background:
    """One piece of work at a time. `begin` and `cancel` run on the loop."""

    def __init__(
        self,
        path: str,
        *,
        worker: Callable[[], Worker],
        clock: Callable[[], float],
        settings: Settings,
        fail: Callable[[NodeFault], None],
    ) -> None:
        """`worker` makes the thread, when there is the first piece of work."""
        self._path = path
        self._make_worker = worker
        self._worker: Worker | None = None
        self._clock = clock
        self._settings = settings
        self._fail = fail
        self._snapshot: Snapshot | None = None

    def __repr__(self) -> str:
        return f"<Background {self._path} running={self.is_running}>"

    @property
    def is_running(self) -> bool:
        """A snapshot is held, so the WAL does not begin anew."""
        return self._snapshot is not None

    def begin(self, work: Work[T], done: Done[T], timeout_s: float) -> None:
        """Do `work` with a connection to the database as it is committed now; what runs is given up
        for it. `done` gets its answer, or BrokenOff, or a NodeFault of the database."""
        self.cancel()
        if self._worker is None:
            self._worker = self._make_worker()
        try:
            snapshot = Snapshot(self._path, self._settings, self._clock, timeout_s)
        except (apsw.Error, NodeFault) as error:
            done(None, self._fault_of(error))
            return
        self._snapshot = snapshot

        def ended(value: T | None, error: BaseException | None) -> None:
            if self._snapshot is snapshot:
                self._snapshot = None
            if isinstance(error, apsw.Error):
                error = BrokenOff("broken off") if snapshot.is_over else self._fault_of(error)
            done(value, error)

        self._worker.submit(lambda: snapshot.use(work), ended)

    def cancel(self) -> None:
        """Give up what runs; its `done` is told."""
        if self._snapshot is not None:
            self._snapshot.is_cancelled = True
            self._snapshot = None

    def close(self) -> None:
        """Give up, and wait for the thread."""
        self.cancel()
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _fault_of(self, error: apsw.Error | NodeFault) -> BaseException:
        fault = results.node_fault(error)
        if fault is None:
            return BrokenOff(str(error))
        self._fail(fault)
        return fault


class Snapshot:
    """A connection that sees what was committed when it was made."""

    def __init__(
        self, path: str, settings: Settings, clock: Callable[[], float], timeout_s: float
    ) -> None:
        self.is_cancelled = False
        self._clock = clock
        self._ends = clock() + timeout_s
        self._connection = apsw.Connection(
            path, flags=apsw.SQLITE_OPEN_READONLY, vfs=load_checksum_vfs()
        )
        try:
            apsw.sqlite_extra.load(self._connection, "shathree")
            configure(self._connection, settings)
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            require_checksums(self._connection)
        except BaseException:
            self._connection.close()
            raise

    @property
    def is_over(self) -> bool:
        return self.is_cancelled or self._clock() > self._ends

    def use(self, work: Work[T]) -> T:
        """In the thread. BrokenOff or apsw.InterruptError when `is_over`."""
        connection = self._connection
        connection.set_progress_handler(lambda: self.is_over, STEPS_PER_LOOK)
        try:
            if self.is_over:
                raise BrokenOff("broken off")
            return work(connection, lambda: self.is_over)
        finally:
            connection.close()
