"""Connections and cursors as a program meets them, on a real node."""

from __future__ import annotations

import math
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import rsqlite_client

import rsqlite
from rsqlite.testing.process import ProcessNode

REFUSED = [
    "backup",
    "blobopen",
    "create_aggregate",
    "create_collation",
    "create_window_function",
    "deserialize",
    "enable_load_extension",
    "interrupt",
    "iterdump",
    "load_extension",
    "serialize",
    "set_authorizer",
    "set_progress_handler",
    "set_trace_callback",
]


@pytest.fixture
def table(db: rsqlite.Connection) -> rsqlite.Connection:
    db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE, c)")
    return db


def test_values_come_back_as_they_went(db: rsqlite.Connection) -> None:
    row = (2**63 - 1, -(2**63), 1.5, 5.0, math.inf, -math.inf, "é\0'", "", b"\0\xff", b"", None)
    db.execute(f"CREATE TABLE v({','.join(f'c{number}' for number in range(len(row)))})")
    marks = ",".join("?" * len(row))
    db.execute(f"INSERT INTO v VALUES({marks})", row)
    db.executemany(f"INSERT INTO v VALUES({marks})", [row, row])
    for found in db.execute("SELECT * FROM v"):
        assert [(value, type(value)) for value in found] == [(value, type(value)) for value in row]


def test_counts_and_descriptions(table: rsqlite.Connection) -> None:
    cursor = table.cursor()
    assert (cursor.rowcount, cursor.lastrowid, cursor.description) == (-1, None, None)
    cursor.execute("INSERT INTO t VALUES(5,1,1)")
    assert (cursor.rowcount, cursor.lastrowid, cursor.description) == (1, 5, None)
    cursor.execute("UPDATE t SET c=2")
    assert (cursor.rowcount, cursor.lastrowid) == (1, 5)
    cursor.execute("SELECT a, b AS x FROM t WHERE 0")
    assert cursor.rowcount == -1
    assert cursor.description == (("a", *[None] * 6), ("x", *[None] * 6))
    cursor.execute("INSERT INTO t(b) VALUES(7),(8) RETURNING a")
    assert (cursor.rowcount, cursor.fetchall()) == (2, [(6,), (7,)])
    cursor.executemany("INSERT INTO t(b) VALUES(?)", [(9,), (10,)])
    assert (cursor.rowcount, cursor.lastrowid) == (2, 7)
    assert table.total_changes == 6
    cursor.execute("-- nothing")
    assert (cursor.rowcount, cursor.description, cursor.fetchone()) == (-1, None, None)


def test_rows_are_fetched_in_all_ways(db: rsqlite.Connection) -> None:
    cursor = db.execute("VALUES(1),(2),(3),(4),(5),(6)")
    assert cursor.fetchone() == (1,)
    assert cursor.fetchmany() == [(2,)]
    cursor.arraysize = 2
    assert cursor.fetchmany() == [(3,), (4,)]
    assert next(cursor) == (5,)
    assert list(cursor) == [(6,)]
    assert (cursor.fetchone(), cursor.fetchmany(3), cursor.fetchall()) == (None, [], [])
    assert db.execute("VALUES(1),(2)").fetchmany(size=9) == [(1,), (2,)]


def test_many_rows_take_effect_together_or_not_at_all(table: rsqlite.Connection) -> None:
    with pytest.raises(rsqlite.IntegrityError, match=r"UNIQUE constraint failed: t\.b"):
        table.executemany("INSERT INTO t(b) VALUES(:b)", ({"b": b} for b in (1, 2, 1, 3)))
    assert table.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_script_takes_effect_as_a_whole_or_not_at_all(table: rsqlite.Connection) -> None:
    with pytest.raises(rsqlite.IntegrityError):
        table.executescript("INSERT INTO t(b) VALUES(1); INSERT INTO t(b) VALUES(1);")
    assert table.execute("SELECT count(*) FROM t").fetchone() == (0,)
    table.executescript(
        "BEGIN; INSERT INTO t(b) VALUES(1); CREATE TABLE u(x); INSERT INTO u VALUES(2); COMMIT;"
    )
    assert table.execute("SELECT b, x FROM t, u").fetchall() == [(1, 2)]


def test_errors_are_those_of_sqlite3_with_code_and_name(table: rsqlite.Connection) -> None:
    table.execute("INSERT INTO t VALUES(1,1,1)")
    with pytest.raises(sqlite3.IntegrityError) as caught:
        table.execute("INSERT INTO t VALUES(2,1,1)")
    assert isinstance(caught.value, rsqlite.IntegrityError)
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE
    assert caught.value.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE"
    with pytest.raises(table.OperationalError, match="no such table: nope"):
        table.execute("SELECT * FROM nope")


def test_what_sqlite_objects_to_comes_before_what_is_wrong_with_parameters(
    db: rsqlite.Connection,
) -> None:
    for sql, parameters in (("SELEC ?", ()), ("SELEC 1; SELECT 2", ()), ("SELEC ?", (object(),))):
        with pytest.raises(rsqlite.OperationalError, match='near "SELEC": syntax error'):
            db.execute(sql, parameters)
    for sql, parameters, text in (
        ("SELECT ?", (), "The current statement uses 1, and there are 0 supplied"),
        ("SELECT 1; SELECT 2", (), "one statement at a time"),
        ("SELECT ?", (object(),), "type 'object' is not supported"),
    ):
        with pytest.raises(rsqlite.ProgrammingError, match=text):
            db.execute(sql, parameters)
    with pytest.raises(rsqlite.OperationalError, match="no such table"):
        db.executemany("INSERT INTO nope VALUES(?)", [])
    with pytest.raises(rsqlite.ProgrammingError, match="can only execute DML"):
        db.executemany("SELECT ?", [(1,)])


def test_a_mistake_in_the_parameters_changes_nothing(table: rsqlite.Connection) -> None:
    mistakes = (rsqlite.ProgrammingError, OverflowError)
    for sql, parameters in (
        ("INSERT INTO t(a) VALUES(?)", (1, 2)),
        ("INSERT INTO t(a) VALUES(?)", (2**63,)),
        ("INSERT INTO t(a) VALUES(1); INSERT INTO t(a) VALUES(2)", ()),
    ):
        with pytest.raises(mistakes):
            table.execute(sql, parameters)
    with pytest.raises(mistakes):
        table.executemany("INSERT INTO t(a) VALUES(?)", [(1,), (2, 3)])
    assert table.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize(
    "sql", ["BEGIN", "begin immediate", "COMMIT", "END", "ROLLBACK", "SAVEPOINT a", "RELEASE a"]
)
def test_transactions_say_that_they_need_a_session(db: rsqlite.Connection, sql: str) -> None:
    with pytest.raises(rsqlite.NotSupportedError, match="needs an interactive session"):
        db.execute(sql)


def test_settings_of_a_connection_are_not_taken_for_those_of_a_request(
    table: rsqlite.Connection,
) -> None:
    for sql in ("PRAGMA foreign_keys=ON", "PRAGMA case_sensitive_like=1"):
        with pytest.raises(rsqlite.NotSupportedError, match="not for the connection"):
            table.execute(sql)
    with pytest.raises(rsqlite.NotSupportedError, match="not for the connection"):
        table.executescript("PRAGMA foreign_keys=1; INSERT INTO t(b) VALUES(1)")
    table.executescript("PRAGMA foreign_keys=OFF; BEGIN; INSERT INTO t(b) VALUES(1); COMMIT;")
    assert table.execute("PRAGMA foreign_keys").fetchone() == (0,)
    assert table.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_counters_in_sql_are_answered_or_refused(table: rsqlite.Connection) -> None:
    table.executemany("INSERT INTO t(b) VALUES(?)", [(1,), (2,)])
    table.execute("INSERT INTO t(b) VALUES(3)")
    for name, value in (("last_insert_rowid", 3), ("changes", 1), ("total_changes", 3)):
        assert table.execute(f"SELECT {name}()").fetchone() == (value,)
        with pytest.raises(rsqlite.NotSupportedError, match=f"{name}.. would count within this"):
            table.execute(f"INSERT INTO t(b) VALUES({name}() + 10)")
    table.executescript(
        "INSERT INTO t(b) VALUES(4); UPDATE t SET c = last_insert_rowid() WHERE b = 4"
    )
    assert table.execute("SELECT c FROM t WHERE b = 4").fetchone() == (4,)


def test_vacuum_is_the_clusters(table: rsqlite.Connection) -> None:
    assert table.execute("VACUUM").rowcount == -1


def test_what_begins_transactions_by_itself_is_refused(
    db: rsqlite.Connection, rsqlite_node: ProcessNode
) -> None:
    for options in (
        {"isolation_level": ""},
        {"isolation_level": "DEFERRED"},
        {"autocommit": False},
    ):
        with pytest.raises(rsqlite.NotSupportedError, match="needs an interactive session"):
            rsqlite.connect(rsqlite_node.url, **options)
        ((name, value),) = options.items()
        with pytest.raises(rsqlite.NotSupportedError, match="needs an interactive session"):
            setattr(db, name, value)
    with pytest.raises(rsqlite.NotSupportedError, match=r"rollback\(\) needs"):
        db.rollback()
    db.commit()
    db.isolation_level = None
    db.autocommit = rsqlite.LEGACY_TRANSACTION_CONTROL
    assert (db.isolation_level, db.autocommit, db.in_transaction) == (None, True, False)


def test_a_with_block_leaves_the_connection_open(table: rsqlite.Connection) -> None:
    def fail(db: rsqlite.Connection) -> None:
        with db as same:
            assert same is db
            db.execute("INSERT INTO t(b) VALUES(1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(table)
    assert table.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_rows_by_name(db: rsqlite.Connection) -> None:
    db.row_factory = sqlite3.Row
    assert db.row_factory is rsqlite.Row
    cursor = db.execute("SELECT 1 AS a, 2 AS B")
    row = cursor.fetchone()
    assert (row["A"], row["b"], row[1], dict(row)) == (1, 2, 2, {"a": 1, "B": 2})
    other = db.cursor()
    other.row_factory = lambda cursor, row: [column[0] for column in cursor.description]
    assert other.execute("SELECT 1 AS a").fetchmany(1) == [["a"]]
    db.row_factory = None
    assert db.execute("SELECT 1").fetchall() == [(1,)]


def test_text_factory_and_converters(rsqlite_node: ProcessNode) -> None:
    rsqlite.register_converter("halves", lambda text: int(text) / 2)
    flags = rsqlite.PARSE_DECLTYPES | rsqlite.PARSE_COLNAMES
    with closing(rsqlite.connect(rsqlite_node.url, detect_types=flags)) as db:
        db.execute("CREATE TABLE h(a halves, b TEXT)")
        db.execute("INSERT INTO h VALUES(3,'x')")
        db.text_factory = bytes
        cursor = db.execute('SELECT a, b, 5 AS "c [halves]", NULL AS "d [halves]" FROM h')
        assert cursor.fetchall() == [(1.5, b"x", 2.5, None)]
        assert [column[0] for column in cursor.description] == ["a", "b", "c", "d"]


def test_what_is_closed_cannot_be_used(db: rsqlite.Connection) -> None:
    cursor = db.cursor()
    cursor.close()
    cursor.close()
    for call in (cursor.fetchone, cursor.fetchall, lambda: cursor.execute("SELECT 1")):
        with pytest.raises(rsqlite.ProgrammingError, match="closed cursor"):
            call()
    other = db.execute("SELECT 1")
    db.close()
    db.close()
    for call in (db.cursor, db.commit, db.rollback, db.__enter__, other.fetchone):
        with pytest.raises(rsqlite.ProgrammingError, match="closed database"):
            call()
    assert "closed" in repr(db)


def test_a_connection_is_one_threads_unless_told_otherwise(rsqlite_node: ProcessNode) -> None:
    def attempt(db: rsqlite.Connection) -> list[Any]:
        found: list[Any] = []

        def work() -> None:
            try:
                found.append(db.execute("SELECT 1").fetchone())
            except rsqlite.ProgrammingError as error:
                found.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return found

    with closing(rsqlite.connect(rsqlite_node.url)) as db:
        assert "only be used in that same thread" in attempt(db)[0]
    with closing(rsqlite.connect(rsqlite_node.url, check_same_thread=False)) as db:
        assert attempt(db) == [(1,)]


def test_read_levels(rsqlite_node: ProcessNode) -> None:
    with closing(rsqlite.connect(f"{rsqlite_node.url}?read=none&freshness=1m")) as db:
        assert db.read_level == "none"
        db.execute("CREATE TABLE t(x)")
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
        for level in ("none", "weak", "linearizable", "strong", "auto"):
            assert db.execute("SELECT 1", read=level, freshness="1s").fetchone() == (1,)
        db.read_level = "strong"
        assert db.cursor().execute("SELECT ?", (2,), read=None).fetchone() == (2,)
        for read in ("fresh", 1):
            with pytest.raises(rsqlite.ProgrammingError, match="no read level"):
                db.execute("SELECT 1", read=read)


def test_what_runs_in_one_process_only_is_refused_with_the_reason(db: rsqlite.Connection) -> None:
    with pytest.raises(rsqlite.NotSupportedError, match=r"create_function\(\) would exist in this"):
        db.create_function("f", 1, lambda x: x)
    for name in REFUSED:
        with pytest.raises(rsqlite.NotSupportedError, match=name):
            getattr(db, name)()


def test_classes_of_ones_own(rsqlite_node: ProcessNode) -> None:
    class Mine(rsqlite.Connection):
        pass

    class Own(rsqlite.Cursor):
        pass

    with closing(rsqlite.connect(rsqlite_node.url, factory=Mine)) as db:
        assert isinstance(db, Mine)
        cursor = db.cursor(Own)
        assert isinstance(cursor, Own)
        assert cursor.execute("SELECT 1").connection is db
    with pytest.raises(TypeError, match="must be Connection, not int"):
        rsqlite.Cursor(1)


def test_sql_must_be_a_string(db: rsqlite.Connection) -> None:
    for method, text in (("execute", "argument 1 must be str"), ("executescript", "must be str")):
        with pytest.raises(TypeError, match=text):
            getattr(db, method)(5)
    with pytest.raises(TypeError, match="not iterable"):
        db.executemany("INSERT INTO t VALUES(?)", 5)
    with pytest.raises(ValueError, match="null character"):
        db.executescript("SELECT \0")


def test_without_nodes_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(rsqlite_client.InterfaceError, match=r"rsqlite\.connect"):
        rsqlite_client.connect(tmp_path)
