"""Rows, bounded in number and bytes."""

from __future__ import annotations

import apsw
import pytest

from rsqlite.request import Failure
from rsqlite.statemachine.rows import RowLimits, fetch

SERIES = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?) SELECT "


@pytest.fixture
def cursor() -> apsw.Cursor:
    return apsw.Connection(":memory:").cursor()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000, 5000])
def test_all_rows_come_in_order(cursor: apsw.Cursor, count: int) -> None:
    cursor.execute(SERIES + "i FROM c WHERE ? > 0", (max(count, 1), count))
    assert fetch(cursor, RowLimits(10_000, 1 << 30)) == [(n + 1,) for n in range(count)]


@pytest.mark.parametrize(
    ("count", "size", "limits", "bound"),
    [
        (20, 1, RowLimits(19, 1 << 30), "rows_max is 19"),
        (5000, 1, RowLimits(4999, 1 << 30), "rows_max"),
        (3, 400, RowLimits(100, 1000), "result_bytes_max is 1000"),
        (5000, 400, RowLimits(10_000, 1_000_000), "result_bytes_max"),
        (5, 1, RowLimits(4, 1 << 30), "rows_max is 4"),
    ],
)
def test_more_than_an_answer_may_hold_is_a_failure(
    cursor: apsw.Cursor, count: int, size: int, limits: RowLimits, bound: str
) -> None:
    cursor.execute(SERIES + "zeroblob(?) FROM c", (count, size))
    result = fetch(cursor, limits)
    assert isinstance(result, Failure)
    assert bound in result.message


def test_the_cursor_is_free_afterwards(cursor: apsw.Cursor) -> None:
    # An open one would block DDL, COMMIT and the reset of the WAL.
    connection = cursor.connection
    connection.execute("CREATE TABLE t(a)")
    connection.execute("INSERT INTO t VALUES(1),(2),(3)")
    cursor.execute("SELECT a FROM t")
    assert isinstance(fetch(cursor, RowLimits(2, 100)), Failure)
    connection.execute("DROP TABLE t")
    assert cursor.execute("SELECT 1").fetchall() == [(1,)]
