"""One request that only reads, on one reading connection: its statements in one snapshot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

from rsqlite.request import Failure, Outcome, Request, Result, Rows, Write
from rsqlite.statemachine import results
from rsqlite.statemachine.read_connection import Reader
from rsqlite.statemachine.request_run import share_of
from rsqlite.statemachine.rows import RowLimits, fetch
from rsqlite.statemachine.shapes import Kind, Shape

WRITE_TEXT = "attempt to change database via query operation"
SETTING_TEXT = "session settings apply to writes; a query cannot change them"


class ReadOverBudget(Exception):
    """The read is too long for the loop."""


class ReadRun:
    """One request on one connection."""

    __slots__ = ("_is_inline", "_limits", "_monotonic", "_reader", "_request")

    def __init__(
        self,
        reader: Reader,
        request: Request,
        limits: RowLimits,
        *,
        is_inline: bool,
        monotonic: Callable[[], float],
    ) -> None:
        self._monotonic = monotonic
        self._reader = reader
        self._request = request
        self._limits = limits
        self._is_inline = is_inline

    def run(self) -> Outcome:
        """The answer, with the index that it saw."""
        reader, request = self._reader, self._request
        found: list[Result] = []
        try:
            index = reader.open_snapshot()
            try:
                known = reader.shapes.get
                for sql, parameters in zip(request.sqls, request.parameters, strict=True):
                    started = self._monotonic() if request.timings else 0.0
                    shape = known(sql)
                    if shape is None:
                        result = self._unknown(sql, parameters)
                    elif shape.kind is Kind.READ and not shape.tail:
                        result = self._read(shape, parameters)
                    else:
                        result = self._text(sql, parameters)
                    if result is not None:
                        if request.timings:
                            result.time_s = self._monotonic() - started
                        found.append(result)
            finally:
                try:
                    reader.close_snapshot()
                except apsw.InterruptError:
                    pass  # past its deadline, and reset all the same
        except apsw.Error as error:
            # Of the snapshot itself: that of a statement is its result.
            raise results.commit_fault(error) from error
        return Outcome(found, index)

    def _unknown(self, sql: str, parameters: Any) -> Result | None:
        """A text with literals comes once: it is compiled once, and not kept."""
        shapes = self._reader.shapes
        shape, has_run, error = shapes.run_first(sql, parameters)
        if isinstance(shape, Failure):
            return shape
        if not has_run:
            return self._text(sql, parameters)
        return self._answer(shape, shapes.first_cursor, error)

    def _text(self, sql: str, parameters: Any) -> Result | None:
        """All statements of one text; the last one's rows, or the first failure."""
        rest, offset, result = sql, 0, None
        while True:
            shape = self._reader.shapes.judge(rest)
            if isinstance(shape, Failure):
                return shape
            if shape.is_write:
                return results.mistake(WRITE_TEXT)
            if shape.kind is Kind.SETTING:
                return results.refusal(SETTING_TEXT)
            if shape.kind is not Kind.EMPTY:
                share, offset = share_of(parameters, shape, offset)
                result = self._read(shape, share)
                if isinstance(result, Failure):
                    return result
            if not shape.tail:
                return result
            rest = shape.tail

    def _read(self, shape: Shape, parameters: Any) -> Result:
        cursor = self._reader.cursor
        error: BaseException | None = None
        try:
            cursor.execute(shape.text, parameters)
        except Exception as caught:  # noqa: BLE001 - told apart in _failed
            error = results.kept(caught)
        return self._answer(shape, cursor, error)

    def _answer(self, shape: Shape, cursor: apsw.Cursor, error: BaseException | None) -> Result:
        if error is not None:
            return self._failed(error)
        try:
            rows = fetch(cursor, self._limits)
        except Exception as caught:  # noqa: BLE001 - told apart in _failed
            return self._failed(caught)
        if isinstance(rows, Failure):
            if self._is_inline:
                raise ReadOverBudget
            rows.is_read = True
            return rows
        if not shape.columns:
            # REINDEX of nothing, CREATE ... IF NOT EXISTS of what is there: read-only, to SQLite.
            return Write(0, 0)
        columns = shape.full_columns if self._request.qualify_columns else shape.columns
        return Rows(columns, shape.decltypes, rows)

    def _failed(self, error: BaseException) -> Failure:
        reader = self._reader
        if isinstance(error, apsw.InterruptError):
            if self._is_inline and reader.interrupted_by == "steps":
                raise ReadOverBudget from error
            return Failure("query timeout", apsw.SQLITE_INTERRUPT, "SQLITE_INTERRUPT", True)
        if self._is_inline and isinstance(error, apsw.TooBigError):
            raise ReadOverBudget from error
        if isinstance(error, apsw.ReadOnlyError):
            # A function that writes behind SQLite's back.
            return results.mistake(WRITE_TEXT)
        fault = results.node_fault(error)
        if fault is not None:
            raise fault from error
        if not results.is_answer(error):
            raise error
        return results.failure(error, is_read=True)
