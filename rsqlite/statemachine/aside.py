"""Reads in the thread that asks, beside the loop: for programs that have a node in their process.

To hand a read to the loop and to be woken again takes five times as long as a small read itself. So
such a thread has a read-only connection of its own, which sees what is committed and nothing else,
and shares no state with the loop. What a text is depends on the schema; the loop counts its changes
for its own readers, and here, where no turn of the loop separates the two, the schema's version is
read inside the very snapshot that the read has.
"""

from __future__ import annotations

from collections.abc import Callable

import apsw

from rsqlite.config import Settings
from rsqlite.request import Outcome, Request
from rsqlite.statemachine import results
from rsqlite.statemachine.opening import open_error
from rsqlite.statemachine.read_connection import Reader
from rsqlite.statemachine.read_run import ReadRun
from rsqlite.statemachine.rows import RowLimits


class AsideReader:
    """One connection, for one thread at a time. Any exception but SQLite's answers, which are
    results, leaves it unfit: close it."""

    def __init__(self, path: str, settings: Settings, monotonic: Callable[[], float]) -> None:
        """NodeFault when the database cannot be opened so, as from `query`."""
        self.path = path
        self._monotonic = monotonic
        self._time_max_s = settings.read_time_max
        self._limits = RowLimits(settings.rows_max, settings.result_bytes_max)
        try:
            self._reader = Reader(path, settings)
        except apsw.Error as error:
            raise open_error(error, path) from error
        self._reader.clock = monotonic
        self._schema_version = -1

    def query(self, request: Request, timeout_s: float) -> Outcome:
        """The answer to a request that only reads. NodeFault for a damaged page: the node itself
        must meet it, so ask it again there."""
        reader = self._reader
        reader.deadline = self._monotonic() + min(timeout_s, self._time_max_s)
        try:
            version = reader.open_schema()
        except apsw.Error as error:
            raise results.commit_fault(error) from error
        try:
            if version != self._schema_version:
                reader.shapes.forget()
                self._schema_version = version
            limits, monotonic = self._limits, self._monotonic
            return ReadRun(reader, request, limits, is_inline=False, monotonic=monotonic).run()
        finally:
            reader.close_schema()

    def close(self) -> None:
        self._reader.close()
