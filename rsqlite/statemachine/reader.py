"""Reads on read-only connections: inline while they are short, in a thread when they are not.

A read runs on the loop with a budget of VM steps and with a small limit on the length of a value;
over either it is broken off and repeated in a thread, on a connection of its own. Both see the
applied index from the applied row inside the same read transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

from rsqlite.config import Settings
from rsqlite.errors import RsqliteError
from rsqlite.ports import Loop
from rsqlite.request import Failure, Outcome, Request, Result, Rows, Write
from rsqlite.statemachine import results
from rsqlite.statemachine.connection import READ_STEPS_PER_TICK, Reader
from rsqlite.statemachine.rows import RowLimits, fetch
from rsqlite.statemachine.shapes import Kind, Shape

WRITE_TEXT = "attempt to change database via query operation"
SETTING_TEXT = "session settings apply to writes; a query cannot change them"

_INLINE_VALUE_BYTES = 1 << 20
"""A longer value is read in a thread, so that 16 of them cannot stop the loop."""

Done = Callable[[Outcome | RsqliteError], None]


class _OverBudget(Exception):
    """The read is too long for the loop."""


class Readers:
    """The reading connections of one database."""

    def __init__(self, path: str, *, loop: Loop, settings: Settings) -> None:
        self._path = path
        self._loop = loop
        self._settings = settings
        self._limits = RowLimits(settings.rows_max, settings.result_bytes_max)
        self._inline_limits = RowLimits(
            settings.rows_max, min(settings.result_bytes_max, 16 * _INLINE_VALUE_BYTES)
        )
        self._inline = Reader(path, settings)
        self._value_bytes_max = min(_INLINE_VALUE_BYTES, settings.blob_bytes_max)
        self._inline.connection.limit(apsw.SQLITE_LIMIT_LENGTH, self._value_bytes_max)
        self._ticks = max(1, settings.read_steps_max // READ_STEPS_PER_TICK)
        self._idle: list[Reader] = []
        self._all: set[Reader] = set()
        self._is_closed = False
        self.generation = 0
        self._known_generation = 0
        self.threaded = 0
        """Reads that went to a thread."""

    def schema_changed(self) -> None:
        """Forget the shapes: what is known of a text may be wrong from now on."""
        self.generation += 1

    def classify(self, sql: str) -> bool | Failure:
        """True when every statement of the text only reads."""
        shapes = self._inline.shapes
        self._refresh(self._inline)
        rest = sql
        while True:
            shape = shapes.judge(rest)
            if isinstance(shape, Failure):
                return shape
            if shape.kind not in (Kind.READ, Kind.EMPTY):
                return False
            if not shape.tail:
                return True
            rest = shape.tail

    def query(self, request: Request, done: Done) -> None:
        """Run it here, or else in a thread."""
        reader = self._inline
        if self._known_generation != self.generation:
            self._refresh(reader)
        reader.ticks_left = self._ticks
        try:
            outcome = _run(reader, request, self._inline_limits, is_inline=True)
        except _OverBudget:
            self._in_thread(request, done)
            return
        except RsqliteError as error:
            done(error)
            return
        done(outcome)

    def _refresh(self, reader: Reader) -> None:
        if reader is self._inline:
            if self._known_generation == self.generation:
                return
            self._known_generation = self.generation
        reader.shapes.forget()

    def _in_thread(self, request: Request, done: Done) -> None:
        self.threaded += 1
        limit = self._settings.read_time_max
        if request.db_timeout_s:
            limit = min(limit, request.db_timeout_s)
        deadline = self._loop.monotonic() + limit

        def work() -> tuple[Reader, Outcome | RsqliteError]:
            reader = self._borrow()
            reader.shapes.forget()
            reader.deadline, reader.clock = deadline, self._loop.monotonic
            reader.ticks_left = -1
            try:
                return reader, _run(reader, request, self._limits, is_inline=False)
            except RsqliteError as error:
                return reader, error

        def finish(
            found: tuple[Reader, Outcome | RsqliteError] | None, error: BaseException | None
        ) -> None:
            if found is None:
                assert error is not None
                raise error
            reader, answer = found
            if self._is_closed:
                reader.close()
            else:
                self._idle.append(reader)
            done(answer)

        self._loop.submit(work, finish)

    def _borrow(self) -> Reader:
        try:
            return self._idle.pop()
        except IndexError:
            reader = Reader(self._path, self._settings)
            self._all.add(reader)
            return reader

    def page_count(self) -> int:
        """Pages of the database as last committed."""
        return self._inline.page_count()

    def close(self) -> None:
        """Stop the reads under way and close what is idle; the others close when they end."""
        self._is_closed = True
        self._inline.close()
        for reader in self._all:
            reader.is_cancelled = True
        for reader in self._idle:
            reader.close()
        self._idle.clear()


def _run(reader: Reader, request: Request, limits: RowLimits, *, is_inline: bool) -> Outcome:
    try:
        index = reader.open_snapshot()
        try:
            found: list[Result] = []
            shapes = reader.shapes.get
            for sql, parameters in zip(request.sqls, request.parameters, strict=True):
                shape = shapes(sql)
                if shape is not None and shape.kind is Kind.READ and not shape.tail:
                    found.append(_one(reader, shape, parameters, request, limits, is_inline))
                    continue
                result = _text(reader, sql, parameters, request, limits, is_inline)
                if result is not None:
                    found.append(result)
        finally:
            reader.close_snapshot()
    except apsw.Error as error:
        fault = results.node_fault(error)
        if fault is not None:
            raise fault from error
        raise
    return Outcome(found, index)


def _text(
    reader: Reader,
    sql: str,
    parameters: Any,
    request: Request,
    limits: RowLimits,
    is_inline: bool,
) -> Result | None:
    """All statements of one text; the last one's rows, or the first failure."""
    rest, offset, result = sql, 0, None
    while True:
        shape = reader.shapes.judge(rest)
        if isinstance(shape, Failure):
            return shape
        if shape.is_write:
            return results.mistake(WRITE_TEXT)
        if shape.kind is Kind.SETTING:
            return results.refusal(SETTING_TEXT)
        if shape.kind is not Kind.EMPTY:
            share = parameters
            if not isinstance(parameters, dict) and parameters is not None:
                if shape.tail:
                    share = parameters[offset : offset + shape.parameter_count]
                    offset += shape.parameter_count
                elif offset:
                    share = parameters[offset:]
            result = _one(reader, shape, share, request, limits, is_inline)
            if isinstance(result, Failure):
                return result
        if not shape.tail:
            return result
        rest = shape.tail


def _one(
    reader: Reader,
    shape: Shape,
    parameters: Any,
    request: Request,
    limits: RowLimits,
    is_inline: bool,
) -> Result:
    try:
        rows = fetch(reader.cursor.execute(shape.text, parameters), limits)
    except apsw.InterruptError:
        if is_inline and reader.interrupted_by == "steps":
            raise _OverBudget from None
        return Failure("query timeout", apsw.SQLITE_INTERRUPT, "SQLITE_INTERRUPT", True)
    except apsw.TooBigError as error:
        if is_inline:
            raise _OverBudget from None
        return results.failure(error, is_read=True)
    except (apsw.Error, TypeError, OverflowError, ValueError, KeyError) as error:
        fault = results.node_fault(error)
        if fault is not None:
            raise fault from error
        return results.failure(error, is_read=True)
    if isinstance(rows, Failure):
        if is_inline:
            raise _OverBudget
        rows.is_read = True
        return rows
    if not shape.columns:
        # REINDEX of nothing, CREATE ... IF NOT EXISTS of what is there: read-only, to SQLite.
        return Write(0, 0)
    columns = shape.full_columns if request.qualify_columns else shape.columns
    return Rows(columns, shape.decltypes, rows)
