"""One request inside the shared transaction, statement by statement, as if it were alone.

Its counters begin at 0. While its statements are plain DML, SQLite's own counters are right and
nothing is done about them. Two things are watched: `is_clean` says that the connection's counters
are those that a connection of the request's own would have; `is_broken` says that something that is
not in the entry has moved them, so the next logged statement must say where they stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw

from rsqlite.request import Failure, Outcome, Request, RequestKind, Result, Rows, Write
from rsqlite.statemachine import results, schema
from rsqlite.statemachine.attempt import (
    Attempt,
    cancelled,
    reserved_rowid,
    timed_out,
    unresolved_key,
)
from rsqlite.statemachine.batch import Careful, Culprit, Key
from rsqlite.statemachine.rows import fetch
from rsqlite.statemachine.shapes import Kind, Shape

_ENDED = -1


class RequestRun:
    """Made for one request of one attempt; `run` is called once."""

    def __init__(self, attempt: Attempt, position: int, request: Request) -> None:
        self._attempt = attempt
        self._position = position
        self._request = request
        self._writer = attempt.writer
        self._connection = attempt.connection
        self._journal = attempt.journal
        self._mark = attempt.journal.mark()
        self._results: list[Result] = []
        self._is_transaction = request.transaction
        self._is_leading = True
        """Only session settings have come so far."""
        self._is_clean = False
        self._is_broken = False
        self._leaves_trace = True
        """False when the last statement could not be bound, so that it never ran, or was refused
        for what it did: the counters are then as they were before it."""

    def run(self) -> Outcome:
        """What the client gets; the columns of the entry get what took effect."""
        request = self._request
        if self._writer.shapes.facts.has_virtual:
            self._writer.flush_virtual_tables()
        self._connection.set_last_insert_rowid(0)
        self._writer.counters.start()
        self._set_budget()
        if request.transaction:
            self._run_transaction()
        else:
            self._run_texts()
        has_effects = self._journal.end_request(self._mark, is_transaction=request.transaction)
        return Outcome(self._results, 0, has_effects)

    def _set_budget(self) -> None:
        attempt, request = self._attempt, self._request
        attempt.begin_request()
        settings = attempt.settings
        deadline = None
        if attempt.is_long or request.db_timeout_s:
            seconds = settings.write_time_max
            if request.db_timeout_s:
                seconds = min(seconds, request.db_timeout_s)
            deadline = attempt.monotonic() + seconds
        self._writer.budget(None if attempt.is_long else settings.write_steps_max, deadline)

    def _run_transaction(self) -> None:
        attempt = self._attempt
        before = attempt.has_ddl, attempt.has_analyze
        self._writer.engine("SAVEPOINT rsqlite_request")
        try:
            failed = self._run_texts()
        except Culprit as culprit:
            culprit.outcome = Outcome([*self._results, culprit.failure])
            raise
        if not failed and self._results and attempt.enforces_keys and attempt.has_unresolved_keys():
            # COMMIT would have reported it: the last statement's place is where the client looks.
            self._results[-1] = unresolved_key()
            failed = True
        if failed:
            attempt.roll_back_to("rsqlite_request", self._mark, before)
        self._writer.engine("RELEASE rsqlite_request")

    def _run_texts(self) -> bool:
        """True when the request is a transaction and a statement failed."""
        attempt, request, found = self._attempt, self._request, self._results
        number, count = 0, len(request.sqls)
        while number < count:
            if not self._is_broken and self._is_hot():
                number = self._run_plain(number)
                if number == _ENDED:
                    return True
                if number == count:
                    break
            if number:
                attempt.check_loop_time(self._position)
            started = attempt.monotonic() if request.timings else 0.0
            result = self._text(number, request.sqls[number], request.parameters[number])
            if result is not None:
                if request.timings:
                    result.time_s = attempt.monotonic() - started
                found.append(result)
                if self._is_transaction and isinstance(result, Failure):
                    return True
            number += 1
        return False

    def _run_plain(self, number: int) -> int:
        """The hot path of bulk requests: run plain DML from text `number` on. Answers the number
        of the first text that is not plain, or `_ENDED` when a statement failed that ends the
        transaction."""
        attempt, found, parameters = self._attempt, self._results, self._request.parameters
        sqls, end = self._request.sqls, number
        values: Iterator[Any] = iter(())
        while number < len(sqls):
            if number == end:
                end = _end_of_run(sqls, number)
                values = iter(parameters[number:end])
            ran = attempt.run_plain(sqls[number], values)
            if ran is None:
                return number
            self._is_leading = False
            shape, changes, rowids, error = ran
            if rowids:
                self._journal.add(
                    shape.text, parameters[number : number + len(rowids)], changes, rowids
                )
                found.extend(map(Write, rowids, changes))
                self._is_clean = True
                number += len(rowids)
            if error is not None:
                found.append(self._failed(error, (self._position, number, 0), shape))
                if self._is_transaction:
                    return _ENDED
                number += 1
                if self._is_broken:
                    return number
        return number

    def _is_hot(self) -> bool:
        """May plain DML run without a look at its surroundings?"""
        attempt = self._attempt
        if attempt.is_careful or self._position in attempt.culprit_requests:
            return False
        if self._writer.deadline is not None or self._writer.is_cancelled or self._request.timings:
            return False
        if self._writer.shapes.facts.has_virtual:
            return self._is_transaction and self._journal.mark() > self._mark
        # A transaction is one unit, and is asked once, at its end.
        return self._is_transaction or not attempt.checks_deferred

    def _text(self, number: int, sql: str, parameters: Any) -> Result | None:
        """All statements of one text; the last one's result, or the first failure."""
        rest, piece, offset, result = sql, 0, 0, None
        while True:
            shape = self._writer.shapes.judge(rest)
            if isinstance(shape, Failure):
                return shape
            if shape.kind is not Kind.EMPTY:
                share, offset = share_of(parameters, shape, offset)
                result = self._statement((self._position, number, piece), shape, share)
                if isinstance(result, Failure):
                    return result
            if not shape.tail:
                return result
            rest = shape.tail
            piece += 1

    def _statement(self, key: Key, shape: Shape, parameters: Any) -> Result:
        attempt, writer = self._attempt, self._writer
        if shape.setting is not None:
            return self._setting(shape.setting[0])
        self._is_leading = False
        culprit = attempt.culprits.get(key)
        if culprit is not None:
            # What it left the counters at, without running it again.
            writer.restore_counters(0, culprit.rowid, culprit.total)
            self._is_clean, self._is_broken = True, True
            if culprit.is_overdue:
                writer.deadline = attempt.monotonic()
            return culprit.failure
        if writer.is_cancelled:
            return cancelled()
        if writer.deadline is not None and attempt.monotonic() >= writer.deadline:
            return timed_out()
        if not self._is_transaction and self._is_clean and writer.shapes.facts.has_virtual:
            self._write_held_back()
        if not shape.is_write:
            return self._read(key, shape, parameters)
        if not self._is_transaction and (attempt.is_careful or attempt.checks_deferred):
            return self._guarded(key, shape, parameters)
        return self._write(key, shape, parameters)

    def _write_held_back(self) -> None:
        """What the statements before would have written at their own COMMIT, and counted."""
        writer, connection = self._writer, self._connection
        changes, rowid = connection.changes(), connection.last_insert_rowid()
        writer.flush_virtual_tables()
        if connection.changes() != changes or connection.last_insert_rowid() != rowid:
            writer.restore_counters(changes, rowid, writer.counters.total_changes())

    def _setting(self, name: str) -> Result:
        """In force already if it may be here at all."""
        if self._is_leading or (self._is_transaction and name == "foreign_keys"):
            self._settle()
            return self._echo()
        return results.refusal(
            f"PRAGMA {name} holds for the request that carries it"
            " and must come before its other statements"
        )

    def _read(self, key: Key, shape: Shape, parameters: Any) -> Result:
        """A read runs in its place, and leaves nothing in the entry."""
        self._settle()
        writer = self._writer
        writer.entropy.seed = None
        try:
            cursor = writer.cursor.execute(shape.text, parameters)
            rows = fetch(cursor, self._attempt.limits)
        except Exception as error:  # noqa: BLE001 - told apart in failed()
            return self._failed(error, key, shape)
        if isinstance(rows, Failure):
            return rows
        if self._request.kind is RequestKind.EXECUTE or not shape.columns:
            return self._echo()
        columns = shape.full_columns if self._request.qualify_columns else shape.columns
        return Rows(columns, shape.decltypes, rows)

    def _guarded(self, key: Key, shape: Shape, parameters: Any) -> Result:
        """A unit in a savepoint of its own."""
        attempt, writer, journal = self._attempt, self._writer, self._journal
        mark = journal.mark()
        before = attempt.has_ddl, attempt.has_analyze
        counters = self._counters()
        self._leaves_trace = True
        writer.engine("SAVEPOINT rsqlite_unit")
        result = self._write(key, shape, parameters)
        is_kept = not isinstance(result, Failure) or journal.mark() > mark
        if is_kept and attempt.enforces_keys and attempt.has_unresolved_keys():
            result, is_kept = unresolved_key(), False
        if not is_kept:
            # Alone, a unit that fails at its end reports no changes; those of its triggers stay
            # in the total, as with any statement that fails.
            total = writer.counters.total_changes() - self._connection.changes()
            attempt.roll_back_to("rsqlite_unit", mark, before)
            if self._leaves_trace:
                writer.restore_counters(0, self._connection.last_insert_rowid(), total)
            else:
                writer.restore_counters(*counters)
            self._is_clean, self._is_broken = True, True
        writer.engine("RELEASE rsqlite_unit")
        return result

    def _write(self, key: Key, shape: Shape, parameters: Any) -> Result:
        attempt, writer, journal = self._attempt, self._writer, self._journal
        if shape.is_risky:
            attempt.recorder.cover()
        position = journal.mark()
        has_virtual = writer.shapes.facts.has_virtual
        # Where virtual tables may hold writes back, no unit begins before they are written.
        begins_unit = has_virtual and (not self._is_transaction or position == self._mark)
        if shape.is_sensitive or self._is_broken or begins_unit:
            counters = self._counters()
            if not self._is_clean or has_virtual:
                writer.restore_counters(*counters)
            journal.resets[position] = counters
        total = self._connection.total_changes() if shape.may_fail else 0
        if shape.is_ddl or shape.is_analyze:
            attempt.notice_schema_change(shape)
        writer.entropy.seed = None
        result: Result
        try:
            cursor = writer.cursor.execute(shape.text, parameters, can_cache=shape.kind is Kind.DML)
            rows = fetch(cursor, attempt.limits) if shape.columns else []
        except UnicodeDecodeError as error:
            # It has run, with all its effects, and returns a text that is none.
            excess = self._excess(results.failure(error))
            journal.resets.pop(position, None)
            assert excess is not None
            return excess
        except Exception as error:  # noqa: BLE001 - told apart in failed()
            result = self._failed(error, key, shape)
            if result.code & 255 != apsw.SQLITE_CONSTRAINT or not shape.may_fail:
                journal.resets.pop(position, None)
                return result
            # FAIL keeps the rows before the error: an error with effects. A reserved rowid is none
            # to keep, and after it came rowids that nobody can repeat.
            excess = self._excess([])
            if excess is not None and self._connection.total_changes() == total:
                excess = result  # it would have failed anyway
            if excess is not None:
                journal.resets.pop(position, None)
                return excess
            journal.errors[position] = result.code
        else:
            excess = self._excess(rows)
            if excess is not None:
                journal.resets.pop(position, None)
                return excess
            result = self._answer(shape, rows)
        if writer.entropy.seed is not None:
            journal.streams[position] = writer.entropy.seed
        journal.texts.append(journal.place(shape.text))
        journal.parameters.append(parameters)
        journal.changes.append(self._connection.changes())
        journal.rowids.append(self._connection.last_insert_rowid())
        self._is_clean, self._is_broken = True, False
        return result

    def _answer(self, shape: Shape, rows: Any) -> Result:
        if not shape.columns:
            return self._echo()
        columns = shape.full_columns if self._request.qualify_columns else shape.columns
        echo = self._echo()
        return Rows(columns, shape.decltypes, rows, False, echo.last_insert_rowid, echo.changes)

    def _excess(self, rows: Any) -> Failure | None:
        """What a statement is refused for although it succeeded; only a savepoint undoes it."""
        writer = self._writer
        if writer.has_reserved_rowid:
            found = reserved_rowid()
        elif isinstance(rows, Failure):
            found = rows
        else:
            return None
        if not self._attempt.is_careful:
            raise Careful
        writer.has_reserved_rowid = False
        self._leaves_trace = False
        return found

    def _failed(self, error: BaseException, key: Key, shape: Shape) -> Failure:
        is_unit = not self._is_transaction
        self._leaves_trace = not results.is_binding_error(error)
        failure = self._attempt.failed(error, key, shape, is_unit=is_unit)
        if shape.is_write and self._connection.changes() == 0:
            # It ran, and set the counters: a replica that never runs it must be told.
            self._is_clean, self._is_broken = True, True
        return failure

    def _counters(self) -> tuple[int, int, int]:
        """changes(), last_insert_rowid() and total_changes() as the client has them."""
        connection = self._connection
        changes = connection.changes() if self._is_clean else 0
        return changes, connection.last_insert_rowid(), self._writer.counters.total_changes()

    def _settle(self) -> None:
        """Bring the connection's counters to what the request's own connection would have."""
        if not self._is_clean:
            self._writer.engine(schema.RESET_CHANGES)
            self._is_clean = True

    def _echo(self) -> Write:
        return Write(self._connection.last_insert_rowid(), self._connection.changes())


def _end_of_run(sqls: list[str], start: int) -> int:
    """The end of the run of equal texts that begins at `start`."""
    sql = sqls[start]
    if start == 0 and sqls.count(sql) == len(sqls):
        return len(sqls)
    end = start + 1
    while end < len(sqls) and sqls[end] == sql:
        end += 1
    return end


def share_of(parameters: Any, shape: Shape, offset: int) -> tuple[Any, int]:
    """The parameters of one statement of a text, and where the next one's begin: positional ones
    are consumed in order, named ones belong to all."""
    if parameters is None or isinstance(parameters, dict):
        return parameters, offset
    if shape.tail:
        end = offset + shape.parameter_count
        return parameters[offset:end], end
    return (parameters[offset:] if offset else parameters), offset
