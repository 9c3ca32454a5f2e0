"""Fetching rows, bounded in number and bytes.

`fetchall` is one call into C for all rows; a loop in Python costs a third more. So rows come in
pieces, and each piece is measured as msgpack would write it (4 % of the cost of fetching it). What
one piece can hold beyond the bound is limited by its number of rows and by SQLite's own limit on
the length of a value.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

import apsw
import msgspec

from rsqlite.request import Failure
from rsqlite.statemachine import results

_FIRST_ROWS = 16
_PIECE_ROWS_MAX = 1024
_PIECE_BYTES = 1 << 20

_measure = msgspec.msgpack.Encoder().encode_into


class RowLimits(NamedTuple):
    """What one answer may hold."""

    rows_max: int
    bytes_max: int


def fetch(cursor: apsw.Cursor, limits: RowLimits) -> list[Any] | Failure:
    """All rows of a statement, or a Failure when they are more than an answer may hold. The cursor
    is at its end in any case: an open one blocks DDL, COMMIT and the reset of the WAL, and keeps
    the snapshot of a reader."""
    try:
        return _fetch(cursor, limits)
    except UnicodeDecodeError:
        _end(cursor)  # APSW's error, not SQLite's, which would have ended the statement
        raise


def _fetch(cursor: apsw.Cursor, limits: RowLimits) -> list[Any] | Failure:
    rows: list[Any] = list(islice(cursor, _FIRST_ROWS))
    if len(rows) < _FIRST_ROWS:
        if len(rows) > limits.rows_max:
            return _too_many(cursor, f"rows_max is {limits.rows_max}")
        if cell_bytes(rows) > limits.bytes_max:
            return _too_many(cursor, f"result_bytes_max is {limits.bytes_max}")
        return rows
    scratch = bytearray()
    _measure(rows, scratch)
    total = len(scratch)
    while True:
        if len(rows) > limits.rows_max:
            return _too_many(cursor, f"rows_max is {limits.rows_max}")
        if total > limits.bytes_max:
            return _too_many(cursor, f"result_bytes_max is {limits.bytes_max}")
        average = total // len(rows) + 1
        count = max(1, min(_PIECE_ROWS_MAX, _PIECE_BYTES // average, len(rows)))
        piece = list(islice(cursor, count))
        if not piece:
            return rows
        rows += piece
        _measure(piece, scratch)
        total += len(scratch)


def cell_bytes(rows: list[Any]) -> int:
    """A few rows, cheaply: only strings and BLOBs count."""
    total = 0
    for row in rows:
        for cell in row:
            if cell.__class__ is str or cell.__class__ is bytes:
                total += len(cell)
    return total


def _too_many(cursor: apsw.Cursor, bound: str) -> Failure:
    _end(cursor)
    return results.mistake(f"the result is too large ({bound}): ask for less at a time")


def _end(cursor: apsw.Cursor) -> None:
    try:
        # Nothing, in place of the statement: that resets it without closing the cursor.
        cursor.execute("", can_cache=False)
    except apsw.ExecTraceAbort:
        pass  # the tracer of a cursor that only judges
