"""One attempt at a batch: what its parts share, and what an error in the middle of it means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apsw

from rsqlite.config import Settings
from rsqlite.request import Failure, Outcome
from rsqlite.statemachine import results
from rsqlite.statemachine.batch import Careful, Culprit, Key, OverBudget
from rsqlite.statemachine.connection import ROWID_MAX, Writer
from rsqlite.statemachine.digest import Recorder
from rsqlite.statemachine.journal import Journal
from rsqlite.statemachine.rows import RowLimits
from rsqlite.statemachine.session import Session
from rsqlite.statemachine.shapes import Kind, Shape


def reserved_rowid() -> Failure:
    """A statement produced rowid 2^63-1."""
    return results.mistake(
        "rowid 9223372036854775807 is reserved: after it SQLite picks rowids that differ between"
        " nodes"
    )


def timed_out() -> Failure:
    """The time for the request's SQL is over."""
    return Failure("execute timeout", apsw.SQLITE_INTERRUPT, "SQLITE_INTERRUPT")


def cancelled() -> Failure:
    """The speculation is being taken back."""
    return Failure("interrupted", apsw.SQLITE_INTERRUPT, "SQLITE_INTERRUPT")


def unresolved_key() -> Failure:
    """What COMMIT would have said."""
    code = apsw.SQLITE_CONSTRAINT_FOREIGNKEY
    return Failure("FOREIGN KEY constraint failed", code, "SQLITE_CONSTRAINT_FOREIGNKEY")


class PlainRun(NamedTuple):
    """One text of plain DML was run with parameters in turn."""

    shape: Shape
    changes: list[int]
    """`changes()` after each statement that succeeded."""
    rowids: list[int]
    """`last_insert_rowid()` after each."""
    error: BaseException | None
    """What the statement after them ended with."""


class Attempt:
    """The state of a batch between BEGIN and its end; what earlier attempts found out stays."""

    def __init__(
        self,
        writer: Writer,
        recorder: Recorder,
        settings: Settings,
        *,
        is_long: bool,
        monotonic: Callable[[], float],
    ) -> None:
        self.writer = writer
        self.connection = writer.connection
        self.recorder = recorder
        self.settings = settings
        self.is_long = is_long
        self.monotonic = monotonic
        self.limits = RowLimits(settings.rows_max, settings.result_bytes_max)
        self.journal = Journal()
        self.session: Session = ()
        self.enforces_keys = settings.fk
        self._loop_ends = 0.0
        self.is_careful = False
        """A savepoint for each unit."""
        self.culprits: dict[Key, Culprit] = {}
        """Statements that ended the whole transaction: they are not run again."""
        self.culprit_requests: set[int] = set()
        self.outcomes: dict[int, Outcome] = {}
        """Of requests with `transaction` that ended everybody's."""
        self.has_ddl = False
        self.has_analyze = False

    def begin(self) -> None:
        """Start anew."""
        self.journal = Journal()
        self.has_ddl = False
        self.has_analyze = False

    def begin_request(self) -> None:
        """Each request has the loop's time for itself; the batch closes behind the one in which
        its own is over."""
        self._loop_ends = self.monotonic() + self.settings.write_loop_time_max

    def check_loop_time(self, position: int) -> None:
        """Raises OverBudget when the request at `position` holds the loop for too long. Steps are
        counted by SQLite, but virtual tables work without any."""
        if not self.is_long and self.monotonic() >= self._loop_ends:
            raise OverBudget(position)

    @property
    def is_hot(self) -> bool:
        """May single statements of plain DML run without a look at their surroundings?"""
        return not (self.checks_deferred or self.writer.shapes.facts.has_virtual)

    @property
    def checks_deferred(self) -> bool:
        """Can a unit leave a foreign key unresolved until its COMMIT?"""
        return self.enforces_keys and (
            self.writer.shapes.facts.has_deferred
            or any(name == "defer_foreign_keys" and value for name, value in self.session)
        )

    def has_unresolved_keys(self) -> bool:
        """Would COMMIT fail now?"""
        return self.writer.has_unresolved_keys()

    def notice_schema_change(self, shape: Shape) -> None:
        """This statement is about to change the schema or the planner's statistics."""
        self.has_ddl = self.has_ddl or shape.is_ddl
        self.has_analyze = self.has_analyze or shape.is_analyze
        self.recorder.schema_changes()
        self.writer.shapes.forget()
        self.writer.limit_values(False)  # it may be making a virtual table

    def roll_back_to(self, savepoint: str, mark: int, before: tuple[bool, bool]) -> None:
        """Undo a unit: its rows, its place in the entry, what the connection keeps of it. `before`
        is what (has_ddl, has_analyze) were when the savepoint was made."""
        writer = self.writer
        writer.engine(f"ROLLBACK TO {savepoint}")
        self.journal.cut(mark)
        self.recorder.took_back(mark)
        had_ddl, had_analyze = before
        if self.has_analyze and not had_analyze:
            writer.reload_statistics()
        if self.has_ddl:
            writer.shapes.forget()
        self.has_ddl, self.has_analyze = had_ddl, had_analyze

    def run_plain(
        self, sql: str, values: Iterator[Any], *, ticks: int | None = None
    ) -> PlainRun | None:
        """Run plain DML with each of the parameters that `values` gives, until one fails; None if
        `sql` is not plain. What took effect is for the caller to note in the journal, except
        random streams. `ticks`: as for `Writer.run_each`."""
        writer = self.writer
        shape = writer.shapes.get(sql)
        if shape is None:
            return self._run_first(sql, next(values), ticks)
        if not shape.is_plain:
            return None
        if shape.is_risky:
            return self._run_risky(shape, next(values), ticks)
        if shape.inserts_one:
            # The hook costs a third of an INSERT, and here there is another way to know.
            writer.watch_rowids(False)
        changes, rowids, error = writer.run_each(shape.text, values, ticks=ticks)
        if shape.inserts_one:
            writer.watch_rowids(True)
            if ROWID_MAX in rowids:
                raise Careful
        if writer.has_reserved_rowid:
            raise Careful
        return PlainRun(shape, changes, rowids, error)

    def _run_first(self, sql: str, parameters: Any, ticks: int | None) -> PlainRun | None:
        """A text that nobody knows yet runs out of the compilation that judges it."""
        self._begin_plain(ticks)
        shape, has_run, error = self.writer.shapes.run_first(sql, parameters)
        if not has_run or isinstance(shape, Failure):
            return None
        return self._end_plain(shape, error)

    def _run_risky(self, shape: Shape, parameters: Any, ticks: int | None) -> PlainRun:
        """Covered by a digest, and it may draw from a random stream."""
        self._begin_plain(ticks)
        self.recorder.cover()
        try:
            self.writer.cursor.execute(shape.text, parameters)
        except Exception as error:  # noqa: BLE001 - told apart in failed()
            return self._end_plain(shape, results.kept(error))
        return self._end_plain(shape, None)

    def _begin_plain(self, ticks: int | None) -> None:
        writer = self.writer
        writer.entropy.seed = None
        if ticks is not None:
            self.connection.set_last_insert_rowid(0)
            writer.ticks_left = ticks

    def _end_plain(self, shape: Shape, error: BaseException | None) -> PlainRun:
        if error is not None:
            return PlainRun(shape, [], [], error)
        writer = self.writer
        if writer.has_reserved_rowid:
            raise Careful
        if writer.entropy.seed is not None:
            self.journal.streams[self.journal.mark()] = writer.entropy.seed
        changes, rowid = self.connection.changes(), self.connection.last_insert_rowid()
        return PlainRun(shape, [changes], [rowid], None)

    def failed(self, error: BaseException, key: Key, shape: Shape, *, is_unit: bool) -> Failure:
        """The result of a statement that raised. `is_unit`: it would have committed alone. Raises
        `Again` when the batch must run again, NodeFault when this node cannot go on."""
        fault = results.node_fault(error)
        if fault is not None:
            raise fault from error
        if not results.is_answer(error):
            raise error
        if not shape.may_fail:
            # Whatever rows it made are gone.
            self.writer.has_reserved_rowid = False
        is_read = shape.kind is Kind.READ
        failure = results.failure(error, is_read=is_read)
        if isinstance(error, apsw.InterruptError):
            failure = self._interrupted(key)
        if isinstance(error, apsw.TooBigError) and not self.is_long:
            raise OverBudget(key[0])  # in a thread values may be longer
        connection = self.connection
        if not connection.in_transaction:
            total = self.writer.counters.total_changes()
            culprit = Culprit(key, failure, connection.last_insert_rowid(), total)
            culprit.is_overdue = self.writer.interrupted_by == "deadline"
            raise culprit
        if is_read or not is_unit or results.is_binding_error(error):
            return failure
        if failure.code & 255 == apsw.SQLITE_CONSTRAINT:
            # SQLite undid what it had to: what remains is what autocommit would have kept.
            return failure
        if not self.is_careful:
            # In autocommit the statement would have been undone as a whole. Here SQLite may have
            # kept the rows before the error: not every statement has a journal of its own.
            raise Careful
        return failure

    def _interrupted(self, key: Key) -> Failure:
        reason = self.writer.interrupted_by
        if reason == "steps":
            raise OverBudget(key[0])
        return timed_out() if reason == "deadline" else cancelled()
