"""What is refused, with a text that says why or where to go (design 5.2, reliability 3.4)."""

from __future__ import annotations

import re

import pytest

from rsqlite.request import Failure, RequestKind, Rows
from rsqlite.statemachine import schema
from tests.statemachine.lab import Lab, ask, refusal

REFUSED = [
    ("BEGIN", "transaction"),
    ("COMMIT", "stream"),
    ("SAVEPOINT x", "stream"),
    ("ROLLBACK", "stream"),
    ("ATTACH ':memory:' AS other", "ATTACH"),
    ("DETACH main", "ATTACH"),
    ("VACUUM", "VACUUM"),
    ("VACUUM INTO 'other.db'", "VACUUM INTO"),
    ("SELECT load_extension('x')", "load_extension|not authorized"),
    ("CREATE TEMP TABLE x(a)", "TEMP"),
    ("CREATE TABLE temp.x(a)", "TEMP"),
    ("CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", "TEMP"),
    ("CREATE TRIGGER temp.x AFTER INSERT ON main.t BEGIN SELECT 1; END", "TEMP"),
    ("CREATE VIRTUAL TABLE x USING dbstat", "dbstat"),
    ("PRAGMA journal_mode = DELETE", "journal_mode"),
    ("PRAGMA journal_mode(DELETE)", "journal_mode"),
    ("/* x */ PRAGMA main.synchronous = OFF", "synchronous"),
    ("PRAGMA wal_checkpoint", "wal_checkpoint"),
    ("PRAGMA optimize", "ANALYZE"),
    ("PRAGMA writable_schema = ON", "writable_schema"),
    ("PRAGMA reverse_unordered_selects = 1", "reverse_unordered_selects"),
    ("PRAGMA busy_timeout = 5000", "busy_timeout"),
    ("PRAGMA query_only = 1", "query_only"),
    ("PRAGMA temp_store_directory = 'x'", "temp_store_directory"),
    ("INSERT INTO sqlite_stat1 VALUES('t', NULL, '1')", "statistics"),
    ("DELETE FROM sqlite_stat1", "statistics"),
    ("DROP TABLE sqlite_stat1", "statistics"),
    ("INSERT INTO t SELECT name FROM pragma_table_info('t')", "differs between nodes"),
    ("INSERT INTO t SELECT path FROM dbstat", "differs between nodes"),
    ("INSERT INTO t SELECT block FROM f_data", "shadow"),
    ("INSERT INTO t SELECT rootpage FROM sqlite_schema", "not replicated"),
    ("SELECT * FROM _rsqlite_applied", "_rsqlite"),
    ("UPDATE _RSQLITE_APPLIED SET applied_index = 9", "_rsqlite"),
    ("DROP TABLE _rsqlite_meta", "_rsqlite"),
    ("CREATE TABLE _rsqlite_x(a)", "_rsqlite"),
    ("ALTER TABLE t RENAME TO _rsqlite_t", "_rsqlite"),
    ('ALTER TABLE t RENAME TO "_rsqlite_t"', "_rsqlite"),
    ("CREATE TABLE c(a REFERENCES _rsqlite_applied(applied_index))", "_rsqlite"),
    ("CREATE TRIGGER x AFTER UPDATE ON _rsqlite_applied BEGIN SELECT 1; END", "_rsqlite"),
    ("CREATE INDEX x ON _rsqlite_applied(applied_index)", "_rsqlite"),
    ("SELECT optimize(o) FROM o", "optimize"),
]


@pytest.fixture(autouse=True)
def tables(lab: Lab) -> None:
    lab.do(
        "CREATE TABLE t(a)",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "CREATE VIRTUAL TABLE o USING fts4(x)",
        "CREATE INDEX i ON t(a)",
        "INSERT INTO t VALUES(1)",
        "ANALYZE",
    )


@pytest.mark.parametrize(("sql", "text"), REFUSED, ids=[sql for sql, _ in REFUSED])
def test_refused_and_nothing_changed(lab: Lab, sql: str, text: str) -> None:
    message = refusal(lab.do(sql))
    assert re.search(text, message), message
    (before, after) = lab.run(ask("INSERT INTO t VALUES(2)"), ask("SELECT sum(a) FROM t"))
    assert before.is_logged
    assert after.results[0].rows == [(3,)]


@pytest.mark.parametrize("sql", ["BEGIN", "SELECT * FROM _rsqlite_meta", "ATTACH 'x' AS y"])
def test_readers_refuse_it_too(lab: Lab, sql: str) -> None:
    answer = lab.query(ask(sql, kind=RequestKind.QUERY))
    assert isinstance(answer.results[0], Failure)


def test_a_view_of_our_tables_is_of_no_use(lab: Lab) -> None:
    lab.do("CREATE VIEW peek AS SELECT 1")
    assert "_rsqlite" in refusal(lab.do("CREATE VIEW spy AS SELECT * FROM _rsqlite_applied"))


def test_a_trigger_on_planner_statistics_is_refused_when_it_would_run(lab: Lab) -> None:
    lab.do("CREATE TRIGGER s AFTER INSERT ON t BEGIN DELETE FROM sqlite_stat1; END")
    assert "statistics" in refusal(lab.do("INSERT INTO t VALUES(5)"))


READ = ["journal_mode", "table_info(t)", "foreign_keys", "page_count", "integrity_check(1)"]


@pytest.mark.parametrize("pragma", READ)
def test_pragmas_that_only_tell_are_allowed(lab: Lab, pragma: str) -> None:
    (result,) = lab.do(f"PRAGMA {pragma}")
    assert isinstance(result, Rows)
    assert lab.last is not None
    assert lab.last.data is None


def test_user_version_and_application_id_are_replicated(lab: Lab) -> None:
    lab.do("PRAGMA user_version = 5", "PRAGMA application_id = 6")
    assert lab.rows("PRAGMA user_version") == [(5,)]
    assert lab.rows("PRAGMA application_id") == [(6,)]


def test_a_users_text_never_hits_a_statement_of_the_engine(lab: Lab) -> None:
    # The statement cache would hand it out, compiled with the guard lifted.
    texts = [value for value in vars(schema).values() if isinstance(value, str) and " " in value]
    texts = [text for text in texts if "_rsqlite_" in text and not text.startswith('"')]
    texts += ["BEGIN IMMEDIATE", "COMMIT", "SAVEPOINT rsqlite_unit", "RELEASE rsqlite_request"]
    for text in texts:
        if len(text) < 400:
            assert isinstance(lab.do(text)[0], Failure), text


def test_double_quoted_strings_stay_allowed(lab: Lab) -> None:
    (result,) = lab.do('SELECT "no such column"')
    assert isinstance(result, Rows)
    assert result.rows == [("no such column",)]
