"""The connection that speculates, commits and applies. How it is set up is in `opening.py`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apsw

from rsqlite.config import Settings
from rsqlite.errors import DamagedDatabase
from rsqlite.statemachine import functions, results, schema
from rsqlite.statemachine.authorizer import Guard
from rsqlite.statemachine.fingerprint import BEHAVIOUR
from rsqlite.statemachine.opening import (
    ENGINE_FLAGS,
    STEPS_PER_TICK,
    configure,
    expect,
    loop_value_bytes,
    require_checksums,
    require_sqlite,
)
from rsqlite.statemachine.shapes import Shapes
from rsqlite.statemachine.vfs import RESERVED_BYTES, ClockVfs

VIRTUAL_STEPS_PER_TICK = 100
"""The same where the schema has virtual tables, which do their work within a step."""


class Writer:
    """The connection that writes, with what makes its SQL deterministic."""

    def __init__(self, path: str, settings: Settings) -> None:
        require_sqlite()
        self.settings = settings
        self.vfs = ClockVfs()
        is_new = not os.path.exists(path) or os.path.getsize(path) == 0
        self.connection = apsw.Connection(
            path, vfs=self.vfs.name, statementcachesize=settings.statement_cache_size
        )
        self.guard = Guard()
        self.entropy = functions.Entropy(settings.blob_bytes_max)
        self.counters = functions.Counters(self.connection)
        self.wal_pages = 0
        self.ticks_left = 0
        self._ticks_seen = -1
        """What was left at the last tick: more than that is a new budget."""
        self._budget_ends = math.inf
        self.loop_ends = math.inf
        """When the loop has waited long enough for the batch."""
        self.is_late = False
        """That was so at a tick."""
        self.deadline: float | None = None
        self.clock: Callable[[], float] | None = None
        self.is_cancelled = False
        self.interrupted_by = ""
        """What stopped the last statement: "steps" (or the time for them), "deadline", "cancel", or
        nothing of ours."""
        self.behaviour = BEHAVIOUR
        """By which rules the present transaction, or the present entry of one, is carried out."""
        self.known_schema_version = -1
        """The one that `shapes` are true of, as far as `refresh_facts` has seen."""
        self.has_reserved_rowid = False
        """A statement produced rowid 2^63-1 since this was last set to False."""
        self._watches_rowids = False
        self._steps_per_tick = STEPS_PER_TICK
        try:
            self._configure(is_new)
        except BaseException:
            self.connection.close()
            raise
        self.cursor = self.connection.cursor()
        self._engine_cursor = self.connection.cursor()
        self.shapes = Shapes(
            self.connection, self.guard, count_max=settings.shapes_max, is_reader=False
        )

    def _configure(self, is_new: bool) -> None:
        connection, settings = self.connection, self.settings
        if is_new:
            connection.reserve_bytes(reserve=RESERVED_BYTES)
        configure(connection, settings, is_on_loop=True)
        # Before the first change to a file that may belong to somebody else.
        tables = connection.execute("SELECT name FROM sqlite_schema", can_cache=False).fetchall()
        if tables and ("_rsqlite_meta",) not in tables:
            schema.check_format(None, connection.filename)
        if connection.reserve_bytes() != RESERVED_BYTES:
            raise DamagedDatabase(f"{connection.filename} has no room for page checksums")
        expect(connection, "journal_mode", "wal", "wal")
        expect(connection, "synchronous", "NORMAL", 1)
        expect(connection, "wal_autocheckpoint", 0, 0)
        expect(connection, "foreign_keys", int(settings.fk), int(settings.fk))
        # A busy wait on the loop would freeze the very node that must commit.
        connection.set_busy_timeout(0)
        connection.set_wal_hook(self._after_commit)
        connection.set_progress_handler(self._tick, self._steps_per_tick)
        functions.install(connection, self.entropy, self.counters)
        connection.authorizer = self.guard

    def engine(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Run a statement of our own, with the guard lifted, and answer its rows."""
        guard = self.guard
        guard.is_lifted = True
        try:
            return self._engine_cursor.execute(
                sql, parameters, prepare_flags=ENGINE_FLAGS
            ).fetchall()
        finally:
            guard.is_lifted = False

    def require_checksums(self) -> None:
        """DamagedDatabase when pages are not verified, or not written with their checksums."""
        self.guard.is_lifted = True
        try:
            require_checksums(self.connection)
        finally:
            self.guard.is_lifted = False

    def begin(self) -> None:
        self.engine("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.engine("COMMIT")

    def rollback(self) -> None:
        """End the transaction, if SQLite has not already done so."""
        if self.connection.in_transaction:
            self.engine("ROLLBACK")

    def has_unresolved_keys(self) -> bool:
        """Would COMMIT fail now? RELEASE does not ask."""
        return self.connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0] != 0

    def schema_version(self) -> int:
        return int(self.engine("PRAGMA schema_version")[0][0])

    def run_each(
        self, sql: str, values: Iterable[Any], *, ticks: int | None = None
    ) -> tuple[list[int], list[int], Exception | None]:
        """Run one statement with each of the parameters, and note `changes()` and
        `last_insert_rowid()` after each. An error ends that: the two lists say how many came
        before it. With `ticks`, each is a request of its own that may run for so many, and that
        does not begin when the loop's time is over.

        One `executemany` over a generator takes two thirds of a loop around `execute`.
        """
        changes: list[int] = []
        rowids: list[int] = []
        try:
            self.cursor.executemany(sql, self._noting(values, changes, rowids, ticks))
        except Exception as error:  # noqa: BLE001 - the caller tells them apart
            return changes, rowids, results.kept(error)
        return changes, rowids, None

    def _noting(
        self, values: Iterable[Any], changes: list[int], rowids: list[int], ticks: int | None
    ) -> Iterator[Any]:
        """APSW asks for the next parameters when the statement is done with the last ones."""
        connection = self.connection
        changes_of, rowid_of = connection.changes, connection.last_insert_rowid
        set_rowid = connection.set_last_insert_rowid
        note_changes, note_rowid = changes.append, rowids.append
        for parameters in values:
            if ticks is not None:
                if self.is_late and rowids:
                    return
                set_rowid(0)
                self.ticks_left = ticks
            yield () if parameters is None else parameters
            note_changes(changes_of())
            note_rowid(rowid_of())

    def restore_counters(self, changes: int, rowid: int, total: int) -> None:
        """Make SQL see these numbers, as after a statement of the request's own."""
        self.flush_virtual_tables()
        if changes == 0:
            self.engine(schema.RESET_CHANGES)
        else:
            self.engine(schema.MAKE_CHANGES, (changes,))
        self.connection.set_last_insert_rowid(rowid)
        self.counters.start(total)

    def flush_virtual_tables(self) -> None:
        """Let virtual tables write what they hold back. FTS3 to FTS5 do that at a savepoint, with
        statements that move the counters, and a statement with a journal of its own is one: it may
        be another client's."""
        self.engine("SAVEPOINT rsqlite_flush")
        self.engine("RELEASE rsqlite_flush")

    def reload_statistics(self) -> None:
        """Read the planner's statistics anew: those of a rolled-back ANALYZE stay in its head.

        Where the rollback took sqlite_stat1 itself away, it has made SQLite read the schema anew;
        ANALYZE would only create that table again, on this node alone.
        """
        if self.engine("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'"):
            self.engine("ANALYZE sqlite_schema")

    def raise_schema_version(self) -> None:
        """Make all other connections read the statistics that ANALYZE has written."""
        for sql in schema.RAISE_SCHEMA_VERSION:
            self.engine(sql)

    def watch_rowids(self, is_watched: bool) -> None:
        """Notice reserved rowids: on the leader only, for it costs a third of an INSERT."""
        if is_watched != self._watches_rowids:
            self._watches_rowids = is_watched
            self.connection.set_update_hook(self._row_changed if is_watched else None)

    def refresh_facts(self) -> None:
        """Forget what was known of another schema version."""
        version = self.schema_version()
        if version != self.known_schema_version:
            self.known_schema_version = version
            self.shapes.forget()
            has_virtual = self.shapes.facts.has_virtual
            self._steps_per_tick = VIRTUAL_STEPS_PER_TICK if has_virtual else STEPS_PER_TICK
            self.connection.set_progress_handler(self._tick, self._steps_per_tick)

    def limit_values(self, is_on_loop: bool) -> None:
        """Let values be as long as they may be, or only as long as the loop has time for: a longer
        one ends the statement with SQLITE_TOOBIG. FTS3 and FTS4 keep what they cannot bind as NULL,
        so a schema with virtual tables has no such bound."""
        is_bounded = is_on_loop and not self.shapes.facts.has_virtual
        self.connection.limit(
            apsw.SQLITE_LIMIT_LENGTH,
            loop_value_bytes(self.settings) if is_bounded else self.settings.blob_bytes_max,
        )

    def budget(self, steps: int | None, deadline: float | None) -> None:
        """Bound what runs from now on: in VM steps, and by the clock."""
        self.ticks_left = -1 if steps is None else max(1, steps // self._steps_per_tick)
        self.deadline = deadline
        self.interrupted_by = ""

    def close(self) -> None:
        self.connection.close()

    def _tick(self) -> bool:
        """SQLite asks whether to stop the statement."""
        if self.guard.is_lifted or self.guard.is_collecting:
            return False  # a statement of our own, or the compilation that judges one
        if self.is_cancelled:
            self.interrupted_by = "cancel"
            return True
        if self.ticks_left > 0:
            is_slow = self._is_slow()
            self.ticks_left = self._ticks_seen = 0 if is_slow else self.ticks_left - 1
            if self.ticks_left == 0:
                # No further one until the next budget: what comes now is the way out.
                self.interrupted_by = "steps"
                return True
        if self.deadline is not None and self.clock is not None and self.clock() >= self.deadline:
            self.interrupted_by = "deadline"
            return True
        return False

    def _is_slow(self) -> bool:
        """Do its steps take more than the loop's time? One that calls us, or that fills pages, is a
        hundred times slower than one that adds. Timed from the first tick: who has none is quick.
        """
        if self.clock is None:
            return False
        now = self.clock()
        self.is_late = now >= self.loop_ends
        if self.ticks_left > self._ticks_seen:
            self._budget_ends = now + self.settings.write_loop_time_max
        return now >= self._budget_ends

    def _row_changed(self, op: int, database: str, table: str, rowid: int) -> None:
        if rowid == ROWID_MAX:
            self.has_reserved_rowid = True

    def _after_commit(self, connection: apsw.Connection, database: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK


ROWID_MAX = (1 << 63) - 1
"""Once a table holds it, SQLite picks the next rowids from a generator of its own."""
