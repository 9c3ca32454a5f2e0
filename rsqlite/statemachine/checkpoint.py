"""Moving the WAL into the database file, in two steps, without stopping the writers.

Step one runs in a thread, on a connection of its own, and copies what is there. Under load it never
resets the WAL: by the time it ends, newer frames are behind those it copied. Step two, on the loop
between a COMMIT and the next BEGIN, copies the small rest; then nothing is left in the WAL that is
not in the file, and the next writer starts it from the beginning.

A checkpoint is complete only if all frames were copied (`nLog == nCkpt`); behind an open reader it
returns without an error and without having done so. What it then holds, synced, is the applied
index that was read before it began: so far the log may be cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

from rsqlite.config import Settings
from rsqlite.errors import NodeFault
from rsqlite.ports import Worker
from rsqlite.statemachine import results, schema
from rsqlite.statemachine.connection import Writer, configure, expect
from rsqlite.statemachine.vfs import load_checksum_vfs

PAGE_BYTES = 4096
_REST_PAGES_MAX = 2_000
"""A rest of 8 MB: 10 ms. With more left, step one runs again."""


class Checkpointer:
    """Decides when, and keeps count. All methods run on the loop but `_copy`."""

    def __init__(
        self,
        path: str,
        *,
        worker: Worker,
        writer: Writer,
        settings: Settings,
        fail: Callable[[NodeFault], None],
    ) -> None:
        self._path = path
        self._worker = worker
        self._writer = writer
        self._settings = settings
        self._fail = fail
        self._connection: apsw.Connection | None = None
        self._is_copying = False
        self._copied_pages: int | None = None
        """Pages in the WAL when step one ended; None: step one is due."""
        self._pages_max = settings.checkpoint_wal_bytes // PAGE_BYTES
        self._next_try = self._pages_max
        self.count = 0
        """Complete checkpoints."""
        self.checkpointed_index = 0
        """All up to here is in the database file and synced."""

    def maintain(self) -> None:
        """Call between a COMMIT and the next BEGIN. Starts step one, or does step two."""
        pages = self._writer.wal_pages
        if self._is_copying or pages < self._next_try:
            return
        if self._writer.connection.in_transaction:
            return
        if self._copied_pages is not None and pages - self._copied_pages <= _REST_PAGES_MAX:
            self._copied_pages = None
            self._copy_rest()
            return
        self._is_copying = True
        self._worker.submit(self._copy, self._copied)

    def close(self) -> None:
        """Call when the worker has ended."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _copy(self) -> tuple[int, int, int]:
        """In the thread: (index read before, pages in the WAL, pages copied)."""
        if self._connection is None:
            connection = apsw.Connection(self._path, vfs=load_checksum_vfs())
            configure(connection, self._settings)
            # With synchronous OFF a checkpoint reports success and syncs nothing.
            expect(connection, "synchronous", "NORMAL", 1)
            expect(connection, "wal_autocheckpoint", 0, 0)
            connection.set_busy_timeout(0)
            self._connection = connection
        return _checkpoint(self._connection)

    def _copied(self, found: tuple[int, int, int] | None, error: BaseException | None) -> None:
        self._is_copying = False
        if error is not None:
            self._failed(error)
            return
        assert found is not None
        index, pages, copied = found
        self._note(index, pages, copied)
        # Behind a long read it cannot get further now: wait for as much again.
        self._copied_pages = pages if copied == pages else None
        self._next_try = self._pages_max if copied == pages else pages + self._pages_max

    def _copy_rest(self) -> None:
        try:
            index, pages, copied = _checkpoint(self._writer.connection, self._writer)
        except apsw.Error as error:
            self._failed(error)
            return
        if copied == pages:
            self.count += 1
            # The next COMMIT begins the WAL anew; until then it has nothing more to copy.
            self._writer.wal_pages = 0
            self._next_try = self._pages_max
        else:
            self._next_try = pages + self._pages_max
        self._note(index, pages, copied)

    def _note(self, index: int, pages: int, copied: int) -> None:
        if copied == pages:
            self.checkpointed_index = max(self.checkpointed_index, index)

    def _failed(self, error: BaseException) -> None:
        fault = results.node_fault(error)
        if fault is not None:
            self._fail(fault)
        elif isinstance(error, apsw.BusyError | apsw.LockedError):
            # Somebody else (a backup tool) holds the lock: the WAL grows, and it is tried again.
            self._next_try = self._writer.wal_pages + self._pages_max
        else:
            self._fail(results.commit_fault(error))


def _checkpoint(connection: apsw.Connection, writer: Writer | None = None) -> tuple[int, int, int]:
    if writer is not None:
        index = int(writer.engine(schema.SELECT_INDEX)[0][0])
    else:
        rows: Any = connection.execute(schema.SELECT_INDEX).fetchall()
        index = int(rows[0][0])
    pages, copied = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_PASSIVE)
    return index, pages, copied
