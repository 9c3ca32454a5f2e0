"""The connections that never see what is not committed. How they are set up is in `opening.py`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from rsqlite.config import Settings
from rsqlite.statemachine import schema
from rsqlite.statemachine.authorizer import Guard
from rsqlite.statemachine.opening import (
    ENGINE_FLAGS,
    STEPS_PER_TICK,
    configure,
    expect,
    require_checksums,
)
from rsqlite.statemachine.shapes import Shapes
from rsqlite.statemachine.vfs import load_checksum_vfs


class Reader:
    """A read-only connection: committed data only, the real clock, the real random()."""

    def __init__(self, path: str, settings: Settings, *, is_on_loop: bool = False) -> None:
        self.connection = apsw.Connection(
            path,
            flags=apsw.SQLITE_OPEN_READONLY,
            vfs=load_checksum_vfs(),
            statementcachesize=settings.statement_cache_size,
        )
        self.guard = Guard()
        self.ticks_left = -1
        self.loop_ends = math.inf
        """When the loop has waited long enough for a read with a budget of ticks."""
        self.deadline: float | None = None
        self.clock: Callable[[], float] | None = None
        self.is_cancelled = False
        self.interrupted_by = ""
        try:
            configure(self.connection, settings, is_on_loop=is_on_loop)
            expect(self.connection, "query_only", 1, 1)
            self.connection.execute("PRAGMA schema_version").fetchall()
            require_checksums(self.connection)
            # Waits only where the WAL is being opened or recovered, never for a writer.
            self.connection.set_busy_timeout(1_000)
            self.connection.set_progress_handler(self._tick, STEPS_PER_TICK)
            self.connection.authorizer = self.guard
        except BaseException:
            self.connection.close()
            raise
        self.cursor = self.connection.cursor()
        self._index_cursor = self.connection.cursor()
        self._schema_cursor = self.connection.cursor()
        self._held_index: int | None = None
        """What all see that read now; None: each begins to read for itself."""
        # There is one row: fetching the rest finds the end, and the end resets the statement.
        self.close_schema = self._schema_cursor.fetchall
        self.shapes = Shapes(
            self.connection, self.guard, count_max=settings.shapes_max, is_reader=True
        )

    def require_checksums(self) -> None:
        """DamagedDatabase when pages are not verified any more."""
        self.guard.is_lifted = True
        try:
            require_checksums(self.connection)
        finally:
            self.guard.is_lifted = False

    def open_snapshot(self) -> int:
        """Begin to read, and answer the applied index of what is read. The cursor stays at its row
        until `close_snapshot`, and with it the snapshot for every other statement."""
        if self._held_index is not None:
            return self._held_index
        return self._first(self._index_cursor, schema.SELECT_INDEX)

    def close_snapshot(self) -> None:
        """There is one row: fetching the rest finds the end, and the end resets the statement."""
        if self._held_index is None:
            self._index_cursor.fetchall()

    @contextmanager
    def held_snapshot(self) -> Iterator[None]:
        """All that is read meanwhile sees the same. Where it cannot be had, each read has, or
        misses, its own."""
        with contextlib.suppress(apsw.Error):
            self._held_index = self._first(self._index_cursor, schema.SELECT_INDEX)
        try:
            yield
        finally:
            if self._held_index is not None:
                self._held_index = None
                with contextlib.suppress(apsw.InterruptError):  # reset all the same
                    self._index_cursor.fetchall()

    def open_schema(self) -> int:
        """The same for the version of the schema, until `close_schema`."""
        return self._first(self._schema_cursor, "PRAGMA schema_version")

    def _first(self, cursor: apsw.Cursor, sql: str) -> int:
        guard = self.guard
        guard.is_lifted = True
        try:
            row: Any = next(cursor.execute(sql, prepare_flags=ENGINE_FLAGS))
        finally:
            guard.is_lifted = False
        value: int = row[0]
        return value

    def page_count(self) -> int:
        """Pages of the database, committed ones in the WAL included."""
        guard = self.guard
        guard.is_lifted = True
        try:
            cursor = self.connection.execute("PRAGMA page_count", prepare_flags=ENGINE_FLAGS)
            rows: Any = cursor.fetchall()
        finally:
            guard.is_lifted = False
        return int(rows[0][0])

    def close(self) -> None:
        self.connection.close()

    def _tick(self) -> bool:
        if self.guard.is_lifted or self.guard.is_collecting:
            return False  # a statement of our own, or the compilation that judges one
        if self.is_cancelled:
            self.interrupted_by = "cancel"
            return True
        if self.ticks_left > 0:
            self.ticks_left -= 1
            if self.clock is not None and self.clock() >= self.loop_ends:
                self.ticks_left = 0
            if self.ticks_left == 0:
                # No further one until the next budget: what comes now is the way out.
                self.interrupted_by = "steps"
                return True
        if self.deadline is not None and self.clock is not None and self.clock() >= self.deadline:
            self.interrupted_by = "deadline"
            return True
        return False
