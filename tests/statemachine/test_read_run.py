"""One request that reads: its statements, its snapshot, its errors."""

from __future__ import annotations

import pytest

from rsqlite.request import Failure, Rows, Write
from tests.statemachine.lab import QUERY, Lab, ask, read


@pytest.fixture(autouse=True)
def table(lab: Lab) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t(v) VALUES('a'),('b')")


def test_columns_types_and_rows(lab: Lab) -> None:
    (result,) = read(lab, "SELECT id, v, id + 1 AS n FROM t")
    assert result == Rows(["id", "v", "n"], ["INTEGER", "TEXT", None], [(1, "a", 2), (2, "b", 3)])


def test_an_empty_result_has_columns_and_types_too(lab: Lab) -> None:
    for _ in range(3):
        assert read(lab, "SELECT * FROM t WHERE 0") == [Rows(["id", "v"], ["INTEGER", "TEXT"], [])]


def test_the_index_comes_from_the_same_snapshot(lab: Lab) -> None:
    for n in range(3):
        answer = lab.query(ask("SELECT count(*) FROM t", kind=QUERY))
        assert (answer.index, answer.results[0].rows) == (1 + n, [(2 + n,)])
        lab.do("INSERT INTO t(v) VALUES('x')")


def test_columns_follow_the_schema(lab: Lab) -> None:
    for _ in range(3):
        read(lab, "SELECT * FROM t WHERE 0", "SELECT * FROM t")
    lab.do("ALTER TABLE t ADD COLUMN w BLOB")
    for machine in (lab.leader, lab.replica):
        answer = lab.query(ask("SELECT * FROM t WHERE 0", "SELECT * FROM t"), machine)
        assert [result.columns for result in answer.results] == [["id", "v", "w"]] * 2


@pytest.mark.parametrize(
    "sql", ["INSERT INTO t VALUES(9, 'x')", "DROP TABLE t", "SELECT 1; DELETE FROM t"]
)
def test_a_write_is_told_so_and_does_nothing(lab: Lab, sql: str) -> None:
    for _ in range(2):
        (result,) = read(lab, sql)
        assert result.message == "attempt to change database via query operation"
    assert lab.rows("SELECT count(*) FROM t") == [(2,)]


def test_explain_of_a_write_is_a_read(lab: Lab) -> None:
    (plan, program) = read(lab, "EXPLAIN QUERY PLAN DELETE FROM t", "EXPLAIN DELETE FROM t")
    assert isinstance(plan, Rows)
    assert isinstance(program, Rows)


def test_all_statements_of_a_text_run_and_the_last_answers(lab: Lab) -> None:
    (result,) = read(lab, ("SELECT v FROM t WHERE id = ?; SELECT v FROM t WHERE id = ?", 1, 2))
    assert result.rows == [("b",)]


def test_an_error_of_one_statement_is_its_result(lab: Lab) -> None:
    results = read(lab, "SELECT 1", "SELECT nope", "nonsense", ("SELECT ?", 1, 2), "", "SELECT 2")
    assert [type(result) for result in results] == [Rows, Failure, Failure, Failure, Rows]
    assert results[1].message == "no such column: nope"


def test_session_settings_are_for_writes(lab: Lab) -> None:
    (result,) = read(lab, "PRAGMA foreign_keys = ON")
    assert "session settings" in result.message
    assert read(lab, "PRAGMA foreign_keys")[0].rows == [(0,)]


def test_a_statement_without_columns(lab: Lab) -> None:
    assert read(lab, "REINDEX NOCASE") == [Write(0, 0)]
