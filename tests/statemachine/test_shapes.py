"""What SQLite's parser tells of a text."""

from __future__ import annotations

from typing import Any

import pytest

from rsqlite.request import Failure
from rsqlite.statemachine.shapes import Kind, Shape
from tests.statemachine.lab import Lab


@pytest.fixture(autouse=True)
def tables(lab: Lab) -> None:
    lab.do("CREATE TABLE t(id INTEGER PRIMARY KEY, a)", "CREATE VIEW v AS SELECT a FROM t")


def judge(lab: Lab, sql: str) -> Any:
    shape = lab.leader._writer.shapes.judge(sql)
    assert isinstance(shape, Shape), shape
    return shape


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT 1", Kind.READ),
        ("WITH x AS (SELECT 1) SELECT * FROM x", Kind.READ),
        ("EXPLAIN INSERT INTO t VALUES(1, 2)", Kind.READ),
        ("PRAGMA journal_mode", Kind.READ),
        ("PRAGMA table_info(t)", Kind.READ),
        ("  -- nothing", Kind.EMPTY),
        ("INSERT INTO t(a) VALUES(1)", Kind.DML),
        ("WITH x AS (SELECT 1) DELETE FROM t", Kind.DML),
        ("REPLACE INTO t VALUES(1, 2)", Kind.DML),
        ("UPDATE t SET a = 1 RETURNING a", Kind.DML),
        ("CREATE TABLE u(a)", Kind.OTHER),
        ("CREATE TABLE u AS SELECT * FROM t", Kind.OTHER),
        ("ANALYZE", Kind.OTHER),
        ("PRAGMA user_version = 3", Kind.OTHER),
        ("PRAGMA foreign_keys = ON", Kind.SETTING),
        ("PRAGMA main.Recursive_Triggers(yes)", Kind.SETTING),
    ],
)
def test_kinds(lab: Lab, sql: str, kind: Kind) -> None:
    assert judge(lab, sql).kind is kind


def test_compiling_a_setting_does_not_set_it(lab: Lab) -> None:
    # Flag PRAGMAs act while they are compiled.
    assert judge(lab, "PRAGMA recursive_triggers = ON").setting == ("recursive_triggers", 1)
    assert lab.leader._writer.engine("PRAGMA recursive_triggers") == [(0,)]


@pytest.mark.parametrize(
    ("value", "flag"), [("ON", 1), ("yes", 1), ("2", 1), ("0", 0), ("off", 0), ("x", 0)]
)
def test_flags_are_read_as_sqlite_reads_them(lab: Lab, value: str, flag: int) -> None:
    assert judge(lab, f"PRAGMA ignore_check_constraints = {value}").setting[1] == flag


def test_sqlite_says_where_a_statement_ends(lab: Lab) -> None:
    shape = judge(lab, " SELECT ';' AS \"a;b\" /* ; */ ; -- x\n DELETE FROM t; ")
    assert shape.tail.strip() == "-- x\n DELETE FROM t;"
    assert judge(lab, shape.tail).kind is Kind.DML
    assert judge(lab, "DELETE FROM t; -- the end").tail == ""


def test_plain_dml_is_what_the_hot_path_takes(lab: Lab) -> None:
    assert judge(lab, "INSERT INTO t(a) VALUES(?)").is_plain
    for sql in (
        "INSERT INTO t(a) VALUES(changes())",
        "INSERT INTO t(a) VALUES(LAST_INSERT_ROWID())",
        "INSERT OR FAIL INTO t(a) VALUES(1)",
        "INSERT INTO t(a) VALUES(1) RETURNING a",
        "INSERT INTO t(a) VALUES(1); SELECT 1",
        "CREATE TABLE u(a)",
    ):
        assert not judge(lab, sql).is_plain, sql


def test_a_schema_that_shows_counters_makes_everything_sensitive(lab: Lab) -> None:
    lab.do("CREATE TRIGGER g AFTER DELETE ON t BEGIN SELECT Changes(); END")
    assert judge(lab, "INSERT INTO t(a) VALUES(?)").is_sensitive


def test_columns_and_parameters(lab: Lab) -> None:
    shape = judge(lab, "SELECT id, a + ? AS n, v.a FROM t JOIN v USING (a) WHERE id = :x")
    assert shape.columns == ["id", "n", "a"]
    assert shape.decltypes == ["INTEGER", None, ""] or shape.decltypes[0] == "INTEGER"
    assert shape.full_columns[0] == "t.id"
    assert shape.parameter_count == 2


def test_failures_are_not_remembered(lab: Lab) -> None:
    shapes = lab.leader._writer.shapes
    assert isinstance(shapes.judge("SELECT * FROM later"), Failure)
    lab.do("CREATE TABLE later(a)")
    assert judge(lab, "SELECT * FROM later").kind is Kind.READ


def test_what_is_known_is_bounded(lab: Lab) -> None:
    shapes = lab.leader._writer.shapes
    shapes._count_max = 10
    for n in range(50):
        judge(lab, f"SELECT {n}")
    assert len(shapes._shapes) <= 10


def test_a_new_text_of_plain_dml_runs_out_of_its_first_compilation(lab: Lab) -> None:
    writer = lab.leader._writer
    writer.begin()
    shape, has_run, error = writer.shapes.run_first("INSERT INTO t(a) VALUES(?)", [5])
    assert (has_run, error) == (True, None)
    assert isinstance(shape, Shape)
    assert writer.engine("SELECT a FROM t") == [(5,)]
    _, has_run, _ = writer.shapes.run_first("DELETE FROM t WHERE a IN (SELECT 5)", [])
    assert not has_run
    _, has_run, error = writer.shapes.run_first("INSERT INTO t(id) VALUES(?)", ["text"])
    assert has_run
    assert "mismatch" in str(error)
    _, has_run, _ = writer.shapes.run_first("INSERT INTO t(a) VALUES(?), (?)", [1])
    assert not has_run
    assert writer.engine("SELECT count(*) FROM t") == [(1,)]
    writer.rollback()


def test_a_null_character_is_no_end(lab: Lab) -> None:
    (result,) = lab.do("SELECT 1\x00; DROP TABLE t")
    assert isinstance(result, Failure)
    assert lab.rows("SELECT count(*) FROM t") == [(0,)]
