"""Commands out of calls, and rows out of results."""

from __future__ import annotations

from typing import Any

import pytest
from rsqlite_client.cursor import BaseCursor, ConnectionSettings, Mistake
from rsqlite_client.errors import NotSupportedError, ProgrammingError
from rsqlite_client.proto import Command, Form, ReadLevel, Result
from rsqlite_client.statement import Statement


@pytest.fixture
def cursor() -> BaseCursor:
    return BaseCursor(ConnectionSettings(level=ReadLevel.NONE, freshness_s=2.0))


def take(cursor: BaseCursor, sql: str, result: Result, form: Form = Form.ONE) -> Statement:
    statement = Statement(sql)
    cursor.take(Command(statement, form, ((),)), result)
    return statement


def test_a_read_has_the_level_of_its_connection_or_its_own(cursor: BaseCursor) -> None:
    command = cursor.prepare_one("SELECT ?", (1,), None, None)
    assert (command.rows, command.level, command.freshness_s) == (((1,),), ReadLevel.NONE, 2.0)
    command = cursor.prepare_one("SELECT 1", (), "strong", 0.0)
    assert (command.level, command.freshness_s) == (ReadLevel.STRONG, 0.0)


@pytest.mark.parametrize(
    ("sql", "probe"),
    [
        ("SELECT ?, ?", "EXPLAIN SELECT ?, ?"),
        ("EXPLAIN SELECT ?, ?", "EXPLAIN SELECT ?, ?"),
        ("DELETE FROM t WHERE a=? AND b=?; SELECT 1", "EXPLAIN DELETE FROM t WHERE a=? AND b=?;"),
    ],
)
def test_a_probe_compiles_the_first_statement_and_runs_nothing(
    cursor: BaseCursor, sql: str, probe: str
) -> None:
    with pytest.raises(Mistake) as caught:
        cursor.prepare_one(sql, (1,), None, None)
    command = caught.value.probe
    assert (command.statement.text, command.rows, command.is_read) == (probe, ((None, None),), True)
    assert isinstance(caught.value.error, ProgrammingError)


def test_no_rows_are_a_probe_whose_result_is_nobodys(cursor: BaseCursor) -> None:
    command = cursor.prepare_many("INSERT INTO t VALUES(?)", [])
    assert command.statement.text == "EXPLAIN INSERT INTO t VALUES(?)"
    cursor.take(command, Result(["addr"], [None], [(1,)], is_read=True))
    assert (cursor.rowcount, cursor.description, cursor.next_rows(None)) == (0, None, [])


def test_many_rows_and_scripts(cursor: BaseCursor) -> None:
    command = cursor.prepare_many("INSERT INTO t VALUES(?)", iter([(1,), (2,)]))
    assert (command.form, command.rows) == (Form.MANY, [(1,), (2,)])
    command = cursor.prepare_script("BEGIN; SELECT 1; COMMIT;")
    assert (command.form, command.texts) == (Form.SCRIPT, [" SELECT 1;"])
    assert cursor.prepare_script(" -- nothing").answer is not None
    with pytest.raises(NotSupportedError, match="BEGIN needs an interactive session"):
        cursor.prepare_one("BEGIN", (), None, None)


def test_a_new_call_forgets_the_last_result(cursor: BaseCursor) -> None:
    take(cursor, "SELECT 1", Result(["a"], [None], [(1,)], is_read=True))
    cursor.prepare_one("SELECT 1", (), None, None)
    assert (cursor.description, cursor.next_rows(None), cursor.rowcount) == (None, [], -1)


@pytest.mark.parametrize(
    ("sql", "result", "form", "rowcount", "lastrowid"),
    [
        ("INSERT INTO t VALUES(1)", Result(lastrowid=5, changes=1), Form.ONE, 1, 5),
        ("UPDATE t SET a=1", Result(changes=3), Form.ONE, 3, 0),
        ("WITH x AS (SELECT 1) DELETE FROM t", Result(changes=3), Form.ONE, -1, 0),
        ("CREATE TABLE t(a)", Result(), Form.ONE, -1, 0),
        ("", Result(), Form.ONE, -1, None),
        ("INSERT INTO t VALUES(?)", Result(lastrowid=5, changes=2), Form.MANY, 2, None),
        ("SELECT 1; INSERT INTO t VALUES(1)", Result(lastrowid=5), Form.SCRIPT, -1, None),
    ],
)
def test_counts(
    cursor: BaseCursor, sql: str, result: Result, form: Form, rowcount: int, lastrowid: int | None
) -> None:
    take(cursor, sql, result, form)
    assert (cursor.rowcount, cursor.lastrowid) == (rowcount, lastrowid)


def test_the_last_rowid_is_the_connections() -> None:
    settings = ConnectionSettings()
    take(BaseCursor(settings), "INSERT INTO t VALUES(1)", Result(lastrowid=5, changes=1))
    cursor = BaseCursor(settings)
    take(cursor, "SELECT 1", Result(["1"], [None], [(1,)], is_read=True))
    assert (cursor.lastrowid, settings.total_changes) == (5, 1)


def test_a_text_that_turned_out_to_read_is_remembered(cursor: BaseCursor) -> None:
    rows = [(0,)]
    read = Result(["user_version"], [None], rows, is_read=True)
    assert take(cursor, "PRAGMA user_version", read).is_read
    returning = Result(["a"], [None], rows, lastrowid=1, changes=1)
    assert not take(cursor, "INSERT INTO t VALUES(1) RETURNING a", returning).is_read


def test_rows_go_through_the_row_factory(cursor: BaseCursor) -> None:
    def number(cursor: Any, row: Any) -> Any:
        return len(cursor.description), row[0]

    cursor.row_factory = number
    rows = [(one,) for one in range(4)]
    take(cursor, "SELECT a", Result(["a"], [None], rows, is_read=True))
    assert (cursor.next_row(), cursor.next_rows(2)) == ((1, 0), [(1, 1), (1, 2)])
    assert cursor.next_rows(None) == [(1, 3)]
    with pytest.raises(StopIteration):
        cursor.next_row()
